//! Spreading the slots over the groups, with as few moves as possible.
//!
//! The rules are those of Codis' rebalance, and with equal weights the plan is Codis' own, slot by slot. What is new is that
//! shares may differ, and that groups can be emptied.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::{GroupId, SLOT_COUNT, SlotId, SlotMapping};

/// How large a group's share is, compared with the others': a decimal number with six places at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight {
    millionths: u64,
}

/// Why a number is no weight.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("a weight must be a number from 0.000001 to 1000000, not {0}")]
pub struct WeightError(pub f64);

impl Weight {
    /// The weight of a group of which nothing is said.
    pub const ONE: Self = Self { millionths: 1_000_000 };

    /// This weight, rounded to six places.
    ///
    /// # Errors
    /// When it is not positive, or larger than a million.
    pub fn new(number: f64) -> Result<Self, WeightError> {
        let millionths = (number * 1e6).round();
        if (1.0..=1e12).contains(&millionths) {
            Ok(Self {
                millionths: millionths as u64,
            })
        } else {
            Err(WeightError(number))
        }
    }
}

/// A group on its way to its share.
struct Part {
    /// Its share of all slots, rounded down.
    floor: usize,
    /// Whether something was cut off by that, so that it may get one more.
    has_rest: bool,
    /// Slots that are in a move to it. They stay in it.
    moving_in: usize,
    /// Its other slots, ascending.
    idle: Vec<SlotId>,
    /// How many it is to have.
    quota: usize,
}

impl Part {
    fn new(weight: Weight, all: u64) -> Self {
        let slots = SLOT_COUNT as u64 * weight.millionths;
        Self {
            floor: (slots / all) as usize,
            has_rest: !slots.is_multiple_of(all),
            moving_in: 0,
            idle: Vec::new(),
            quota: 0,
        }
    }

    fn held(&self) -> usize {
        self.moving_in + self.idle.len()
    }

    /// Whether it may be given one slot more than its rounded share.
    fn may_round_up(&self) -> bool {
        self.has_rest && self.moving_in <= self.floor
    }
}

/// Which slots are to move, and to which group, so that each of the `weights`' groups gets its share of all slots,
/// rounded up or down, and the `excluded` ones are left with none.
///
/// - A slot that is in a move counts as its target's, and is not planned.
/// - A slot of a group that is neither weighted nor excluded stays where it is.
/// - Groups that have more than they may keep their lowest slots; those that move are handed out in ascending order, to
///   the groups in ascending order.
/// - Where moves under way overfill a group, the others are left below their share rather than levelled: what is too much
///   there comes to them in the next round, and would be moved twice otherwise.
pub fn rebalance(
    slots: &[SlotMapping],
    weights: &BTreeMap<GroupId, Weight>,
    excluded: &BTreeSet<GroupId>,
) -> BTreeMap<SlotId, GroupId> {
    let all = weights.values().map(|weight| weight.millionths).sum();
    let parts = weights.iter().map(|(id, weight)| (*id, Part::new(*weight, all)));
    let mut parts: BTreeMap<GroupId, Part> = parts.collect();
    let Sorted { mut docked, elsewhere } = sort(slots, &mut parts, excluded);
    set_quotas(&mut parts, elsewhere);
    for part in parts.values_mut() {
        let leaving = part.held().saturating_sub(part.quota);
        docked.extend(part.idle.drain(part.idle.len() - leaving..));
    }
    docked.sort_unstable();
    hand_out(docked, &parts)
}

/// Slots that no part holds.
struct Sorted {
    /// Those that need a group.
    docked: Vec<SlotId>,
    /// How many stay where they are.
    elsewhere: usize,
}

fn sort(slots: &[SlotMapping], parts: &mut BTreeMap<GroupId, Part>, excluded: &BTreeSet<GroupId>) -> Sorted {
    let (mut docked, mut elsewhere) = (Vec::new(), 0);
    for slot in slots {
        let moves = !slot.action.state.is_nothing();
        let number = if moves { slot.action.target_id } else { slot.group_id };
        let id = GroupId::new(number).ok();
        let needs_group = !moves && (number == 0 || id.is_some_and(|id| excluded.contains(&id)));
        match id.and_then(|id| parts.get_mut(&id)) {
            Some(part) if moves => part.moving_in += 1,
            Some(part) => part.idle.push(slot.id),
            None if needs_group => docked.push(slot.id),
            None => elsewhere += 1,
        }
    }
    Sorted { docked, elsewhere }
}

/// Everyone gets its share, rounded down; what is left over by that goes to those that have it already, because then nothing
/// has to move, and then to the first ones.
fn set_quotas(parts: &mut BTreeMap<GroupId, Part>, elsewhere: usize) {
    for part in parts.values_mut() {
        part.quota = part.floor.max(part.moving_in);
    }
    let given = elsewhere + parts.values().map(|part| part.quota).sum::<usize>();
    let mut left = SLOT_COUNT.saturating_sub(given);
    for has_it in [true, false] {
        let candidates = parts
            .values_mut()
            .filter(|part| part.may_round_up() && (part.held() > part.floor) == has_it);
        for part in candidates.take(left) {
            part.quota += 1;
            left -= 1;
        }
    }
}

/// Where there is not enough for all, those that lack most come first.
fn hand_out(docked: Vec<SlotId>, parts: &BTreeMap<GroupId, Part>) -> BTreeMap<SlotId, GroupId> {
    let lacking = |part: &Part| part.quota.saturating_sub(part.held());
    let mut lacks: BTreeMap<GroupId, usize> = parts.iter().map(|(id, part)| (*id, lacking(part))).collect();
    let mut takers = Vec::with_capacity(docked.len());
    for _ in &docked {
        let neediest = lacks.iter_mut().max_by_key(|(id, lack)| (**lack, Reverse(**id)));
        if let Some((id, lack)) = neediest.filter(|(_, lack)| **lack > 0) {
            *lack -= 1;
            takers.push(*id);
        }
    }
    takers.sort_unstable();
    docked.into_iter().zip(takers).collect()
}

#[cfg(test)]
#[path = "rebalance_tests.rs"]
mod tests;
