use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;

use super::slots::refuse_over_keys;
use crate::dashboard::api::answer::{Done, Json};
use crate::dashboard::api::body::read;
use crate::dashboard::api::call::{Call, change, to_the_end};
use crate::dashboard::api::table::{Table, says};
use crate::dashboard::error::Error;
use crate::dashboard::rules::rebalance::Wanted;
use crate::dashboard::rules::{self, Ruling};
use crate::dashboard::topology::Topology;
use crate::model::{GroupId, SlotId};

/// Moves of slots: what is asked for is stored, and carried out later.
pub(super) fn routes() -> Table {
    Table::of("moves")
        .put(
            "slots/action/create/X/{sid}/{gid}",
            create,
            says("Asks that a slot move to a group."),
        )
        .put(
            "slots/action/create-some/X/{src}/{dst}/{num}",
            create_some,
            says("Asks that so many slots of a group move to another one; group 0 stands for the slots without owner."),
        )
        .put(
            "slots/action/create-range/X/{beg}/{end}/{gid}",
            create_range,
            says("Asks that a range of slots move to a group: all of them or none."),
        )
        .put(
            "slots/action/remove/X/{sid}",
            remove,
            says("Takes back that a slot is to move, as long as that has not begun."),
        )
        .put(
            "slots/action/interval/X/{usec}",
            interval,
            says("Sets the pause between two batches of moves."),
        )
        .put(
            "slots/action/disabled/X/{value}",
            disabled,
            says("1: no move is begun, and those under way pause; 0: they go on."),
        )
        .put(
            "slots/rebalance/X/{confirm}",
            rebalance,
            says("Plans moves that give each group the same share of the slots, and asks for them if confirm is 1.")
                .answers::<BTreeMap<SlotId, GroupId>>(),
        )
        .put(
            "v2/slots/rebalance/X",
            rebalance_as_wanted,
            says("The same with weights, and with groups to be emptied.")
                .takes::<Wanted>()
                .expects("the slot that was changed last (slots_epoch)")
                .answers::<BTreeMap<SlotId, GroupId>>(),
        )
}

async fn create(call: Call) -> Result<Done, Error> {
    let (slot, group) = (call.number("sid")?, call.number("gid")?);
    ask(call, move |topology| rules::slot_actions::create(topology, slot, group)).await
}

async fn create_some(call: Call) -> Result<Done, Error> {
    let (from, to, count) = (call.number("src")?, call.number("dst")?, call.number("num")?);
    ask(call, move |topology| {
        rules::slot_actions::create_some(topology, from, to, count)
    })
    .await
}

async fn create_range(call: Call) -> Result<Done, Error> {
    let (first, last, group) = (call.number("beg")?, call.number("end")?, call.number("gid")?);
    ask(call, move |topology| {
        rules::slot_actions::create_range(topology, first, last, group)
    })
    .await
}

async fn remove(call: Call) -> Result<Done, Error> {
    let slot = call.number("sid")?;
    change(call.term, move |topology| rules::slot_actions::remove(topology, slot)).await
}

async fn interval(call: Call) -> Result<Done, Error> {
    call.term.slot_actions.set_interval(call.number("usec")?);
    Ok(Done)
}

async fn disabled(call: Call) -> Result<Done, Error> {
    call.term.slot_actions.set_disabled(call.switch("value")?);
    Ok(Done)
}

async fn rebalance(call: Call) -> Result<Json<BTreeMap<SlotId, GroupId>>, Error> {
    let confirm = call.switch("confirm")?;
    spread(call, Wanted::equal(confirm)).await
}

async fn rebalance_as_wanted(call: Call, body: Body) -> Result<Json<BTreeMap<SlotId, GroupId>>, Error> {
    let mut wanted = rules::rebalance::parse(&read(body).await?)?;
    wanted.epoch = wanted.epoch.or(call.epoch);
    spread(call, wanted).await
}

/// Answers the plan, and asks for its moves if that is wanted.
async fn spread(call: Call, wanted: Wanted) -> Result<Json<BTreeMap<SlotId, GroupId>>, Error> {
    let term = call.term;
    if !wanted.confirm {
        return Ok(Json(rules::rebalance::plan(&term.topology(), &wanted)?));
    }
    refuse_over_keys(&term).await?;
    to_the_end(async move {
        let made = term
            .change(|topology| rules::rebalance::confirm(topology, &wanted))
            .await;
        term.slot_actions.wake();
        Ok(Json(rules::slot_actions::targets(&made?)))
    })
    .await
}

async fn ask<F>(call: Call, rule: F) -> Result<Done, Error>
where
    F: Fn(&Topology) -> Ruling + Send + Sync + 'static,
{
    let term = Arc::clone(&call.term);
    refuse_over_keys(&term).await?;
    let done = change(call.term, rule).await;
    term.slot_actions.wake();
    done
}
