//! What proxies are told about a slot, from the records. Pure.

use super::topology::Topology;
use crate::model::{Group, HostPort, PromoteState, Slot, SlotActionState, SlotId};

/// The routing of one slot as the records want it, with the epoch that orders it among others.
pub(crate) fn slot(topology: &Topology, id: SlotId, forward_method: i64) -> Slot {
    let mapping = topology.slot(id);
    let (owner, target) = (mapping.group_id, mapping.action.target_id);
    let group = |number| topology.group_numbered(number);
    let promoting = |number| {
        let state = group(number).map(|group| group.promoting.state);
        matches!(state, Some(PromoteState::Preparing | PromoteState::Prepared))
    };
    let mut slot = Slot {
        forward_method,
        epoch: topology.epoch(id),
        ..Slot::offline(id)
    };
    match mapping.action.state {
        SlotActionState::Nothing | SlotActionState::Pending => {
            slot.locked = promoting(owner);
            slot.replica_groups = group(owner).map(replicas).unwrap_or_default();
            backend(&mut slot, topology, owner);
        }
        SlotActionState::Preparing => {
            slot.locked = true;
            backend(&mut slot, topology, owner);
        }
        SlotActionState::Prepared | SlotActionState::Migrating => {
            slot.locked = mapping.action.state == SlotActionState::Prepared || promoting(owner) || promoting(target);
            backend(&mut slot, topology, target);
            slot.migrate_from = group(owner).and_then(primary);
            slot.migrate_from_group_id = owner;
        }
        SlotActionState::Finished => {
            slot.locked = promoting(target);
            backend(&mut slot, topology, target);
        }
    }
    let servers = [owner, target]
        .into_iter()
        .filter_map(group)
        .flat_map(|group| &group.servers);
    let prepared = servers.filter(|server| server.prepared && slot.names(&server.server));
    slot.prepared = prepared.map(|server| server.server.clone()).collect();
    slot
}

/// The routing of these slots.
pub(crate) fn slots(topology: &Topology, ids: impl IntoIterator<Item = SlotId>, forward_method: i64) -> Vec<Slot> {
    ids.into_iter().map(|id| slot(topology, id, forward_method)).collect()
}

/// These routings as a proxy in `datacenter` is told them: the replicas that are there come first, as in Codis.
pub(crate) fn nearest_first(topology: &Topology, slots: &[Slot], datacenter: &str) -> Vec<Slot> {
    let mut told = slots.to_vec();
    for slot in told.iter_mut().filter(|slot| !slot.replica_groups.is_empty()) {
        let members = std::mem::take(&mut slot.replica_groups).into_iter().flatten();
        let group = topology.group_numbered(slot.backend_addr_group_id);
        let is_near = |addr: &HostPort| {
            let record = group.and_then(|group| group.servers.iter().find(|server| server.server == *addr));
            record.is_some_and(|record| record.datacenter == datacenter)
        };
        let (near, far): (Vec<_>, Vec<_>) = members.partition(is_near);
        slot.replica_groups = [near, far].into_iter().filter(|group| !group.is_empty()).collect();
    }
    told
}

fn backend(slot: &mut Slot, topology: &Topology, number: i64) {
    slot.backend_addr = topology.group_numbered(number).and_then(primary);
    slot.backend_addr_group_id = number;
}

fn primary(group: &Group) -> Option<HostPort> {
    group.primary().map(|server| server.server.clone())
}

