//! The local cluster itself: its nodes fail and come back as real ones do, and it ends without a trace.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use std::{fs, io};

use e2e::{Cluster, Direction, Namespace, eventually};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use tokio::sync::Mutex;

/// Shorter than Kubernetes' 40 s, so that a lost node is noticed soon.
const GRACE: &str = "5s";
const NOTICED: Duration = Duration::from_secs(25);
const BACK: Duration = Duration::from_secs(40);

/// Its own cluster, because of the grace: shared by the tests of this file (each fails a node of its own), ended after the last.
async fn cluster() -> Option<Arc<Cluster>> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(cluster) = shared.upgrade() {
        return Some(cluster);
    }
    let cluster = Arc::new(Cluster::start("harness", &["--grace", GRACE]).await?);
    *shared = Arc::downgrade(&cluster);
    Some(cluster)
}

#[tokio::test]
async fn killed_node_returns() {
    let Some(cluster) = cluster().await else { return };
    let node = cluster.node(1).unwrap();
    let namespace = cluster.namespace("killed").await;
    let before = running_pod(&cluster, &namespace, &node.name()).await;
    cluster
        .exec_in_pod(namespace.name(), "it", &["sh", "-c", "echo kept > /data/note"])
        .await
        .unwrap();

    node.kill().await;
    node_reports(&cluster, &node.name(), "Unknown", NOTICED).await;
    node.start().await;

    node_reports(&cluster, &node.name(), "True", BACK).await;
    let after = pod_runs(&cluster, &namespace, before.restarts + 1).await;
    assert_eq!(after.uid, before.uid, "the same pod, started again");
    let note = cluster
        .exec_in_pod(namespace.name(), "it", &["cat", "/data/note"])
        .await
        .unwrap();
    assert_eq!(note, "kept\n", "the disk is as it was");
}

#[tokio::test]
async fn paused_node_comes_back() {
    let Some(cluster) = cluster().await else { return };
    let node = cluster.node(2).unwrap();
    let namespace = cluster.namespace("paused").await;
    let before = running_pod(&cluster, &namespace, &node.name()).await;

    node.pause().await;
    node_reports(&cluster, &node.name(), "Unknown", NOTICED).await;
    node.resume().await;

    node_reports(&cluster, &node.name(), "True", BACK).await;
    assert_eq!(
        pod_runs(&cluster, &namespace, before.restarts).await,
        before,
        "frozen, not restarted"
    );
}

#[tokio::test]
async fn cut_node_heals() {
    let Some(cluster) = cluster().await else { return };
    let node = cluster.node(3).unwrap();
    let namespace = cluster.namespace("cut").await;
    let before = running_pod(&cluster, &namespace, &node.name()).await;

    for direction in [Direction::Both, Direction::In, Direction::Out] {
        node.cut(direction).await;
        node_reports(&cluster, &node.name(), "Unknown", NOTICED).await;
        node.heal().await;
        node_reports(&cluster, &node.name(), "True", BACK).await;
    }
    assert_eq!(
        pod_runs(&cluster, &namespace, before.restarts).await,
        before,
        "isolated, not restarted"
    );
}

#[tokio::test]
async fn ended_cluster_leaves_nothing() {
    let Some(cluster) = Cluster::start("harness-ended", &["--nodes", "1"]).await else {
        return;
    };
    let traces = Traces::of(&cluster);
    assert!(
        !traces.found().is_empty(),
        "a running cluster must be seen by what looks for its traces"
    );
    // A frozen process does not even die of SIGKILL: the harder case.
    cluster.node(1).unwrap().pause().await;
    let state = cluster.state().unwrap().to_owned();
    cluster.down().await;
    assert_eq!(traces.found(), Vec::<String>::new());
    assert!(!state.exists());

    let cluster = Cluster::start("harness-ended", &["--nodes", "1"]).await.unwrap();
    let node = cluster.node(1).unwrap();
    node.pause().await;
    // Nobody runs `down`: its first process dies.
    let init = fs::read_to_string(state.join("init.pid")).unwrap();
    assert!(
        std::process::Command::new("kill")
            .args(["-KILL", init.trim()])
            .status()
            .unwrap()
            .success()
    );
    eventually(
        Duration::from_secs(20),
        "the end of the cluster",
        async || match traces.found() {
            left if left.is_empty() => Ok(()),
            left => Err(left.join("\n")),
        },
    )
    .await;
    // There is no node left to resume.
    std::mem::forget(node);
}

