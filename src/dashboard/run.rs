use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::api;
use super::config::{ConfigError, Settings};
use super::identity;
use super::lead::Candidate;
use super::logging::Logging;
use super::metrics::Metrics;
use super::server::{Lookup, Resolver, Servers};
use super::store::{self, MeasuredStore};
use super::term::Means;
use crate::client::Http;
use crate::model::{AddrError, HostPort};
use crate::serving;
use crate::tls::TlsError;

/// The longest call to a proxy.
const PROXY_TIMEOUT: Duration = Duration::from_secs(1);
/// How long answers that are under way get when the dashboard stops.
const FAREWELL: Duration = Duration::from_millis(300);

/// What a dashboard is started with.
pub struct Options {
    /// The configuration.
    pub settings: Settings,
    /// The address that others are told; `None`: found out.
    pub host_admin: Option<HostPort>,
    /// Who must own the product.
    pub owner: Option<String>,
    /// Whether to take the lock away from whoever has it.
    pub remove_lock: bool,
    /// How names become addresses.
    pub lookup: Arc<dyn Lookup>,
    /// The process' log.
    pub logging: Logging,
}

/// Why it can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file that the configuration names can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The port can't be had.
    #[error("listening at admin_addr = {addr}: {reason}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// Why not.
        reason: std::io::Error,
    },
    /// The host has no address that can be told to others.
    #[error("this host's address is unknown ({0}); name it with --host-admin=HOST:PORT")]
    Address(#[from] AddrError),
    /// The certificate can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP client does not work.
    #[error(transparent)]
    Client(#[from] crate::client::ClientError),
}

/// A dashboard that runs.
pub struct Running {
    addr: SocketAddr,
    stop: Arc<watch::Sender<bool>>,
    task: JoinHandle<()>,
}

impl Running {
    /// Where its API listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A call that asks it to give up the lock and to end.
    pub fn stopper(&self) -> impl Fn() + Send + Sync + 'static {
        let stop = Arc::clone(&self.stop);
        move || {
            stop.send_replace(true);
        }
    }

    /// Returns when it has ended, because it was asked to, here or over the API.
    pub async fn ended(self) {
        // It fails only when the task panicked, and then it has ended, too.
        let _ = self.task.await;
    }
}

/// Starts a dashboard: first its API, which says from the beginning how things are, then the competition for the lock.
///
/// # Errors
/// See [`StartError`]. A store that can't be reached is none: it is tried until it can.
pub async fn start(options: Options) -> Result<Running, StartError> {
    let Options {
        settings,
        host_admin,
        owner,
        remove_lock,
        lookup,
        logging,
    } = options;
    let listen = |reason| StartError::Listen {
        addr: settings.listen,
        reason,
    };
    let tls = match settings.tls.clone() {
        Some(files) => Some(api::begin_tls(files)?),
        None => None,
    };
    let store = store::open(&settings.coordinator, &settings.product, Arc::clone(&lookup)).await?;
    let listener = TcpListener::bind(settings.listen).await.map_err(listen)?;
    let addr = listener.local_addr().map_err(listen)?;
    let advertised = match host_admin {
        Some(addr) => addr,
        None => identity::advertised(addr)?,
    };
    let unused = settings.shown.without_effect();
    if !unused.is_empty() {
        tracing::warn!(
            keys = unused.join(", "),
            "these keys have no effect yet: moving keys is not built"
        );
    }
    let topom = identity::topom(&settings.product, addr, &advertised);
    tracing::info!(listen = %addr, address = %advertised, token = topom.token, "starting");
    let metrics = Arc::new(Metrics::new());
    let means = Means {
        product: settings.product.clone(),
        product_auth: settings.product_auth.clone(),
        forward_method: settings.forward_method,
        durability: settings.durability,
        store: Arc::new(MeasuredStore::new(store, Arc::clone(&metrics))),
        servers: Servers::new(settings.product_auth.clone(), Resolver::new(lookup)),
        http: Http::new(PROXY_TIMEOUT)?,
        metrics,
    };
    let candidate = Arc::new(Candidate::new(topom, owner, means, remove_lock));
    let stop = Arc::new(watch::Sender::new(false));
    let api = api::Api::new(Arc::clone(&candidate), settings.shown, logging, Arc::clone(&stop));
    let stopped = stop.subscribe();
    let task = tokio::spawn(async move {
        let serving = tokio::spawn(serving::serve(listener, tls.map(api::acceptor), api::router(api)));
        candidate.run(stopped).await;
        tokio::time::sleep(FAREWELL).await;
        serving.abort();
        tracing::info!("stopped");
    });
    Ok(Running { addr, stop, task })
}