/// Servers that may answer reads; [`nearest_first`] puts them in order.
fn replicas(group: &Group) -> Vec<Vec<HostPort>> {
    if group.servers.len() < 2 || !group.promoting.state.is_nothing() {
        return Vec::new();
    }
    let members: Vec<_> = group
        .servers
        .iter()
        .filter(|s| s.replica_group)
        .map(|s| s.server.clone())
        .collect();
    if members.is_empty() { Vec::new() } else { vec![members] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::topology::Change;
    use crate::model::{GroupId, GroupServer, Promoting, SlotAction, SlotMapping};

    /// Slot 5 belongs to group 1 (a, its replica b answers reads), and moves to group 2 (c) as far as `state` says.
    fn view(state: SlotActionState, promoting: Option<(i64, PromoteState)>) -> Slot {
        let group = |id: i64, servers: &[(&str, bool)]| {
            let mut group = Group::new(GroupId::new(id).unwrap());
            for (addr, replica_group) in servers {
                let server = GroupServer::new(addr.parse().unwrap(), "");
                group.servers.push(GroupServer {
                    replica_group: *replica_group,
                    ..server
                });
            }
            if let Some((_, state)) = promoting.filter(|(group, _)| *group == id) {
                group.promoting = Promoting {
                    index: 1,
                    state,
                    ..Promoting::default()
                };
            }
            Change::PutGroup(group)
        };
        let id = SlotId::new(5).unwrap();
        let target_id = if state.is_nothing() { 0 } else { 2 };
        let mapping = SlotMapping {
            id,
            group_id: 1,
            action: SlotAction {
                index: 0,
                state,
                target_id,
            },
        };
        let mut topology = Topology::empty(1);
        topology.apply(
            &[group(1, &[("a:1", false), ("b:1", true)]), group(2, &[("c:1", false)])],
            7,
        );
        topology.apply(&[Change::PutSlot(mapping)], 6);
        slot(&topology, id, 1)
    }

    fn backends(slot: &Slot) -> (Option<&str>, i64, Option<&str>, i64, usize) {
        (
            slot.backend_addr.as_ref().map(HostPort::as_str),
            slot.backend_addr_group_id,
            slot.migrate_from.as_ref().map(HostPort::as_str),
            slot.migrate_from_group_id,
            slot.replica_groups.len(),
        )
    }

    #[test]
    fn each_state_of_a_move_is_seen_as_in_codis() {
        for (state, locked, expected) in [
            (SlotActionState::Nothing, false, (Some("a:1"), 1, None, 0, 1)),
            (SlotActionState::Pending, false, (Some("a:1"), 1, None, 0, 1)),
            (SlotActionState::Preparing, true, (Some("a:1"), 1, None, 0, 0)),
            (SlotActionState::Prepared, true, (Some("c:1"), 2, Some("a:1"), 1, 0)),
            (SlotActionState::Migrating, false, (Some("c:1"), 2, Some("a:1"), 1, 0)),
            (SlotActionState::Finished, false, (Some("c:1"), 2, None, 0, 0)),
        ] {
            let slot = view(state, None);
            assert_eq!((slot.locked, backends(&slot)), (locked, expected), "{state}");
            assert_eq!((slot.epoch, slot.forward_method), (7, 1));
        }
    }

    #[test]
    fn replicas_of_the_proxys_own_datacenter_come_first() {
        let mut group = Group::new(GroupId::new(1).unwrap());
        for (addr, datacenter) in [("a:1", "x"), ("b:1", "y"), ("c:1", "z"), ("d:1", "y")] {
            group.servers.push(GroupServer {
                replica_group: true,
                ..GroupServer::new(addr.parse().unwrap(), datacenter)
            });
        }
        let (id, mut topology) = (SlotId::new(5).unwrap(), Topology::empty(1));
        let mapping = SlotMapping {
            group_id: 1,
            ..SlotMapping::offline(id)
        };
        topology.apply(&[Change::PutGroup(group), Change::PutSlot(mapping)], 5);
        let told = |datacenter| {
            let told = nearest_first(&topology, &[slot(&topology, id, 0)], datacenter);
            let groups = told[0].replica_groups.iter();
            let text = |group: &Vec<HostPort>| group.iter().map(HostPort::to_string).collect::<Vec<_>>().join(" ");
            groups.map(text).collect::<Vec<_>>()
        };
        assert_eq!(told("y"), ["b:1 d:1", "a:1 c:1"]);
        assert_eq!(told("elsewhere"), ["a:1 b:1 c:1 d:1"]);
    }

    #[test]
    fn prepared_servers_among_those_named_are_told() {
        let mut group = Group::new(GroupId::new(1).unwrap());
        for (addr, prepared) in [("a:1", true), ("b:1", false), ("c:1", true)] {
            group.servers.push(GroupServer {
                prepared,
                ..GroupServer::new(addr.parse().unwrap(), "")
            });
        }
        let (id, mut topology) = (SlotId::new(5).unwrap(), Topology::empty(1));
        let mapping = SlotMapping {
            group_id: 1,
            ..SlotMapping::offline(id)
        };
        let mut told = |group: &Group| {
            topology.apply(&[Change::PutGroup(group.clone()), Change::PutSlot(mapping)], 5);
            slot(&topology, id, 0).prepared
        };
        assert_eq!(told(&group), ["a:1".parse().unwrap()], "the others get no requests");
        group.servers[1].replica_group = true;
        group.servers[2].replica_group = true;
        assert_eq!(told(&group), ["a:1".parse().unwrap(), "c:1".parse().unwrap()]);
    }

    #[test]
    fn slots_of_a_prepared_promotion_are_locked() {
        use SlotActionState::*;
        for (state, owner_locks, target_locks) in [
            (Nothing, true, false),
            (Pending, true, false),
            (Preparing, true, true),
            (Prepared, true, true),
            (Migrating, true, true),
            (Finished, false, true),
        ] {
            assert_eq!(
                view(state, Some((1, PromoteState::Prepared))).locked,
                owner_locks,
                "{state} owner"
            );
            assert_eq!(
                view(state, Some((2, PromoteState::Prepared))).locked,
                target_locks,
                "{state} target"
            );
        }
        for (state, locked) in [(PromoteState::Preparing, true), (PromoteState::Finished, false)] {
            let slot = view(Nothing, Some((1, state)));
            assert!(slot.locked == locked && slot.replica_groups.is_empty());
        }
    }

    #[test]
    fn a_slot_without_owner_or_of_an_empty_group_has_no_backend() {
        let id = SlotId::new(5).unwrap();
        let mut topology = Topology::empty(4);
        assert_eq!(
            slot(&topology, id, 0),
            Slot {
                epoch: 4,
                ..Slot::offline(id)
            }
        );
        topology.apply(&[Change::PutGroup(Group::new(GroupId::new(1).unwrap()))], 5);
        topology.apply(
            &[Change::PutSlot(SlotMapping {
                group_id: 1,
                ..SlotMapping::offline(id)
            })],
            6,
        );
        let slot = slot(&topology, id, 0);
        assert_eq!(
            (slot.backend_addr, slot.backend_addr_group_id, slot.epoch),
            (None, 1, 6)
        );
    }
}
