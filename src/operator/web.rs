use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Router, response::IntoResponse};
use tokio::task::JoinHandle;

use super::error::Error;
use super::metrics::Metrics;

/// Whether this instance is ready, and what it does or waits for.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<(bool, &'static str)>);

impl Health {
    pub(super) fn say(&self, what: &'static str, ready: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (ready, what);
    }

    fn told(&self) -> (bool, &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves `/healthz` (the process works), `/readyz` (it leads or stands by; else what it waits for) and `/metrics`.
pub(super) async fn serve(
    listen: SocketAddr,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
) -> Result<JoinHandle<()>, Error> {
    let ready = async |State(health): State<Arc<Health>>| {
        let (ready, what) = health.told();
        (
            if ready {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            },
            what,
        )
    };
    let text = async |State(metrics): State<Arc<Metrics>>| {
        let kind = [(
            "content-type",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )];
        (kind, metrics.text()).into_response()
    };
    let app = Router::new()
        .route("/healthz", get(async || "ok"))
        .merge(Router::new().route("/readyz", get(ready)).with_state(health))
        .merge(Router::new().route("/metrics", get(text)).with_state(metrics));
    let failed = |source| Error::Listen { listen, source };
    let listener = tokio::net::TcpListener::bind(listen).await.map_err(failed)?;
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "the HTTP server ended");
        }
    }))
}
