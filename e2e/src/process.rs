//! Faults of a server's process. The local cluster runs on this machine, which sees all of its processes.

use std::fs;
use std::process::Command;

/// The process of a server, found by its pod's name. One that is still frozen when the value is dropped is woken.
#[derive(Debug)]
pub struct Server {
    pid: u32,
    frozen: bool,
}

impl Server {
    /// The server that runs in this pod. Pods of other clusters must not have the same name.
    pub fn in_pod(pod: &str) -> Self {
        Self::find(pod, &["valkey-server", "redis-server"])
    }

    /// The proxy that runs in this pod.
    pub fn proxy_in_pod(pod: &str) -> Self {
        Self::find(pod, &["codis-proxy"])
    }

    /// The dashboard that runs in this pod.
    pub fn dashboard_in_pod(pod: &str) -> Self {
        Self::find(pod, &["codis-dashboard"])
    }

    fn find(pod: &str, programs: &[&str]) -> Self {
        let variable = [format!("POD_NAME={pod}"), format!("HOSTNAME={pod}")];
        let pids = fs::read_dir("/proc").expect("/proc").filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.parse::<u32>().ok()
        });
        let is_it = |pid: &u32| {
            let read = |what: &str| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
            let program = String::from_utf8_lossy(&read("comm")).trim().to_owned();
            // The kernel keeps 15 characters.
            programs.iter().any(|name| name.get(..15).unwrap_or(name) == program)
                && read("environ")
                    .split(|byte| *byte == 0)
                    .any(|set| variable.iter().any(|wanted| wanted.as_bytes() == set))
        };
        let found: Vec<u32> = pids.filter(is_it).collect();
        match found[..] {
            [pid] => Self { pid, frozen: false },
            _ => panic!("{programs:?} of pod {pod}: processes {found:?}"),
        }
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
