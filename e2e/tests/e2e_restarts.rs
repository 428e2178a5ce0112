//! Servers restart and get the role that loses nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::Duration;

use e2e::{Cluster, Codis, eventually, operator};

const SMALL: &str = "{servers: {groups: 1, replicasPerGroup: 2}, proxies: {replicas: 1}}";

#[tokio::test]
async fn restarted_replica_is_attached_again() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "replica", SMALL).await;
    assert_eq!(codis.cli(&["SET", "before", "1"]).await.unwrap(), "OK");
    // Once with the process, once with the whole pod, which comes back at another address.
    for restart in [
        ["exec", "replica-g1-1", "--", "sh", "-c", "kill 1"].as_slice(),
        &["delete", "pod", "replica-g1-1", "--force"],
    ] {
        let before = codis.info("replica-g1-1", "server").await.unwrap()["run_id"].clone();
        codis.kubectl(restart).await.unwrap();
        eventually(
            Duration::from_secs(60),
            "the replica is in sync again, as another process",
            async || {
                let server = codis.info("replica-g1-1", "server").await?;
                let replication = codis.info("replica-g1-1", "replication").await?;
                let link = replication.get("master_link_status").map(String::as_str);
                if server["run_id"] != before && link == Some("up") {
                    Ok(())
                } else {
                    Err(format!("{replication:?}"))
                }
            },
        )
        .await;
        assert_eq!(
            codis.info("replica-g1-1", "keyspace").await.unwrap()["db0"]
                .split(',')
                .next(),
            Some("keys=1")
        );
        codis.wait_ready().await;
    }
    assert_eq!(codis.cli(&["GET", "before"]).await.unwrap(), "1");
}

#[tokio::test]
async fn restarted_empty_primary_is_not_given_its_role_over_a_replica_with_the_data() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    // Nobody promotes the replica, so that the refusal can be seen.
    let spec = SMALL.replace("proxies", "ha: {mode: ReportOnly}, proxies");
    let codis = Codis::ready(&cluster, "empty", &spec).await;
    assert_eq!(codis.cli(&["SET", "precious", "1"]).await.unwrap(), "OK");
    eventually(Duration::from_secs(20), "the replica has the key", async || {
        let keyspace = codis.info("empty-g1-1", "keyspace").await?;
        if keyspace.contains_key("db0") {
            Ok(())
        } else {
            Err(format!("{keyspace:?}"))
        }
    })
    .await;
    codis
        .kubectl(&["exec", "empty-g1-0", "--", "sh", "-c", "kill 1"])
        .await
        .unwrap();
    let (reason, message) = codis.wait_for_condition("Degraded", "True").await;
    eventually(Duration::from_secs(60), "the condition says why", async || {
        let (reason, message) = codis.wait_for_condition("Degraded", "True").await;
        if reason == "RoleRefused" && message.contains("empty-g1-0") {
            Ok(())
        } else {
            Err(format!("{reason}: {message}"))
        }
    })
    .await;
    // The copy is whole, and the primary of before answers no data.
    assert_eq!(
        codis.info("empty-g1-1", "keyspace").await.unwrap()["db0"]
            .split(',')
            .next(),
        Some("keys=1")
    );
    assert_eq!(
        codis.info("empty-g1-0", "replication").await.unwrap()["role"],
        "slave",
        "{reason}: {message}"
    );
    let answer = codis.cli(&["GET", "precious"]).await.unwrap();
    assert!(
        answer != "1" && !answer.is_empty(),
        "an error, never an empty answer: {answer:?}"
    );
}
