//! A node is lost, and what ran there takes up its work elsewhere while the node stays away.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::{Duration, Instant};

use e2e::{Cluster, Codis, Node, eventually, operator};

const IN_MEMORY: &str = "{servers: {groups: 1, replicasPerGroup: 2}, proxies: {replicas: 2}, ha: {restartAfter: 10s}}";
/// A server on each node.
const ON_EACH_NODE: &str =
    "{servers: {groups: 1, replicasPerGroup: 3}, proxies: {replicas: 2}, ha: {forceDeleteAfter: 15s}}";
/// How long the node of a server there may be lost.
const ALLOWED: Duration = Duration::from_secs(15);
const ON_VOLUMES: &str = "{servers: {groups: 1, replicasPerGroup: 2, storage: {size: 1Gi}}, proxies: {replicas: 1}}";
/// Kubernetes takes 40 s to notice.
const SOON: Duration = Duration::from_secs(120);
/// How soon an Event tells of something.
const TOLD: Duration = Duration::from_secs(20);

/// A cluster whose client is where the whole machine's etcd is: that node stays.
async fn ready<'a>(cluster: &'a Cluster, name: &str, spec: &str) -> (Codis<'a>, String) {
    operator::install(cluster).await;
    let of_etcd = [
        "get",
        "pod",
        "codis-operator-etcd-0",
        "-n",
        operator::NAMESPACE,
        "-o",
        "jsonpath={.spec.nodeName}",
    ];
    let safe = cluster.try_kubectl(&of_etcd, "").await.unwrap();
    let codis = Codis::apply(cluster, name, spec).await;
    codis.start_client_on(&safe).await;
    codis.wait_ready().await;
    (codis, safe)
}

async fn node_of(codis: &Codis<'_>, pod: &str) -> String {
    let node = ["get", "pod", pod, "-o", "jsonpath={.spec.nodeName}"];
    codis.kubectl(&node).await.unwrap_or_default()
}

/// One of two pods that is not on the node that stays, and its node.
async fn to_be_lost(codis: &Codis<'_>, safe: &str, pods: [String; 2]) -> (String, Node) {
    for pod in pods {
        let node = node_of(codis, &pod).await;
        if node != safe {
            let nodes = (1..=3).filter_map(|n| codis.cluster().node(n));
            return (pod, nodes.into_iter().find(|known| known.name() == node).unwrap());
        }
    }
    panic!("both pods are on {safe}");
}

