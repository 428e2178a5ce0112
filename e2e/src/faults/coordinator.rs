//! Faults of etcd.

use std::time::Duration;

use super::{Scene, servers, wait_for_writes};
use crate::operator::NAMESPACE;
use crate::{Absent, Server, Writer, now};

pub(super) async fn member_of_etcd_is_killed(scene: &Scene, writer: &Writer) -> u64 {
    let since = now();
    Server::etcd_in_pod(scene.cluster(), "codis-operator-etcd-0")
        .await
        .kill();
    wait_for_writes(writer, since, 5000).await
}

/// The member that the others follow, so that they have to elect another one.
pub(super) async fn member_of_etcd_and_the_primary_are_killed(scene: &Scene, writer: &Writer) -> u64 {
    Server::etcd_in_pod(scene.cluster(), &leader_of_etcd(scene).await)
        .await
        .kill();
    servers::primary_is_killed(scene, writer).await
}

async fn leader_of_etcd(scene: &Scene) -> String {
    for member in 0..3 {
        let pod = format!("codis-operator-etcd-{member}");
        let status = ["etcdctl", "endpoint", "status", "--write-out=fields"];
        let Ok(status) = scene.cluster().exec_in_pod(NAMESPACE, &pod, &status).await else {
            continue;
        };
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(&format!("\"{name}\"")));
            line.and_then(|line| line.split(" : ").nth(1)).map(str::to_owned)
        };
        if field("Leader").is_some() && field("Leader") == field("MemberID") {
            return pod;
        }
    }
    panic!("no member of etcd leads");
}

pub(super) async fn all_of_etcd_is_down_for_a_minute(scene: &Scene, writer: &Writer) -> u64 {
    let since = now();
    let etcd = Absent::begin(scene.cluster(), NAMESPACE, "statefulset/codis-operator-etcd").await;
    writer
        .wait_for_writes_after(since + 60_000, Duration::from_secs(120))
        .await;
    etcd.end().await;
    wait_for_writes(writer, now(), 5000).await;
    since
}
