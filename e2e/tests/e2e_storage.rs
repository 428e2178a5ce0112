//! Servers with volumes, and the copy of the slot map.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::Duration;

use e2e::faults::{Loss, Promise};
use e2e::{Cluster, Codis, Server, Writer, eventually, judge, now, operator};

const KEYS: usize = 500;

fn persistent(storage: &str) -> String {
    format!(
        "{{servers: {{groups: 1, replicasPerGroup: 2, storage: {{size: 1Gi{storage}}}}}, proxies: {{replicas: 1}}, \
         ha: {{restartAfter: 10s}}}}"
    )
}

async fn fill(codis: &Codis<'_>) {
    let commands: String = (0..KEYS).map(|n| format!("SET key:{n} {n}\n")).collect();
    let answers = codis.cli_lines(&commands).await;
    assert!(
        answers.len() == KEYS && answers.iter().all(|answer| answer == "OK"),
        "{answers:?}"
    );
}

async fn check(codis: &Codis<'_>) {
    let commands: String = (0..KEYS).map(|n| format!("GET key:{n}\n")).collect();
    let answers = codis.cli_lines(&commands).await;
    let wrong: Vec<_> = answers
        .iter()
        .enumerate()
        .filter(|(n, answer)| n.to_string() != **answer)
        .collect();
    assert!(answers.len() == KEYS && wrong.is_empty(), "{wrong:?}");
}

async fn wait_for_new_pods(codis: &Codis<'_>, before: &std::collections::BTreeMap<String, String>) {
    eventually(Duration::from_secs(120), "other pods, or processes, run", async || {
        let pods = codis.pods().await;
        let old = |name: &&str| pods.get(*name).is_none_or(|pod| before.get(*name) == Some(pod));
        let names = [format!("{}-g1-0", codis.name()), format!("{}-g1-1", codis.name())];
        if names.iter().map(String::as_str).any(|name| old(&name)) {
            Err(format!("{pods:?}"))
        } else {
            Ok(())
        }
    })
    .await;
    codis.wait_ready().await;
}

#[tokio::test]
async fn all_servers_of_a_group_end_at_once_and_the_data_is_back() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "kept", &persistent("")).await;
    fill(&codis).await;
    let before = codis.pods().await;
    codis
        .kubectl(&["delete", "pod", "kept-g1-0", "kept-g1-1", "--wait=false"])
        .await
        .unwrap();
    wait_for_new_pods(&codis, &before).await;
    check(&codis).await;
    // Without a word, once what was written is on the disk, which takes a second.
    eventually(Duration::from_secs(20), "all of it is on the disk", async || {
        let persistence = codis.info("kept-g1-0", "persistence").await?;
        let pending = &persistence["aof_pending_bio_fsync"];
        let written = &persistence["aof_last_write_status"];
        if pending == "0" && written == "ok" {
            Ok(())
        } else {
            Err(format!("{persistence:?}"))
        }
    })
    .await;
    let before = codis.pods().await;
    let servers = [
        Server::in_pod(&codis, "kept-g1-0").await,
        Server::in_pod(&codis, "kept-g1-1").await,
    ];
    servers.iter().for_each(Server::kill);
    wait_for_new_pods(&codis, &before).await;
    check(&codis).await;
}

/// Volumes on disks of their own, of this storage class, one on each of two nodes; taken away when dropped.
struct SmallDisks<'a> {
    cluster: &'a Cluster,
    class: String,
}

impl<'a> SmallDisks<'a> {
    async fn new(cluster: &'a Cluster, mib: u32) -> Option<Self> {
        let disks = Self {
            cluster,
            class: format!("small-{}", now()),
        };
        for number in [1, 2] {
            let node = cluster.node(number)?;
            let (class, name, path) = (&disks.class, node.name(), node.disk(&disks.class, mib).await);
            cluster
                .apply(&format!(
                    "{{apiVersion: v1, kind: PersistentVolume, metadata: {{name: {class}-{number}, labels: {{disks: {class}}}}}, spec: \
                     {{storageClassName: {class}, capacity: {{storage: {mib}Mi}}, accessModes: [ReadWriteOnce], local: {{path: {path}}}, \
                     persistentVolumeReclaimPolicy: Retain, nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: \
                     [{{key: kubernetes.io/hostname, operator: In, values: [{name}]}}]}}]}}}}}}}}"
                ))
                .await;
        }
        Some(disks)
    }
}

impl Drop for SmallDisks<'_> {
    fn drop(&mut self) {
        let label = format!("disks={}", self.class);
        self.cluster
            .kubectl_now(&["delete", "persistentvolumes", "--wait=false", "-l", &label]);
    }
}

/// Until the disk takes no more, with what the image's shell has.
async fn fill_disk(codis: &Codis<'_>, pod: &str) {
    let fill = "x=$(printf %65536s); while printf %s \"$x\"; do :; done > /data/fill; while printf x; do :; done >> /data/fill";
    // It ends with an error: the disk is full.
    let _ = codis.kubectl(&["exec", pod, "--", "sh", "-c", fill]).await;
}

async fn make_room(codis: &Codis<'_>, pod: &str) {
    // A replica that can't keep what it is sent ends itself, and may just be starting again.
    eventually(Duration::from_secs(60), "there is room", async || {
        let empty = ["exec", pod, "--", "sh", "-c", ": > /data/fill"];
        let done = codis.kubectl(&empty).await;
        done.map(drop).map_err(|failed| failed.to_string())
    })
    .await;
}

