use std::collections::BTreeSet;

use super::{Ruling, refuse};
use crate::dashboard::topology::{Change, Epochs, Topology};
use crate::model::{Export, Group, GroupId, Promoting, SLOT_COUNT, ServerAction, SlotActionState, SlotId, SlotMapping};

/// Everything that is stored.
pub(crate) fn export(topology: &Topology) -> Export {
    let epochs = SlotId::all().map(|id| topology.epoch(id));
    Export {
        epoch: epochs.max().unwrap_or_default(),
        slots: topology.slots().copied().collect(),
        group: topology.groups().cloned().collect(),
        proxy: topology.proxies().cloned().collect(),
        force: false,
    }
}

/// Takes over what was exported, from this store or another one. Epochs go on behind `known`, the largest that anybody was
/// found to have. What was exported may be old by now: so nobody counts as in sync or admitted, every server is to be given
/// its role anew, by what it holds, and may let in proxies that nobody knows of.
///
/// # Errors
/// When there are groups or proxies already and that is not forced, and when what was exported makes no sense.
pub(crate) fn import(topology: &Topology, exported: &Export, known: i64) -> Ruling {
    let is_empty = topology.groups().next().is_none() && topology.proxies().next().is_none();
    if !is_empty && !exported.force {
        return refuse("there are groups or proxies already; give \"force\": true to replace them");
    }
    let groups: BTreeSet<GroupId> = exported.group.iter().map(|group| group.id).collect();
    if groups.len() != exported.group.len() {
        return refuse("group: a group is there twice");
    }
    let mut servers = BTreeSet::new();
    for server in exported.group.iter().flat_map(|group| &group.servers) {
        if !servers.insert(&server.server) {
            return refuse(format!("group: server-[{}] is there twice", server.server));
        }
    }
    let slots: BTreeSet<SlotId> = exported.slots.iter().map(|slot| slot.id).collect();
    if slots.len() != SLOT_COUNT || exported.slots.len() != SLOT_COUNT {
        return refuse(format!("slots: all {SLOT_COUNT} have to be there, each once"));
    }
    for slot in &exported.slots {
        for number in [slot.group_id, slot.action.target_id] {
            let known = number == 0 || GroupId::new(number).is_ok_and(|id| groups.contains(&id));
            if !known {
                return refuse(format!(
                    "slots: slot-[{}] is of group-[{number}], which is not there",
                    slot.id
                ));
            }
        }
    }
    let begun = |slot: &&SlotMapping| !matches!(slot.action.state, SlotActionState::Nothing | SlotActionState::Pending);
    if let Some(slot) = exported.slots.iter().find(begun) {
        return refuse(format!(
            "slots: slot-[{}] is in the middle of a move ({}), which nobody can go on with",
            slot.id, slot.action.state
        ));
    }
    let base = known.max(exported.epoch).max(topology.epochs().base);
    let former = topology.groups().filter(|group| !groups.contains(&group.id));
    let mut changes = vec![Change::PutEpochs(Epochs { base })];
    changes.extend(former.map(|group| Change::RemoveGroup(group.id)));
    let gone = topology
        .proxies()
        .filter(|proxy| exported.proxy.iter().all(|kept| kept.token != proxy.token));
    changes.extend(gone.map(|proxy| Change::RemoveProxy(proxy.token.clone())));
    changes.extend(
        exported
            .proxy
            .iter()
            .map(|proxy| Change::PutProxy(Box::new(proxy.clone()))),
    );
    let mut number = 0;
    changes.extend(
        exported
            .group
            .iter()
            .map(|group| Change::PutGroup(to_be_admitted(group, &mut number))),
    );
    let differ = exported.slots.iter().filter(|slot| topology.slot(slot.id) != *slot);
    changes.extend(differ.copied().map(Change::PutSlot));
    Ok(changes)
}

fn to_be_admitted(group: &Group, number: &mut i64) -> Group {
    let mut group = Group {
        promoting: Promoting::default(),
        in_sync: Vec::new(),
        fenced: false,
        ..group.clone()
    };
    for server in &mut group.servers {
        *number += 1;
        server.action = ServerAction::pending(*number);
        server.admitted_run_id = None;
        server.leaky = server.prepared;
    }
    group
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::super::slots::assign;
    use super::*;
    use crate::model::ActionState;

    fn full() -> Topology {
        let t = topology();
        let all: Vec<SlotMapping> = SlotId::all()
            .map(|id| SlotMapping {
                group_id: 1 + i64::from(id.get()) % 2,
                ..SlotMapping::offline(id)
            })
            .collect();
        after(&t, &assign(&t, &all).unwrap())
    }

    #[test]
    fn an_emptied_store_goes_on_where_it_was() {
        let before = full();
        let exported = export(&before);
        let mut emptied = Topology::empty(1);
        emptied.apply(&import(&emptied, &exported, 5000).unwrap(), 2);
        assert!(emptied.slots().eq(before.slots()));
        let order = |t: &Topology| -> Vec<_> { t.servers().map(|(g, s)| (g.id, s.server.clone())).collect() };
        assert_eq!(order(&emptied), order(&before));
        assert!(
            emptied
                .servers()
                .all(|(_, server)| server.action.state == ActionState::Pending)
        );
        assert!(SlotId::all().all(|id| emptied.epoch(id) > 5000 && emptied.epoch(id) > before.epoch(id)));
    }

    #[test]
    fn what_is_there_is_replaced_only_when_told() {
        let exported = export(&full());
        assert!(refused(import(&topology(), &exported, 0)).contains("\"force\": true"));
        let mut forced = Export {
            force: true,
            ..exported
        };
        forced.group.retain(|group| group.id != gid(3));
        let t = after(&topology(), &import(&topology(), &forced, 0).unwrap());
        assert_eq!(t.groups().count(), 2);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        let empty = Topology::empty(1);
        let good = export(&full());
        let judge = |change: fn(&mut Export)| {
            let mut export = good.clone();
            change(&mut export);
            refused(import(&empty, &export, 0))
        };
        assert!(judge(|e| e.slots.truncate(7)).contains("all 1024"));
        assert!(judge(|e| e.slots[7].action.state = SlotActionState::Migrating).contains("slot-[7] is in the middle"));
        assert!(judge(|e| e.slots[7].group_id = 77).contains("slot-[7] is of group-[77]"));
        assert!(judge(|e| e.group.push(e.group[0].clone())).contains("twice"));
        assert!(judge(|e| e.group[1].servers = e.group[0].servers.clone()).contains("server-[a:1] is there twice"));
    }
}
