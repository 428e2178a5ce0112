//! The Kubernetes that tests run on.

use std::env;
use std::path::{Path, PathBuf};

use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::process::Command;

use crate::command::{Failed, run};
use crate::{Namespace, Node};

/// A running Kubernetes cluster, and a way to it.
pub struct Cluster {
    config: kube::Config,
    kubeconfig: PathBuf,
    local: Option<Local>,
}

/// A cluster of `e2e/cluster`.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    state: PathBuf,
    /// Ended when the value is dropped; the shared one stays for the next test.
    owned: bool,
}

impl Cluster {
    /// The cluster that all tests share: what `KUBECONFIG` names, else the local one, started now if it is not up. It stays up.
    pub async fn get() -> Self {
        if let Some(path) = env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
            let config = kube::Config::infer()
                .await
                .expect("KUBECONFIG must name a usable cluster");
            return Self {
                config,
                kubeconfig: path.into(),
                local: None,
            };
        }
        let state = env::var_os("CODIS_E2E_STATE").map_or_else(|| cache().join("clusters/default"), PathBuf::from);
        Self::up(Local { state, owned: false }, &[]).await
    }

    /// A local cluster of this test's own, ended when the value is dropped. `args` go to `e2e/cluster up`.
    ///
    /// `None`, and a line that says so, when `KUBECONFIG` is set: then no cluster is started on this machine.
    pub async fn start(name: &str, args: &[&str]) -> Option<Self> {
        if env::var_os("KUBECONFIG").is_some_and(|path| !path.is_empty()) {
            eprintln!("skipped: needs a local cluster of its own, and KUBECONFIG names another");
            return None;
        }
        Some(
            Self::up(
                Local {
                    state: cache().join("clusters").join(name),
                    owned: true,
                },
                args,
            )
            .await,
        )
    }

    async fn up(local: Local, args: &[&str]) -> Self {
        // Made first: if anything below panics, an owned cluster is ended all the same.
        let local = Guard(Some(local));
        let cluster = local.0.as_ref().expect("just set");
        cluster.run(&[&["up"], args].concat()).await;
        let kubeconfig = PathBuf::from(cluster.run(&["kubeconfig"]).await.trim_end());
        let read = Kubeconfig::read_from(&kubeconfig).expect("the local cluster's kubeconfig");
        let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
            .await
            .expect("the local cluster's kubeconfig");
        Self {
            config,
            kubeconfig,
            local: local.keep(),
        }
    }

    /// A client of the API server, with all rights. New each time: it works in the background of the runtime that it was made in, and
    /// a cluster may be shared by tests, of which each has its own.
    pub fn client(&self) -> kube::Client {
        kube::Client::try_from(self.config.clone()).expect("a client from a configuration that was read")
    }

    /// The file for `KUBECONFIG`.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The folder that holds the local cluster's state and logs; absent where `KUBECONFIG` names another cluster.
    pub fn state(&self) -> Option<&Path> {
        self.local.as_ref().map(|local| local.state.as_path())
    }

    /// Node `n` (from 1) for faults. `None`, and a line that says so, when this is not the local cluster: then the test is to return.
    pub fn node(&self, n: u32) -> Option<Node> {
        if self.local.is_none() {
            eprintln!("skipped: node faults need the local cluster, and KUBECONFIG names another");
        }
        self.local.clone().map(|local| Node::new(local, n))
    }

    /// Ends this local cluster now.
    ///
    /// # Panics
    /// If it is not one that [`Self::start`] made.
    pub async fn down(mut self) {
        let local = self
            .local
            .take()
            .filter(|local| local.owned)
            .expect("only a cluster of this test's own is its to end");
        local.run(&["down"]).await;
    }

    /// `kubectl ARGS…`: what it printed.
    ///
    /// # Panics
    /// If it fails, with what it said.
    pub async fn kubectl(&self, args: &[&str]) -> String {
        self.try_kubectl(args, "")
            .await
            .unwrap_or_else(|failed| panic!("{failed}"))
    }

    /// The same where nothing can be awaited: in a destructor. A failure is told, not raised.
    pub fn kubectl_now(&self, args: &[&str]) {
        let status = std::process::Command::new(program("kubectl"))
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdout(std::process::Stdio::null())
            .status();
        if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
            eprintln!("kubectl {}: {status:?}", args.join(" "));
        }
    }

    /// `kubectl ARGS…` with `input`, where a failure is something to look at.
    ///
    /// # Errors
    /// [`Failed`] with its exit code and what it said.
    pub async fn try_kubectl(&self, args: &[&str], input: &str) -> Result<String, Failed> {
        self.program("kubectl", args, input).await
    }

    /// `helm ARGS…`: what it printed.
    ///
    /// # Errors
    /// [`Failed`] with its exit code and what it said.
    pub async fn helm(&self, args: &[&str]) -> Result<String, Failed> {
        self.program("helm", args, "").await
    }

    /// Applies YAML.
    ///
    /// # Panics
    /// If the API server refuses it.
    pub async fn apply(&self, yaml: &str) {
        self.try_kubectl(&["apply", "-f", "-"], yaml)
            .await
            .unwrap_or_else(|failed| panic!("{failed}"));
    }

    /// Runs a command in a pod (in its first container): what it printed.
    ///
    /// # Errors
    /// [`Failed`] when the command fails, or the pod can't be reached.
    pub async fn exec_in_pod(&self, namespace: &str, pod: &str, command: &[&str]) -> Result<String, Failed> {
        self.try_kubectl(&[&["exec", "--namespace", namespace, pod, "--"], command].concat(), "")
            .await
    }

    /// A new namespace, deleted when the value is dropped. Its name begins with `prefix`.
    pub async fn namespace(&self, prefix: &str) -> Namespace {
        Namespace::create(self, prefix).await
    }

    async fn program(&self, name: &str, args: &[&str], input: &str) -> Result<String, Failed> {
        // It starts with 100 ms of work, which clients whose waiting is measured would wait for.
        run(
            Command::new("nice")
                .args(["-n", "10"])
                .arg(program(name))
                .args(args)
                .env("KUBECONFIG", &self.kubeconfig),
            input,
        )
        .await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(Guard(self.local.take()));
    }
}

/// Ends an owned cluster when dropped.
struct Guard(Option<Local>);

impl Guard {
    fn keep(mut self) -> Option<Local> {
        self.0.take()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(local) = self.0.take().filter(|local| local.owned) {
            local.run_now(&["down"]);
        }
    }
}

impl Local {
    /// Runs `e2e/cluster` on this cluster.
    pub(crate) async fn run(&self, args: &[&str]) -> String {
        run(Command::new(script()).arg("--state").arg(&self.state).args(args), "")
            .await
            .unwrap_or_else(|failed| panic!("{failed}"))
    }

    /// As `run`, where nothing can be awaited: in a destructor. A failure is told, not raised.
    pub(crate) fn run_now(&self, args: &[&str]) {
        let mut command = std::process::Command::new(script());
        match command.arg("--state").arg(&self.state).args(args).status() {
            Ok(status) if status.success() => {}
            other => eprintln!("{command:?}: {other:?}"),
        }
    }
}

fn script() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/cluster"))
}

fn cache() -> PathBuf {
    env::var_os("CODIS_CACHE").map_or_else(
        || PathBuf::from(env::var_os("HOME").expect("HOME is set")).join(".cache/codis-operator"),
        PathBuf::from,
    )
}

/// The program of `e2e/tools install`, else the one on the PATH.
pub(crate) fn program(name: &str) -> PathBuf {
    let installed = cache().join("bin").join(name);
    if installed.exists() { installed } else { name.into() }
}
