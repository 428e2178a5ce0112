//! Servers, proxies and dashboards fail under load. Each test prints how long writes through the Service were held up, and
//! checks that no acknowledged write is gone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::Duration;

use e2e::{Cluster, Codis, Server, Writer, eventually, judge, now, operator};

const SMALL: &str = "{servers: {groups: 1, replicasPerGroup: 2}, proxies: {replicas: 2}}";

/// The pod that leads group 1.
async fn primary(codis: &Codis<'_>) -> String {
    let object = codis.object().await.unwrap();
    object["status"]["groups"][0]["primary"].as_str().unwrap().to_owned()
}

async fn wait_for_other_primary(codis: &Codis<'_>, former: &str) {
    eventually(
        Duration::from_secs(60),
        "the status names the new primary",
        async || {
            let now = primary(codis).await;
            if now == former { Err(now) } else { Ok(()) }
        },
    )
    .await;
}

#[tokio::test]
async fn primary_is_killed() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "killed", SMALL).await;
    let writer = Writer::start(&codis).await;
    let former = primary(&codis).await;
    let since = now();
    Server::in_pod(&codis, &former).await.kill();
    writer
        .wait_for_writes_after(since + 1000, Duration::from_secs(60))
        .await;
    let log = writer.stop().await;
    judge("primary killed", &log, since, Duration::from_secs(2));
    wait_for_other_primary(&codis, &former).await;
    codis.wait_ready().await;
    let object = codis.object().await.unwrap();
    let failover = &object["status"]["groups"][0]["lastFailover"];
    assert_eq!(failover["from"], former.as_str(), "{failover}");
    println!("as told: {failover}");
}

#[tokio::test]
async fn primary_is_frozen_and_wakes_as_a_replica() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "frozen", SMALL).await;
    let writer = Writer::start(&codis).await;
    let former = primary(&codis).await;
    let since = now();
    let mut server = Server::in_pod(&codis, &former).await;
    server.freeze();
    writer
        .wait_for_writes_after(since + 5000, Duration::from_secs(60))
        .await;
    wait_for_other_primary(&codis, &former).await;
    server.wake();
    codis.wait_ready().await;
    let log = writer.stop().await;
    judge("primary frozen", &log, since, Duration::from_secs(4));
    assert_eq!(codis.info(&former, "replication").await.unwrap()["role"], "slave");
}

#[tokio::test]
async fn pod_of_the_primary_is_deleted_and_hands_over() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "deleted", SMALL).await;
    let writer = Writer::start(&codis).await;
    let former = primary(&codis).await;
    let since = now();
    codis.kubectl(&["delete", "pod", &former]).await.unwrap();
    writer.wait_for_writes_after(now(), Duration::from_secs(60)).await;
    let log = writer.stop().await;
    judge("primary's pod deleted", &log, since, Duration::from_millis(50));
    assert!(log.refused.is_empty(), "a hand-over shows no error: {:?}", log.refused);
    wait_for_other_primary(&codis, &former).await;
    codis.wait_ready().await;
}

#[tokio::test]
async fn proxy_is_frozen_and_leaves_the_service() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "mute", SMALL).await;
    let writer = Writer::start(&codis).await;
    let pods = codis.pods().await;
    let proxy = pods.keys().find(|name| name.starts_with("mute-proxy")).unwrap().clone();
    let since = now();
    let mut process = Server::proxy_in_pod(&codis, &proxy).await;
    process.freeze();
    eventually(Duration::from_secs(60), "another proxy takes its place", async || {
        let pods = codis.pods().await;
        if pods.contains_key(&proxy) {
            Err(format!("{pods:?}"))
        } else {
            Ok(())
        }
    })
    .await;
    codis.wait_ready().await;
    writer.wait_for_writes_after(now(), Duration::from_secs(60)).await;
    let log = writer.stop().await;
    judge("proxy frozen", &log, since, Duration::from_secs(4));
}

