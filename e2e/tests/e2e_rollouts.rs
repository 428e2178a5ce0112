//! What servers are made with is changed while they are used.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::faults::{Loss, Promise};
use e2e::{Cluster, Codis, Verdict, Writer, eventually, judge, now, operator};

/// How long a small group may take until all of its servers were replaced.
const ROLLED: Duration = Duration::from_secs(180);

fn small(servers: &str) -> String {
    format!(
        "{{servers: {{groups: 1, replicasPerGroup: 2{servers}}}, proxies: {{replicas: 2}}, ha: {{restartAfter: 10s}}}}"
    )
}

/// Waits until no server of `before` is left and the cluster is whole.
async fn wait_until_replaced(codis: &Codis<'_>, before: &BTreeMap<String, String>) {
    eventually(ROLLED, "all servers were replaced", async || {
        let pods = codis.pods().await;
        let servers = |pods: &BTreeMap<String, String>| -> Vec<(String, String)> {
            let of_groups = pods.iter().filter(|(name, _)| name.contains("-g1-"));
            of_groups.map(|(name, uid)| (name.clone(), uid.clone())).collect()
        };
        let kept: Vec<_> = servers(&pods)
            .into_iter()
            .filter(|pod| servers(before).contains(pod))
            .collect();
        if kept.is_empty() {
            Ok(())
        } else {
            Err(format!("{kept:?} are left"))
        }
    })
    .await;
    codis.wait_ready().await;
}

async fn restart(codis: &Codis<'_>) {
    let before = codis.pods().await;
    let restarted = codis.kubectl(&["rollout", "restart", "statefulset/rolled-g1"]).await;
    restarted.unwrap();
    wait_until_replaced(codis, &before).await;
}

async fn verdict_of(writer: Writer, since: u64) -> Verdict {
    writer.wait_for_writes_after(now(), Duration::from_secs(60)).await;
    let log = writer.stop().await;
    let promise = Promise {
        goal: Duration::from_millis(50),
        loss: Loss::Nothing,
        errors: false,
    };
    judge("two servers replaced", &log, since, promise)
}

#[tokio::test]
async fn changed_servers_are_replaced_one_by_one_and_no_client_sees_an_error() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "rolled", &small("")).await;
    let writer = Writer::start(&codis).await;
    let (before, since) = (codis.pods().await, now());
    let changed = small(
        ", config: {maxmemory-policy: allkeys-lru}, resources: {requests: {memory: 32Mi}}, \
         podTemplate: {labels: {team: red}, annotations: {example.com/a: b}, env: [{name: TZ, value: UTC}]}",
    );
    codis.apply_spec(&changed).await.unwrap();
    wait_until_replaced(&codis, &before).await;
    for pod in ["rolled-g1-0", "rolled-g1-1"] {
        let memory = codis.info(pod, "memory").await.unwrap();
        assert_eq!(memory["maxmemory_policy"], "allkeys-lru", "{pod}");
        let path = "jsonpath={.metadata.labels.team} {.spec.containers[0].resources.requests.memory}";
        assert_eq!(
            codis.kubectl(&["get", "pod", pod, "-o", path]).await.unwrap(),
            "red 32Mi"
        );
    }
    // And what kubectl restarts is restarted by role as well.
    restart(&codis).await;
    let mut verdict = verdict_of(writer, since).await;
    // A client that waits for a second may be the machine's fault, and is looked at again; nothing else is.
    for _ in 0..2 {
        let Err(why) = verdict.check() else { break };
        assert!(verdict.may_be_the_machine(), "{why}");
        let (writer, since) = (Writer::start(&codis).await, now());
        restart(&codis).await;
        verdict = verdict_of(writer, since).await;
    }
    verdict.check().unwrap();
}

#[tokio::test]
async fn image_that_does_not_exist_stops_the_rollout_and_is_put_back() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "stuck", &small("")).await;
    assert_eq!(codis.cli(&["SET", "k", "v"]).await.unwrap(), "OK");
    let before = codis.pods().await;
    codis
        .apply_spec(&small(", image: 'example.invalid/valkey:9'"))
        .await
        .unwrap();
    eventually(Duration::from_secs(90), "the condition tells of it", async || {
        let (_, message) = codis.wait_for_condition("Degraded", "True").await;
        if message.contains("no further server is replaced") && message.contains("stuck-g1-") {
            Ok(())
        } else {
            Err(message)
        }
    })
    .await;
    let pods = codis.pods().await;
    let kept = |name: &str| pods.get(name) == before.get(name);
    assert!(kept("stuck-g1-0") && !kept("stuck-g1-1"), "{before:?} {pods:?}");
    assert_eq!(codis.cli(&["GET", "k"]).await.unwrap(), "v");
    codis.apply_spec(&small("")).await.unwrap();
    codis.wait_ready().await;
    assert_eq!(
        codis.pods().await.get("stuck-g1-0"),
        before.get("stuck-g1-0"),
        "it was never touched"
    );
    assert_eq!(codis.cli(&["GET", "k"]).await.unwrap(), "v");
}

#[tokio::test]
async fn only_copy_in_memory_is_not_replaced_before_a_person_accepts_that() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let alone =
        |image: &str| format!("{{servers: {{groups: 1, replicasPerGroup: 1{image}}}, proxies: {{replicas: 1}}}}");
    let codis = Codis::ready(&cluster, "alone", &alone("")).await;
    assert_eq!(codis.cli(&["SET", "k", "v"]).await.unwrap(), "OK");
    let before = codis.pods().await;
    codis
        .apply_spec(&alone(", config: {maxmemory-policy: allkeys-lru}"))
        .await
        .unwrap();
    eventually(Duration::from_secs(60), "the condition names the remedy", async || {
        let (_, message) = codis.wait_for_condition("Degraded", "True").await;
        if message.contains("codis.dev/accept-data-loss=g1=alone-g1-0") {
            Ok(())
        } else {
            Err(message)
        }
    })
    .await;
    assert_eq!(codis.cli(&["GET", "k"]).await.unwrap(), "v");
    codis
        .kubectl(&["annotate", "codis", "alone", "codis.dev/accept-data-loss=g1=alone-g1-0"])
        .await
        .unwrap();
    wait_until_replaced(&codis, &before).await;
    // Connections to the server that was there before may break only now.
    eventually(Duration::from_secs(20), "it takes writes", async || {
        let answer = codis
            .cli(&["SET", "k", "w"])
            .await
            .map_err(|failed| failed.to_string())?;
        if answer == "OK" { Ok(()) } else { Err(answer) }
    })
    .await;
}

#[tokio::test]
async fn dashboards_come_and_go_with_their_count() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let spec = |dashboards: u8| {
        format!(
            "{{servers: {{groups: 1, replicasPerGroup: 1}}, proxies: {{replicas: 1}}, dashboard: {{replicas: {dashboards}}}}}"
        )
    };
    let codis = Codis::ready(&cluster, "boards", &spec(2)).await;
    for count in [3, 1, 2] {
        codis.apply_spec(&spec(count)).await.unwrap();
        eventually(
            Duration::from_secs(120),
            "as many dashboards as there should be",
            async || {
                let pods = codis.pods().await;
                let dashboards = pods.keys().filter(|name| name.contains("-dashboard-")).count();
                if dashboards == usize::from(count) {
                    Ok(())
                } else {
                    Err(format!("{pods:?}"))
                }
            },
        )
        .await;
        codis.wait_ready().await;
        assert_eq!(codis.cli(&["PING"]).await.unwrap(), "PONG");
    }
}