/// What identifies one run of a pod.
#[derive(Debug, PartialEq)]
struct Run {
    uid: String,
    restarts: i32,
    container: String,
}

/// Starts a pod that stays on this node whatever happens to it.
async fn running_pod(cluster: &Cluster, namespace: &Namespace, node: &str) -> Run {
    let name = namespace.name();
    cluster
        .apply(&format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: it, namespace: {name}}}
spec:
  nodeSelector: {{kubernetes.io/hostname: {node}}}
  terminationGracePeriodSeconds: 0
  tolerations: [{{operator: Exists}}]
  volumes: [{{name: data, emptyDir: {{}}}}]
  containers:
  - name: it
    image: valkey/valkey:8.1
    imagePullPolicy: IfNotPresent
    command: [valkey-server, --save, ""]
    readinessProbe: {{exec: {{command: [valkey-cli, ping]}}, periodSeconds: 1}}
    volumeMounts: [{{name: data, mountPath: /data}}]
"#
        ))
        .await;
    pod_runs(cluster, namespace, 0).await
}

async fn pod_runs(cluster: &Cluster, namespace: &Namespace, restarts: i32) -> Run {
    let pods = Api::<Pod>::namespaced(cluster.client(), namespace.name());
    eventually(
        BACK,
        &format!("the pod, ready and restarted {restarts} times"),
        async || {
            let pod = pods.get("it").await.map_err(|error| error.to_string())?;
            let status = pod.status.unwrap_or_default();
            let container = status
                .container_statuses
                .unwrap_or_default()
                .pop()
                .ok_or("no container yet")?;
            let ready = status
                .conditions
                .unwrap_or_default()
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True");
            if !ready || container.restart_count != restarts {
                return Err(format!("ready: {ready}, {container:?}"));
            }
            Ok(Run {
                uid: pod.metadata.uid.unwrap(),
                restarts,
                container: container.container_id.unwrap_or_default(),
            })
        },
    )
    .await
}

/// Awaits that the node's condition Ready has this status: "Unknown" means that it fell silent.
async fn node_reports(cluster: &Cluster, node: &str, ready: &str, deadline: Duration) {
    let nodes = Api::<Node>::all(cluster.client());
    eventually(deadline, &format!("{node} with Ready {ready}"), async || {
        let status = nodes
            .get(node)
            .await
            .map_err(|error| error.to_string())?
            .status
            .unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let condition = conditions
            .into_iter()
            .find(|condition| condition.type_ == "Ready")
            .ok_or("no condition Ready yet")?;
        if condition.status == ready {
            Ok(())
        } else {
            Err(format!("{condition:?}"))
        }
    })
    .await;
}

/// How to recognise what a cluster has on this machine.
struct Traces {
    state: PathBuf,
    cgroup: String,
}

impl Traces {
    fn of(cluster: &Cluster) -> Self {
        let state = cluster.state().unwrap().to_owned();
        let cgroup = fs::read_to_string(state.join("cgroup")).unwrap().trim().to_owned();
        Self { state, cgroup }
    }

    /// Processes (a container's are known by their control group, the others by their environment), mounts in any namespace, and
    /// control groups. A network namespace exists only while a process or a mount holds it.
    fn found(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mark = format!("\0STATE={}\0", self.state.display());
        let state = self.state.display().to_string();
        for process in entries(Path::new("/proc")).filter(|path| path.join("mountinfo").exists()) {
            let read =
                |file: &str| String::from_utf8_lossy(&fs::read(process.join(file)).unwrap_or_default()).into_owned();
            let what = format!("{} ({})", process.display(), read("comm").trim());
            if format!("\0{}", read("environ")).contains(&mark) {
                found.push(format!("process {what}"));
            }
            if read("cgroup").contains(&self.cgroup) {
                found.push(format!("process {what} in control group {}", self.cgroup));
            }
            if read("mountinfo").contains(&state) {
                found.push(format!("mount seen by {what}"));
            }
        }
        let hierarchies = entries(Path::new("/sys/fs/cgroup")).chain([PathBuf::from("/sys/fs/cgroup")]);
        found.extend(
            hierarchies
                .map(|dir| dir.join(&self.cgroup))
                .filter(|group| group.exists())
                .map(|group| group.display().to_string()),
        );
        found
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir)
        .unwrap()
        .collect::<io::Result<Vec<_>>>()
        .unwrap()
        .into_iter()
        .map(|entry| entry.path())
}
