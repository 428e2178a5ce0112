use super::promotion::{Acknowledged, has_vote};
use super::{Refusal, Ruling, refuse};
use crate::dashboard::topology::{Change, Topology};
use crate::model::{Group, PromoteState, Proxy, SlotAction, SlotActionState, SlotId, SlotMapping};

/// The slots whose moves wait and can be begun as things are, in the order of asking. Those whose move was begun come first:
/// that was interrupted, and nobody else will finish it.
pub(crate) fn waiting(topology: &Topology) -> Vec<SlotMapping> {
    let is_open = |slot: &&SlotMapping| match slot.action.state {
        SlotActionState::Preparing => true,
        SlotActionState::Pending => can_move(topology, slot),
        _ => false,
    };
    let mut waiting: Vec<SlotMapping> = topology.slots().filter(is_open).copied().collect();
    waiting.sort_by_key(|slot| (slot.action.state == SlotActionState::Pending, slot.action.index));
    waiting
}

/// Whether neither of a slot's groups is in a promotion, and its target has servers.
fn can_move(topology: &Topology, slot: &SlotMapping) -> bool {
    let group = |number| topology.group_numbered(number);
    let calm = |group: Option<&Group>| group.is_none_or(|group| group.promoting.state == PromoteState::Nothing);
    let target = group(slot.action.target_id);
    calm(group(slot.group_id)) && calm(target) && target.is_some_and(|target| !target.servers.is_empty())
}

/// Begins to move these slots: from now on they are locked. Those that may not be moved any more are left out.
pub(crate) fn begin(topology: &Topology, slots: &[SlotId]) -> Ruling {
    let pending = slots.iter().map(|id| topology.slot(*id));
    let begun = pending
        .filter(|slot| slot.action.state == SlotActionState::Pending && can_move(topology, slot))
        .map(|slot| with_state(slot, SlotActionState::Preparing));
    Ok(begun.collect())
}

/// Sees to it that nobody writes to these slots: from then on what they hold stays as it is.
///
/// # Errors
/// When there is a proxy that did not acknowledge the lock, also one that joined meanwhile; and when a primary may still let
/// in one that was shut off.
pub(crate) fn locked(topology: &Topology, slots: &[SlotId], acknowledged: &[Acknowledged]) -> Result<(), Refusal> {
    let begun = begun(topology, slots);
    let of =
        |group: &Group, number: fn(&SlotMapping) -> i64| begun.iter().any(|slot| number(slot) == i64::from(group.id));
    let sources = topology.groups().filter(|group| of(group, |slot| slot.group_id));
    if let Some(source) = sources.filter_map(Group::primary).find(|primary| primary.leaky) {
        return refuse(format!(
            "server-[{}] may still let in a proxy that was shut off, and that does not know that slots are to move",
            source.server
        ));
    }
    let concerned: Vec<&Group> = topology
        .groups()
        .filter(|group| of(group, |slot| slot.group_id) || of(group, |slot| slot.action.target_id))
        .collect();
    let has = |proxy: &Proxy| {
        let mut known = acknowledged.iter();
        known.any(|(token, incarnation)| *token == proxy.token && *incarnation == proxy.incarnation)
    };
    let votes = |proxy: &&Proxy| concerned.iter().any(|group| has_vote(proxy, group));
    if let Some(proxy) = topology.proxies().filter(votes).find(|proxy| !has(proxy)) {
        return refuse(format!(
            "proxy-[{}] at {} did not acknowledge the lock of the slots that are to move",
            proxy.token, proxy.admin_addr
        ));
    }
    Ok(())
}

/// Gives these slots to their targets. They were [`locked`], and then seen to hold no keys.
///
/// # Errors
/// As [`locked`].
pub(crate) fn finish(topology: &Topology, slots: &[SlotId], acknowledged: &[Acknowledged]) -> Ruling {
    locked(topology, slots, acknowledged)?;
    let moved = begun(topology, slots).into_iter().map(|slot| {
        Change::PutSlot(SlotMapping {
            id: slot.id,
            group_id: slot.action.target_id,
            action: SlotAction::default(),
        })
    });
    Ok(moved.collect())
}

