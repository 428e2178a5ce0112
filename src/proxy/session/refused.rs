use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::merge::Bond;
use crate::model::SlotId;
use crate::proxy::backend::{Repeat, Ticket};
use crate::proxy::worker::{HeldRequest, Outcome};

/// A request, or a part of one, that was not carried out.
#[derive(Debug)]
pub(super) struct Item {
    /// Without its client.
    pub(super) ticket: Ticket,
    /// The slots that it is about.
    pub(super) slots: Vec<SlotId>,
    /// How it is bound to them.
    pub(super) bond: Bond,
    pub(super) request: Vec<u8>,
    pub(super) repeat: Repeat,
    /// What its client is told if it is not sent again.
    pub(super) error: Vec<u8>,
    pub(super) outcome: Outcome,
    /// It was sent again.
    pub(super) under_way: bool,
    /// Counts it among all that is held back.
    pub(super) _held: HeldRequest,
}

impl Item {
    fn is(&self, ticket: &Ticket) -> bool {
        self.ticket.sequence == ticket.sequence && self.ticket.part == ticket.part
    }
}

/// What of a client's requests was not carried out, in the order of the requests on each slot. What to do is decided
/// here; [`super::repeat`] does it.
#[derive(Debug, Default)]
pub(super) struct Refused {
    items: VecDeque<Item>,
    /// Since the last refusal one was carried out, so that the others may be, too.
    carried_out: bool,
}

impl Refused {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many bytes of memory they take.
    pub(super) fn memory(&self) -> usize {
        self.items.iter().map(|item| item.request.len()).sum()
    }

    /// One more.
    pub(super) fn add(&mut self, item: Item) {
        self.carried_out = false;
        self.items.push_back(item);
    }

    /// One that was sent again, and refused again. Whether there is such a one.
    pub(super) fn again(&mut self, ticket: &Ticket, error: &[u8], outcome: Outcome) -> bool {
        let Some(item) = self.items.iter_mut().find(|item| item.is(ticket)) else {
            return false;
        };
        item.under_way = false;
        item.error = error.to_vec();
        item.outcome = outcome;
        self.carried_out = false;
        true
    }

    /// A request was carried out, or may have been: the earlier ones on its slots, which can't be sent any more.
    pub(super) fn carried_out(&mut self, ticket: &Ticket, slots: &[SlotId]) -> Vec<Item> {
        if let Some(place) = self.items.iter().position(|item| item.is(ticket)) {
            self.items.remove(place);
            self.carried_out = true;
        }
        self.take(|item| {
            let earlier = item.ticket.sequence < ticket.sequence;
            earlier && item.bond != Bond::Loose && item.slots.iter().any(|slot| slots.contains(slot))
        })
    }

    /// Those that came too long ago.
    pub(super) fn overdue(&mut self, now: Instant, after: Duration) -> Vec<Item> {
        self.take(|item| now.saturating_duration_since(item.ticket.since) >= after)
    }

    /// Takes out those that are not under way and of which that is true.
    pub(super) fn take(&mut self, mut which: impl FnMut(&Item) -> bool) -> Vec<Item> {
        let (taken, kept) = std::mem::take(&mut self.items)
            .into_iter()
            .partition::<Vec<_>, _>(|item| !item.under_way && which(item));
        self.items = kept.into();
        taken
    }

