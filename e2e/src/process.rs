//! Faults of a server's process. The local cluster runs on this machine, which sees all of its processes.

use std::fs;
use std::path::Path;
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

    /// The member of the operator's etcd that runs in this pod.
    pub async fn etcd_in_pod(cluster: &Cluster, pod: &str) -> Self {
        Self::find(cluster, NAMESPACE, pod, &["etcd"]).await
    }

    /// The API server of this local cluster.
    pub fn api(cluster: &Cluster) -> Self {
        let state = cluster
            .state()
            .expect("only the local cluster's can be made to fail")
            .to_string_lossy();
        let is_it = |pid: &u32| {
            let read = |what: &str| fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
            read("comm").trim() == "kube-apiserver" && read("cmdline").contains(&format!("{state}/"))
        };
        let found: Vec<u32> = pids().filter(is_it).collect();
        match found[..] {
            [pid] => Self { pid, frozen: false },
            _ => panic!("API servers of {state}: processes {found:?}"),
        }
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

    /// Undoes [`Self::freeze`]. It may have been ended meanwhile, because it did not answer Kubernetes.
    pub fn wake(&mut self) {
        self.frozen = false;
        if self.runs() {
            self.signal("CONT");
        }
    }

    /// Whether it is there.
    pub fn runs(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.pid)).is_ok_and(|stat| !stat.contains(") Z "))
    }

    /// Leaves its container so much more memory than it takes now, in bytes, until it is started anew.
    pub fn limit_memory(&self, more: u64) {
        let own = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).expect("its cgroups");
        let (folder, limit, usage) = own
            .lines()
            .find_map(|line| {
                let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                match controllers {
                    "memory" => Some((
                        format!("/sys/fs/cgroup/memory{path}"),
                        "memory.limit_in_bytes",
                        "memory.usage_in_bytes",
                    )),
                    "" if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() => {
                        Some((format!("/sys/fs/cgroup{path}"), "memory.max", "memory.current"))
                    }
                    _ => None,
                }
            })
            .expect("a cgroup that bounds memory");
        let used = fs::read_to_string(format!("{folder}/{usage}")).expect("how much it takes");
        let used: u64 = used.trim().parse().expect("a number of bytes");
        fs::write(format!("{folder}/{limit}"), (used + more).to_string()).expect("limiting its memory");
    }

    fn signal(&self, name: &str) {
        let pid = self.pid.to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -s {name} {pid}");
    }
}

/// All processes of this machine.
fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").expect("/proc").filter_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str()?.parse::<u32>().ok()
    })
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
    // A pod's processes are those of its cgroup.
    let is_it = |pid: &u32| {
        let read = |what: &str| fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
        // The kernel keeps 15 characters.
        let known = |name: &str| name.get(..15).unwrap_or(name) == read("comm").trim();
        programs.iter().any(|name| known(name)) && read("cgroup").contains(&format!("pod{uid}"))
    };
    let found: Vec<u32> = pids().filter(is_it).collect();
    match found[..] {
        [pid] => pid,
        _ => panic!("{programs:?} of pod {pod}: processes {found:?}"),
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.frozen {
            self.wake();
        }
    }
}
