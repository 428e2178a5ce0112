//! A cluster that was applied serves plain clients.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use e2e::{Cluster, Codis, eventually, operator, slot_of};

#[tokio::test]
async fn applied_cluster_answers_pong() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let began = Instant::now();
    let codis = Codis::apply(
        &cluster,
        "pong",
        "{servers: {groups: 3, replicasPerGroup: 2}, proxies: {replicas: 2}}",
    )
    .await;
    codis.start_client().await;
    eventually(
        Duration::from_secs(60),
        "PONG through the Service",
        async || match codis.cli(&["PING"]).await {
            Ok(answer) if answer == "PONG" => Ok(()),
            Ok(answer) => Err(answer),
            Err(failed) => Err(failed.to_string()),
        },
    )
    .await;
    println!("apply -> PONG: {:.1} s (goal: 30 s)", began.elapsed().as_secs_f64());
    assert!(began.elapsed() < Duration::from_secs(60));
    codis.wait_ready().await;
    let status = codis.object().await.unwrap()["status"].clone();
    assert_eq!(
        (status["slots"].as_i64(), status["servers"]["ready"].as_i64()),
        (Some(1024), Some(6)),
        "{status}"
    );
    assert_eq!(status["proxies"]["ready"], 2, "{status}");
}

#[tokio::test]
async fn every_slot_is_served_and_keys_come_back() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "slots", "{servers: {groups: 3, replicasPerGroup: 2}}").await;
    // One key for each slot: CRC32 modulo 1024 of the key, found by trying.
    let keys = one_key_for_each_slot();
    let sets: String = keys.iter().map(|key| format!("SET {key} value-of-{key}\n")).collect();
    let answers = codis.cli_lines(&sets).await;
    assert!(
        answers.len() == 1024 && answers.iter().all(|answer| answer == "OK"),
        "{:?}",
        answers.iter().find(|a| *a != "OK")
    );
    let gets: String = keys.iter().map(|key| format!("GET {key}\n")).collect();
    let wanted: Vec<String> = keys.iter().map(|key| format!("value-of-{key}")).collect();
    assert_eq!(codis.cli_lines(&gets).await, wanted);
    // They lie where the slot map says: about a third at each primary, and at each replica as much as at its primary.
    for group in 1..=3 {
        let count = async |pod: String| codis.info(&pod, "keyspace").await.map(|info| info.get("db0").cloned());
        let primary = count(format!("slots-g{group}-0")).await.unwrap().unwrap();
        assert!(
            primary.starts_with("keys=341,") || primary.starts_with("keys=342,"),
            "{primary}"
        );
        eventually(
            Duration::from_secs(10),
            "the replica has the primary's keys",
            async || {
                let replica = count(format!("slots-g{group}-1")).await?;
                if replica.as_ref() == Some(&primary) {
                    Ok(())
                } else {
                    Err(format!("{replica:?}, primary {primary}"))
                }
            },
        )
        .await;
    }
}

#[tokio::test]
async fn proxies_come_and_go_with_their_count() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let spec =
        |proxies: u32| format!("{{servers: {{groups: 1, replicasPerGroup: 1}}, proxies: {{replicas: {proxies}}}}}");
    let codis = Codis::ready(&cluster, "scaling", &spec(1)).await;
    assert_eq!(codis.cli(&["SET", "k", "v"]).await.unwrap(), "OK");
    for count in [3, 1] {
        codis.apply_spec(&spec(count)).await.unwrap();
        codis.wait_ready().await;
        eventually(
            Duration::from_secs(40),
            "the dashboard knows the proxies there are, and no other",
            async || {
                let registered = registered_proxies(&codis).await?;
                let pods: BTreeSet<String> = codis
                    .pods()
                    .await
                    .into_keys()
                    .filter(|pod| pod.starts_with("scaling-proxy-"))
                    .collect();
                if registered == pods && pods.len() == count as usize {
                    Ok(())
                } else {
                    Err(format!("registered {registered:?}, pods {pods:?}"))
                }
            },
        )
        .await;
        assert_eq!(codis.cli(&["GET", "k"]).await.unwrap(), "v");
    }
}

#[tokio::test]
async fn clients_have_to_give_the_password_of_the_spec() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let spec =
        "{servers: {groups: 1, replicasPerGroup: 1}, proxies: {replicas: 1}, auth: {secretRef: {name: clients}}}";
    let codis = Codis::apply(&cluster, "password", spec).await;
    let (reason, message) = codis.wait_for_condition("Ready", "False").await;
    assert_eq!(reason, "InvalidSpec");
    assert!(
        message.contains("spec.auth.secretRef") && message.contains("clients"),
        "{message}"
    );
    codis
        .kubectl(&[
            "create",
            "secret",
            "generic",
            "clients",
            "--from-literal=password=open-sesame",
        ])
        .await
        .unwrap();
    codis.start_client().await;
    codis.wait_ready().await;
    assert!(codis.cli(&["GET", "k"]).await.unwrap().starts_with("NOAUTH"));
    assert_eq!(
        codis
            .cli(&["-a", "open-sesame", "--no-auth-warning", "SET", "k", "v"])
            .await
            .unwrap(),
        "OK"
    );
    assert!(
        codis
            .cli(&["-a", "wrong", "--no-auth-warning", "GET", "k"])
            .await
            .unwrap()
            .contains("NOAUTH")
    );
}

async fn registered_proxies(codis: &Codis<'_>) -> Result<BTreeSet<String>, String> {
    let path = format!(
        "/api/v1/namespaces/{}/services/{}-dashboard:18080/proxy/topom/stats",
        codis.namespace(),
        codis.name()
    );
    let text = codis
        .kubectl(&["get", "--raw", &path])
        .await
        .map_err(|failed| failed.to_string())?;
    let stats: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let models = stats["proxy"]["models"].as_array().cloned().unwrap_or_default();
    Ok(models
        .iter()
        .filter_map(|model| model["hostname"].as_str().map(str::to_owned))
        .collect())
}

fn one_key_for_each_slot() -> Vec<String> {
    let mut found = std::collections::BTreeMap::new();
    for number in 0_u32.. {
        let key = format!("key:{number}");
        found.entry(slot_of(&key)).or_insert(key);
        if found.len() == 1024 {
            break;
        }
    }
    found.into_values().collect()
}
