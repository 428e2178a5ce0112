//! Faults of what Kubernetes provides.

use std::time::Duration;

use super::{Scene, wait_for_writes};
use crate::{Absent, Server, Writer, eventually, now};

pub(super) async fn names_can_not_be_resolved(scene: &Scene, writer: &Writer) -> u64 {
    let since = now();
    let dns = Absent::begin(scene.cluster(), "kube-system", "deployment/coredns").await;
    eventually(Duration::from_secs(60), "nobody answers for names", async || {
        let left = [
            "get",
            "pods",
            "-n",
            "kube-system",
            "-l",
            "k8s-app=kube-dns",
            "-o",
            "name",
        ];
        let left = scene.cluster().kubectl(&left).await;
        if left.trim().is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
    // Longer than anybody trusts an answer without asking again.
    wait_for_writes(writer, now(), 20_000).await;
    dns.end().await;
    wait_for_writes(writer, now(), 0).await;
    since
}

/// It takes connections, and answers nothing.
pub(super) async fn api_server_hangs_and_the_primary_is_killed(scene: &Scene, writer: &Writer) -> u64 {
    let former = scene.primary().await;
    let process = Server::in_pod(scene.codis(), &former).await;
    let mut api = Server::api(scene.cluster());
    api.freeze();
    // So long that whoever leads has lost its Lease.
    wait_for_writes(writer, now(), 15_000).await;
    let since = now();
    process.kill();
    wait_for_writes(writer, since, 3000).await;
    api.wake();
    scene.wait_for_other_primary(&former).await;
    since
}
