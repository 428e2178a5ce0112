use axum::body::Body;

use super::group::mark_in_sync;
use crate::dashboard::api::answer::{Done, Json};
use crate::dashboard::api::body::read;
use crate::dashboard::api::call::{Call, to_the_end};
use crate::dashboard::api::table::{Table, says};
use crate::dashboard::error::Error;
use crate::dashboard::rules::{self, Ruling};
use crate::dashboard::topology::{Change, Topology};
use crate::dashboard::{proxies, view};
use crate::model::{Slot, SlotId, SlotMapping};

/// The slot map.
pub(super) fn routes() -> Table {
    Table::of("slots")
        .get(
            "/topom/slots",
            slots,
            says("What proxies are meant to route.").answers::<Vec<Slot>>(),
        )
        .get(
            "slots/X",
            slots,
            says("What proxies are meant to route.").answers::<Vec<Slot>>(),
        )
        .put(
            "slots/assign/X",
            assign,
            says("Gives slots to groups. Moves no keys.").takes::<Vec<SlotMapping>>(),
        )
        .put(
            "slots/assign/X/offline",
            assign_offline,
            says("Takes slots from their groups. Moves no keys.").takes::<Vec<SlotMapping>>(),
        )
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
