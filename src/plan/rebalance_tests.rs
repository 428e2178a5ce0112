use proptest::prelude::*;

use super::*;
use crate::model::{SlotAction, SlotActionState};

fn gid(number: i64) -> GroupId {
    GroupId::new(number).unwrap()
}

fn sid(number: i64) -> SlotId {
    SlotId::new(number).unwrap()
}

/// All slots, each with its owner and, while it moves, its target.
fn map(of: impl Fn(usize) -> (i64, Option<i64>)) -> Vec<SlotMapping> {
    let slot = |id: SlotId| {
        let (group_id, target) = of(id.index());
        let action = target.map(|target_id| SlotAction {
            index: 1,
            state: SlotActionState::Migrating,
            target_id,
        });
        SlotMapping {
            id,
            group_id,
            action: action.unwrap_or_default(),
        }
    };
    SlotId::all().map(slot).collect()
}

/// Slots in contiguous ranges of these lengths: (length, owner, target).
fn ranges(lengths: &[(usize, i64, Option<i64>)]) -> Vec<SlotMapping> {
    let flat: Vec<_> = lengths
        .iter()
        .flat_map(|(length, owner, target)| std::iter::repeat_n((*owner, *target), *length))
        .collect();
    assert_eq!(flat.len(), SLOT_COUNT);
    map(|index| flat[index])
}

fn equal(groups: &[i64]) -> BTreeMap<GroupId, Weight> {
    groups.iter().map(|id| (gid(*id), Weight::ONE)).collect()
}

fn weighted(groups: &[(i64, f64)]) -> BTreeMap<GroupId, Weight> {
    let weight = |(id, weight): &(i64, f64)| (gid(*id), Weight::new(*weight).unwrap());
    groups.iter().map(weight).collect()
}

fn plan(slots: &[SlotMapping], groups: &[i64]) -> BTreeMap<SlotId, GroupId> {
    rebalance(slots, &equal(groups), &BTreeSet::new())
}

/// Where each slot will be, or is when it neither moves nor is planned.
fn after(slots: &[SlotMapping], plan: &BTreeMap<SlotId, GroupId>) -> Vec<SlotMapping> {
    let moved = |slot: &SlotMapping| SlotMapping {
        group_id: plan.get(&slot.id).map_or(slot.group_id, |group| i64::from(*group)),
        ..*slot
    };
    slots.iter().map(moved).collect()
}

/// The same plan as actions that wait.
fn pending(slots: &[SlotMapping], plan: &BTreeMap<SlotId, GroupId>) -> Vec<SlotMapping> {
    let action = |group: &GroupId| SlotAction {
        index: 1,
        state: SlotActionState::Pending,
        target_id: (*group).into(),
    };
    let moved = |slot: &SlotMapping| SlotMapping {
        action: plan.get(&slot.id).map_or(slot.action, action),
        ..*slot
    };
    slots.iter().map(moved).collect()
}

fn holder(slot: &SlotMapping) -> i64 {
    if slot.action.state.is_nothing() {
        slot.group_id
    } else {
        slot.action.target_id
    }
}

fn count(slots: &[SlotMapping], group: GroupId) -> usize {
    slots.iter().filter(|slot| holder(slot) == i64::from(group)).count()
}

