use crate::model::{GroupId, SLOT_COUNT, SlotId};

/// Which of `groups` (ascending) owns a slot when all of them share the slots evenly in contiguous ranges: with two
/// groups 0 to 511 and 512 to 1023, as a rebalance of a fresh Codis cluster does it. Sizes differ by one at most.
pub fn even_owner(slot: SlotId, groups: &[GroupId]) -> Option<GroupId> {
    groups.get(slot.index() * groups.len() / SLOT_COUNT).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_are_even_contiguous_and_complete(count in 1_usize..=1024) {
            let groups: Vec<GroupId> = (1..=count as i64).map(|id| GroupId::new(id).unwrap()).collect();
            let owners: Vec<GroupId> = SlotId::all().map(|slot| even_owner(slot, &groups).unwrap()).collect();
            prop_assert!(owners.is_sorted());
            for group in groups {
                let share = owners.iter().filter(|owner| **owner == group).count();
                prop_assert!(share == SLOT_COUNT / count || share == SLOT_COUNT.div_ceil(count));
            }
        }
    }

    #[test]
    fn without_groups_nobody_owns_anything() {
        assert_eq!(even_owner(SlotId::new(0).unwrap(), &[]), None);
    }
}