#[tokio::test]
async fn frozen_replica_disturbs_nobody_and_is_restarted() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let spec = SMALL.replace("proxies", "ha: {restartAfter: 5s}, proxies");
    let codis = Codis::ready(&cluster, "idle", &spec).await;
    let writer = Writer::start(&codis).await;
    let replica = ["idle-g1-0", "idle-g1-1"].into_iter();
    let leads = primary(&codis).await;
    let replica = replica.into_iter().find(|pod| **pod != leads).unwrap();
    let uid = codis.pods().await[replica].clone();
    let since = now();
    let mut process = Server::in_pod(&codis, replica).await;
    process.freeze();
    eventually(Duration::from_secs(60), "its pod is another one", async || {
        let pods = codis.pods().await;
        match pods.get(replica) {
            Some(now) if *now != uid => Ok(()),
            _ => Err(format!("{pods:?}")),
        }
    })
    .await;
    codis.wait_ready().await;
    let log = writer.stop().await;
    judge("replica frozen", &log, since, Duration::from_secs(2));
    assert_eq!(primary(&codis).await, leads);
}

/// The node that a pod runs on.
async fn node_of(codis: &Codis<'_>, pod: &str) -> String {
    let node = codis
        .kubectl(&["get", "pod", pod, "-o", "jsonpath={.spec.nodeName}"])
        .await;
    node.unwrap_or_else(|failed| panic!("{failed}"))
}

/// Has another server lead, as a person would.
async fn hand_over_by_hand(codis: &Codis<'_>, to: &str) {
    let mark = format!("codis.dev/handover=g1={to}");
    codis
        .kubectl(&["annotate", "codis", codis.name(), &mark])
        .await
        .unwrap();
    eventually(
        Duration::from_secs(30),
        "the named server leads, and the mark is gone",
        async || {
            let object = codis.object().await?;
            let marks = &object["metadata"]["annotations"]["codis.dev/handover"];
            if primary(codis).await == to && marks.is_null() {
                Ok(())
            } else {
                Err(object["status"].to_string())
            }
        },
    )
    .await;
}

#[tokio::test]
async fn node_of_the_primary_is_powered_off() {
    let cluster = Cluster::get().await;
    let Some(nodes) = (1..=3).map(|n| cluster.node(n)).collect::<Option<Vec<_>>>() else {
        return;
    };
    operator::install(&cluster).await;
    // What the whole cluster needs and has once, and the client, stay.
    let safe = cluster
        .try_kubectl(
            &[
                "get",
                "pod",
                "codis-operator-etcd-0",
                "-n",
                operator::NAMESPACE,
                "-o",
                "jsonpath={.spec.nodeName}",
            ],
            "",
        )
        .await
        .unwrap();
    let codis = Codis::apply(&cluster, "outage", SMALL).await;
    codis.start_client_on(&safe).await;
    codis.wait_ready().await;
    let former = primary(&codis).await;
    let former = if node_of(&codis, &former).await == safe {
        let other = if former == "outage-g1-0" {
            "outage-g1-1"
        } else {
            "outage-g1-0"
        };
        hand_over_by_hand(&codis, other).await;
        other.to_owned()
    } else {
        former
    };
    let lost = node_of(&codis, &former).await;
    let node = nodes.into_iter().find(|node| node.name() == lost).unwrap();
    let object = codis.object().await.unwrap();
    let active = object["status"]["dashboard"]["active"].as_str().unwrap().to_owned();
    let with_dashboard = node_of(&codis, &active).await == lost;
    let writer = Writer::start(&codis).await;
    let since = now();
    node.kill().await;
    writer
        .wait_for_writes_after(since + 12_000, Duration::from_secs(90))
        .await;
    let log = writer.stop().await;
    let (what, goal) = match with_dashboard {
        true => ("node of primary and active dashboard off", 8),
        false => ("node of the primary off", 5),
    };
    judge(what, &log, since, Duration::from_secs(goal));
    wait_for_other_primary(&codis, &former).await;
    node.start().await;
    codis.wait_ready().await;
    assert_eq!(codis.info(&former, "replication").await.unwrap()["role"], "slave");
}

