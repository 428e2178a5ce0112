use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};

use super::path;
use crate::dashboard::LevelError;
use crate::dashboard::api::Api;
use crate::dashboard::api::answer::{Done, Json};
use crate::dashboard::api::call::{Call, to_the_end};
use crate::dashboard::error::Error;
use crate::dashboard::rules::Refusal;
use crate::dashboard::stats;
use crate::model::{Overview, Stats, Topom};

/// The dashboard itself: who it is, how it is, everything that it knows.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/", get(to_overview))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/topom", get(overview))
        .route("/topom/model", get(model))
        .route("/topom/stats", get(read_stats))
        .route(&path("model"), get(model))
        .route(&path("xping/X"), get(xping))
        .route(&path("stats/X"), get(read_stats))
        .route(&path("reload/X"), put(reload))
        .route(&path("shutdown/X"), put(shutdown))
        .route(&path("loglevel/X/{value}"), put(loglevel))
}

async fn to_overview() -> Response {
    (StatusCode::FOUND, [(header::LOCATION, "/topom")]).into_response()
}

async fn readyz(State(api): State<Api>) -> Result<&'static str, Error> {
    api.candidate.ready().map(|()| "ok\n")
}

async fn model(State(api): State<Api>) -> Json<Topom> {
    Json(api.candidate.topom.clone())
}

async fn overview(State(api): State<Api>, call: Call) -> Result<Json<Overview>, Error> {
    let config = serde_json::to_value(&*api.config)
        .map_err(|error| Refusal(format!("the configuration can't be shown: {error}")))?;
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    Ok(Json(Overview {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        compile: format!("{} {} {profile}", std::env::consts::OS, std::env::consts::ARCH),
        config,
        model: api.candidate.topom.clone(),
        stats: stats::stats(&call.term),
    }))
}

async fn read_stats(call: Call) -> Json<Stats> {
    Json(stats::stats(&call.term))
}

async fn xping(_: Call) -> Done {
    Done
}

async fn reload(call: Call) -> Result<Done, Error> {
    to_the_end(async move { call.term.reload().await }).await.map(|()| Done)
}

async fn shutdown(State(api): State<Api>, _: Call) -> Done {
    api.stop.send_replace(true);
    Done
}

async fn loglevel(State(api): State<Api>, call: Call) -> Result<Done, Error> {
    let level = call
        .param("value")
        .parse()
        .map_err(|error: LevelError| Refusal(error.to_string()))?;
    api.logging.set(level);
    Ok(Done)
}
