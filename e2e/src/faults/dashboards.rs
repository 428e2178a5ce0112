//! Faults of dashboards' processes.

use super::{Scene, wait_for_writes};
use crate::{Server, Writer, now};

pub(super) async fn active_dashboard_is_killed(scene: &Scene, writer: &Writer) -> u64 {
    let process = Server::dashboard_in_pod(scene.codis(), &scene.dashboard().await).await;
    let since = now();
    process.kill();
    wait_for_writes(writer, since, 5000).await
}

/// Longer than it keeps its lock.
pub(super) async fn active_dashboard_is_frozen_and_wakes(scene: &Scene, writer: &Writer) -> u64 {
    let mut process = Server::dashboard_in_pod(scene.codis(), &scene.dashboard().await).await;
    let since = now();
    process.freeze();
    wait_for_writes(writer, since, 8000).await;
    process.wake();
    wait_for_writes(writer, now(), 3000).await;
    since
}

pub(super) async fn active_dashboard_is_frozen_and_the_primary_killed(scene: &Scene, writer: &Writer) -> u64 {
    let former = scene.primary().await;
    let mut dashboard = Server::dashboard_in_pod(scene.codis(), &scene.dashboard().await).await;
    let server = Server::in_pod(scene.codis(), &former).await;
    let since = now();
    dashboard.freeze();
    server.kill();
    wait_for_writes(writer, since, 8000).await;
    // It has no lock any more, and must not act on what it knew.
    dashboard.wake();
    wait_for_writes(writer, now(), 3000).await;
    scene.wait_for_other_primary(&former).await;
    since
}
