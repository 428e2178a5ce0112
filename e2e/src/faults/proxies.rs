//! Faults of proxies' processes.

use std::time::Duration;

use super::{Scene, wait_for_writes};
use crate::{Server, Writer, eventually, now};

pub(super) async fn proxy_is_killed(scene: &Scene, writer: &Writer) -> u64 {
    let proxies = scene.pods_of("proxy").await;
    let process = Server::proxy_in_pod(scene.codis(), &proxies[0]).await;
    let since = now();
    process.kill();
    wait_for_writes(writer, since, 3000).await
}

pub(super) async fn proxy_is_frozen(scene: &Scene, writer: &Writer) -> u64 {
    let proxies = scene.pods_of("proxy").await;
    let mut process = Server::proxy_in_pod(scene.codis(), &proxies[0]).await;
    let since = now();
    process.freeze();
    eventually(Duration::from_secs(60), "another proxy takes its place", async || {
        let now = scene.pods_of("proxy").await;
        if now.contains(&proxies[0]) {
            Err(format!("{now:?}"))
        } else {
            Ok(())
        }
    })
    .await;
    wait_for_writes(writer, now(), 0).await;
    since
}

pub(super) async fn all_proxies_are_killed_at_once(scene: &Scene, writer: &Writer) -> u64 {
    let mut processes = Vec::new();
    for pod in scene.pods_of("proxy").await {
        processes.push(Server::proxy_in_pod(scene.codis(), &pod).await);
    }
    let since = now();
    processes.iter().for_each(Server::kill);
    wait_for_writes(writer, since, 3000).await
}
