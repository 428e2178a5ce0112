//! The admin HTTP API, with Codis' paths and conventions.

mod answer;
mod observe;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, put};
use serde::Deserialize;
use tower_http::compression::CompressionLayer;
use tracing::info;

use self::answer::{Answer, Json, ok, refused};
use super::logging::LogLevel;
use super::slots::read_push;
use super::state::{Phase, Proxy, StatsParts};
use crate::model::Sentinel;

/// Largest body. All slots with long names and many replicas are far below.
const MAX_BODY: usize = 8 << 20;

/// How long a shutdown waits for what is under way before it is answered. Dashboards wait longer for the answer.
const DRAIN_PATIENCE: std::time::Duration = std::time::Duration::from_millis(700);

type Shared = State<Arc<Proxy>>;

/// All routes.
pub(super) fn router(proxy: Arc<Proxy>) -> Router {
    let guarded = Router::new()
        .route("/api/proxy/xping/{xauth}", get(async || ok()))
        .route("/api/proxy/stats/{xauth}", get(stats))
        .route("/api/proxy/stats/{xauth}/{flags}", get(stats))
        .route("/api/proxy/slots/{xauth}", get(slots))
        .route("/api/proxy/monitor/{xauth}", get(observe::monitor))
        .route("/api/proxy/hotkeys/{xauth}", get(observe::hot_keys))
        .route("/api/proxy/start/{xauth}", put(start))
        .route("/api/proxy/stats/reset/{xauth}", put(reset_stats))
        .route("/api/proxy/forcegc/{xauth}", put(force_gc))
        .route("/api/proxy/loglevel/{xauth}/{value}", put(log_level))
        .route("/api/proxy/shutdown/{xauth}", put(shutdown))
        .route("/api/proxy/fillslots/{xauth}", put(fill_slots))
        .route("/api/proxy/addresses/{xauth}", put(addresses))
        .route("/api/proxy/sentinels/{xauth}", put(sentinels))
        .route("/api/proxy/sentinels/{xauth}/rewatch", put(rewatch))
        .route_layer(from_fn_with_state(proxy.clone(), guard));
    Router::new()
        .route("/", get(async || Redirect::to("/proxy")))
        .route("/proxy", get(async |State(proxy): Shared| Json(proxy.overview().await)))
        .route("/proxy/model", get(model))
        .route("/api/proxy/model", get(model))
        .route(
            "/proxy/stats",
            get(async |State(proxy): Shared| {
                Json(
                    proxy
                        .stats(StatsParts {
                            commands: true,
                            raw: true,
                        })
                        .await,
                )
            }),
        )
        .route("/proxy/slots", get(slots))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .merge(guarded)
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(CompressionLayer::new())
        .with_state(proxy)
}

/// Wrong paths and wrong methods look the same, as in Codis.
async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

#[derive(Debug, Deserialize)]
struct Guarded {
    xauth: String,
}

#[derive(Debug, Deserialize)]
struct For {
    incarnation: Option<String>,
}

/// Lets only those through who know the xauth, and mean this process where they name one.
async fn guard(
    State(proxy): Shared,
    Path(path): Path<Guarded>,
    Query(query): Query<For>,
    request: Request,
    next: Next,
) -> Response {
    if !proxy.is_xauth(&path.xauth) {
        return refused("invalid xauth, please check product name & auth");
    }
    let mine = &proxy.record().incarnation;
    if let Some(given) = query.incarnation.filter(|given| given != mine) {
        return refused(format!(
            "incarnation {given} is not this process, which is {mine}: the proxy was restarted since"
        ));
    }
    next.run(request).await
}

async fn model(State(proxy): Shared) -> Response {
    Json(proxy.record()).into_response()
}

async fn slots(State(proxy): Shared) -> Response {
    Json(proxy.slots()).into_response()
}

#[derive(Debug, Deserialize)]
struct Flags {
    flags: Option<String>,
}

async fn stats(State(proxy): Shared, Path(path): Path<Flags>) -> Response {
    let flags = match path.flags.as_deref().unwrap_or("0").parse::<u32>() {
        Ok(flags) => flags,
        Err(_) => return refused("invalid flags: they must be a sum of 1 (commands), 2 (slots) and 4 (runtime)"),
    };
    Json(
        proxy
            .stats(StatsParts {
                commands: flags & 1 != 0,
                raw: flags & 4 != 0,
            })
            .await,
    )
    .into_response()
}

async fn metrics(State(proxy): Shared) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], proxy.metrics().await)
}

async fn ready(State(proxy): Shared) -> Response {
    match proxy.unready() {
        None => "ok".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}

async fn start(State(proxy): Shared) -> Answer {
    proxy.start()?;
    Ok(ok())
}

async fn reset_stats(State(proxy): Shared) -> Response {
    proxy.reset_stats().await;
    ok()
}

async fn force_gc() -> Response {
    info!("forcegc was asked for: there is no garbage to collect here");
    ok()
}

#[derive(Debug, Deserialize)]
struct Value {
    value: String,
}

async fn log_level(State(proxy): Shared, Path(path): Path<Value>) -> Answer {
    let level: LogLevel = path
        .value
        .parse()
        .map_err(|error: super::logging::LogLevelError| error.to_string())?;
    proxy.log().set(level);
    Ok(ok())
}

async fn shutdown(State(proxy): Shared) -> Response {
    info!("shutdown was asked for through the admin API");
    proxy.begin_drain().await;
    // Whoever asked has the servers keep this process out next: what is under way comes first, within reason.
    let mut phases = proxy.phases();
    let drained = phases.wait_for(|phase| *phase == Phase::Drained);
    let _ = tokio::time::timeout(DRAIN_PATIENCE, drained).await;
    ok()
}

#[derive(Debug, Deserialize)]
struct Fill {
    /// Milliseconds.
    drop_after: Option<u64>,
}

async fn fill_slots(State(proxy): Shared, Query(query): Query<Fill>, body: Result<Bytes, BytesRejection>) -> Answer {
    let slots = read_push(&body.map_err(|error| error.to_string())?)?;
    let drop_after = query.drop_after.map(std::time::Duration::from_millis);
    proxy.fill(slots, drop_after).await.map_err(|error| error.to_string())?;
    Ok(ok())
}

async fn addresses(State(proxy): Shared, body: Result<Bytes, BytesRejection>) -> Answer {
    let body = body.map_err(|error| error.to_string())?;
    let told: HashMap<String, IpAddr> = serde_json::from_slice(&body)
        .map_err(|error| format!("the body is not a JSON object from hosts to IP addresses: {error}"))?;
    proxy.settings().addresses.tell(told);
    Ok(ok())
}

async fn sentinels(State(proxy): Shared, body: Result<Bytes, BytesRejection>) -> Answer {
    let body = body.map_err(|error| error.to_string())?;
    let given: Sentinel = serde_json::from_slice(&body)
        .map_err(|error| format!("the body is not a JSON object with servers: {error}"))?;
    proxy.set_sentinels(given.servers);
    Ok(ok())
}

async fn rewatch() -> Response {
    info!("rewatch was asked for: this codis-proxy does not follow sentinels yet");
    ok()
}