    /// Those whose turn it is while `at_servers` requests and parts of the client have no answer, these included: none
    /// while the fate of another is open, because it may come behind one of these. The first alone, until one was
    /// carried out: so no later one is before an earlier one is.
    pub(super) fn due(&mut self, at_servers: usize) -> impl Iterator<Item = &mut Item> {
        let open = at_servers > self.items.len() || self.items.iter().any(|item| item.under_way);
        let most = match (open, self.carried_out) {
            (true, _) => 0,
            (false, true) => usize::MAX,
            (false, false) => 1,
        };
        self.items.iter_mut().take(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServerUserKind;
    use crate::proxy::backend::Part;
    use crate::proxy::config::Config;
    use crate::proxy::tls::Tls;
    use crate::proxy::worker::{Settings, Worker};
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::sync::Arc;

    fn slot(number: i64) -> SlotId {
        SlotId::new(number).unwrap()
    }

    fn ticket(sequence: u64, slot: SlotId) -> Ticket {
        Ticket {
            client: None,
            sequence,
            part: Part::Whole(slot),
            command: 0,
            since: Instant::now(),
        }
    }

    /// What became of the requests of one client at servers that refuse as they please.
    #[derive(Default)]
    struct World {
        refused: Refused,
        slots: Vec<SlotId>,
        /// At servers, by slot in order.
        at_servers: HashMap<SlotId, VecDeque<u64>>,
        carried_out: HashMap<SlotId, Vec<u64>>,
        shown: Vec<u64>,
    }

    impl World {
        fn answer(&mut self, worker: &Worker, slot: SlotId, refuses: bool) {
            let Some(sequence) = self.at_servers.get_mut(&slot).and_then(VecDeque::pop_front) else {
                return;
            };
            let ticket = ticket(sequence, slot);
            if !refuses {
                self.carried_out.entry(slot).or_default().push(sequence);
                let shown = self.refused.carried_out(&ticket, &[slot]);
                self.shown.extend(shown.iter().map(|item| item.ticket.sequence));
            } else if !self.refused.again(&ticket, b"-NO", Outcome::Error) {
                self.refused.add(Item {
                    ticket,
                    slots: vec![slot],
                    bond: Bond::Counted,
                    request: Vec::new(),
                    repeat: Repeat::Refused,
                    error: Vec::new(),
                    outcome: Outcome::Error,
                    under_way: false,
                    _held: worker.held.hold(0).unwrap(),
                });
            }
        }

        fn repeat(&mut self) {
            let at_servers = self.at_servers.values().map(VecDeque::len).sum::<usize>()
                + self.refused.items.iter().filter(|item| !item.under_way).count();
            for item in self.refused.due(at_servers) {
                item.under_way = true;
                self.at_servers
                    .entry(item.slots[0])
                    .or_default()
                    .push_back(item.ticket.sequence);
            }
        }
    }

    fn worker() -> Worker {
        let settings = Settings::new(&Config::default(), 1, ServerUserKind::Probe, Tls::default());
        Worker::new(Arc::new(settings))
    }

    #[test]
    fn lone_refused_request_is_sent_again() {
        let (mut world, worker) = (World::default(), worker());
        world.at_servers.entry(slot(1)).or_default().push_back(0);
        for refuses in [true, true, false] {
            world.answer(&worker, slot(1), refuses);
            world.repeat();
        }
        assert_eq!(
            (world.carried_out[&slot(1)].as_slice(), world.shown.len()),
            ([0].as_slice(), 0)
        );
        assert!(world.refused.is_empty());
    }

    #[test]
    fn refused_request_before_one_that_was_carried_out_is_shown() {
        let (mut world, worker) = (World::default(), worker());
        world.at_servers.insert(slot(1), [0, 1].into());
        world.at_servers.insert(slot(2), [2].into());
        world.answer(&worker, slot(1), true);
        world.answer(&worker, slot(2), false);
        assert!(world.shown.is_empty(), "another slot is no reason");
        world.repeat();
        assert_eq!(world.at_servers[&slot(1)], [1], "the second is still open");
        world.answer(&worker, slot(1), false);
        assert_eq!((world.shown.as_slice(), world.refused.items.len()), ([0].as_slice(), 0));
    }

    proptest! {
        #[test]
        fn requests_on_a_slot_are_carried_out_in_their_order_and_each_ends_once(
            slots in proptest::collection::vec(0_i64..3, 1..20),
            steps in proptest::collection::vec((0_i64..4, any::<bool>()), 0..150),
        ) {
            let (mut world, worker) = (World::default(), worker());
            for (sequence, number) in slots.iter().enumerate() {
                world.slots.push(slot(*number));
                world.at_servers.entry(slot(*number)).or_default().push_back(sequence as u64);
            }
            for (number, refuses) in steps {
                if number == 3 { world.repeat() } else { world.answer(&worker, slot(number), refuses) }
            }
            // In the end nothing is refused any more.
            for _ in 0..200 {
                (0..3).for_each(|number| world.answer(&worker, slot(number), false));
                world.repeat();
            }
            prop_assert!(world.refused.is_empty());
            let mut ended = world.shown.clone();
            for sequences in world.carried_out.values() {
                prop_assert!(sequences.is_sorted(), "{sequences:?}");
                ended.extend(sequences);
            }
            ended.sort_unstable();
            prop_assert_eq!(ended, (0..slots.len() as u64).collect::<Vec<_>>());
        }
    }
}