/// Codis' rebalance, rule by rule as the reference tells it, with nothing in common with the planner.
fn codis(slots: &[SlotMapping], groups: &[i64]) -> BTreeMap<SlotId, GroupId> {
    #[derive(Default, Clone)]
    struct State {
        assigned: i64,
        candidates: Vec<SlotId>,
        outgoing: i64,
    }
    impl State {
        fn size(&self) -> i64 {
            self.assigned + self.candidates.len() as i64 - self.outgoing
        }
    }
    let mut states: BTreeMap<i64, State> = BTreeMap::new();
    let is_idle = |slot: &&SlotMapping| slot.action.state.is_nothing();
    // 1.
    for slot in slots.iter().filter(|slot| !is_idle(slot)) {
        states.entry(slot.action.target_id).or_default().assigned += 1;
    }
    // 2.
    let lower = (SLOT_COUNT / groups.len()) as i64;
    let upper = SLOT_COUNT.div_ceil(groups.len()) as i64;
    // 3.
    for slot in slots.iter().filter(is_idle).filter(|slot| slot.group_id != 0) {
        let state = states.entry(slot.group_id).or_default();
        if state.size() < lower {
            state.assigned += 1;
        } else {
            state.candidates.push(slot.id);
        }
    }
    // 4.
    let mut tree: Vec<i64> = groups.to_vec();
    for id in groups {
        states.entry(*id).or_default();
    }
    let mut docking = Vec::new();
    for slot in slots.iter().filter(is_idle).filter(|slot| slot.group_id == 0) {
        let smallest = *tree.iter().min_by_key(|id| (states[*id].size(), **id)).unwrap();
        states.get_mut(&smallest).unwrap().outgoing -= 1;
        docking.push(slot.id);
    }
    // 5.
    while tree.len() >= 2 {
        let largest = *tree.iter().max_by_key(|id| (states[*id].size(), **id)).unwrap();
        if states[&largest].candidates.len() as i64 == states[&largest].outgoing {
            tree.retain(|id| *id != largest);
            continue;
        }
        let others = tree.iter().filter(|id| **id != largest);
        let smallest = *others.min_by_key(|id| (states[*id].size(), **id)).unwrap();
        let (from, to) = (states[&largest].size(), states[&smallest].size());
        if from <= lower || to >= upper || from - to <= 1 {
            break;
        }
        states.get_mut(&largest).unwrap().outgoing += 1;
        states.get_mut(&smallest).unwrap().outgoing -= 1;
    }
    // 6.
    for state in states.values().filter(|state| state.outgoing > 0) {
        docking.extend(state.candidates.iter().rev().take(state.outgoing as usize));
    }
    // 7.
    docking.sort();
    let mut docking = docking.into_iter();
    let mut plan = BTreeMap::new();
    for id in groups {
        for slot in docking.by_ref().take(0.max(-states[id].outgoing) as usize) {
            plan.insert(slot, gid(*id));
        }
    }
    plan
}

#[test]
fn a_fresh_cluster_of_two_groups_is_split_as_in_codis() {
    let plan = plan(&map(|_| (0, None)), &[1, 2]);
    let expected = SlotId::all().map(|slot| (slot, gid(if slot.index() < 512 { 1 } else { 2 })));
    assert_eq!(plan, expected.collect());
}

#[test]
fn without_groups_nothing_is_planned() {
    assert_eq!(plan(&map(|_| (0, None)), &[]), BTreeMap::new());
    let emptied = rebalance(&map(|_| (1, None)), &BTreeMap::new(), &[gid(1)].into());
    assert_eq!(emptied, BTreeMap::new());
}

#[test]
fn a_slot_in_a_move_counts_as_its_targets_and_is_not_planned() {
    // 512 slots move from group 1 to group 2: nothing is left to do.
    let slots = map(|index| (1, (index < 512).then_some(2)));
    assert_eq!(plan(&slots, &[1, 2]), BTreeMap::new());
    // 100 of them do: the others are the highest of those that stay.
    let slots = map(|index| (1, (index >= 924).then_some(2)));
    let plan = plan(&slots, &[1, 2]);
    assert_eq!(
        plan.keys().copied().collect::<Vec<_>>(),
        (512..924).map(sid).collect::<Vec<_>>()
    );
}

#[test]
fn a_group_below_its_share_keeps_all_its_slots() {
    let slots = ranges(&[(1000, 1, None), (24, 2, None)]);
    let plan = plan(&slots, &[1, 2, 3]);
    assert!(plan.keys().all(|slot| slot.index() < 1000));
    assert_eq!(plan.len(), 1000 - 342);
}

#[test]
fn offline_slots_go_to_the_smallest_groups() {
    let slots = ranges(&[(500, 1, None), (424, 2, None), (100, 0, None)]);
    let plan = plan(&slots, &[1, 2]);
    assert_eq!(plan.len(), 100);
    let slots = after(&slots, &plan);
    assert_eq!((count(&slots, gid(1)), count(&slots, gid(2))), (512, 512));
}

