//! The operator, installed with its chart on the cluster that tests share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use crate::{Cluster, eventually};

/// Where the operator is.
pub const NAMESPACE: &str = "codis-system";
/// The Helm release.
pub const RELEASE: &str = "codis-operator";

/// The folder of the chart.
pub fn chart() -> PathBuf {
    repository().join("charts/codis-operator")
}

/// The repository's folder.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("e2e lies in the repository")
}

/// Installs the operator if it is not there, or brings it to the chart as it is now; returns when it leads.
pub async fn install(cluster: &Cluster) {
    let chart = chart();
    let args = [
        "upgrade",
        "--install",
        RELEASE,
        &chart.to_string_lossy(),
        "--namespace",
        NAMESPACE,
        "--create-namespace",
        // A test may have changed the definition of the resource by hand.
        "--force-conflicts",
    ];
    let image = std::env::var("IMAGE").ok().filter(|image| !image.is_empty());
    let image = image
        .as_deref()
        .and_then(|image| image.rsplit_once(':'))
        .map(|(repository, tag)| {
            [
                format!("--set=image.repository={repository}"),
                format!("--set-string=image.tag={tag}"),
            ]
        });
    let args: Vec<&str> = args
        .into_iter()
        .chain(image.iter().flatten().map(String::as_str))
        .collect();
    cluster.helm(&args).await.unwrap_or_else(|failed| panic!("{failed}"));
    wait_until_it_leads(cluster).await;
}

/// Waits until all instances are ready and one of them leads.
pub async fn wait_until_it_leads(cluster: &Cluster) {
    for target in ["deployment/codis-operator", "statefulset/codis-operator-etcd"] {
        cluster
            .kubectl(&["--namespace", NAMESPACE, "rollout", "status", target, "--timeout=120s"])
            .await;
    }
    leader(cluster).await;
}

/// The pod of the instance that leads.
pub async fn leader(cluster: &Cluster) -> String {
    eventually(
        Duration::from_secs(60),
        "an instance of the operator leads",
        async || {
            let holder = holder(cluster).await?;
            let alive = pods(cluster).await.into_iter().any(|pod| pod.name_any() == holder);
            if alive {
                Ok(holder)
            } else {
                Err(format!("the Lease names {holder:?}"))
            }
        },
    )
    .await
}

/// Waits until the Lease names another pod than this one, and returns that.
pub async fn other_leader(cluster: &Cluster, former: &str) -> String {
    eventually(
        Duration::from_secs(60),
        "another instance leads",
        async || match holder(cluster).await? {
            holder if holder.is_empty() || holder == former => Err(format!("the Lease names {holder:?}")),
            holder => Ok(holder),
        },
    )
    .await
}

/// The pod that the Lease names, be it there or not; an empty name while it is free.
async fn holder(cluster: &Cluster) -> Result<String, String> {
    let path = "jsonpath={.spec.holderIdentity}";
    let args = ["--namespace", NAMESPACE, "get", "lease", RELEASE, "-o", path];
    cluster
        .try_kubectl(&args, "")
        .await
        .map_err(|failed| failed.to_string())
}

/// The pods of all instances.
pub async fn pods(cluster: &Cluster) -> Vec<Pod> {
    let api: Api<Pod> = Api::namespaced(cluster.client(), NAMESPACE);
    let selector = ListParams::default().labels("app.kubernetes.io/component=operator");
    api.list(&selector).await.expect("the operator's pods").items
}

/// Their names.
pub async fn pod_names(cluster: &Cluster) -> Vec<String> {
    pods(cluster).await.iter().map(ResourceExt::name_any).collect()
}

/// How often the leader has reconciled this CodisCluster to the end.
pub async fn reconciliations(cluster: &Cluster, namespace: &str, name: &str) -> u64 {
    let wanted = format!("codis_operator_cluster_reconciled_total{{namespace=\"{namespace}\",name=\"{name}\"}}");
    // A new leader has not counted any yet.
    figure(cluster, &wanted).await.unwrap_or(0)
}

/// How many bytes of the replication stream the primary of this group has, and no replica in sync, as the leader sees it.
pub async fn bytes_at_risk(cluster: &Cluster, namespace: &str, name: &str, group: u32) -> Option<u64> {
    let labels = format!("namespace=\"{namespace}\",name=\"{name}\",group=\"{group}\"");
    figure(cluster, &format!("codis_acknowledged_bytes_at_risk{{{labels}}}")).await
}

/// A figure of the leader's, by its name with its labels, if it has that.
async fn figure(cluster: &Cluster, name: &str) -> Option<u64> {
    let leader = leader(cluster).await;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{leader}:8080/proxy/metrics");
    let text = cluster.kubectl(&["get", "--raw", &path]).await;
    let mut lines = text.lines();
    let figure = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    figure.map(|figure| figure.trim().parse().expect("a number"))
}

/// Everything below a path in the coordinator, as etcdctl prints its keys.
pub async fn coordinator_keys(cluster: &Cluster, prefix: &str) -> Vec<String> {
    let pod = format!("{RELEASE}-etcd-0");
    let text = cluster
        .exec_in_pod(NAMESPACE, &pod, &["etcdctl", "get", "--prefix", "--keys-only", prefix])
        .await;
    text.unwrap_or_else(|failed| panic!("{failed}"))
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Takes everything below a path out of the coordinator, as a disk that was lost would.
pub async fn lose_keys(cluster: &Cluster, prefix: &str) {
    let pod = format!("{RELEASE}-etcd-0");
    cluster
        .exec_in_pod(NAMESPACE, &pod, &["etcdctl", "del", "--prefix", prefix])
        .await
        .unwrap_or_else(|failed| panic!("{failed}"));
}
