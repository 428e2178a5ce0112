//! Faults of the node that the primary is on.

#![allow(clippy::print_stdout)]

use std::time::Duration;

use super::{Scene, wait_for_writes};
use crate::{Direction, Writer, eventually, now, operator};

/// How long a fault stays before it is healed.
const STAYS: u64 = 12_000;

pub(super) async fn node_of_the_primary_is_powered_off(scene: &Scene, writer: &Writer) -> u64 {
    let node = scene.node_to_lose().await;
    println!("    on it: {}", scene.what_is_on(&node.name()).await);
    let since = now();
    node.kill().await;
    wait_for_writes(writer, since, STAYS).await;
    node.start().await;
    since
}

/// The primary, the active dashboard, a proxy and the operator's leader at once.
pub(super) async fn node_with_one_of_everything_is_powered_off(scene: &Scene, writer: &Writer) -> u64 {
    let node = scene.node_to_lose().await;
    gather_on(scene, &node.name()).await;
    println!("    on it: {}", scene.what_is_on(&node.name()).await);
    let since = now();
    node.kill().await;
    wait_for_writes(writer, since, STAYS).await;
    node.start().await;
    since
}

pub(super) async fn node_of_the_primary_is_frozen(scene: &Scene, writer: &Writer) -> u64 {
    let node = scene.node_to_lose().await;
    let since = now();
    node.pause().await;
    wait_for_writes(writer, since, STAYS).await;
    node.resume().await;
    wait_for_writes(writer, now(), 3000).await;
    since
}

pub(super) async fn node_of_the_primary_is_cut_off(scene: &Scene, writer: &Writer) -> u64 {
    cut(scene, writer, Direction::Both).await
}

pub(super) async fn node_of_the_primary_hears_nothing(scene: &Scene, writer: &Writer) -> u64 {
    cut(scene, writer, Direction::In).await
}

pub(super) async fn node_of_the_primary_is_not_heard(scene: &Scene, writer: &Writer) -> u64 {
    cut(scene, writer, Direction::Out).await
}

async fn cut(scene: &Scene, writer: &Writer, direction: Direction) -> u64 {
    let node = scene.node_to_lose().await;
    let since = now();
    node.cut(direction).await;
    wait_for_writes(writer, since, STAYS).await;
    node.heal().await;
    wait_for_writes(writer, now(), 3000).await;
    since
}

/// Has the active dashboard, a proxy and the operator's leader on this node too.
async fn gather_on(scene: &Scene, node: &str) {
    let codis = (scene.codis().namespace(), scene.codis().name());
    if !on_node(scene, codis.0, &scene.pods_of("proxy").await, node).await {
        move_one(scene, codis.0, &scene.pods_of("proxy").await, node).await;
    }
    let dashboards = scene.pods_of("dashboard").await;
    if !on_node(scene, codis.0, &dashboards, node).await {
        move_one(scene, codis.0, &dashboards, node).await;
    }
    let operators = operator::pod_names(scene.cluster()).await;
    if !on_node(scene, operator::NAMESPACE, &operators, node).await {
        move_one(scene, operator::NAMESPACE, &operators, node).await;
    }
    eventually(
        Duration::from_secs(120),
        "the active dashboard is on the node",
        async || {
            let active = scene.dashboard().await;
            resign_unless_on(scene, codis.0, &active, node).await
        },
    )
    .await;
    eventually(
        Duration::from_secs(120),
        "the operator's leader is on the node",
        async || {
            let leader = operator::leader(scene.cluster()).await;
            resign_unless_on(scene, operator::NAMESPACE, &leader, node).await
        },
    )
    .await;
    scene.wait_until_whole().await;
}

async fn on_node(scene: &Scene, namespace: &str, pods: &[String], node: &str) -> bool {
    for pod in pods {
        if scene.node_in(namespace, pod).await == node {
            return true;
        }
    }
    false
}

/// Has one of these pods made anew where nothing else is allowed.
async fn move_one(scene: &Scene, namespace: &str, pods: &[String], node: &str) {
    let cluster = scene.cluster();
    let nodes = cluster
        .kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"])
        .await;
    let others: Vec<&str> = nodes.split_whitespace().filter(|other| *other != node).collect();
    cluster.kubectl(&[&["cordon"], &others[..]].concat()).await;
    cluster.kubectl(&["delete", "pod", "-n", namespace, &pods[0]]).await;
    scene.wait_until_whole().await;
    cluster.kubectl(&[&["uncordon"], &others[..]].concat()).await;
}

/// Deletes the pod that has a role unless it is on the node, so that another one takes the role.
async fn resign_unless_on(scene: &Scene, namespace: &str, pod: &str, node: &str) -> Result<(), String> {
    if scene.node_in(namespace, pod).await == node {
        return Ok(());
    }
    scene.cluster().kubectl(&["delete", "pod", "-n", namespace, pod]).await;
    scene.wait_until_whole().await;
    Err(format!("{pod} had the role"))
}
