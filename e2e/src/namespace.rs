//! Namespaces that live as long as a test.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Cluster;
use crate::cluster::program;

/// A namespace of one test, deleted when dropped. If the test is failing it first tells what is in there.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    kubeconfig: PathBuf,
}

impl Namespace {
    pub(crate) async fn create(cluster: &Cluster, prefix: &str) -> Self {
        let moment = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("the clock is past 1970")
            .as_micros();
        let name = format!("{prefix}-{}", moment % 1_000_000_000);
        cluster.kubectl(&["create", "namespace", &name]).await;
        Self {
            name,
            kubeconfig: cluster.kubeconfig().to_owned(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn kubectl(&self, args: &[&str]) {
        // Written to the standard error, where a test's own account of its failure goes.
        let output = Command::new(program("kubectl"))
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig)
            .output();
        match output {
            Ok(output) if thread::panicking() || !output.status.success() => {
                eprintln!(
                    "kubectl {}\n{}{}",
                    args.join(" "),
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                );
            }
            Ok(_) => {}
            Err(error) => eprintln!("kubectl {}: {error}", args.join(" ")),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if thread::panicking() {
            self.kubectl(&[
                "get",
                "all,persistentvolumeclaims",
                "--namespace",
                &self.name,
                "-o",
                "wide",
            ]);
            self.kubectl(&["get", "events", "--namespace", &self.name, "--sort-by=.lastTimestamp"]);
        }
        self.kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}