async fn power_off(codis: &Codis<'_>, node: &Node) {
    node.kill().await;
    eventually(SOON, "Kubernetes finds the node lost", async || {
        let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        let ready = codis.kubectl(&["get", "node", &node.name(), "-o", ready]).await;
        match ready.map_err(|failed| failed.to_string())?.as_str() {
            "Unknown" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
}

/// The server that is on this node.
async fn server_on(codis: &Codis<'_>, node: &Node) -> String {
    for number in 0..3 {
        let pod = format!("{}-g1-{number}", codis.name());
        if node_of(codis, &pod).await == node.name() {
            return pod;
        }
    }
    panic!("no server is on {}", node.name());
}

/// Waits until another pod of the name runs on another node; how long that took.
async fn wait_until_it_moved(codis: &Codis<'_>, pod: &str, before: &str, lost: &Node) -> Duration {
    let began = Instant::now();
    eventually(SOON, "another pod runs elsewhere", async || {
        let pods = codis.pods().await;
        let node = node_of(codis, pod).await;
        let moved = pods.get(pod).is_some_and(|uid| uid != before) && !node.is_empty() && node != lost.name();
        if moved {
            Ok(())
        } else {
            Err(format!("{node}, {pods:?}"))
        }
    })
    .await;
    let after = began.elapsed();
    println!("{pod}: another one {after:.1?} after that was certain");
    after
}

#[tokio::test]
async fn dashboard_and_proxies_of_a_lost_node_run_elsewhere_at_once_and_its_server_after_the_time_that_was_set() {
    let cluster = Cluster::get().await;
    if cluster.node(1).is_none() {
        return;
    }
    let (codis, safe) = ready(&cluster, "moved", ON_EACH_NODE).await;
    assert_eq!(codis.cli(&["SET", "kept", "1"]).await.unwrap(), "OK");
    let dashboards = [0, 1].map(|n| format!("moved-dashboard-{n}"));
    let (dashboard, node) = to_be_lost(&codis, &safe, dashboards).await;
    let server = server_on(&codis, &node).await;
    let before = codis.pods().await;
    power_off(&codis, &node).await;
    let (_, after) = tokio::join!(
        wait_until_it_moved(&codis, &dashboard, &before[&dashboard], &node),
        wait_until_it_moved(&codis, &server, &before[&server], &node),
    );
    // The operator may have found the node lost a moment before this test did.
    assert!(
        after > ALLOWED - Duration::from_secs(1),
        "it might still have come back"
    );
    codis.wait_for_event(TOLD, "PodForceDeleted", &[]).await;
    codis.wait_for_event(TOLD, "ServerForceDeleted", &[]).await;
    eventually(SOON, "no pod without data is left on the lost node", async || {
        let names = "jsonpath={range .items[*]}{.spec.nodeName}/{.metadata.name} {end}";
        let pods = codis.kubectl(&["get", "pods", "-o", names]).await;
        let pods = pods.map_err(|failed| failed.to_string())?;
        let lost = |pod: &&str| pod.starts_with(&format!("{}/", node.name())) && !pod.contains("-g1-");
        let left: Vec<&str> = pods.split_whitespace().filter(lost).collect();
        let object = codis.object().await?;
        let proxies = &object["status"]["proxies"];
        if left.is_empty() && proxies["ready"] == 2 {
            Ok(())
        } else {
            Err(format!("{left:?}, {proxies}"))
        }
    })
    .await;
    // All of it, although the node stays away.
    codis.wait_ready().await;
    assert_eq!(codis.cli(&["GET", "kept"]).await.unwrap(), "1");
    assert_eq!(codis.cli(&["SET", "key", "1"]).await.unwrap(), "OK");
    node.start().await;
}

#[tokio::test]
async fn server_on_a_node_that_is_out_of_service_runs_elsewhere() {
    let cluster = Cluster::get().await;
    if cluster.node(1).is_none() {
        return;
    }
    let (codis, safe) = ready(&cluster, "declared", IN_MEMORY).await;
    assert_eq!(codis.cli(&["SET", "key", "1"]).await.unwrap(), "OK");
    let servers = [0, 1].map(|n| format!("declared-g1-{n}"));
    let (server, node) = to_be_lost(&codis, &safe, servers).await;
    let before = codis.pods().await[&server].clone();
    power_off(&codis, &node).await;
    eventually(SOON, "what to do is told", async || {
        let (_, message) = codis.wait_for_condition("Degraded", "True").await;
        if message.contains(&server) && message.contains("spec.ha.forceDeleteAfter") {
            Ok(())
        } else {
            Err(message)
        }
    })
    .await;
    assert_eq!(codis.pods().await[&server], before, "it may still run");
    let taint = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute";
    codis.kubectl(&["taint", "node", &node.name(), taint]).await.unwrap();
    wait_until_it_moved(&codis, &server, &before, &node).await;
    let taint = format!("{taint}-");
    codis.kubectl(&["taint", "node", &node.name(), &taint]).await.unwrap();
    codis.wait_for_event(TOLD, "ServerForceDeleted", &[]).await;
    codis.wait_ready().await;
    assert_eq!(codis.cli(&["GET", "key"]).await.unwrap(), "1");
    node.start().await;
}

#[tokio::test]
async fn server_whose_volume_went_with_its_node_begins_anew_elsewhere() {
    let cluster = Cluster::get().await;
    if cluster.node(1).is_none() {
        return;
    }
    let (codis, safe) = ready(&cluster, "bereft", ON_VOLUMES).await;
    assert_eq!(codis.cli(&["SET", "key", "1"]).await.unwrap(), "OK");
    let servers = [0, 1].map(|n| format!("bereft-g1-{n}"));
    let (server, node) = to_be_lost(&codis, &safe, servers).await;
    let before = codis.pods().await[&server].clone();
    power_off(&codis, &node).await;
    codis
        .kubectl(&["delete", "node", &node.name(), "--wait=false"])
        .await
        .unwrap();
    wait_until_it_moved(&codis, &server, &before, &node).await;
    codis.wait_for_event(TOLD, "VolumeGivenUp", &[]).await;
    codis.wait_ready().await;
    assert_eq!(codis.cli(&["GET", "key"]).await.unwrap(), "1");
    node.start().await;
}
