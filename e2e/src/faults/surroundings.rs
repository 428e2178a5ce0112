//! Faults of what Kubernetes provides.

use std::time::Duration;

use super::{Scene, wait_for_writes};
use crate::{Absent, Server, Writer, eventually, now};

/// Longer than anybody trusts an answer of the name service without asking again, in ms.
const FORGOTTEN: u64 = 20_000;

pub(super) async fn names_can_not_be_resolved(scene: &Scene, writer: &Writer) -> u64 {
    let since = now();
    let names = no_names(scene).await;
    wait_for_writes(writer, now(), FORGOTTEN).await;
    names.end().await;
    wait_for_writes(writer, now(), 0).await;
    since
}

pub(super) async fn names_can_not_be_resolved_and_the_primary_is_killed(scene: &Scene, writer: &Writer) -> u64 {
    let names = no_names(scene).await;
    wait_for_writes(writer, now(), FORGOTTEN).await;
    let former = scene.primary().await;
    let process = Server::in_pod(scene.codis(), &former).await;
    let since = now();
    process.kill();
    wait_for_writes(writer, since, 5000).await;
    names.end().await;
    scene.wait_for_other_primary(&former).await;
    since
}

/// Takes the cluster's name servers away.
async fn no_names(scene: &Scene) -> Absent<'static> {
    let names = Absent::begin(scene.cluster(), "kube-system", "deployment/coredns").await;
    eventually(Duration::from_secs(60), "nobody answers for names", async || {
        let args = [
            "get",
            "pods",
            "-n",
            "kube-system",
            "-l",
            "k8s-app=kube-dns",
            "-o",
            "name",
        ];
        let left = scene.cluster().kubectl(&args).await;
        if left.trim().is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
    names
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
