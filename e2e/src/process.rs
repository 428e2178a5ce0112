//! Faults of a server's process. The local cluster runs on this machine, which sees all of its processes.

use std::fs;
use std::process::Command;

use crate::operator::NAMESPACE;
use crate::{Cluster, Codis};

/// A process in a pod of the local cluster. One that is still frozen when the value is dropped is woken.
#[derive(Debug)]
pub struct Server {
    pid: u32,
    frozen: bool,
}

impl Server {
    /// The server that runs in this pod.
    pub async fn in_pod(codis: &Codis<'_>, pod: &str) -> Self {
        Self::find(
            codis.cluster(),
            codis.namespace(),
            pod,
            &["valkey-server", "redis-server"],
        )
        .await
    }

    /// The proxy that runs in this pod.
    pub async fn proxy_in_pod(codis: &Codis<'_>, pod: &str) -> Self {
        Self::find(codis.cluster(), codis.namespace(), pod, &["codis-proxy"]).await
    }

    /// The dashboard that runs in this pod.
    pub async fn dashboard_in_pod(codis: &Codis<'_>, pod: &str) -> Self {
        Self::find(codis.cluster(), codis.namespace(), pod, &["codis-dashboard"]).await
    }

    /// The operator that runs in this pod.
    pub async fn operator_in_pod(cluster: &Cluster, pod: &str) -> Self {
        Self::find(cluster, NAMESPACE, pod, &["codis-operator"]).await
    }

    async fn find(cluster: &Cluster, namespace: &str, pod: &str, programs: &[&str]) -> Self {
        let pid = pid_in_pod(cluster, namespace, pod, programs).await;
        Self { pid, frozen: false }
    }

    /// Ends it without a word.
    pub fn kill(&self) {
        self.signal("KILL");
    }

    /// Freezes it: its connections stay, and nobody answers.
    pub fn freeze(&mut self) {
        self.frozen = true;
        self.signal("STOP");
    }

    /// Undoes [`Self::freeze`].
    pub fn wake(&mut self) {
        self.frozen = false;
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.pid.to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -s {name} {pid}");
    }
}

/// The one process of this pod that runs one of these programs.
pub(crate) async fn pid_in_pod(cluster: &Cluster, namespace: &str, pod: &str, programs: &[&str]) -> u32 {
    let uid = cluster
        .try_kubectl(
            &["get", "pod", pod, "-n", namespace, "-o", "jsonpath={.metadata.uid}"],
            "",
        )
        .await
        .unwrap_or_else(|failed| panic!("{failed}"));
    let pids = fs::read_dir("/proc").expect("/proc").filter_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str()?.parse::<u32>().ok()
    });
    // A pod's processes are those of its cgroup.
    let is_it = |pid: &u32| {
        let read = |what: &str| fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
        // The kernel keeps 15 characters.
        let known = |name: &str| name.get(..15).unwrap_or(name) == read("comm").trim();
        programs.iter().any(|name| known(name)) && read("cgroup").contains(&format!("pod{uid}"))
    };
    let found: Vec<u32> = pids.filter(is_it).collect();
    match found[..] {
        [pid] => pid,
        _ => panic!("{programs:?} of pod {pod}: processes {found:?}"),
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.frozen {
            // It may be gone by now.
            let _ = Command::new("kill")
                .args(["-s", "CONT", &self.pid.to_string()])
                .status();
        }
    }
}