#[tokio::test]
async fn active_dashboard_is_frozen_and_a_primary_is_killed_meanwhile() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "twofold", SMALL).await;
    let former = primary(&codis).await;
    let object = codis.object().await.unwrap();
    let active = object["status"]["dashboard"]["active"].as_str().unwrap().to_owned();
    let mut dashboard = Server::dashboard_in_pod(&codis, &active).await;
    let server = Server::in_pod(&codis, &former).await;
    let writer = Writer::start(&codis).await;
    let since = now();
    dashboard.freeze();
    server.kill();
    writer
        .wait_for_writes_after(since + 8000, Duration::from_secs(90))
        .await;
    // It has no lock any more, and must not act on what it knew.
    dashboard.wake();
    writer
        .wait_for_writes_after(now() + 3000, Duration::from_secs(60))
        .await;
    let log = writer.stop().await;
    judge(
        "dashboard frozen and primary killed",
        &log,
        since,
        Duration::from_secs(8),
    );
    codis.wait_ready().await;
    assert_ne!(primary(&codis).await, former);
}

#[tokio::test]
async fn leading_operator_is_frozen_and_the_standby_fails_over() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "leaderless", SMALL).await;
    let former = primary(&codis).await;
    let holder = cluster
        .try_kubectl(
            &[
                "get",
                "lease",
                "codis-operator",
                "-n",
                operator::NAMESPACE,
                "-o",
                "jsonpath={.spec.holderIdentity}",
            ],
            "",
        )
        .await
        .unwrap();
    let mut leader = Server::operator_in_pod(&cluster, &holder).await;
    let server = Server::in_pod(&codis, &former).await;
    let writer = Writer::start(&codis).await;
    let since = now();
    leader.freeze();
    server.kill();
    writer
        .wait_for_writes_after(since + 5000, Duration::from_secs(60))
        .await;
    let log = writer.stop().await;
    judge(
        "operator's leader frozen and primary killed",
        &log,
        since,
        Duration::from_secs(5),
    );
    leader.wake();
    wait_for_other_primary(&codis, &former).await;
    codis.wait_ready().await;
}

#[tokio::test]
async fn paused_cluster_is_left_alone() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "paused", SMALL).await;
    let former = primary(&codis).await;
    assert_eq!(codis.cli(&["SET", "precious", "1"]).await.unwrap(), "OK");
    eventually(Duration::from_secs(20), "the replica has the key", async || {
        let other = if former == "paused-g1-0" {
            "paused-g1-1"
        } else {
            "paused-g1-0"
        };
        let keyspace = codis.info(other, "keyspace").await?;
        if keyspace.contains_key("db0") {
            Ok(())
        } else {
            Err(format!("{keyspace:?}"))
        }
    })
    .await;
    let paused = SMALL.replace("{servers", "{paused: true, servers");
    codis.apply_spec(&paused).await.unwrap();
    codis.wait_for_condition("Paused", "True").await;
    Server::in_pod(&codis, &former).await.kill();
    eventually(
        Duration::from_secs(60),
        "its server is back without a role",
        async || {
            let replication = codis.info(&former, "replication").await?;
            if replication["role"] == "slave" {
                Ok(())
            } else {
                Err(format!("{replication:?}"))
            }
        },
    )
    .await;
    codis.wait_for_condition("Ready", "False").await;
    assert_eq!(primary(&codis).await, former, "nobody was promoted");
    codis.apply_spec(SMALL).await.unwrap();
    wait_for_other_primary(&codis, &former).await;
    codis.wait_ready().await;
    codis.wait_for_condition("Paused", "False").await;
}
