//! The mover of slots: carries out the moves of slots that hold no keys. One that holds keys waits, and says so.
//!
//! Many slots move at the same time. They are locked on every proxy, seen to be empty, given to their new groups, and
//! unlocked: all in one batch, so that a whole map that nobody uses yet is dealt anew in a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::Error;
use super::fault;
use super::proxies;
use super::rules::promotion::Acknowledged;
use super::rules::slot_moves;
use super::term::Term;
use super::topology::Change;
use crate::model::{Proxy, SlotActionState, SlotId, SlotMapping};

/// How often it is looked whether something can be moved.
const LOOK: Duration = Duration::from_secs(1);
/// How long proxies may take to lock the slots before the batch is given up.
const LOCK_PATIENCE: Duration = Duration::from_millis(1500);

/// How soon they are told again.
const PAUSE: Duration = Duration::from_millis(50);

/// Works until the term ends.
pub(crate) async fn run(term: Arc<Term>) {
    term.wait_swept().await;
    loop {
        let done = if term.slot_actions.is_disabled() {
            park(&term).await
        } else {
            batch(&term).await
        };
        match done {
            Ok(status) => term.slot_actions.report(status),
            Err(error) => {
                tracing::warn!(%error, "slots can't be moved yet");
                term.slot_actions.report(format!("[ERROR] {error}"));
            }
        }
        tokio::time::sleep(term.slot_actions.interval()).await;
        let _ = tokio::time::timeout(LOOK, term.slot_actions.woken()).await;
    }
}

/// Has slots wait again whose move was begun and not finished, so that nothing stays locked while moves are disabled.
async fn park(term: &Term) -> Result<String, Error> {
    let begun = |slot: &SlotMapping| slot.action.state == SlotActionState::Preparing;
    let left: Vec<SlotId> = slot_moves::waiting(&term.topology())
        .into_iter()
        .filter(begun)
        .map(|slot| slot.id)
        .collect();
    if !left.is_empty() {
        term.change(|topology| slot_moves::undo(topology, &left)).await?;
        proxies::tell_all(term, &left, None).await;
    }
    Ok(String::new())
}

/// Moves what can be moved. What is to be told of the rest, if anything.
async fn batch(term: &Term) -> Result<String, Error> {
    let waiting = slot_moves::waiting(&term.topology());
    if waiting.is_empty() {
        return Ok(String::new());
    }
    let _batch = term.slot_actions.begin_batch();
    let left: Vec<SlotId> = waiting
        .iter()
        .filter(|slot| slot.action.state == SlotActionState::Preparing)
        .map(|slot| slot.id)
        .collect();
    // Locking slots for a proxy that won't acknowledge would only hold up their clients.
    let topology = term.topology();
    let silent = |proxy: &&Proxy| !proxy.shut_off && !term.links.of(&proxy.token).is_complete();
    if let Some(proxy) = topology.proxies().find(silent)
        && left.is_empty()
    {
        let (token, addr) = (&proxy.token, &proxy.admin_addr);
        return Ok(format!(
            "[ERROR] proxy-[{token}] at {addr} does not acknowledge the slot map"
        ));
    }
    let (empty, kept) = split(term, &waiting).await;
    let chosen: Vec<SlotId> = empty
        .into_iter()
        .chain(left)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    if !chosen.is_empty() {
        let moved = move_all(term, &waiting, &chosen).await;
        if moved.is_err() {
            term.change(|topology| slot_moves::undo(topology, &chosen)).await?;
        }
        proxies::tell_all(term, &chosen, None).await;
        let count = moved?;
        tracing::info!(slots = count, "slots without keys were moved");
    }
    Ok(kept.map(|reason| format!("[ERROR] {reason}")).unwrap_or_default())
}