#[tokio::test]
async fn full_disk_of_a_replica_harms_nobody_and_that_of_the_primary_has_it_hand_over_until_there_is_room() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let Some(disks) = SmallDisks::new(&cluster, 128).await else {
        return;
    };
    let spec = format!(
        "{{servers: {{groups: 1, replicasPerGroup: 2, storage: {{size: 128Mi, class: {}}}}}, proxies: {{replicas: 1}}}}",
        disks.class
    );
    let codis = Codis::ready(&cluster, "full", &spec).await;
    let primary = async || {
        let object = codis.object().await.unwrap();
        object["status"]["groups"][0]["primary"].as_str().unwrap().to_owned()
    };
    let former = primary().await;
    let pods = ["full-g1-0", "full-g1-1"];
    let replica = pods[usize::from(former == pods[0])];
    let writer = Writer::start(&codis).await;
    let since = now();
    fill_disk(&codis, replica).await;
    eventually(Duration::from_secs(60), "it is told of", async || {
        let (_, message) = codis.wait_for_condition("Degraded", "True").await;
        if message.contains(replica) {
            Ok(())
        } else {
            Err(message)
        }
    })
    .await;
    make_room(&codis, replica).await;
    codis.wait_ready().await;
    codis.wait_for_condition("Degraded", "False").await;
    let promise = Promise {
        goal: Duration::from_secs(2),
        loss: Loss::Nothing,
        errors: false,
    };
    judge("disk of a replica is full", &writer.stop().await, since, promise)
        .check()
        .unwrap();
    let writer = Writer::start(&codis).await;
    fill_disk(&codis, &former).await;
    let since = now();
    eventually(Duration::from_secs(60), "another server leads", async || {
        let leads = primary().await;
        if leads == former { Err(leads) } else { Ok(()) }
    })
    .await;
    let (reason, message) = codis.wait_for_condition("Degraded", "True").await;
    assert!(
        reason == "DiskFails" && message.contains(&former),
        "{reason}: {message}"
    );
    writer.wait_for_writes_after(now(), Duration::from_secs(60)).await;
    make_room(&codis, &former).await;
    codis.wait_ready().await;
    codis.wait_for_condition("Degraded", "False").await;
    let log = writer.stop().await;
    let promise = Promise {
        errors: true,
        ..promise
    };
    judge("disk of the primary is full", &log, since - 1000, promise)
        .check()
        .unwrap();
}

#[tokio::test]
async fn deleted_cluster_that_kept_its_volumes_comes_back_with_its_data() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "again", &persistent("")).await;
    // The one that leads is not the one that would lead a new group.
    codis
        .kubectl(&["annotate", "codis", "again", "codis.dev/handover=g1=again-g1-1"])
        .await
        .unwrap();
    eventually(Duration::from_secs(60), "the other server leads", async || {
        let object = codis.object().await?;
        let primary = &object["status"]["groups"][0]["primary"];
        if primary == "again-g1-1" {
            Ok(())
        } else {
            Err(primary.to_string())
        }
    })
    .await;
    codis.wait_ready().await;
    fill(&codis).await;
    codis
        .kubectl(&["delete", "codis", "again", "--timeout=120s"])
        .await
        .unwrap();
    let pods = [
        "wait",
        "pod",
        "-l",
        "app.kubernetes.io/instance=again",
        "--for=delete",
        "--timeout=120s",
    ];
    codis.kubectl(&pods).await.unwrap();
    codis.apply_spec(&persistent("")).await.unwrap();
    codis.wait_ready().await;
    check(&codis).await;
    let object = codis.object().await.unwrap();
    assert_eq!(
        object["status"]["groups"][0]["primary"], "again-g1-1",
        "the one that led before"
    );
}

#[tokio::test]
async fn volumes_go_with_the_cluster_when_the_spec_says_so() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "gone", &persistent(", whenDeleted: Delete")).await;
    codis
        .kubectl(&["delete", "codis", "gone", "--timeout=120s"])
        .await
        .unwrap();
    eventually(Duration::from_secs(120), "no claim is left", async || {
        let claims = codis
            .kubectl(&[
                "get",
                "persistentvolumeclaims,configmaps",
                "-l",
                "app.kubernetes.io/instance=gone",
                "-o",
                "name",
            ])
            .await
            .map_err(|failed| failed.to_string())?;
        if claims.trim().is_empty() { Ok(()) } else { Err(claims) }
    })
    .await;
}

#[tokio::test]
async fn coordinator_that_lost_everything_is_given_the_slot_map_back() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let spec = "{servers: {groups: 2, replicasPerGroup: 2}, proxies: {replicas: 2}}";
    let codis = Codis::ready(&cluster, "mirrored", spec).await;
    fill(&codis).await;
    let product = format!("{}.mirrored", codis.namespace());
    operator::lose_keys(&cluster, &format!("/codis3/{product}/")).await;
    codis
        .wait_for_event(Duration::from_secs(120), "TopologyRestored", &[])
        .await;
    codis.wait_ready().await;
    check(&codis).await;
    let object = codis.object().await.unwrap();
    assert_eq!(object["status"]["slots"], 1024);
}
