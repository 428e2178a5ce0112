//! Faults of the operator itself, while it is needed.

use std::time::Duration;

use super::{Scene, wait_for_writes};
use crate::{Server, Writer, now, operator};

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

/// At another moment of the failover each time: it takes some 50 ms in all.
pub(super) async fn leader_is_killed_while_it_fails_over(scene: &Scene, writer: &Writer) -> u64 {
    let former = scene.primary().await;
    let leader = leader(scene).await;
    let server = Server::in_pod(scene.codis(), &former).await;
    let since = now();
    server.kill();
    tokio::time::sleep(Duration::from_millis(since % 80)).await;
    leader.kill();
    wait_for_writes(writer, since, 3000).await;
    scene.wait_for_other_primary(&former).await;
    since
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

async fn last_failover(scene: &Scene) -> String {
    let object = scene.codis().object().await.unwrap();
    object["status"]["groups"][0]["lastFailover"]["at"].to_string()
}