/// Locks the slots, sees that they are empty, and gives them to their targets. How many.
async fn move_all(term: &Term, waiting: &[SlotMapping], chosen: &[SlotId]) -> Result<usize, Error> {
    term.change(|topology| slot_moves::begin(topology, chosen)).await?;
    fault::point("move.preparing");
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        let told = proxies::tell_all(term, chosen, None).await;
        fault::point("move.locked");
        term.check()?;
        let acknowledged: Vec<Acknowledged> = told
            .iter()
            .filter(|told| told.result.is_ok())
            .map(|told| (told.proxy.token.clone(), told.proxy.incarnation.clone()))
            .collect();
        let concerned: Vec<SlotMapping> = waiting
            .iter()
            .filter(|slot| chosen.contains(&slot.id))
            .copied()
            .collect();
        // Only from then on does a slot that is seen to be empty stay so.
        let finished = match slot_moves::locked(&term.topology(), chosen, &acknowledged) {
            Ok(()) => finish(term, &concerned, chosen, &acknowledged).await,
            Err(refusal) => Err(refusal.into()),
        };
        match finished {
            Ok(changes) => {
                fault::point("move.finished");
                return Ok(changes.len());
            }
            Err(Error::Refused(_)) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            Err(Error::Refused(refusal)) => {
                let reasons: Vec<String> = told
                    .into_iter()
                    .filter_map(|told| told.result.err())
                    .map(|error| error.to_string())
                    .collect();
                return Err(if reasons.is_empty() {
                    refusal.into()
                } else {
                    Error::Proxy(reasons.join("; "))
                });
            }
            Err(error) => return Err(error),
        }
    }
}

/// Gives those of the slots to their targets that hold no keys. The others wait again.
async fn finish(
    term: &Term,
    concerned: &[SlotMapping],
    chosen: &[SlotId],
    acknowledged: &[Acknowledged],
) -> Result<Vec<Change>, Error> {
    let (empty, _) = split(term, concerned).await;
    let full: Vec<SlotId> = chosen.iter().filter(|id| !empty.contains(id)).copied().collect();
    if !full.is_empty() {
        // Keys came between the two looks.
        term.change(|topology| slot_moves::undo(topology, &full)).await?;
    }
    term.change(|topology| slot_moves::finish(topology, &empty, acknowledged))
        .await
}

/// Those of the slots that hold no keys; and why another one has to wait.
async fn split(term: &Term, slots: &[SlotMapping]) -> (Vec<SlotId>, Option<String>) {
    let mut by_groups: BTreeMap<(i64, i64), Vec<SlotId>> = BTreeMap::new();
    for slot in slots {
        let groups = (slot.group_id, slot.action.target_id);
        by_groups.entry(groups).or_default().push(slot.id);
    }
    let (mut empty, mut reason) = (Vec::new(), None);
    for ((owner, target), mut slots) in by_groups {
        match full_slots(term, owner, target).await {
            Ok(full) => {
                if let Some(id) = slots.iter().find(|id| full.contains(id)) {
                    reason = Some(format!(
                        "Slot[{:04}]: group-[{owner}] or group-[{target}] holds keys of it, and moving keys is not built yet",
                        id.get()
                    ));
                }
                slots.retain(|id| !full.contains(id));
                empty.extend(slots);
            }
            Err(error) => {
                if let Some(id) = slots.first() {
                    reason = Some(format!("Slot[{:04}]: {error}", id.get()));
                }
            }
        }
    }
    (empty, reason)
}

/// The slots of which the owner holds keys, or the target holds what was left there once. Nobody holds keys of slots without
/// owner.
async fn full_slots(term: &Term, owner: i64, target: i64) -> Result<BTreeSet<SlotId>, Error> {
    let mut full = BTreeSet::new();
    if owner != 0 {
        for number in [owner, target] {
            full.extend(keys_of(term, number).await?);
        }
    }
    Ok(full)
}

async fn keys_of(term: &Term, group: i64) -> Result<BTreeSet<SlotId>, Error> {
    let topology = term.topology();
    let Some(primary) = topology.group_numbered(group).and_then(|group| group.primary()) else {
        return Ok(BTreeSet::new());
    };
    let mut server = term.connect(&primary.server).await?;
    Ok(server.slots_with_keys().await?)
}
