//! codis-dashboard: reads its flags and configuration, and runs until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use codis_operator::dashboard::{
    Config, DEFAULT_TOML, LogLevel, Logging, Options, Secret, SystemLookup, openapi, start,
};
use codis_operator::log_file;
use codis_operator::model::HostPort;
use tokio::signal::unix::{SignalKind, signal};

/// The control plane of a Codis product: owns its slot map, commands its servers and proxies.
#[derive(Parser)]
#[command(version, name = "codis-dashboard")]
struct Args {
    /// Threads; by default as many as the process may use cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    ncpu: Option<u16>,

    /// Configuration file (TOML); see --default-config.
    #[arg(short, long, value_name = "CONF")]
    config: Option<PathBuf>,

    /// Write the log to this file instead of stderr: a new one each day, named FILE.YYYY-MM-DD (UTC).
    #[arg(short, long, value_name = "FILE")]
    log: Option<PathBuf>,

    /// DEBUG, INFO, WARN, ERROR or NONE.
    #[arg(long, value_name = "LEVEL", default_value = "INFO")]
    log_level: LogLevel,

    /// Address (host:port) that others are told to reach the API at.
    #[arg(long, value_name = "ADDR")]
    host_admin: Option<HostPort>,

    /// Write the process id to this file while running.
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,

    /// Endpoints of etcd (v3 API), separated by commas; with https:// before each one over TLS.
    #[arg(long, value_name = "ENDPOINTS", conflicts_with = "filesystem")]
    etcd: Option<String>,

    /// PEM file of the CA that signed etcd's certificate; needed for https://.
    #[arg(long, env = "CODIS_COORDINATOR_TLS_CA", value_name = "FILE")]
    etcd_ca: Option<String>,

    /// PEM file of the certificate that etcd is shown.
    #[arg(long, env = "CODIS_COORDINATOR_TLS_CERT", value_name = "FILE")]
    etcd_cert: Option<String>,

    /// PEM file of that certificate's key, without a passphrase.
    #[arg(long, env = "CODIS_COORDINATOR_TLS_KEY", value_name = "FILE")]
    etcd_key: Option<String>,

    /// Keep the records in files below this folder instead, for dashboards of one host: development and tests.
    #[arg(long, value_name = "ROOT")]
    filesystem: Option<PathBuf>,

    /// Take the lock away from whoever has it. Not needed: the lock of a dashboard that died frees itself (etcd: within 3 seconds).
    /// Harmless: one that lives notices, and can't change anything any more.
    #[arg(long)]
    remove_lock: bool,

    /// User and password of etcd, user:password.
    #[arg(long, env = "CODIS_COORDINATOR_AUTH", hide_env_values = true, value_name = "AUTH")]
    coordinator_auth: Option<String>,

    /// The product to serve.
    #[arg(long = "product_name", value_name = "NAME")]
    product_name: Option<String>,

