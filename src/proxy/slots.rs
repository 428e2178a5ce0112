//! Which pushes of the slot map are taken: the one place that all of them pass before any worker hears of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::{HostPort, SLOT_COUNT, Slot, SlotId};

/// Why a push is refused. Nothing of it was taken then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PushError {
    /// As Codis.
    #[error("use of invalid slot id")]
    BadSlot,
    /// As Codis.
    #[error("use of invalid forwarder method")]
    BadMethod,
    /// Which state would be meant nobody knows.
    #[error("slot-[{0}] is given twice in one push")]
    Twice(SlotId),
    /// Serving it would go wrong.
    #[error(
        "slot-[{slot}] moves from {from}: this codis-proxy can't serve slots that move yet, so they must not be moved"
    )]
    Moving {
        /// The slot.
        slot: SlotId,
        /// Where its keys come from.
        from: HostPort,
    },
    /// A later state of the store is known already.
    #[error("slot-[{slot}] has epoch {held}, the push has the older {given}")]
    Older {
        /// The slot.
        slot: SlotId,
        /// What the proxy has.
        held: i64,
        /// What was pushed.
        given: i64,
    },
    /// Two states with one epoch: whoever pushed has lost count.
    #[error("slot-[{slot}] differs from what was pushed before with the same epoch {epoch}")]
    SameEpoch {
        /// The slot.
        slot: SlotId,
        /// Both states' epoch.
        epoch: i64,
    },
    /// A Codis dashboard's push after one of ours.
    #[error(
        "slot-[{slot}] is pushed without epoch, but others were pushed with one: two dashboards push to this proxy"
    )]
    NoEpoch {
        /// The slot.
        slot: SlotId,
    },
}

/// How many slots are how to clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SlotCounts {
    /// Served.
    pub(crate) open: usize,
    /// Held.
    pub(crate) locked: usize,
    /// Without a server.
    pub(crate) offline: usize,
}

impl SlotCounts {
    /// Counts slots, given for each whether it has a server, and whether it is locked.
    pub(super) fn of(slots: impl Iterator<Item = (bool, bool)>) -> Self {
        let mut counts = Self::default();
        for slot in slots {
            match slot {
                (false, _) => counts.offline += 1,
                (true, true) => counts.locked += 1,
                (true, false) => counts.open += 1,
            }
        }
        counts
    }
}

/// The slot map as it was pushed.
#[derive(Debug)]
pub(crate) struct SlotMap {
    slots: Vec<Slot>,
    filled: Vec<bool>,
    saw_epoch: bool,
}

/// The slot map that all threads look at. Workers have their own routes: here they look only to tell of it.
#[derive(Debug, Default)]
pub(in crate::proxy) struct SharedMap(Mutex<SlotMap>);

impl SharedMap {
    /// The map; nobody else looks at it or changes it meanwhile.
    pub(in crate::proxy) fn lock(&self) -> MutexGuard<'_, SlotMap> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for SlotMap {
    fn default() -> Self {
        Self {
            slots: SlotId::all().map(Slot::offline).collect(),
            filled: vec![false; SLOT_COUNT],
            saw_epoch: false,
        }
    }
}

impl SlotMap {
    /// All slots.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// How many are how.
    pub(super) fn counts(&self) -> SlotCounts {
        SlotCounts::of(self.slots.iter().map(|slot| (slot.backend_addr.is_some(), slot.locked)))
    }

    /// How many slots were never pushed.
    pub(crate) fn missing(&self) -> usize {
        self.filled.iter().filter(|filled| !**filled).count()
    }

    /// Takes all of a push, or nothing of it.
    ///
    /// # Errors
    /// See [`PushError`].
    pub(crate) fn push(&mut self, pushed: &[Slot]) -> Result<(), PushError> {
        let mut given = vec![false; SLOT_COUNT];
        for slot in pushed {
            if std::mem::replace(&mut given[slot.id.index()], true) {
                return Err(PushError::Twice(slot.id));
            }
            self.check(slot)?;
        }
        for slot in pushed {
            self.saw_epoch |= slot.epoch > 0;
            self.filled[slot.id.index()] = true;
            self.slots[slot.id.index()] = slot.clone();
        }
        Ok(())
    }

    fn check(&self, slot: &Slot) -> Result<(), PushError> {
        let id = slot.id;
        if slot.method().is_none() {
            return Err(PushError::BadMethod);
        }
        if let Some(from) = &slot.migrate_from {
            return Err(PushError::Moving {
                slot: id,
                from: from.clone(),
            });
        }
        let held = &self.slots[id.index()];
        match slot.epoch {
            0 if self.saw_epoch => Err(PushError::NoEpoch { slot: id }),
            0 => Ok(()),
            given if given < held.epoch => Err(PushError::Older {
                slot: id,
                held: held.epoch,
                given,
            }),
            given if given > held.epoch => Ok(()),
            // A lock that is lifted has a newer epoch than the lock: a late push can do neither.
            epoch if !slot.routes_as(held) => Err(PushError::SameEpoch { slot: id, epoch }),
            _ => Ok(()),
        }
    }
}

