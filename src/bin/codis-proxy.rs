//! codis-proxy: argument parsing and start-up only.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use codis_operator::log_file;
use codis_operator::model::ProductName;
use codis_operator::proxy::{self, Config, DEFAULT_CONFIG, LogLevel, Options, Source};

/// Serves plain Redis clients from the servers of a product.
#[derive(Debug, Parser)]
#[command(name = "codis-proxy", version)]
struct Flags {
    /// Worker threads; by default as many as the cgroup's CPU quota, or else the machine, has cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    ncpu: Option<u16>,
    /// Accepted for compatibility: the number of threads does not change.
    #[arg(long, value_name = "MAX")]
    max_ncpu: Option<u16>,
    /// Settings (TOML).
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Log to this file instead of to standard error, a new one each day (UTC), which is added to the name.
    #[arg(short, long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// ERROR, WARN, INFO, DEBUG or NONE.
    #[arg(long, value_name = "LEVEL", default_value = "INFO")]
    log_level: LogLevel,
    /// Where others reach the admin API.
    #[arg(long, value_name = "ADDR")]
    host_admin: Option<String>,
    /// Where clients reach the proxy.
    #[arg(long, value_name = "ADDR")]
    host_proxy: Option<String>,
    /// Admin addresses of the dashboard's instances, those that speak TLS as https://ADDR; the proxy registers itself there.
    #[arg(
        long,
        value_name = "ADDR[,ADDR…]",
        value_delimiter = ',',
        conflicts_with = "fillslots"
    )]
    dashboard: Vec<String>,
    /// Authorities (file, PEM) that the certificate of a dashboard at https://ADDR must be of; without it those that this
    /// host knows. Instead of the setting of this name.
    #[arg(long, value_name = "FILE")]
    dashboard_ca: Option<String>,
    /// What the dashboard wants for changes (its admin_token). Instead of the setting of this name.
    #[arg(long, value_name = "TOKEN", env = "CODIS_DASHBOARD_TOKEN", hide_env_values = true)]
    dashboard_token: Option<String>,
    /// Run without a dashboard: a JSON array of all slots.
    #[arg(long, value_name = "FILE")]
    fillslots: Option<PathBuf>,
    /// Refuse to start when fewer files may be open.
    #[arg(long, value_name = "NLIMIT")]
    ulimit: Option<u64>,
    /// Write the process id to this file.
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Instead of the setting of this name.
    #[arg(long = "product_name", value_name = "NAME")]
    product_name: Option<ProductName>,
    /// Instead of the setting of this name.
    #[arg(
        long = "product_auth",
        value_name = "AUTH",
        env = "CODIS_PRODUCT_AUTH",
        hide_env_values = true
    )]
    product_auth: Option<String>,
    /// Instead of the setting of this name.
    #[arg(
        long = "session_auth",
        value_name = "AUTH",
        env = "CODIS_SESSION_AUTH",
        hide_env_values = true
    )]
    session_auth: Option<String>,
    /// Print all settings with their defaults.
    #[arg(long)]
    default_config: bool,
    #[arg(long, hide = true, num_args = 0..=1)]
    zookeeper: Option<Option<String>>,
    #[arg(long, hide = true, num_args = 0..=1)]
    etcd: Option<Option<String>>,
    #[arg(long, hide = true, num_args = 0..=1)]
    filesystem: Option<Option<String>>,
    #[arg(long, hide = true)]
    zookeeper_auth: Option<String>,
    #[arg(long, hide = true)]
    etcd_auth: Option<String>,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    if flags.default_config {
        let written = std::io::stdout().write_all(DEFAULT_CONFIG.as_bytes());
        return if written.is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    match start(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "codis-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(flags: Flags) -> Result<(), String> {
    for (name, given) in [
        ("zookeeper", &flags.zookeeper),
        ("etcd", &flags.etcd),
        ("filesystem", &flags.filesystem),
    ] {
        if given.is_some() {
            return Err(format!(
                "--{name}: this codis-proxy does not look its dashboard up in a coordinator; name it with --dashboard=ADDR[,ADDR…]"
            ));
        }
    }
    if flags.zookeeper_auth.is_some() || flags.etcd_auth.is_some() {
        return Err(
            "--zookeeper-auth and --etcd-auth have no use here; name the dashboard with --dashboard=ADDR[,ADDR…]"
                .to_owned(),
        );
    }
    let mut config = match &flags.config {
        None => Config::default(),
        Some(path) => {
            let text =
                std::fs::read_to_string(path).map_err(|error| format!("--config={}: {error}", path.display()))?;
            Config::parse(&text).map_err(|error| format!("--config={}: {error}", path.display()))?
        }
    };
    if let Some(name) = flags.product_name {
        config.product_name = name;
    }
    config.dashboard_ca = flags.dashboard_ca.unwrap_or(config.dashboard_ca);
    config.dashboard_token = flags.dashboard_token.unwrap_or(config.dashboard_token);
    config.product_auth = flags.product_auth.unwrap_or(config.product_auth);
    config.session_auth = flags.session_auth.unwrap_or(config.session_auth);
    if let (Some(wanted), Some(limit)) = (flags.ulimit, proxy::open_files_limit())
        && limit < wanted
    {
        return Err(format!(
            "--ulimit={wanted}: only {limit} files may be open; raise the limit (ulimit -n)"
        ));
    }
    let file = flags.log.as_deref().map(log_file::open).transpose();
    let file = file.map_err(|error| format!("--log: {error}"))?;
    let log = proxy::start_log(file, flags.log_level).map_err(|error| format!("--log: {error}"))?;
    if flags.max_ncpu.is_some() {
        tracing::info!("--max-ncpu has no effect: the number of worker threads does not change");
    }
    let options = Options {
        workers: flags.ncpu.map_or_else(proxy::cores, usize::from),
        host_admin: flags.host_admin,
        host_proxy: flags.host_proxy,
        source: match flags.fillslots {
            Some(path) => Source::File(path),
            None if flags.dashboard.is_empty() => Source::Anyone,
            None => Source::Dashboard(flags.dashboard),
        },
    };
    if let Some(path) = &flags.pidfile {
        std::fs::write(path, std::process::id().to_string())
            .map_err(|error| format!("--pidfile={}: {error}", path.display()))?;
    }
    let ended = proxy::run(config, options, log).map_err(|error| error.to_string());
    if let Some(path) = &flags.pidfile {
        let _ = std::fs::remove_file(path);
    }
    ended
}
