//! How the proxy makes itself known to its dashboard, and leaves it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::RngExt;
use tracing::{info, warn};

use super::config::Config;
use super::state::Proxy;
use crate::client::{ClientError, DashboardClient, Http, Trust};

/// Longest that a call to a dashboard takes; bringing a proxy online makes the dashboard call back.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest pause between tries.
const MAX_PAUSE: Duration = Duration::from_secs(3);
/// Longest that leaving takes.
pub(super) const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The dashboard serves another product: no try will change that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the dashboard at {addrs} serves product {theirs:?}, this proxy is configured for {ours:?}; correct product_name or --dashboard"
)]
pub struct WrongProduct {
    addrs: String,
    ours: String,
    theirs: String,
}

/// The dashboard's instances, and whom to believe that it is them.
#[derive(Debug)]
pub(super) struct Dashboard {
    addrs: Vec<String>,
    known: Mutex<Known>,
}

/// A client, and what of a file it was made from.
#[derive(Debug)]
struct Known {
    trust: Trust,
    client: DashboardClient,
}

impl Dashboard {
    /// The dashboard's instances at these addresses.
    ///
    /// # Errors
    /// When the certificates of `dashboard_ca` or the token can't be used, or the HTTP library can't be set up.
    pub(super) fn new(addrs: &[String], proxy: &Proxy) -> Result<Self, ClientError> {
        let config = proxy.config();
        let trust = trust(addrs, &config.dashboard_ca)?;
        Ok(Self {
            addrs: addrs.to_vec(),
            known: Mutex::new(Known {
                client: client(addrs, config, &trust)?,
                trust,
            }),
        })
    }

    /// Who to call now: the file of `dashboard_ca` is read anew when it changed. What can't be used is said, and the former
    /// one stays.
    fn client(&self, proxy: &Proxy) -> DashboardClient {
        let config = proxy.config();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let news = trust(&self.addrs, &config.dashboard_ca).and_then(|trust| {
            if trust == known.trust {
                return Ok(None);
            }
            let client = client(&self.addrs, config, &trust)?;
            Ok(Some(Known { trust, client }))
        });
        match news {
            Ok(None) => {}
            Ok(Some(news)) => {
                info!("dashboard_ca was read anew");
                *known = news;
            }
            Err(error) => warn!(%error, "dashboard_ca is not taken, the former one stays"),
        }
        known.client.clone()
    }
}

fn client(addrs: &[String], config: &Config, trust: &Trust) -> Result<DashboardClient, ClientError> {
    let mut http = Http::trusting(CALL_TIMEOUT, trust)?;
    if !config.dashboard_token.is_empty() {
        http = http.with_token(&config.dashboard_token)?;
    }
    Ok(DashboardClient::new(http, addrs.to_vec(), config.product_name.clone()))
}

fn trust(addrs: &[String], ca: &str) -> Result<Trust, ClientError> {
    match ca {
        _ if !addrs.iter().any(|addr| addr.starts_with("https://")) => Ok(Trust::Nobody),
        "" => Ok(Trust::Host),
        path => std::fs::read(path)
            .map(Trust::Authorities)
            .map_err(|error| ClientError::Setup(format!("reading {path} (dashboard_ca): {error}"))),
    }
}

/// Asks the dashboard to bring this proxy online, until it did. Unlike Codis it never gives up: in Kubernetes the
/// dashboard may come long after.
///
/// # Errors
/// Only when the dashboard serves another product.
pub(super) async fn register(proxy: Arc<Proxy>, dashboard: Arc<Dashboard>) -> Result<(), WrongProduct> {
    let mut pause = Duration::from_millis(100);
    let mut last_error = String::new();
    loop {
        match try_once(&proxy, &dashboard.client(&proxy)).await? {
            Ok(()) => {
                info!(dashboard = ?dashboard.addrs, "registered");
                return Ok(());
            }
            Err(error) => {
                let error = error.to_string();
                if error != last_error {
                    warn!(%error, "can't register at the dashboard yet, trying again");
                    last_error = error;
                }
            }
        }
        if proxy.is_closed() {
            return Ok(());
        }
        tokio::time::sleep(pause.mul_f64(rand::rng().random_range(0.7..=1.0))).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

async fn try_once(proxy: &Proxy, dashboard: &DashboardClient) -> Result<Result<(), ClientError>, WrongProduct> {
    let ours = &proxy.config().product_name;
    let model = match dashboard.model().await {
        Ok(model) => model,
        Err(error) => return Ok(Err(error)),
    };
    let theirs = model.product_name.to_string();
    if theirs != ours.as_str() {
        return Err(WrongProduct {
            addrs: dashboard.addrs().join(","),
            ours: ours.to_string(),
            theirs,
        });
    }
    Ok(dashboard.online_proxy(&proxy.record().admin_addr).await)
}

/// Has the dashboard forget this proxy, so that it no longer waits for its acknowledgements. Call it when no request can
/// be sent on any more.
pub(super) async fn leave(proxy: &Proxy, dashboard: &Dashboard) {
    let dashboard = dashboard.client(proxy);
    match tokio::time::timeout(LEAVE_TIMEOUT, dashboard.remove_proxy(&proxy.record().token, false)).await {
        Ok(Ok(())) => info!("left the dashboard"),
        Ok(Err(error)) => warn!(%error, "could not leave the dashboard; its record of this proxy stays"),
        Err(_) => warn!("could not leave the dashboard within {LEAVE_TIMEOUT:?}; its record of this proxy stays"),
    }
}
