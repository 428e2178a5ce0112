use std::collections::BTreeSet;

use super::{Refusal, Ruling, existing, not_promoting, refuse};
use crate::dashboard::topology::{Change, Topology};
use crate::model::{Group, GroupId, SlotAction, SlotId, SlotMapping};

/// Reads the body of an assignment: an array of slot mappings. Anything that is not exactly that is refused, and the
/// refusal says where.
///
/// # Errors
/// See above.
pub(crate) fn parse(body: &[u8]) -> Result<Vec<SlotMapping>, Refusal> {
    let elements = serde_json::from_slice(body).map_err(|error| malformed(String::new(), error.to_string()))?;
    parse_elements(elements)
}

fn malformed(at: String, reason: String) -> Refusal {
    Refusal(format!("the body is not a list of slots: {at}{reason}"))
}

/// Reads the elements of such an array.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_elements(elements: Vec<serde_json::Value>) -> Result<Vec<SlotMapping>, Refusal> {
    elements
        .into_iter()
        .enumerate()
        .map(|(index, element)| {
            if let Some(number) = element.get("id").and_then(serde_json::Value::as_i64) {
                SlotId::new(number).map_err(|error| Refusal(error.to_string()))?;
            }
            serde_json::from_value(element).map_err(|error| malformed(format!("[{index}]: "), error.to_string()))
        })
        .collect()
}

/// Gives slots to groups. Moves no data. All of it is checked before anything changes.
///
/// # Errors
/// When a group does not exist, is empty or promoting, when a slot is named twice, or is in a move.
pub(crate) fn assign(topology: &Topology, wanted: &[SlotMapping]) -> Ruling {
    check_slots(topology, wanted)?;
    let mut groups = BTreeSet::new();
    for slot in wanted {
        let id =
            GroupId::new(slot.group_id).map_err(|_| Refusal(format!("group-[{}] doesn't exist", slot.group_id)))?;
        if groups.insert(id) {
            let group = existing(topology, id)?;
            if group.servers.is_empty() {
                return refuse(format!("group-[{id}] is empty"));
            }
            not_promoting(group)?;
        }
    }
    // The marks go first: should only a part be stored, it shows that proxies may not know.
    let marks = groups.iter().filter_map(|id| topology.group(*id)).map(|group| {
        Change::PutGroup(Group {
            out_of_sync: true,
            ..group.clone()
        })
    });
    Ok(marks
        .chain(wanted.iter().map(|slot| put(slot.id, slot.group_id)))
        .collect())
}

/// Takes slots from their groups. Moves and deletes no data.
///
/// # Errors
/// When an element names a group, a slot is named twice, or is in a move.
pub(crate) fn offline(topology: &Topology, wanted: &[SlotMapping]) -> Ruling {
    check_slots(topology, wanted)?;
    if let Some(slot) = wanted.iter().find(|slot| slot.group_id != 0) {
        return refuse(format!("group of slot-[{}] should be 0", slot.id));
    }
    Ok(wanted.iter().map(|slot| put(slot.id, 0)).collect())
}

/// The slots that a group owns or is about to get.
pub(crate) fn of_group(topology: &Topology, id: GroupId) -> Vec<SlotId> {
    let number = i64::from(id);
    let concerned = |slot: &&SlotMapping| slot.group_id == number || slot.action.target_id == number;
    topology.slots().filter(concerned).map(|slot| slot.id).collect()
}

fn put(id: SlotId, group_id: i64) -> Change {
    Change::PutSlot(SlotMapping {
        id,
        group_id,
        action: SlotAction::default(),
    })
}

fn check_slots(topology: &Topology, wanted: &[SlotMapping]) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    for slot in wanted {
        if !slot.action.state.is_nothing() {
            return refuse(format!("invalid slot-[{}] action = {}", slot.id, slot.action.state));
        }
        if !seen.insert(slot.id) {
            return refuse(format!("slot-[{}] is named twice", slot.id));
        }
        // Codis overwrites a running move here, and so loses the keys that it had moved.
        let stored = topology.slot(slot.id).action.state;
        if !stored.is_nothing() {
            return refuse(format!("slot-[{}] action already exists, it is {stored}", slot.id));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use crate::model::SlotActionState;
    use proptest::prelude::*;

    fn slot(id: i64, group_id: i64) -> SlotMapping {
        SlotMapping {
            group_id,
            ..SlotMapping::offline(SlotId::new(id).unwrap())
        }
    }

    #[test]
    fn a_body_that_is_not_a_list_of_slots_is_refused_with_its_place() {
        for (body, place) in [
            ("", "line 1 column 0"),
            ("{}", "expected a sequence"),
            ("[", "line 1 column 1"),
            ("[{\"id\":1,\"group_id\":1},{\"id\":\"5\",\"group_id\":1}]", "[1]: "),
            ("[null]", "[0]: "),
            ("[{\"group_id\":1}]", "missing field `id`"),
            ("[{\"id\":1,\"group_id\":1,\"action\":{\"state\":\"odd\"}}]", "odd"),
            ("[] x", "trailing"),
        ] {
            let error = parse(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(place), "{body}: {error}");
        }
        let error = parse(br#"[{"id":5000,"group_id":1}]"#).unwrap_err().to_string();
        assert_eq!(error, "slot-[5000] doesn't exist");
        assert_eq!(parse(br#"[{"id":5,"group_id":1,"action":{}}]"#).unwrap(), [slot(5, 1)]);
    }

    #[test]
    fn one_wrong_element_refuses_all() {
        let t = topology();
        let assign = |wanted: &[SlotMapping]| refused(super::assign(&t, wanted));
        assert_eq!(assign(&[slot(0, 1), slot(1, 77)]), "group-[77] doesn't exist");
        assert_eq!(assign(&[slot(0, 1), slot(1, 0)]), "group-[0] doesn't exist");
        assert_eq!(assign(&[slot(0, 1), slot(1, 3)]), "group-[3] is empty");
        assert_eq!(assign(&[slot(0, 1), slot(0, 2)]), "slot-[0] is named twice");
        let moving = SlotMapping {
            action: SlotAction {
                index: 1,
                state: SlotActionState::Pending,
                target_id: 2,
            },
            ..slot(11, 1)
        };
        assert_eq!(assign(&[moving]), "invalid slot-[11] action = pending");
        let busy = after(&t, &[Change::PutSlot(moving)]);
        assert!(refused(super::assign(&busy, &[slot(11, 2)])).starts_with("slot-[11] action already exists"));
        assert_eq!(refused(offline(&t, &[slot(0, 1)])), "group of slot-[0] should be 0");
    }

    #[test]
    fn assigned_slots_have_their_owner_and_the_group_its_mark() {
        let t = topology();
        let wanted: Vec<_> = (0..1024).map(|id| slot(id, 1 + id % 2)).collect();
        let t = after(&t, &assign(&t, &wanted).unwrap());
        assert!(t.slots().zip(&wanted).all(|(have, want)| have == want));
        assert!(t.group(gid(1)).unwrap().out_of_sync && !t.group(gid(3)).unwrap().out_of_sync);
        assert_eq!(of_group(&t, gid(2)).len(), 512);
        let t = after(&t, &offline(&t, &[slot(4, 0)]).unwrap());
        assert_eq!(t.slot(SlotId::new(4).unwrap()).group_id, 0);
    }

    proptest! {
        #[test]
        fn no_body_makes_the_reader_fail_otherwise(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&body);
        }
    }
}
