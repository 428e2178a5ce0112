//! Pods that end, asked or not.

use std::time::Duration;

use super::{Scene, wait_for_writes};
use crate::{Server, Writer, eventually, now};

/// How long an Event may take to be there.
const TOLD: Duration = Duration::from_secs(20);

pub(super) async fn pod_of_the_primary_is_deleted(scene: &Scene, writer: &Writer) -> u64 {
    let former = scene.primary().await;
    let since = now();
    delete(scene, &[&former]).await;
    wait_for_writes(writer, now(), 0).await;
    scene.wait_for_other_primary(&former).await;
    since
}

pub(super) async fn pod_of_the_primary_is_deleted_by_force(scene: &Scene, writer: &Writer) -> u64 {
    let former = scene.primary().await;
    let since = now();
    delete(scene, &[&former, "--force", "--grace-period=0"]).await;
    wait_for_writes(writer, since, 3000).await;
    scene.wait_for_other_primary(&former).await;
    since
}

async fn delete(scene: &Scene, args: &[&str]) {
    let deleted = scene.codis().kubectl(&[&["delete", "pod"], args].concat()).await;
    deleted.unwrap_or_else(|failed| panic!("{failed}"));
}

pub(super) async fn node_of_the_primary_is_drained(scene: &Scene, writer: &Writer) -> u64 {
    let former = scene.primary().await;
    let node = scene.node_of(&former).await;
    let selector = format!("--pod-selector=app.kubernetes.io/instance={}", scene.codis().name());
    let since = now();
    let drained = scene
        .cluster()
        .try_kubectl(
            &[
                "drain",
                &node,
                &selector,
                "--ignore-daemonsets",
                "--delete-emptydir-data",
                "--timeout=120s",
            ],
            "",
        )
        .await;
    scene.cluster().kubectl(&["uncordon", &node]).await;
    drained.unwrap_or_else(|failed| panic!("{failed}"));
    wait_for_writes(writer, now(), 0).await;
    scene.wait_for_other_primary(&former).await;
    since
}

pub(super) async fn all_servers_are_killed_at_once(scene: &Scene, writer: &Writer) -> u64 {
    let mut processes = Vec::new();
    for pod in scene.pods_of("server").await {
        processes.push(Server::in_pod(scene.codis(), &pod).await);
    }
    let told = data_losses(scene).await;
    let since = now();
    processes.iter().for_each(Server::kill);
    wait_for_writes(writer, since, 3000).await;
    eventually(TOLD, "an Event tells that data is lost", async || {
        let now = data_losses(scene).await;
        if now > told {
            Ok(())
        } else {
            Err(format!("{now} Events, as before"))
        }
    })
    .await;
    since
}

/// How many Events tell that the group lost its data.
async fn data_losses(scene: &Scene) -> usize {
    let events = [
        "get",
        "events.events.k8s.io",
        "-o",
        "jsonpath={range .items[?(@.reason==\"DataLost\")]}{.note}{\"\\n\"}{end}",
    ];
    let told = scene.codis().kubectl(&events).await;
    told.unwrap_or_else(|failed| panic!("{failed}")).lines().count()
}

pub(super) async fn all_pods_are_killed_at_once(scene: &Scene, writer: &Writer) -> u64 {
    let codis = scene.codis();
    let mut processes = Vec::new();
    for pod in scene.pods_of("server").await {
        processes.push(Server::in_pod(codis, &pod).await);
    }
    for pod in scene.pods_of("proxy").await {
        processes.push(Server::proxy_in_pod(codis, &pod).await);
    }
    for pod in scene.pods_of("dashboard").await {
        processes.push(Server::dashboard_in_pod(codis, &pod).await);
    }
    let since = now();
    processes.iter().for_each(Server::kill);
    wait_for_writes(writer, since, 3000).await
}
