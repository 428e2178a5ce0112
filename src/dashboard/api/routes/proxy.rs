use axum::Router;
use axum::routing::put;

use super::path;
use crate::dashboard::api::Api;
use crate::dashboard::api::answer::Done;
use crate::dashboard::api::call::{Call, to_the_end};
use crate::dashboard::error::Error;
use crate::dashboard::proxies;
use crate::dashboard::rules::proxies::Registration;
use crate::model::ProxyToken;

/// Proxies: their coming and going.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route(&path("proxy/create/X/{addr}"), put(create_proxy))
        .route(&path("proxy/online/X/{addr}"), put(online_proxy))
        .route(&path("proxy/reinit/X/{token}"), put(reinit_proxy))
        .route(&path("proxy/remove/X/{token}/{force}"), put(remove_proxy))
}

async fn create_proxy(call: Call) -> Result<Done, Error> {
    register(call, Registration::New).await
}

async fn online_proxy(call: Call) -> Result<Done, Error> {
    register(call, Registration::NewOrKnown).await
}

async fn register(call: Call, how: Registration) -> Result<Done, Error> {
    let addr = call.addr()?;
    to_the_end(async move { proxies::online(&call.term, addr.as_str(), how).await })
        .await
        .map(|()| Done)
}

async fn reinit_proxy(call: Call) -> Result<Done, Error> {
    let token = ProxyToken::from(call.param("token"));
    to_the_end(async move { proxies::begin(&call.term, &token).await })
        .await
        .map(|()| Done)
}

async fn remove_proxy(call: Call) -> Result<Done, Error> {
    let (token, force) = (ProxyToken::from(call.param("token")), call.switch("force")?);
    to_the_end(async move { proxies::remove(&call.term, &token, force).await })
        .await
        .map(|()| Done)
}
