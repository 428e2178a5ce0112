//! Faults of servers' processes.

use super::{Scene, wait_for_writes};
use crate::{Server, Writer, eventually, now};
use std::time::Duration;

pub(super) async fn primary_is_killed(scene: &Scene, writer: &Writer) -> u64 {
    let former = scene.primary().await;
    let process = Server::in_pod(scene.codis(), &former).await;
    let since = now();
    process.kill();
    wait_for_writes(writer, since, 1000).await;
    scene.wait_for_other_primary(&former).await;
    since
}

pub(super) async fn primary_is_frozen_and_wakes_as_a_replica(scene: &Scene, writer: &Writer) -> u64 {
    let former = scene.primary().await;
    let mut process = Server::in_pod(scene.codis(), &former).await;
    let since = now();
    process.freeze();
    wait_for_writes(writer, since, 5000).await;
    scene.wait_for_other_primary(&former).await;
    process.wake();
    eventually(Duration::from_secs(60), "it follows", async || {
        let replication = scene.codis().info(&former, "replication").await?;
        if replication["role"] == "slave" {
            Ok(())
        } else {
            Err(format!("{replication:?}"))
        }
    })
    .await;
    since
}

pub(super) async fn primary_runs_out_of_memory(scene: &Scene, writer: &Writer) -> u64 {
    let former = scene.primary().await;
    let since = run_out_of_memory(scene, &former).await;
    wait_for_writes(writer, since, 1000).await;
    scene.wait_for_other_primary(&former).await;
    since
}

pub(super) async fn replica_is_killed(scene: &Scene, writer: &Writer) -> u64 {
    let process = Server::in_pod(scene.codis(), &scene.replica().await).await;
    let since = now();
    process.kill();
    wait_for_writes(writer, since, 3000).await
}

pub(super) async fn replica_is_frozen_and_wakes(scene: &Scene, writer: &Writer) -> u64 {
    let mut process = Server::in_pod(scene.codis(), &scene.replica().await).await;
    let since = now();
    process.freeze();
    wait_for_writes(writer, since, 5000).await;
    process.wake();
    wait_for_writes(writer, now(), 3000).await;
    since
}

pub(super) async fn replica_runs_out_of_memory(scene: &Scene, writer: &Writer) -> u64 {
    let replica = scene.replica().await;
    let since = run_out_of_memory(scene, &replica).await;
    wait_for_writes(writer, since, 3000).await
}

pub(super) async fn primary_hands_over_by_hand(scene: &Scene, writer: &Writer) -> u64 {
    let since = now();
    scene.hand_over_to(&scene.replica().await).await;
    wait_for_writes(writer, now(), 0).await;
    since
}

/// The kernel ends the server of this pod because its container's memory is used up by what is written. When it was.
async fn run_out_of_memory(scene: &Scene, pod: &str) -> u64 {
    const MB: u64 = 1 << 20;
    let codis = scene.codis();
    let server = Server::in_pod(codis, pod).await;
    server.limit_memory(4 * MB);
    let grow: String = (0..64).map(|n| format!("SETRANGE fill:{n} {MB} x\n")).collect();
    let ended = async {
        while server.runs() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        now()
    };
    let (since, _) = tokio::join!(
        async {
            tokio::time::timeout(Duration::from_secs(30), ended)
                .await
                .expect("it runs out of memory")
        },
        codis.cli_lines(&grow)
    );
    eventually(Duration::from_secs(20), "Kubernetes saw why it ended", async || {
        let path = "jsonpath={.status.containerStatuses[0].lastState.terminated.reason} {.status.containerStatuses[0].state.terminated.reason}";
        let reason = codis.kubectl(&["get", "pod", pod, "-o", path]).await.map_err(|failed| failed.to_string())?;
        if reason.contains("OOMKilled") { Ok(()) } else { Err(reason) }
    })
    .await;
    let shrink: String = (0..64).map(|n| format!("UNLINK fill:{n}\n")).collect();
    codis.cli_lines(&shrink).await;
    since
}
