//! How the proxy makes itself known to its dashboard, and leaves it.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tracing::{info, warn};

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

/// The dashboard's instances at these addresses.
///
/// # Errors
/// When the certificates of `dashboard_ca` or the token can't be used, or the HTTP library can't be set up.
pub(super) fn dashboard(addrs: &[String], proxy: &Proxy) -> Result<DashboardClient, ClientError> {
    let config = proxy.config();
    let mut http = Http::trusting(CALL_TIMEOUT, &trust(addrs, &config.dashboard_ca)?)?;
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
pub(super) async fn register(proxy: Arc<Proxy>, dashboard: DashboardClient) -> Result<(), WrongProduct> {
    let mut pause = Duration::from_millis(100);
    let mut last_error = String::new();
    loop {
        match try_once(&proxy, &dashboard).await? {
            Ok(()) => {
                info!(dashboard = ?dashboard.addrs(), "registered");
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
pub(super) async fn leave(proxy: &Proxy, dashboard: &DashboardClient) {
    match tokio::time::timeout(LEAVE_TIMEOUT, dashboard.remove_proxy(&proxy.record().token, false)).await {
        Ok(Ok(())) => info!("left the dashboard"),
        Ok(Err(error)) => warn!(%error, "could not leave the dashboard; its record of this proxy stays"),
        Err(_) => warn!("could not leave the dashboard within {LEAVE_TIMEOUT:?}; its record of this proxy stays"),
    }
}
