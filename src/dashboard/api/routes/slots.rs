use axum::Router;
use axum::body::Body;
use axum::routing::{get, put};

use super::group::mark_in_sync;
use super::path;
use crate::dashboard::api::Api;
use crate::dashboard::api::answer::{Done, Json};
use crate::dashboard::api::body::read;
use crate::dashboard::api::call::{Call, to_the_end};
use crate::dashboard::error::Error;
use crate::dashboard::rules::{self, Ruling};
use crate::dashboard::topology::{Change, Topology};
use crate::dashboard::{proxies, view};
use crate::model::{Slot, SlotId, SlotMapping};

/// The slot map.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/topom/slots", get(slots))
        .route(&path("slots/X"), get(slots))
        .route(&path("slots/assign/X"), put(assign))
        .route(&path("slots/assign/X/offline"), put(assign_offline))
}

async fn slots(call: Call) -> Json<Vec<Slot>> {
    Json(view::slots(
        &call.term.topology(),
        SlotId::all(),
        call.term.means.forward_method,
    ))
}

async fn assign(call: Call, body: Body) -> Result<Done, Error> {
    map_slots(call, body, rules::slots::assign).await
}

async fn assign_offline(call: Call, body: Body) -> Result<Done, Error> {
    map_slots(call, body, rules::slots::offline).await
}

async fn map_slots(call: Call, body: Body, rule: fn(&Topology, &[SlotMapping]) -> Ruling) -> Result<Done, Error> {
    let wanted = rules::slots::parse(&read(body).await?)?;
    to_the_end(async move {
        let changes = call
            .term
            .change(|topology| rule(topology, &wanted))
            .await
            .inspect_err(|error| {
                // A part of it may be stored, and no proxy was told.
                if matches!(error, Error::Store(_)) {
                    call.term.links.forget_all();
                }
            })?;
        proxies::push_all(&call.term, wanted.iter().map(|slot| slot.id).collect()).await?;
        let groups = changes.into_iter().filter_map(|change| match change {
            Change::PutGroup(group) => Some(group.id),
            _ => None,
        });
        mark_in_sync(&call.term, groups.collect()).await
    })
    .await
}