/// Reads a push.
///
/// # Errors
/// When it is not an array of slots. Codis' texts where it has one.
pub(super) fn read_push(body: &[u8]) -> Result<Vec<Slot>, String> {
    let array: Vec<serde_json::Value> =
        serde_json::from_slice(body).map_err(|error| format!("the body is not a JSON array of slots: {error}"))?;
    let mut slots = Vec::with_capacity(array.len());
    for (place, value) in array.into_iter().enumerate() {
        if value
            .get("id")
            .and_then(serde_json::Value::as_i64)
            .is_none_or(|id| SlotId::new(id).is_err())
        {
            return Err(format!(
                "{}: element {place} has id {}",
                PushError::BadSlot,
                value.get("id").unwrap_or(&serde_json::Value::Null)
            ));
        }
        let slot: Slot =
            serde_json::from_value(value).map_err(|error| format!("element {place} is not a slot: {error}"))?;
        if slot.epoch < 0 {
            return Err(format!("slot-[{}] has the negative epoch {}", slot.id, slot.epoch));
        }
        slots.push(slot);
    }
    Ok(slots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slot(id: i64, addr: &str, epoch: i64) -> Slot {
        Slot {
            backend_addr: Some(addr.parse().unwrap()),
            epoch,
            ..Slot::offline(SlotId::new(id).unwrap())
        }
    }

    #[test]
    fn older_epoch_is_refused_and_nothing_of_the_push_taken() {
        let mut map = SlotMap::default();
        map.push(&[slot(1, "a:1", 7), slot(2, "a:1", 7)]).unwrap();
        let error = map.push(&[slot(1, "b:1", 9), slot(2, "b:1", 6)]).unwrap_err();
        assert_eq!(
            error,
            PushError::Older {
                slot: SlotId::new(2).unwrap(),
                held: 7,
                given: 6
            }
        );
        assert_eq!(map.slots()[1], slot(1, "a:1", 7));
        map.push(&[slot(1, "b:1", 8)]).unwrap();
        assert_eq!(map.slots()[1], slot(1, "b:1", 8));
    }

    #[test]
    fn same_epoch_changes_nothing() {
        let mut map = SlotMap::default();
        map.push(&[slot(1, "a:1", 7)]).unwrap();
        map.push(&[slot(1, "a:1", 7)]).unwrap();
        let locked = |epoch| Slot {
            locked: true,
            ..slot(1, "a:1", epoch)
        };
        // A dashboard that learned to tell more does not contradict itself.
        map.push(&[Slot {
            prepared: vec!["a:1".parse().unwrap()],
            ..slot(1, "a:1", 7)
        }])
        .unwrap();
        for other in [slot(1, "b:1", 7), locked(7)] {
            assert!(matches!(map.push(&[other]), Err(PushError::SameEpoch { epoch: 7, .. })));
        }
        map.push(&[locked(8)]).unwrap();
        assert!(map.push(&[slot(1, "a:1", 8)]).is_err() && map.slots()[1].locked);
    }

    #[test]
    fn pushes_without_epoch_are_taken_until_one_with_an_epoch_came() {
        let mut map = SlotMap::default();
        map.push(&[slot(1, "a:1", 0)]).unwrap();
        map.push(&[slot(1, "b:1", 0)]).unwrap();
        map.push(&[slot(2, "b:1", 3)]).unwrap();
        assert!(matches!(map.push(&[slot(1, "a:1", 0)]), Err(PushError::NoEpoch { .. })));
    }

    #[test]
    fn moving_slots_unknown_methods_and_repeated_slots_are_refused() {
        let mut map = SlotMap::default();
        let moving = Slot {
            migrate_from: Some("a:1".parse().unwrap()),
            ..slot(1, "b:1", 1)
        };
        assert!(matches!(map.push(&[moving]), Err(PushError::Moving { .. })));
        assert_eq!(
            map.push(&[Slot {
                forward_method: 2,
                ..slot(1, "b:1", 1)
            }]),
            Err(PushError::BadMethod)
        );
        assert!(matches!(
            map.push(&[slot(1, "b:1", 1), slot(1, "c:1", 1)]),
            Err(PushError::Twice(_))
        ));
        assert_eq!(map.missing(), SLOT_COUNT);
    }

    #[test]
    fn bodies_that_are_no_slots_are_refused_by_name() {
        for (body, text) in [
            ("", "not a JSON array"),
            ("{}", "not a JSON array"),
            ("[null]", "use of invalid slot id: element 0"),
            (r#"[{"id":1024}]"#, "use of invalid slot id: element 0 has id 1024"),
            (r#"[{"id":"5"}]"#, "use of invalid slot id"),
            (r#"[{"id":5,"backend_addr":"x"}]"#, "there is no port"),
            (r#"[{"id":5,"locked":1}]"#, "element 0 is not a slot"),
            (r#"[{"id":5,"epoch":-1}]"#, "negative epoch"),
        ] {
            let error = read_push(body.as_bytes()).unwrap_err();
            assert!(error.contains(text), "{body}: {error}");
        }
        assert_eq!(
            read_push(br#"[{"id":5,"backend_addr":"a:1","epoch":3}]"#).unwrap(),
            [slot(5, "a:1", 3)]
        );
    }

    proptest! {
        #[test]
        fn epochs_never_go_back(pushes in proptest::collection::vec((0_i64..3, 0_i64..4, 0_usize..3, any::<bool>()), 0..40)) {
            let mut map = SlotMap::default();
            for (id, epoch, addr, locked) in pushes {
                let before = map.slots()[id as usize].epoch;
                let _ = map.push(&[Slot { locked, ..slot(id, ["a:1", "b:1", "c:1"][addr], epoch) }]);
                prop_assert!(map.slots()[id as usize].epoch >= before);
            }
        }
    }
}