/// Has these slots wait again, as before they were locked.
///
/// # Errors
/// None.
pub(crate) fn undo(topology: &Topology, slots: &[SlotId]) -> Result<Vec<Change>, Refusal> {
    let begun = slots.iter().map(|id| topology.slot(*id));
    let undone = begun
        .filter(|slot| slot.action.state == SlotActionState::Preparing)
        .map(|slot| with_state(slot, SlotActionState::Pending));
    Ok(undone.collect())
}

fn begun<'a>(topology: &'a Topology, slots: &[SlotId]) -> Vec<&'a SlotMapping> {
    slots
        .iter()
        .map(|id| topology.slot(*id))
        .filter(|slot| slot.action.state == SlotActionState::Preparing)
        .collect()
}

fn with_state(slot: &SlotMapping, state: SlotActionState) -> Change {
    Change::PutSlot(SlotMapping {
        action: SlotAction { state, ..slot.action },
        ..*slot
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::super::{promotion, slot_actions};
    use super::*;

    fn sid(number: i64) -> SlotId {
        SlotId::new(number).unwrap()
    }

    /// Slots 0 to 3 of group 1 are to move to group 2.
    fn asked() -> Topology {
        let owned = (0..4).map(|id| {
            Change::PutSlot(SlotMapping {
                group_id: 1,
                ..SlotMapping::offline(sid(id))
            })
        });
        let t = after(&topology(), &owned.collect::<Vec<_>>());
        after(&t, &slot_actions::create_range(&t, 0, 3, 2).unwrap())
    }

    fn ids(slots: &[SlotMapping]) -> Vec<u16> {
        slots.iter().map(|slot| slot.id.get()).collect()
    }

    #[test]
    fn a_move_locks_then_changes_the_owner_or_waits_again() {
        let t = asked();
        assert_eq!(ids(&waiting(&t)), [0, 1, 2, 3]);
        let t = after(&t, &begin(&t, &[sid(2), sid(3)]).unwrap());
        assert_eq!(ids(&waiting(&t)), [2, 3, 0, 1], "what was begun comes first");
        let moved = after(&t, &finish(&t, &[sid(2), sid(3)], &[]).unwrap());
        assert_eq!(moved.slot(sid(2)).group_id, 2);
        assert!(moved.slot(sid(2)).action.state.is_nothing() && !moved.slot(sid(0)).action.state.is_nothing());
        let undone = after(&t, &undo(&t, &[sid(2), sid(3)]).unwrap());
        assert_eq!(ids(&waiting(&undone)), [0, 1, 2, 3]);
        assert_eq!(undone.slot(sid(2)).group_id, 1);
    }

    #[test]
    fn slots_stay_where_they_are_while_their_primary_may_let_in_a_proxy_that_was_shut_off() {
        let t = asked();
        let t = after(&t, &begin(&t, &[sid(2)]).unwrap());
        let with_leak = |number| {
            let mut group = t.group(gid(number)).unwrap().clone();
            group.servers[0].leaky = true;
            after(&t, &[Change::PutGroup(group)])
        };
        let refusal = refused(finish(&with_leak(1), &[sid(2)], &[]));
        assert!(refusal.starts_with("server-[a:1] may still let in"), "{refusal}");
        assert!(locked(&with_leak(1), &[sid(2)], &[]).is_err());
        assert!(finish(&with_leak(2), &[sid(2)], &[]).is_ok());
    }

    #[test]
    fn moves_and_promotions_of_a_group_exclude_each_other() {
        let t = asked();
        let wish = promotion::Wish {
            group: gid(1),
            server: addr("b:1"),
            epoch: None,
            forced: false,
            planned: false,
            at_ms: 0,
            cause: Default::default(),
        };
        let promoting = after(&t, &promotion::begin(&t, &wish).unwrap());
        assert!(waiting(&promoting).is_empty() && begin(&promoting, &[sid(0)]).unwrap().is_empty());
        // One that has only locked its slot waits again.
        let moving = after(&t, &begin(&t, &[sid(0)]).unwrap());
        let promoting = after(&moving, &promotion::begin(&moving, &wish).unwrap());
        assert_eq!(promoting.slot(sid(0)).action.state, SlotActionState::Pending);
        assert_eq!(finish(&promoting, &[sid(0)], &[]).unwrap(), []);
    }
}
