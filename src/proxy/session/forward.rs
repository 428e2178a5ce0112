use std::rc::Rc;

use super::{Client, Session, Verdict};
use crate::model::SlotId;
use crate::proxy::backend::Repeat;
use crate::proxy::command::Command;
use crate::proxy::resp::Request;
use crate::proxy::worker::Worker;

/// The slot has no server. The text is Codis'.
pub(super) const NOT_READY: &str = "ERR handle request, slot is not ready, may be offline";
/// The slot's server can't be reached. The text is Codis'.
pub(super) const NO_CONNECTION: &str = "ERR handle response, backend conn reset";
pub(super) const CROSS_SLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";

impl Session {
    /// Sends a request on by the key at `place`.
    pub(super) fn forward_by_key(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &Command,
        request: &Request<'_>,
        place: usize,
    ) -> Verdict {
        self.forward_to(worker, client, command, request, SlotId::of_key(request.arg(place)))
    }

    /// Sends a request on by all its keys, which have to lie in one slot.
    pub(super) fn forward_by_keys(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &Command,
        request: &Request<'_>,
    ) -> Verdict {
        let mut places = std::mem::take(&mut self.places);
        places.clear();
        let found = command
            .keys
            .iter()
            .try_for_each(|spec| spec.places(request, &mut places));
        let verdict = match found {
            Err(error) => self.reject(worker, command.id, &error.to_string()),
            Ok(()) => self.forward_by_places(worker, client, command, request, places.iter().copied()),
        };
        if places.capacity() <= 1024 {
            self.places = places;
        }
        verdict
    }

    /// Sends a request on by the keys at these places, which have to lie in one slot.
    pub(super) fn forward_by_places(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &Command,
        request: &Request<'_>,
        places: impl Iterator<Item = usize>,
    ) -> Verdict {
        let mut slots = places.map(|place| SlotId::of_key(request.arg(place)));
        match slots.next() {
            // Where it has no key (EVAL with none) nobody can tell whose it is.
            None => self.not_allowed(worker, command, " without keys"),
            Some(slot) if slots.all(|other| other == slot) => self.forward_to(worker, client, command, request, slot),
            Some(_) => self.reject(worker, command.id, CROSS_SLOT),
        }
    }

    /// `SORT`: what `STORE`, `BY` and `GET` name has to lie in the key's slot too.
    pub(super) fn forward_sort(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &Command,
        request: &Request<'_>,
    ) -> Verdict {
        match slot_of_sort(request) {
            Ok(slot) => self.forward_to(worker, client, command, request, slot),
            Err(text) => self.reject(worker, command.id, text),
        }
    }

    /// Sends a request on as it came.
    pub(super) fn forward_to(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &Command,
        request: &Request<'_>,
        slot: SlotId,
    ) -> Verdict {
        if let Some(waits) = self.waits_for_reads(command) {
            return waits;
        }
        let bytes = request.raw().len();
        let primary = match self.primary_of(worker, client, command.id, slot, bytes) {
            Ok(primary) => primary,
            Err(verdict) => return verdict,
        };
        let server = self.server_for(worker, command, slot, primary);
        let backend = match self.admitted(worker, client, command.id, &server, bytes) {
            Ok(backend) => backend,
            Err(verdict) => return verdict,
        };
        let ticket = self.ticket(worker, client, command, slot);
        backend.send_repeatable(worker, ticket, Repeat::Refused, |out| {
            out.extend_from_slice(request.raw());
        });
        Verdict::Taken
    }
}

/// The slot that all keys of a `SORT` lie in, or the error that tells that they do not.
pub(super) fn slot_of_sort(request: &Request<'_>) -> Result<SlotId, &'static str> {
    let slot = SlotId::of_key(request.arg(1));
    let mut place = 2;
    while let Some(word) = request.get(place) {
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        let with = request.arg(place + 1);
        if is(b"STORE") && SlotId::of_key(with) != slot {
            return Err(CROSS_SLOT);
        }
        if (is(b"BY") || is(b"GET")) && !lies_in(with, slot) {
            return Err(
                "ERR handle request, a pattern of SORT may name keys of other slots; begin it with the hash tag of the key",
            );
        }
        place += if is(b"LIMIT") {
            3
        } else if is(b"STORE") || is(b"BY") || is(b"GET") {
            2
        } else {
            1
        };
    }
    Ok(slot)
}

/// Whether every key that this pattern of `SORT` can stand for lies in `slot`. A `*` before the hash tag could bring
/// another tag in.
fn lies_in(pattern: &[u8], slot: SlotId) -> bool {
    let Some(star) = memchr::memchr(b'*', pattern) else {
        return true;
    };
    let fixed = &pattern[..star];
    let tagged = memchr::memchr(b'{', fixed).is_some_and(|open| memchr::memchr(b'}', &fixed[open..]).is_some());
    tagged && SlotId::of_key(fixed) == slot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_lie_in_a_slot_only_by_a_tag_before_the_star() {
        let slot = SlotId::of_key(b"a");
        for inside in ["nosort", "#", "{a}w_*", "w{a}_*->f"] {
            assert!(lies_in(inside.as_bytes(), slot), "{inside}");
        }
        for outside in ["w_*", "*{a}", "{b}_*", "{a*}", "{*}"] {
            assert!(!lies_in(outside.as_bytes(), slot), "{outside}");
        }
    }
}
