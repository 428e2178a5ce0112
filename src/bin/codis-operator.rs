//! Start-up of the operator: flags, logs, signals.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use codis_operator::api::crd_yaml;
use codis_operator::operator::{Settings, run};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Runs Codis-style clusters (sharded Valkey or Redis behind proxies) that CodisCluster objects declare.
#[derive(Parser)]
#[command(name = "codis-operator", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator against the Kubernetes that this pod is in, or that KUBECONFIG names.
    Run(RunArguments),
    /// Print the CustomResourceDefinition of CodisCluster as YAML.
    Crd,
}

#[derive(clap::Args)]
struct RunArguments {
    /// The image that holds codis-dashboard and codis-proxy.
    #[arg(long, env = "CODIS_IMAGE", default_value = concat!("codis-operator/codis-operator:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// When that image is pulled: Always, IfNotPresent or Never.
    #[arg(long, env = "CODIS_IMAGE_PULL_POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: String,
    /// Secrets, in each cluster's namespace, to pull images with; separated by commas.
    #[arg(long, env = "CODIS_IMAGE_PULL_SECRETS", value_delimiter = ',')]
    image_pull_secrets: Vec<String>,
    /// Endpoints of the etcd of clusters that name none, http://host:port, separated by commas. Absent: each cluster
    /// must name its own.
    #[arg(long, env = "CODIS_COORDINATOR", value_delimiter = ',')]
    coordinator: Vec<String>,
    /// The operator's own namespace; its Lease lies there.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    namespace: String,
    /// This instance's name, unique among the instances.
    #[arg(long, env = "POD_NAME", default_value = "codis-operator")]
    identity: String,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, env = "CODIS_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// What to log: error, warn, info, debug or trace; or a filter by module, as codis_operator=debug,kube=info.
    #[arg(long, env = "CODIS_LOG", default_value = "info")]
    log: String,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Crd => print_crd(),
        Command::Run(arguments) => start(arguments),
    }
}

#[allow(clippy::print_stdout, reason = "it is what the command is for")]
fn print_crd() -> ExitCode {
    match crd_yaml() {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&format!("the CustomResourceDefinition can't be written: {error}")),
    }
}

fn start(arguments: RunArguments) -> ExitCode {
    let filter = match EnvFilter::try_new(&arguments.log) {
        Ok(filter) => filter,
        Err(error) => return fail(&format!("--log: {error}")),
    };
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let settings = Settings {
        image: arguments.image,
        image_pull_policy: arguments.image_pull_policy,
        image_pull_secrets: arguments
            .image_pull_secrets
            .into_iter()
            .filter(|name| !name.is_empty())
            .collect(),
        coordinator: arguments
            .coordinator
            .into_iter()
            .filter(|endpoint| !endpoint.is_empty())
            .collect(),
        namespace: arguments.namespace,
        identity: arguments.identity,
        listen: arguments.listen,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime can't be started: {error}")),
    };
    runtime.block_on(async {
        let client = match kube::Client::try_default().await {
            Ok(client) => client,
            Err(error) => {
                return fail(&format!(
                    "no Kubernetes to work with (in a pod: its service account; else KUBECONFIG): {error}"
                ));
            }
        };
        match run(client, settings, stop()).await {
            Ok(()) => {
                tracing::info!("stopped");
                ExitCode::SUCCESS
            }
            Err(error) => {
                tracing::error!(%error, "ended");
                ExitCode::FAILURE
            }
        }
    })
}

/// Resolves on SIGTERM and SIGINT.
async fn stop() {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        _ => std::future::pending().await,
    }
}

#[allow(clippy::print_stderr, reason = "there is no log yet")]
fn fail(text: &str) -> ExitCode {
    eprintln!("codis-operator: {text}");
    ExitCode::FAILURE
}
