//! What a person tells the operator to leave alone.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use e2e::{Cluster, Codis, Server, eventually, operator};

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
