//! Clusters and the operator come, stay and go.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::Duration;

use e2e::{Absent, Cluster, Codis, eventually, operator};
use kube::ResourceExt;

const SMALL: &str = "{servers: {groups: 1, replicasPerGroup: 2}, proxies: {replicas: 1}}";

#[tokio::test]
async fn unchanged_cluster_writes_nothing() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "still", SMALL).await;
    let (before, status) = (
        codis.settled_versions().await,
        codis.object().await.unwrap()["status"].clone(),
    );
    assert!(before.len() >= 10, "{before:?}");
    for round in 0..10 {
        // An annotation on the object is reason enough to reconcile it, and changes nothing that it says.
        let done = operator::reconciliations(&cluster, codis.namespace(), codis.name()).await;
        codis
            .kubectl(&[
                "annotate",
                "codis",
                "still",
                "--overwrite",
                &format!("test/round={round}"),
            ])
            .await
            .unwrap();
        eventually(Duration::from_secs(20), "one more reconciliation", async || {
            let now = operator::reconciliations(&cluster, codis.namespace(), codis.name()).await;
            if now > done {
                Ok(())
            } else {
                Err(format!("{now} so far"))
            }
        })
        .await;
    }
    assert_eq!(codis.versions().await, before);
    assert_eq!(codis.object().await.unwrap()["status"], status);
}

#[tokio::test]
async fn operator_restarts_and_changes_nothing() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "steady", SMALL).await;
    assert_eq!(codis.cli(&["SET", "k", "v"]).await.unwrap(), "OK");
    let (versions, pods) = (codis.settled_versions().await, codis.pods().await);
    for pod in operator::pods(&cluster).await {
        let name = pod.name_any();
        cluster
            .kubectl(&[
                "--namespace",
                operator::NAMESPACE,
                "delete",
                "pod",
                &name,
                "--wait=true",
            ])
            .await;
    }
    operator::wait_until_it_leads(&cluster).await;
    let done = operator::reconciliations(&cluster, codis.namespace(), codis.name()).await;
    eventually(Duration::from_secs(60), "the new leader reconciled", async || {
        let now = operator::reconciliations(&cluster, codis.namespace(), codis.name()).await;
        if now > done + 1 {
            Ok(())
        } else {
            Err(format!("{now} so far"))
        }
    })
    .await;
    assert_eq!(codis.versions().await, versions);
    assert_eq!(codis.pods().await, pods);
    assert_eq!(codis.cli(&["GET", "k"]).await.unwrap(), "v");
}

#[tokio::test]
async fn deleted_cluster_leaves_nothing() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "gone", SMALL).await;
    let prefix = format!("/codis3/{}.gone/", codis.namespace());
    assert!(operator::coordinator_keys(&cluster, &prefix).await.len() > 1024);
    codis
        .kubectl(&["delete", "codis", "gone", "--timeout=60s"])
        .await
        .unwrap();
    assert_eq!(
        operator::coordinator_keys(&cluster, &prefix).await,
        Vec::<String>::new()
    );
    eventually(
        Duration::from_secs(90),
        "everything of the cluster is gone",
        async || {
            let kinds = "all,configmaps,secrets,poddisruptionbudgets,persistentvolumeclaims";
            let args = ["get", kinds, "-l", "app.kubernetes.io/instance=gone", "-o", "name"];
            let left = codis.kubectl(&args).await.map_err(|failed| failed.to_string())?;
            if left.is_empty() { Ok(()) } else { Err(left) }
        },
    )
    .await;
}

#[tokio::test]
async fn deletion_does_not_hang_without_the_coordinator_and_is_finished_later() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "stranded", SMALL).await;
    let prefix = format!("/codis3/{}.stranded/", codis.namespace());
    let etcd = Absent::begin(&cluster, operator::NAMESPACE, "statefulset/codis-operator-etcd").await;
    let deleted = codis.kubectl(&["delete", "codis", "stranded", "--timeout=100s"]).await;
    let notes = cluster
        .try_kubectl(
            &[
                "--namespace",
                operator::NAMESPACE,
                "get",
                "configmap",
                "codis-operator-unfinished-deletions",
                "-o",
                "json",
            ],
            "",
        )
        .await;
    etcd.end().await;
    deleted.unwrap();
    assert!(notes.unwrap().contains(".stranded"));
    eventually(Duration::from_secs(90), "the keys are swept", async || {
        let left = operator::coordinator_keys(&cluster, &prefix).await;
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{} keys", left.len()))
        }
    })
    .await;
}

#[tokio::test]
async fn cluster_of_the_same_name_begins_anew() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "again", SMALL).await;
    assert_eq!(codis.cli(&["SET", "k", "v"]).await.unwrap(), "OK");
    codis
        .kubectl(&["delete", "codis", "again", "--timeout=60s"])
        .await
        .unwrap();
    // At once, while what the former one owned is still being collected.
    codis.apply_spec(SMALL).await.unwrap();
    codis.wait_ready().await;
    assert_eq!(codis.cli(&["GET", "k"]).await.unwrap(), "");
    assert_eq!(codis.cli(&["SET", "k", "new"]).await.unwrap(), "OK");
}

#[tokio::test]
async fn deleted_namespace_takes_its_cluster_along() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "housed", SMALL).await;
    let prefix = format!("/codis3/{}.housed/", codis.namespace());
    cluster
        .kubectl(&["delete", "namespace", codis.namespace(), "--timeout=100s"])
        .await;
    assert_eq!(
        operator::coordinator_keys(&cluster, &prefix).await,
        Vec::<String>::new()
    );
}