#[test]
fn sizes_that_differ_by_one_are_left_alone() {
    let slots = ranges(&[(341, 1, None), (342, 2, None), (341, 3, None)]);
    assert_eq!(plan(&slots, &[1, 2, 3]), BTreeMap::new());
    let slots = ranges(&[(342, 1, None), (342, 2, None), (340, 3, None)]);
    let plan = plan(&slots, &[1, 2, 3]);
    // Among equals the one with the highest number gives.
    assert_eq!(plan, BTreeMap::from([(sid(683), gid(3))]));
}

#[test]
fn the_highest_slots_leave_and_the_lowest_of_them_go_to_the_first_group() {
    let slots = ranges(&[(1024, 2, None)]);
    let plan = plan(&slots, &[1, 2, 3]);
    let expected = (342..1024).map(|slot| (sid(slot), gid(if slot < 683 { 1 } else { 3 })));
    assert_eq!(plan, expected.collect());
}

#[test]
fn slots_of_a_group_that_takes_no_part_stay() {
    let slots = ranges(&[(24, 9, None), (1000, 1, None)]);
    let plan = plan(&slots, &[1, 2]);
    assert_eq!(plan.len(), 488);
    assert!(plan.keys().all(|slot| slot.index() >= 24));
}

#[test]
fn a_group_that_running_moves_overfill_does_not_make_the_others_move_twice() {
    let slots = ranges(&[(700, 3, Some(1)), (324, 2, None)]);
    assert_eq!(plan(&slots, &[1, 2, 3]), BTreeMap::new());
    // Once they have ended, group 3 gets its share from the one that has too much.
    let slots = ranges(&[(700, 1, None), (324, 2, None)]);
    assert_eq!(plan(&slots, &[1, 2, 3]).len(), 341 + 17);
}

#[test]
fn a_group_gets_slots_by_its_weight() {
    let slots = map(|_| (1, None));
    let plan = rebalance(&slots, &weighted(&[(1, 1.0), (2, 2.0), (3, 0.5)]), &BTreeSet::new());
    let slots = after(&slots, &plan);
    // 292.57, 585.14 and 146.29 of 1024.
    let sizes = [1, 2, 3].map(|id| count(&slots, gid(id)));
    assert_eq!(sizes, [293, 585, 146]);
}

#[test]
fn a_share_without_a_rest_is_met_exactly() {
    let slots = ranges(&[(513, 1, None), (255, 2, None), (256, 3, None)]);
    let plan = rebalance(&slots, &weighted(&[(1, 2.0), (2, 1.0), (3, 1.0)]), &BTreeSet::new());
    assert_eq!(plan, BTreeMap::from([(sid(512), gid(2))]));
}

#[test]
fn an_excluded_group_is_emptied() {
    let slots = map(|index| (1 + index as i64 % 3, None));
    let plan = rebalance(&slots, &equal(&[1, 2]), &[gid(3)].into());
    assert_eq!(plan.len(), 341);
    assert_eq!(count(&after(&slots, &plan), gid(3)), 0);
}

#[test]
fn weights_are_positive_and_of_a_sane_size() {
    for wrong in [0.0, -1.0, 1e-7, 1_000_001.0, f64::NAN, f64::INFINITY] {
        assert!(Weight::new(wrong).is_err(), "{wrong}");
    }
    assert_eq!(Weight::new(1.0), Ok(Weight::ONE));
    assert!(Weight::new(0.000_001).is_ok() && Weight::new(1e6).is_ok());
}

/// Slots of at most this many groups, some offline, some in a move.
fn any_map(groups: i64) -> impl Strategy<Value = Vec<SlotMapping>> {
    // From none to all may be in a move, to all groups or to few of them.
    (0.0..=1.0, 1..=groups, 0.0..=0.5, 1..=groups).prop_flat_map(move |(moving, targets, offline, owners)| {
        let slot = (
            proptest::bool::weighted(offline),
            1..=owners,
            proptest::bool::weighted(moving),
            1..=targets,
        );
        proptest::collection::vec(slot, SLOT_COUNT).prop_map(|slots| {
            map(|index| {
                let (offline, owner, moves, target) = slots[index];
                (if offline { 0 } else { owner }, moves.then_some(target))
            })
        })
    })
}

