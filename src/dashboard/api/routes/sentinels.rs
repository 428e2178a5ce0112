use std::collections::BTreeMap;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, put};

use super::path;
use crate::dashboard::api::Api;
use crate::dashboard::api::answer::{Done, Json};
use crate::dashboard::api::call::{Call, to_the_end};
use crate::dashboard::error::Error;
use crate::dashboard::sentinels::{self, Policy, SentinelClient};
use crate::model::SentinelGroup;

/// The Sentinels that the user runs.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route(&path("sentinels/add/X/{addr}"), put(add))
        .route(&path("sentinels/del/X/{addr}/{force}"), put(remove))
        .route(&path("sentinels/resync-all/X"), put(resync_all))
        .route(&path("sentinels/info/{addr}"), get(info))
        .route(&path("sentinels/info/{addr}/monitored"), get(monitored))
}

async fn add(State(api): State<Api>, call: Call) -> Result<Done, Error> {
    let addr = call.addr()?;
    let policy = Policy::from(&*api.config);
    to_the_end(async move { sentinels::add(&call.term, &policy, &addr).await })
        .await
        .map(|()| Done)
}

async fn remove(State(api): State<Api>, call: Call) -> Result<Done, Error> {
    let (addr, force) = (call.param("addr").to_owned(), call.switch("force")?);
    let policy = Policy::from(&*api.config);
    to_the_end(async move { sentinels::remove(&call.term, &policy, &addr, force).await })
        .await
        .map(|()| Done)
}

async fn resync_all(State(api): State<Api>, call: Call) -> Result<Done, Error> {
    let policy = Policy::from(&*api.config);
    to_the_end(async move { sentinels::resync_all(&call.term, &policy).await })
        .await
        .map(|()| Done)
}

async fn info(State(api): State<Api>, call: Call) -> Result<Json<BTreeMap<String, String>>, Error> {
    Ok(Json(connect(&api, &call).await?.info().await?))
}

async fn monitored(State(api): State<Api>, call: Call) -> Result<Json<BTreeMap<String, SentinelGroup>>, Error> {
    Ok(Json(connect(&api, &call).await?.watched(|_| true).await?))
}

/// A Sentinel that is recorded. Codis asks any address whatever.
async fn connect(api: &Api, call: &Call) -> Result<SentinelClient, Error> {
    sentinels::connect(&call.term, &Policy::from(&*api.config), call.param("addr")).await
}