    /// The product's secret; better given by the environment, where other users of the machine do not see it.
    #[arg(
        long = "product_auth",
        env = "CODIS_PRODUCT_AUTH",
        hide_env_values = true,
        value_name = "AUTH"
    )]
    product_auth: Option<String>,

    /// Serve only if the product is owned by this id, or by nobody: then it is claimed.
    #[arg(long, value_name = "UID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    owner_id: Option<String>,

    /// What a primary does that hears of no replica any more: preferred, none or required.
    #[arg(long, value_name = "HOW")]
    durability: Option<String>,

    /// Certificate of the API (file, PEM), for HTTPS.
    #[arg(long, value_name = "FILE")]
    admin_tls_cert: Option<String>,

    /// Key of that certificate (file, PEM).
    #[arg(long, value_name = "FILE")]
    admin_tls_key: Option<String>,

    /// What every change has to be asked with (Authorization: Bearer TOKEN); better given by the environment.
    #[arg(long, env = "CODIS_ADMIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    admin_token: Option<String>,

    /// Print the OpenAPI description of the API.
    #[arg(long)]
    openapi: bool,

    /// Print a configuration file with every key and its default.
    #[arg(long)]
    default_config: bool,

    /// Not supported: the coordinator is etcd.
    #[arg(long, hide = true, value_name = "ADDR")]
    zookeeper: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.default_config {
        return print(DEFAULT_TOML);
    }
    if args.openapi {
        return print(openapi());
    }
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("codis-dashboard: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> ExitCode {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(args: Args) -> Result<(), String> {
    let settings = configure(&args)?.check().map_err(|error| error.to_string())?;
    let log = args.log.as_deref().map(log_file::open).transpose();
    let log = log.map_err(|error| error.to_string())?;
    let logging = Logging::begin(args.log_level, log, settings.product.as_str());
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = args.ncpu {
        runtime.worker_threads(threads.into());
    }
    let runtime = runtime
        .enable_all()
        .build()
        .map_err(|error| format!("starting the threads: {error}"))?;
    let _pidfile = args.pidfile.map(Pidfile::write).transpose()?;
    let options = Options {
        settings,
        host_admin: args.host_admin,
        owner: args.owner_id,
        remove_lock: args.remove_lock,
        lookup: Arc::new(SystemLookup),
        logging,
    };
    let served = runtime.block_on(serve(options));
    // A name lookup may hang in a thread of its own; nobody waits for it.
    runtime.shutdown_background();
    served
}

async fn serve(options: Options) -> Result<(), String> {
    let on = |kind| signal(kind).map_err(|error| format!("catching signals: {error}"));
    let (mut terminate, mut interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    let running = start(options).await.map_err(|error| error.to_string())?;
    let stop = running.stopper();
    let signalled = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let ended = running.ended();
    tokio::pin!(ended);
    tokio::select! {
        () = &mut ended => return Ok(()),
        () = signalled => stop(),
    }
    ended.await;
    Ok(())
}

fn configure(args: &Args) -> Result<Config, String> {
    let mut config = match &args.config {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| format!("reading {}: {error}", path.display()))?;
            Config::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?
        }
        None => Config::default(),
    };
    if let Some(endpoints) = &args.etcd {
        config.coordinator_name = "etcd".to_owned();
        config.coordinator_addr.clone_from(endpoints);
    }
    if let Some(root) = &args.filesystem {
        let path = std::path::absolute(root).map_err(|error| format!("--filesystem={}: {error}", root.display()))?;
        config.coordinator_name = "filesystem".to_owned();
        config.coordinator_addr = path.display().to_string();
    }
    if let Some(addr) = &args.zookeeper {
        config.coordinator_name = "zookeeper".to_owned();
        config.coordinator_addr.clone_from(addr);
    }
    for (key, given) in [
        (&mut config.coordinator_tls_ca, &args.etcd_ca),
        (&mut config.coordinator_tls_cert, &args.etcd_cert),
        (&mut config.coordinator_tls_key, &args.etcd_key),
    ] {
        if let Some(path) = given {
            key.clone_from(path);
        }
    }
    if let Some(auth) = &args.coordinator_auth {
        config.coordinator_auth = Secret::from(auth.clone());
    }
    if let Some(durability) = &args.durability {
        config.durability = durability.clone();
    }
    if let Some(name) = &args.product_name {
        config.product_name.clone_from(name);
    }
    if let Some(auth) = &args.product_auth {
        config.product_auth = Secret::from(auth.clone());
    }
    if let Some(cert) = &args.admin_tls_cert {
        config.admin_tls_cert.clone_from(cert);
    }
    if let Some(key) = &args.admin_tls_key {
        config.admin_tls_key.clone_from(key);
    }
    if let Some(token) = &args.admin_token {
        config.admin_token = Secret::from(token.clone());
    }
    Ok(config)
}

/// Removes its file at the end.
struct Pidfile(PathBuf);

impl Pidfile {
    fn write(path: PathBuf) -> Result<Self, String> {
        std::fs::write(&path, format!("{}\n", std::process::id()))
            .map_err(|error| format!("writing the pidfile {}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        // It is gone already, or somebody else's problem: the process ends here.
        let _ = std::fs::remove_file(&self.0);
    }
}
