use std::collections::BTreeMap;

use axum::extract::State;

use crate::dashboard::api::Api;
use crate::dashboard::api::answer::{Done, Json};
use crate::dashboard::api::call::{Call, to_the_end};
use crate::dashboard::api::table::{Table, says};
use crate::dashboard::error::Error;
use crate::dashboard::sentinels::{self, Policy, SentinelClient};
use crate::model::SentinelGroup;

/// The Sentinels that the user runs.
pub(super) fn routes() -> Table {
    Table::of("sentinels")
        .put("sentinels/add/X/{addr}", add, says("Records a Sentinel. It watches nothing until the next resync."))
        .put("sentinels/del/X/{addr}/{force}", remove, says("Makes a Sentinel watch nothing of this product any more, and forgets it."))
        .put("sentinels/resync-all/X", resync_all, says("Makes all Sentinels watch the primaries as they are recorded, and tells all proxies which Sentinels there are."))
        .get("sentinels/info/{addr}", info, says("INFO of a recorded Sentinel.").answers::<BTreeMap<String, String>>())
        .get("sentinels/info/{addr}/monitored", monitored, says("What a recorded Sentinel watches.").answers::<BTreeMap<String, SentinelGroup>>())
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
