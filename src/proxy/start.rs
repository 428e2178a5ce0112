//! From settings to a running proxy, and to its end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::config::{Config, ConfigError, JodisSettings};
use super::jodis::{self, Jodis};
use super::listen::{self, Door, ListenError};
use super::logging::LogControl;
use super::register::{self, Dashboard, LEAVE_TIMEOUT, WrongProduct};
use super::slots::read_push;
use super::state::{Phase, Proxy};
use super::tls::Tls;
use super::worker::{self, Settings};
use super::{admin, cgroup, host};
use crate::client::ClientError;
use crate::model::{ByteSize, Proxy as Record, ProxyToken};
use crate::serving;
use crate::tls::TlsError;

/// What the command line says beyond the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Worker threads.
    pub workers: usize,
    /// `--host-admin`: where others reach the admin API.
    pub host_admin: Option<String>,
    /// `--host-proxy`: where clients reach the proxy.
    pub host_proxy: Option<String>,
    /// Where the slot map comes from.
    pub source: Source,
}

/// Where the slot map comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// From the dashboard with these admin addresses, at which the proxy registers itself.
    Dashboard(Vec<String>),
    /// From a file, without any dashboard.
    File(PathBuf),
    /// From whoever comes to the admin API.
    Anyone,
}

/// Why the proxy did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The settings are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A certificate can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A port is taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// What the system was asked for.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Others could not reach the proxy.
    #[error("--host-{0}: {1}")]
    Advertised(&'static str, String),
    /// The file can't be used.
    #[error("--fillslots={path}: {reason}")]
    SlotsFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The dashboard is another product's.
    #[error(transparent)]
    WrongProduct(#[from] WrongProduct),
    /// The HTTP client can't be set up.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A bug: a thread ended.
    #[error("worker {0} ended unexpectedly")]
    WorkerDied(usize),
}

fn system(what: &'static str) -> impl Fn(io::Error) -> ProxyError {
    move |source| ProxyError::System { what, source }
}

/// Runs the proxy until it is asked to end.
///
/// # Errors
/// When it can't start, or has to end although nobody asked.
pub fn run(mut config: Config, options: Options, log: LogControl) -> Result<(), ProxyError> {
    config.validate()?;
    for key in config.without_effect() {
        warn!(key, "this setting has no effect yet");
    }
    if config.proxy_max_memory == ByteSize(0) {
        config.proxy_max_memory = ByteSize(cgroup::memory_limit().unwrap_or(0) / 2);
    }
    let tls = Tls::new(&config)?;
    let ports = Ports::bind(&config)?;
    let record = describe(&config, &options, &ports)?;
    let settings = Arc::new(Settings::new(
        &config,
        options.workers,
        record.server_user(),
        tls.clone(),
    ));
    let (died, deaths) = mpsc::unbounded_channel();
    let mut workers = Vec::with_capacity(options.workers);
    for number in 0..options.workers {
        workers.push(worker::spawn(number, settings.clone(), died.clone()).map_err(system("starting a worker"))?);
    }
    info!(
        product = %config.product_name, token = %record.token, proxy = %record.proxy_addr, admin = %record.admin_addr,
        workers = options.workers, memory = settings.max_memory, "codis-proxy begins"
    );
    let proxy = Arc::new(Proxy::new(config, settings, workers, record, log));
    if let (Some(listener), Some(clients)) = (ports.tls_clients, tls.clients.clone()) {
        listen::accept_tls(proxy.clone(), listener, clients).map_err(system("preparing TLS with clients"))?;
    }
    // Admin API, registration and signals have a thread of their own, this one: whatever is asked there, clients are
    // served on.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("starting the event loop"))?;
    let ended = runtime.block_on(async {
        tls.follow();
        live(proxy, options.source, ports.clients, ports.admins, deaths).await
    });
    runtime.shutdown_background();
    ended
}

/// What is listened on.
struct Ports {
    /// For clients as they are; `None`: not at all.
    clients: Option<std::net::TcpListener>,
    /// For clients by TLS; `None`: not at all.
    tls_clients: Option<std::net::TcpListener>,
    admins: std::net::TcpListener,
}

impl Ports {
    fn bind(config: &Config) -> Result<Self, ListenError> {
        let unless_empty = |addr: &str| match addr {
            "" => Ok(None),
            addr => listen::bind(addr, config.proto_type).map(Some),
        };
        Ok(Self {
            clients: unless_empty(&config.proxy_addr)?,
            tls_clients: unless_empty(&config.proxy_tls_addr)?,
            admins: listen::bind(&config.admin_addr, super::config::ProtoType::Tcp)?,
        })
    }

    /// The one by which the proxy is known: settings without any are refused.
    fn main(&self) -> &std::net::TcpListener {
        self.clients
            .as_ref()
            .or(self.tls_clients.as_ref())
            .unwrap_or(&self.admins)
    }
}

fn describe(config: &Config, options: &Options, ports: &Ports) -> Result<Record, ProxyError> {
    let bound = |listener: &std::net::TcpListener| listener.local_addr().map_err(system("looking up a bound address"));
    let (proxy_bound, admin_bound) = (bound(ports.main())?, bound(&ports.admins)?);
    let advertised = |name, given: &Option<String>, bound| {
        host::advertised(given.as_deref(), bound).map_err(|reason| ProxyError::Advertised(name, reason))
    };
    let segments = [
        config.product_name.as_str(),
        &proxy_bound.to_string(),
        &admin_bound.to_string(),
    ];
    let token = ProxyToken::derive(&host::hardware_addresses(), &segments);
    let jodis_path =
        JodisSettings::parse(config)?.map(|jodis| jodis::path(&jodis, config.product_name.as_str(), token.as_str()));
    Ok(Record {
        id: 0,
        token,
        start_time: jiff::Timestamp::now().to_string(),
        admin_addr: advertised("admin", &options.host_admin, admin_bound)?,
        proto_type: config.proto_type.as_str().to_owned(),
        proxy_addr: advertised("proxy", &options.host_proxy, proxy_bound)?,
        jodis_path: jodis_path.unwrap_or_default(),
        product_name: config.product_name.to_string(),
        pid: std::process::id().into(),
        pwd: std::env::current_dir()
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        sys: host::uname(),
        hostname: host::hostname(),
        datacenter: config.proxy_datacenter.clone(),
        incarnation: hex::encode(rand::random::<[u8; 16]>()),
        shut_off: false,
    })
}

async fn live(
    proxy: Arc<Proxy>,
    source: Source,
    clients: Option<std::net::TcpListener>,
    admins: std::net::TcpListener,
    mut deaths: mpsc::UnboundedReceiver<usize>,
) -> Result<(), ProxyError> {
    let listener = |listener| TcpListener::from_std(listener).map_err(system("preparing a listener"));
    let (clients, admins) = (clients.map(listener).transpose()?, listener(admins)?);
    let mut terminate = signal(SignalKind::terminate()).map_err(system("listening for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("listening for SIGINT"))?;
    if let Some(clients) = clients {
        tokio::spawn(listen::accept(proxy.clone(), clients, Door::Plain));
    }
    tokio::spawn(proxy.clone().sample());
    tokio::spawn(serving::serve(admins, None, admin::router(proxy.clone())));
    let dashboard = match &source {
        Source::Dashboard(addrs) => Some(Arc::new(Dashboard::new(addrs, &proxy)?)),
        Source::File(_) | Source::Anyone => None,
    };
    if let Source::File(path) = &source {
        fill_from(&proxy, path).await?;
    }
    let registered = async {
        if let Some(dashboard) = dashboard.clone() {
            register::register(proxy.clone(), dashboard).await?;
        }
        // Nothing more to do: what ends the process comes from elsewhere.
        std::future::pending::<Result<(), WrongProduct>>().await
    };
    let jodis = JodisSettings::parse(proxy.config())?.map(|settings| Jodis::new(settings, proxy.record()));
    let announced = tokio::spawn({
        let proxy = proxy.clone();
        async move {
            if let Some(jodis) = jodis {
                jodis.announce(&proxy).await;
            }
        }
    });
    let mut phases = proxy.phases();
    let asked_by_signal = tokio::select! {
        _ = terminate.recv() => true,
        _ = interrupt.recv() => true,
        _ = phases.wait_for(|phase| *phase != Phase::Serving) => false,
        Some(number) = deaths.recv() => return Err(ProxyError::WorkerDied(number)),
        wrong = registered => return Ok(wrong?),
    };
    end(&proxy, dashboard.filter(|_| asked_by_signal)).await;
    let _ = announced.await;
    Ok(())
}

/// Ends: what is under way first, then the dashboard is left. In this order, because the dashboard no longer waits for
/// the acknowledgements of a proxy that left, so that nothing may be sent to servers after that.
async fn end(proxy: &Arc<Proxy>, dashboard: Option<Arc<Dashboard>>) {
    let patience = proxy.config().shutdown_timeout.0;
    let for_clients = patience
        .saturating_sub(LEAVE_TIMEOUT + Duration::from_millis(500))
        .max(patience / 2);
    proxy.begin_drain().await;
    let mut phases = proxy.phases();
    if tokio::time::timeout(for_clients, phases.wait_for(|phase| *phase == Phase::Drained))
        .await
        .is_err()
    {
        warn!("some clients are cut off: their requests did not end within {for_clients:?}");
    }
    if let Some(dashboard) = dashboard {
        register::leave(proxy, &dashboard).await;
    } else {
        // Whoever asked through the admin API still has to get the answer.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    info!("codis-proxy ends");
}

async fn fill_from(proxy: &Proxy, path: &PathBuf) -> Result<(), ProxyError> {
    let fail = |reason: String| ProxyError::SlotsFile {
        path: path.display().to_string(),
        reason,
    };
    let body = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    let slots = read_push(&body).map_err(fail)?;
    proxy.fill(slots, None).await.map_err(|error| fail(error.to_string()))?;
    proxy.start().map_err(fail)
}
