use axum::body::Body;
use futures::future::join_all;
use schemars::JsonSchema;
use serde::Deserialize;

use super::group::mark_in_sync;
use crate::dashboard::api::answer::{Done, Json};
use crate::dashboard::api::body::read;
use crate::dashboard::api::call::{Call, to_the_end};
use crate::dashboard::api::table::{Table, says};
use crate::dashboard::error::Error;
use crate::dashboard::rules::epochs::Subject;
use crate::dashboard::rules::{self, Refusal, Ruling};
use crate::dashboard::term::Term;
use crate::dashboard::topology::{Change, Topology};
use crate::dashboard::{proxies, view};
use crate::model::{Slot, SlotId, SlotMapping};

/// Whose epoch may be named.
const SLOTS: &str = "the slot that was changed last (slots_epoch)";

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
            says("Gives slots to groups. Moves no keys.")
                .takes::<Vec<SlotMapping>>()
                .expects(SLOTS),
        )
        .put(
            "slots/assign/X/offline",
            assign_offline,
            says("Takes slots from their groups. Moves no keys.")
                .takes::<Vec<SlotMapping>>()
                .expects(SLOTS),
        )
        .put(
            "v2/slots/assign/X",
            assign_with_options,
            says("Gives slots to groups, with force also when servers hold keys that a lost map may have led to.")
                .takes::<Assignment>()
                .expects(SLOTS),
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
    let wanted = rules::slots::parse(&read(body).await?)?;
    refuse_over_keys(&call.term).await?;
    map_slots(call, wanted, rules::slots::assign).await
}

async fn assign_offline(call: Call, body: Body) -> Result<Done, Error> {
    let wanted = rules::slots::parse(&read(body).await?)?;
    map_slots(call, wanted, rules::slots::offline).await
}

/// An assignment of our own form.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Assignment {
    /// The slots, as Codis' route takes them.
    #[schemars(with = "Vec<SlotMapping>")]
    slots: Vec<serde_json::Value>,
    /// `slots_epoch` as the caller saw it: the assignment is refused when one of these slots was changed later.
    epoch: Option<i64>,
    /// Assign although no slot has an owner and servers hold keys.
    #[serde(default)]
    force: bool,
}

async fn assign_with_options(mut call: Call, body: Body) -> Result<Done, Error> {
    let given: Assignment = serde_json::from_slice(&read(body).await?)
        .map_err(|error| Refusal(format!("the body is not {{\"slots\": […], \"force\": …}}: {error}")))?;
    let wanted = rules::slots::parse_elements(given.slots)?;
    call.epoch = given.epoch.or(call.epoch);
    if !given.force {
        refuse_over_keys(&call.term).await?;
    }
    map_slots(call, wanted, rules::slots::assign).await
}

/// An empty store never means an empty cluster: where no slot has an owner and servers hold keys, the map was lost, and an
/// assignment afresh would hide what they hold.
///
/// # Errors
/// Which server holds keys, or may hold some: one that held its role and can't be asked.
pub(super) async fn refuse_over_keys(term: &Term) -> Result<(), Error> {
    let topology = term.topology();
    if topology.slots().any(|slot| slot.group_id != 0) {
        return Ok(());
    }
    let asked = topology
        .servers()
        .map(|(_, record)| async move { (record, term.ask(&record.server).await) });
    for (record, answer) in join_all(asked).await {
        let server = &record.server;
        let found = match answer {
            Ok((info, _)) if info.is_loading() => "is loading its data set".to_owned(),
            Ok((info, _)) if info.keys() > 0 => format!("holds {} keys", info.keys()),
            Err(error) if record.admitted_run_id.is_some() => format!("can't be asked for its keys ({error})"),
            // One that never held its role holds nothing of this product.
            Ok(_) | Err(_) => continue,
        };
        return Err(Refusal(format!(
            "no slot has an owner, but server-[{server}] {found}: if the slot map was lost, import it (PUT \
             /api/topom/v2/import); if its keys are to be served by a new map, assign with force (PUT \
             /api/topom/v2/slots/assign)"
        ))
        .into());
    }
    Ok(())
}

async fn map_slots(
    call: Call,
    wanted: Vec<SlotMapping>,
    rule: fn(&Topology, &[SlotMapping]) -> Ruling,
) -> Result<Done, Error> {
    let expected = call.expected(Subject::Slots(wanted.iter().map(|slot| slot.id).collect()));
    to_the_end(async move {
        let changes = call
            .term
            .change(|topology| {
                expected.check(topology)?;
                rule(topology, &wanted)
            })
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
