//! Faults of the operator itself, while it is needed.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use super::{PATIENCE, Scene, wait_for_writes};
use crate::judge::GENEROUS;
use crate::{Server, Writer, eventually, now, operator};

/// How soon another instance is to lead, and to act, when the leader is lost.
const ANOTHER_ACTS: Duration = Duration::from_secs(5);
/// How long it may take until what was done shows.
const TOLD: Duration = Duration::from_secs(60);

async fn leader(scene: &Scene) -> Server {
    let pod = operator::leader(scene.cluster()).await;
    Server::operator_in_pod(scene.cluster(), &pod).await
}

pub(super) async fn leader_is_frozen_and_the_primary_killed(scene: &Scene, writer: &Writer) -> u64 {
    let former = scene.primary().await;
    let mut leader = leader(scene).await;
    let server = Server::in_pod(scene.codis(), &former).await;
    let since = now();
    leader.freeze();
    server.kill();
    wait_for_writes(writer, since, 5000).await;
    leader.wake();
    scene.wait_for_other_primary(&former).await;
    since
}

pub(super) async fn leader_is_killed_with_the_primary(scene: &Scene, writer: &Writer) -> u64 {
    fail_over_without_the_leader(scene, writer, async |_, _| {}).await
}

/// At another moment of the failover each time: it takes some 50 ms in all.
pub(super) async fn leader_is_killed_while_it_fails_over(scene: &Scene, writer: &Writer) -> u64 {
    let moment = async |since, _: &str| tokio::time::sleep(Duration::from_millis(since % 80)).await;
    fail_over_without_the_leader(scene, writer, moment).await
}

/// The dashboard did what it was asked for, and nobody was told of it yet.
pub(super) async fn leader_is_killed_when_clients_write_again(scene: &Scene, writer: &Writer) -> u64 {
    let moment = async |since, _: &str| writer.wait_for_writes_after(since + 100, PATIENCE).await;
    fail_over_without_the_leader(scene, writer, moment).await
}

/// The former primary waits for its new role.
pub(super) async fn leader_is_killed_when_the_status_names_the_new_primary(scene: &Scene, writer: &Writer) -> u64 {
    let moment = async |_, former: &str| scene.wait_for_other_primary(former).await;
    fail_over_without_the_leader(scene, writer, moment).await
}

/// It copies, and is not in sync.
pub(super) async fn leader_is_killed_when_the_former_primary_follows(scene: &Scene, writer: &Writer) -> u64 {
    let moment = async |_, former: &str| wait_until_it_follows(scene, former).await;
    fail_over_without_the_leader(scene, writer, moment).await
}

/// Kills the primary, and the leader as soon as `moment` is over, which is told when the primary was killed, and its name. Whoever
/// goes on with the failover, it comes to its end, and the status tells of it.
async fn fail_over_without_the_leader(scene: &Scene, writer: &Writer, moment: impl AsyncFnOnce(u64, &str)) -> u64 {
    let (former, told) = (scene.primary().await, last_failover(scene).await);
    let leader = leader(scene).await;
    let server = Server::in_pod(scene.codis(), &former).await;
    let since = now();
    server.kill();
    moment(since, &former).await;
    leader.kill();
    // So long that Kubernetes has seen that it ended.
    wait_for_writes(writer, now(), 3000).await;
    eventually(TOLD, "the status tells of the failover", async || {
        let object = scene.codis().object().await?;
        let group = &object["status"]["groups"][0];
        let record = &group["lastFailover"];
        let is_new = record["at"] != told && record["from"] == former.as_str();
        if is_new && record["to"] == group["primary"] {
            Ok(())
        } else {
            Err(group.to_string())
        }
    })
    .await;
    since
}

/// Waits until the server that led has got its role as a replica, whether or not it has copied anything.
async fn wait_until_it_follows(scene: &Scene, former: &str) {
    eventually(TOLD, "the former primary follows", async || {
        let replication = scene.codis().info(former, "replication").await?;
        let of = replication.get("master_host").map(String::as_str);
        // Before it has a role it is the replica of a server that is not there.
        if of.is_some_and(|of| of != "127.0.0.1") {
            Ok(())
        } else {
            Err(format!("{replication:?}"))
        }
    })
    .await;
}

/// Its pod goes too: otherwise the process is started anew in there, and leads again under the same name.
pub(super) async fn leader_is_killed_for_good_and_another_one_acts(scene: &Scene, writer: &Writer) -> u64 {
    let (cluster, next) = (scene.cluster(), scene.replica().await);
    let pod = operator::leader(cluster).await;
    let leader = Server::operator_in_pod(cluster, &pod).await;
    let (since, began) = (now(), Instant::now());
    leader.kill();
    let args = [
        "delete",
        "pod",
        "-n",
        operator::NAMESPACE,
        &pod,
        "--force",
        "--grace-period=0",
    ];
    cluster.kubectl(&args).await;
    wait_until_another_acts(scene, &pod, &next, began).await;
    wait_for_writes(writer, now(), 0).await;
    since
}

pub(super) async fn leader_is_frozen_and_another_one_acts(scene: &Scene, writer: &Writer) -> u64 {
    let (cluster, next) = (scene.cluster(), scene.replica().await);
    let pod = operator::leader(cluster).await;
    let mut leader = Server::operator_in_pod(cluster, &pod).await;
    let (since, began) = (now(), Instant::now());
    leader.freeze();
    wait_until_another_acts(scene, &pod, &next, began).await;
    // It leads no more, and must not act as if it did.
    leader.wake();
    wait_for_writes(writer, now(), 3000).await;
    assert_eq!(scene.primary().await, next);
    since
}

/// Asks for what only an instance that leads does: that this server leads the group. How long it takes until another instance has
/// the Lease, and until it is done, is printed.
async fn wait_until_another_acts(scene: &Scene, leader: &str, next: &str, began: Instant) {
    let leads = async {
        operator::other_leader(scene.cluster(), leader).await;
        began.elapsed()
    };
    let acted = async {
        scene.hand_over_to(next).await;
        began.elapsed()
    };
    let (leads, acted) = tokio::join!(leads, acted);
    println!("    another instance leads after {leads:.1?}, has acted after {acted:.1?} (goal {ANOTHER_ACTS:?})");
    assert!(acted <= ANOTHER_ACTS * GENEROUS, "nobody acted for {acted:.1?}");
}

/// The one that it would promote leads already, and is not to be led away from.
pub(super) async fn leader_wakes_after_a_minute_and_does_nothing_stale(scene: &Scene, writer: &Writer) -> u64 {
    let former = scene.primary().await;
    let mut leader = leader(scene).await;
    let server = Server::in_pod(scene.codis(), &former).await;
    let since = now();
    server.kill();
    // It has seen that somebody is gone, and done nothing yet.
    leader.freeze();
    writer
        .wait_for_writes_after(since + 60_000, Duration::from_secs(120))
        .await;
    let leads = scene.primary().await;
    let record = last_failover(scene).await;
    leader.wake();
    wait_for_writes(writer, now(), 10_000).await;
    assert_ne!(leads, former);
    assert_eq!(
        (scene.primary().await, last_failover(scene).await),
        (leads, record),
        "woken, it left everything as it was"
    );
    since
}

async fn last_failover(scene: &Scene) -> serde_json::Value {
    let object = scene.codis().object().await.unwrap();
    object["status"]["groups"][0]["lastFailover"]["at"].clone()
}
