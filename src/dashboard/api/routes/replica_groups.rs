use axum::Router;
use axum::routing::put;

use super::path;
use crate::dashboard::api::Api;
use crate::dashboard::api::answer::Done;
use crate::dashboard::api::call::{Call, change};
use crate::dashboard::error::Error;
use crate::dashboard::rules;

/// Which servers may answer reads.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route(&path("group/replica-groups/X/{gid}/{addr}/{value}"), put(set))
        .route(&path("group/replica-groups-all/X/{value}"), put(set_all))
}

async fn set(call: Call) -> Result<Done, Error> {
    let (id, addr) = (rules::groups::parse_id(call.param("gid"))?, call.addr()?);
    let member = call.switch("value")?;
    change(call.term, move |topology| {
        rules::replica_groups::set(topology, id, &addr, member)
    })
    .await
}

async fn set_all(call: Call) -> Result<Done, Error> {
    let member = call.switch("value")?;
    change(call.term, move |topology| {
        rules::replica_groups::set_all(topology, member)
    })
    .await
}
