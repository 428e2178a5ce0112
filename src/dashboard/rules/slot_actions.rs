use std::collections::BTreeMap;

use super::{Refusal, Ruling, existing, refuse};
use crate::dashboard::topology::{Change, Topology};
use crate::model::{Group, GroupId, SLOT_COUNT, SlotAction, SlotActionState, SlotId, SlotMapping};

/// Asks that a slot be moved to a group.
///
/// # Errors
/// When the group does not exist or is empty, when the slot does not exist, is in a move, or is in the group already.
pub(crate) fn create(topology: &Topology, slot: i64, group: i64) -> Ruling {
    let group = target(topology, group)?;
    let slot = idle_elsewhere(topology, slot, group.id)?;
    Ok(pending(topology, [(slot, group.id)]))
}

/// Asks that up to so many slots of one group, or of none (0), be moved to another, the lowest first. It may find fewer.
///
/// # Errors
/// When the group that they move to does not exist or is empty.
pub(crate) fn create_some(topology: &Topology, from: i64, to: i64, count: usize) -> Ruling {
    let group = target(topology, to)?;
    let fits = |slot: &&SlotMapping| slot.action.state.is_nothing() && slot.group_id == from && slot.group_id != to;
    let found = topology.slots().filter(fits).take(count);
    Ok(pending(topology, found.map(|slot| (slot.id, group.id))))
}

/// Asks that all slots from `first` to `last` be moved to a group.
///
/// # Errors
/// As [`create`], for any of them; then none is moved.
pub(crate) fn create_range(topology: &Topology, first: i64, last: i64, group: i64) -> Ruling {
    if !(0 <= first && first <= last && last < SLOT_COUNT as i64) {
        return refuse(format!("invalid slot range [{first},{last}]"));
    }
    let group = target(topology, group)?;
    let slots = (first..=last)
        .map(|slot| Ok((idle_elsewhere(topology, slot, group.id)?, group.id)))
        .collect::<Result<Vec<_>, Refusal>>()?;
    Ok(pending(topology, slots))
}

/// Asks that slots be moved as a plan says that was made from these records.
pub(crate) fn create_planned(topology: &Topology, plan: BTreeMap<SlotId, GroupId>) -> Vec<Change> {
    pending(topology, plan)
}

/// The moves among these changes: which slot goes where.
pub(crate) fn targets(changes: &[Change]) -> BTreeMap<SlotId, GroupId> {
    let target = |change: &Change| match change {
        Change::PutSlot(slot) => Some((slot.id, GroupId::new(slot.action.target_id).ok()?)),
        _ => None,
    };
    changes.iter().filter_map(target).collect()
}

/// Forgets a move that was not begun.
///
/// # Errors
/// When the slot does not exist, or its move was begun, or none was asked for.
pub(crate) fn remove(topology: &Topology, slot: i64) -> Ruling {
    let slot = topology.slot(slot_id(slot)?);
    match slot.action.state {
        SlotActionState::Pending => Ok(vec![Change::PutSlot(SlotMapping {
            action: SlotAction::default(),
            ..*slot
        })]),
        SlotActionState::Nothing => refuse(format!("slot-[{}] action doesn't exist", slot.id)),
        _ => refuse(format!("slot-[{}] action isn't pending", slot.id)),
    }
}

fn slot_id(number: i64) -> Result<SlotId, Refusal> {
    SlotId::new(number).map_err(|error| Refusal(error.to_string()))
}

/// A group that slots can be moved to.
fn target(topology: &Topology, number: i64) -> Result<&Group, Refusal> {
    let id = GroupId::new(number).map_err(|_| Refusal(format!("group-[{number}] doesn't exist")))?;
    let group = existing(topology, id)?;
    if group.servers.is_empty() {
        return refuse(format!("group-[{id}] is empty"));
    }
    Ok(group)
}

fn idle_elsewhere(topology: &Topology, slot: i64, group: GroupId) -> Result<SlotId, Refusal> {
    let slot = topology.slot(slot_id(slot)?);
    if !slot.action.state.is_nothing() {
        return refuse(format!("slot-[{}] action already exists", slot.id));
    }
    if slot.group_id == i64::from(group) {
        return refuse(format!("slot-[{}] already in group-[{group}]", slot.id));
    }
    Ok(slot.id)
}