/// What the planner has to do with, counted in another way.
struct Facts {
    floor: usize,
    ceil: usize,
    moving_in: usize,
    held: usize,
}

fn facts(slots: &[SlotMapping], weights: &BTreeMap<GroupId, Weight>) -> BTreeMap<GroupId, Facts> {
    let all: u64 = weights.values().map(|weight| weight.millionths).sum();
    let of = |(id, weight): (&GroupId, &Weight)| {
        let slots_of_it = || slots.iter().filter(|slot| holder(slot) == i64::from(*id));
        let facts = Facts {
            floor: (1024 * weight.millionths / all) as usize,
            ceil: (1024 * weight.millionths).div_ceil(all) as usize,
            moving_in: slots_of_it().filter(|slot| !slot.action.state.is_nothing()).count(),
            held: slots_of_it().count(),
        };
        (*id, facts)
    };
    weights.iter().map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn with_equal_weights_the_plan_is_codis_own(slots in any_map(7), count in 1_i64..=7) {
        let groups: Vec<i64> = (1..=count).collect();
        prop_assert_eq!(plan(&slots, &groups), codis(&slots, &groups));
    }

    #[test]
    fn shares_are_met_with_as_few_moves_as_possible(
        slots in any_map(6),
        weights in proptest::collection::btree_map(1_i64..=6, 0.1..10.0_f64, 1..=6),
    ) {
        let weights: BTreeMap<_, _> = weights.iter().map(|(id, w)| (gid(*id), Weight::new(*w).unwrap())).collect();
        let excluded: BTreeSet<_> = (1..=6).map(gid).filter(|id| !weights.contains_key(id)).collect();
        let plan = rebalance(&slots, &weights, &excluded);
        let facts = facts(&slots, &weights);
        let planned = after(&slots, &plan);

        for (slot, group) in &plan {
            let before = &slots[slot.index()];
            prop_assert!(before.action.state.is_nothing(), "slot {slot} is in a move");
            prop_assert!(before.group_id != i64::from(*group), "slot {slot} stays");
            prop_assert!(weights.contains_key(group));
        }
        for slot in planned.iter().filter(|slot| slot.action.state.is_nothing()) {
            prop_assert!(weights.contains_key(&gid(slot.group_id)), "slot {} is nowhere", slot.id);
        }

        // Moves under way may overfill a group, or one that is to be emptied; then the others lack what is there.
        let overfilled = facts.values().any(|f| f.moving_in > f.ceil)
            || planned.iter().any(|slot| excluded.contains(&gid(holder(slot))));
        for (id, f) in &facts {
            let size = count(&planned, *id);
            prop_assert!(size <= f.ceil.max(f.moving_in), "{id}: {size}");
            prop_assert!(size >= f.floor || overfilled, "{id}: {size}");
            prop_assert!(size >= f.floor.min(f.held), "{id}: {size}");
        }

        // What is above the largest share has to leave; what is missing to the smallest has to come.
        let idle = |f: &Facts| f.held - f.moving_in;
        let above = |f: &Facts, limit: usize| f.held.saturating_sub(limit).min(idle(f));
        let homeless = slots.iter().filter(|slot| {
            slot.action.state.is_nothing() && (slot.group_id == 0 || excluded.contains(&gid(slot.group_id)))
        });
        let homeless = homeless.count();
        let must_leave: usize = facts.values().map(|f| above(f, f.ceil)).sum();
        let can_leave: usize = facts.values().map(|f| above(f, f.floor)).sum();
        let missing: usize = facts.values().map(|f| f.floor.saturating_sub(f.held)).sum();
        let bound = must_leave.max(missing.saturating_sub(homeless).min(can_leave));
        prop_assert_eq!(plan.len(), homeless + bound);

        prop_assert_eq!(rebalance(&planned, &weights, &excluded), BTreeMap::new());
        prop_assert_eq!(rebalance(&pending(&slots, &plan), &weights, &excluded), BTreeMap::new());
    }
}
