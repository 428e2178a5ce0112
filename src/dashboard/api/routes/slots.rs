use axum::Router;
use axum::body::Body;
use axum::routing::{get, put};
use futures::future::join_all;
use serde::Deserialize;

use super::group::mark_in_sync;
use super::path;
use crate::dashboard::api::Api;
use crate::dashboard::api::answer::{Done, Json};
use crate::dashboard::api::body::read;
use crate::dashboard::api::call::{Call, to_the_end};
use crate::dashboard::error::Error;
use crate::dashboard::rules::{self, Refusal, Ruling};
use crate::dashboard::term::Term;
use crate::dashboard::topology::{Change, Topology};
use crate::dashboard::{proxies, view};
use crate::model::{Group, Slot, SlotId, SlotMapping};

/// The slot map.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/topom/slots", get(slots))
        .route(&path("slots/X"), get(slots))
        .route(&path("slots/assign/X"), put(assign))
        .route(&path("slots/assign/X/offline"), put(assign_offline))
        .route(&path("v2/slots/assign/X"), put(assign_with_options))
}

async fn slots(call: Call) -> Json<Vec<Slot>> {
    Json(view::slots(
        &call.term.topology(),
        SlotId::all(),
        call.term.means.forward_method,
    ))
}

async fn assign(call: Call, body: Body) -> Result<Done, Error> {
    let wanted = rules::slots::parse(&read(body).await?)?;
    refuse_over_keys(&call.term, &wanted).await?;
    map_slots(call, wanted, rules::slots::assign).await
}

async fn assign_offline(call: Call, body: Body) -> Result<Done, Error> {
    let wanted = rules::slots::parse(&read(body).await?)?;
    map_slots(call, wanted, rules::slots::offline).await
}

/// An assignment of our own form.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Assignment {
    /// The slots, as Codis' route takes them.
    slots: Vec<serde_json::Value>,
    /// Assign although no slot has an owner and servers hold keys.
    #[serde(default)]
    force: bool,
}

async fn assign_with_options(call: Call, body: Body) -> Result<Done, Error> {
    let given: Assignment = serde_json::from_slice(&read(body).await?)
        .map_err(|error| Refusal(format!("the body is not {{\"slots\": […], \"force\": …}}: {error}")))?;
    let wanted = rules::slots::parse_elements(given.slots)?;
    if !given.force {
        refuse_over_keys(&call.term, &wanted).await?;
    }
    map_slots(call, wanted, rules::slots::assign).await
}

/// An empty store never means an empty cluster: where no slot has an owner and servers hold keys, the map was lost, and an
/// assignment afresh would hide what they hold.
async fn refuse_over_keys(term: &Term, wanted: &[SlotMapping]) -> Result<(), Error> {
    let topology = term.topology();
    if topology.slots().any(|slot| slot.group_id != 0) {
        return Ok(());
    }
    let concerned = |group: &Group| wanted.iter().any(|slot| slot.group_id == i64::from(group.id));
    let servers = topology.servers().filter(|(group, _)| concerned(group));
    let asked = servers.map(|(_, record)| async { (&record.server, term.ask(&record.server).await) });
    for (server, answer) in join_all(asked).await {
        // One that does not answer does not hold anything up: it gets its role only after it was asked.
        let keys = answer.map_or(0, |(info, _)| info.keys());
        if keys > 0 {
            return Err(Refusal(format!(
                "no slot has an owner, but server-[{server}] holds {keys} keys: if the slot map was lost, import it (PUT \
                 /api/topom/v2/import); if these keys are to be served by a new map, assign with force (PUT \
                 /api/topom/v2/slots/assign)"
            ))
            .into());
        }
    }
    Ok(())
}

async fn map_slots(
    call: Call,
    wanted: Vec<SlotMapping>,
    rule: fn(&Topology, &[SlotMapping]) -> Ruling,
) -> Result<Done, Error> {
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
