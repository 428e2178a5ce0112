use axum::Router;
use axum::routing::{get, put};

use super::path;
use crate::dashboard::api::Api;
use crate::dashboard::api::answer::{Done, Json};
use crate::dashboard::api::call::{Call, to_the_end};
use crate::dashboard::error::Error;
use crate::dashboard::{proxies, report, users};
use crate::model::{ProxyToken, Status};

/// What is known of servers and proxies beyond Codis' stats, and keeping proxies out.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route(&path("v2/status/X"), get(status))
        .route(&path("v2/proxy/shut-off/X/{token}"), put(shut_off))
        .route(&path("v2/proxy/let-in/X/{token}"), put(let_in))
}

async fn status(call: Call) -> Json<Status> {
    Json(report::status(&call.term))
}

async fn shut_off(call: Call) -> Result<Done, Error> {
    let token = ProxyToken::from(call.param("token"));
    to_the_end(async move { users::shut_off(&call.term, &token).await })
        .await
        .map(|()| Done)
}

/// The proxy has to acknowledge the whole slot map first.
async fn let_in(call: Call) -> Result<Done, Error> {
    let token = ProxyToken::from(call.param("token"));
    to_the_end(async move { proxies::begin(&call.term, &token).await })
        .await
        .map(|()| Done)
}