/// The moves join the end of the queue, in this order.
fn pending(topology: &Topology, moves: impl IntoIterator<Item = (SlotId, GroupId)>) -> Vec<Change> {
    let last = topology.slots().map(|slot| slot.action.index).max().unwrap_or_default();
    let queued = moves.into_iter().zip(last + 1..);
    let action = |(slot, group): (SlotId, GroupId), index| SlotMapping {
        action: SlotAction {
            index,
            state: SlotActionState::Pending,
            target_id: group.into(),
        },
        ..*topology.slot(slot)
    };
    queued
        .map(|(planned, index)| Change::PutSlot(action(planned, index)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;

    fn slot(id: i64, group_id: i64, index: i64, state: SlotActionState, target_id: i64) -> SlotMapping {
        SlotMapping {
            id: SlotId::new(id).unwrap(),
            group_id,
            action: SlotAction {
                index,
                state,
                target_id,
            },
        }
    }

    fn idle(id: i64, group_id: i64) -> SlotMapping {
        slot(id, group_id, 0, SlotActionState::Nothing, 0)
    }

    fn waiting(id: i64, group_id: i64, index: i64, target_id: i64) -> SlotMapping {
        slot(id, group_id, index, SlotActionState::Pending, target_id)
    }

    fn put(slots: &[SlotMapping]) -> Vec<Change> {
        slots.iter().copied().map(Change::PutSlot).collect()
    }

    /// Slots 0 to 9 are of group 1, slot 5 moves; 10 and 11 are of group 2.
    fn moving() -> Topology {
        let mut slots: Vec<_> = (0..10)
            .map(|id| idle(id, 1))
            .chain((10..12).map(|id| idle(id, 2)))
            .collect();
        slots[5] = slot(5, 1, 7, SlotActionState::Migrating, 2);
        after(&topology(), &put(&slots))
    }

    #[test]
    fn a_move_joins_the_end_of_the_queue() {
        let t = moving();
        let changes = create(&t, 6, 2).unwrap();
        assert_eq!(changes, put(&[waiting(6, 1, 8, 2)]));
        let t = after(&t, &changes);
        // An offline slot is moved, too.
        assert_eq!(create(&t, 1023, 1).unwrap(), put(&[waiting(1023, 0, 9, 1)]));
    }

    #[test]
    fn moves_that_make_no_sense_are_refused_with_the_texts_of_codis() {
        let t = moving();
        for (slot, group, text) in [
            (6, 9, "group-[9] doesn't exist"),
            (6, 0, "group-[0] doesn't exist"),
            (6, 3, "group-[3] is empty"),
            (1024, 2, "slot-[1024] doesn't exist"),
            (-1, 2, "slot-[-1] doesn't exist"),
            (5, 2, "slot-[5] action already exists"),
            (6, 1, "slot-[6] already in group-[1]"),
        ] {
            assert_eq!(refused(create(&t, slot, group)), text);
        }
    }

    #[test]
    fn some_slots_are_the_lowest_that_are_free() {
        let t = moving();
        let some = create_some(&t, 1, 2, 6).unwrap();
        let expected = [0, 1, 2, 3, 4, 6].into_iter().zip(8..);
        let expected: Vec<_> = expected.map(|(id, index)| waiting(id, 1, index, 2)).collect();
        assert_eq!(some, put(&expected));
        assert_eq!(create_some(&t, 1, 2, 5000).unwrap().len(), 9);
        assert_eq!(create_some(&t, 0, 2, 1).unwrap(), put(&[waiting(12, 0, 8, 2)]));
        for (from, to) in [(1, 1), (77, 2)] {
            assert_eq!(create_some(&t, from, to, 5).unwrap(), []);
        }
        assert_eq!(refused(create_some(&t, 1, 3, 5)), "group-[3] is empty");
    }

    #[test]
    fn a_range_is_moved_as_a_whole_or_not_at_all() {
        let t = moving();
        assert_eq!(
            create_range(&t, 0, 2, 2).unwrap(),
            put(&[waiting(0, 1, 8, 2), waiting(1, 1, 9, 2), waiting(2, 1, 10, 2)])
        );
        for (first, last, group, text) in [
            (10, 5, 2, "invalid slot range [10,5]"),
            (-1, 5, 2, "invalid slot range [-1,5]"),
            (0, 1024, 2, "invalid slot range [0,1024]"),
            (0, 5, 2, "slot-[5] action already exists"),
            (6, 12, 2, "slot-[10] already in group-[2]"),
            (0, 1, 9, "group-[9] doesn't exist"),
        ] {
            assert_eq!(refused(create_range(&t, first, last, group)), text);
        }
    }

    #[test]
    fn only_a_move_that_waits_is_forgotten() {
        let t = moving();
        assert_eq!(refused(remove(&t, 5)), "slot-[5] action isn't pending");
        assert_eq!(refused(remove(&t, 6)), "slot-[6] action doesn't exist");
        assert_eq!(refused(remove(&t, 5000)), "slot-[5000] doesn't exist");
        let t = after(&t, &create(&t, 6, 2).unwrap());
        assert_eq!(remove(&t, 6).unwrap(), put(&[idle(6, 1)]));
    }
}
