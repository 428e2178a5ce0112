use std::collections::BTreeSet;
use std::time::Instant;

use rand::seq::IteratorRandom;

use crate::proxy::command::{CommandId, ScanCursor, ScanPlace, Split};
use crate::proxy::resp::{bulk, decimal, elements, integer, put_array, put_bulk, put_error, put_integer, put_simple};

/// A split request whose parts are under way.
#[derive(Debug)]
pub(super) struct Merge {
    kind: Split,
    /// For the error texts and the figures.
    pub(super) command: CommandId,
    pub(super) since: Instant,
    name: &'static str,
    parts: Vec<Part>,
    missing: usize,
    failed: bool,
    /// How many bytes the parts' replies have.
    bytes: usize,
    /// For `MGET`: for each key its part and its place in that part.
    places: Vec<(u32, u32)>,
    bond: Bond,
}

/// How a split request is bound to the slots that its parts are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bond {
    /// They count its parts among what is under way to them, so that changes of the map wait for these.
    Counted,
    /// Not so, but it keeps its place among its client's other requests on them.
    Ordered,
    /// Nor that: it is not about their keys.
    Loose,
}

#[derive(Debug, Default)]
struct Part {
    /// What it is about, while it is under way.
    slots: Vec<u16>,
    reply: Vec<u8>,
}

impl Merge {
    /// A request split into one part for each item of `slots`, which holds the slots that the part is about. `places` tells
    /// for each key its part and its place there.
    pub(super) fn new(
        kind: Split,
        name: &'static str,
        command: CommandId,
        since: Instant,
        slots: Vec<Vec<u16>>,
        places: Vec<(u32, u32)>,
    ) -> Self {
        let missing = slots.len();
        let parts = slots
            .into_iter()
            .map(|slots| Part {
                slots,
                reply: Vec::new(),
            })
            .collect();
        Self {
            kind,
            command,
            since,
            name,
            parts,
            missing,
            failed: false,
            bytes: 0,
            places,
            bond: Bond::Counted,
        }
    }

    /// The same, bound so.
    pub(super) fn bound(self, bond: Bond) -> Self {
        Self { bond, ..self }
    }

    /// How it is bound.
    pub(super) fn bond(&self) -> Bond {
        self.bond
    }

    /// The reply to a part came, or (`failed`) the proxy's own error instead. The slots that counted it as under way, and
    /// whether it was the last.
    pub(super) fn complete(&mut self, part: u32, reply: &[u8], failed: bool) -> (Vec<u16>, bool) {
        self.failed |= failed;
        let Some(part) = self.parts.get_mut(part as usize) else {
            return (Vec::new(), false);
        };
        part.reply = reply.to_vec();
        self.bytes += reply.len();
        self.missing = self.missing.saturating_sub(1);
        let slots = std::mem::take(&mut part.slots);
        let counted = self.bond == Bond::Counted;
        (if counted { slots } else { Vec::new() }, self.missing == 0)
    }

    /// How many bytes the replies to parts have that came.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Nobody wants the reply any more.
    pub(super) fn forget(&mut self) {
        self.parts.iter_mut().for_each(|part| part.reply = Vec::new());
        self.bytes = 0;
    }

    /// The slots that a part is about; none while it is not under way.
    pub(super) fn slots(&mut self, part: u32) -> Option<&mut Vec<u16>> {
        self.parts.get_mut(part as usize).map(|part| &mut part.slots)
    }

    /// How many parts were not answered.
    pub(super) fn missing(&self) -> usize {
        self.missing
    }

    /// Whether a part found no answer.
    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    /// The reply as one. An error of any part is the error of all: nobody could tell which keys it meant.
    pub(super) fn reply(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(error) = self
            .parts
            .iter()
            .find(|part| matches!(part.reply.first(), Some(b'-' | b'!')))
        {
            out.extend_from_slice(&error.reply);
            return out;
        }
        let merged = match self.kind {
            Split::Mget => self.values(&mut out),
            Split::Mset => {
                put_simple(&mut out, "OK");
                Some(())
            }
            Split::Count => self
                .parts
                .iter()
                .map(|part| integer(&part.reply))
                .sum::<Option<i64>>()
                .map(|sum| put_integer(&mut out, sum)),
            Split::Join => self.joined(&mut out),
            Split::Any => self.any(&mut out),
            Split::Every => self.every(&mut out),
            Split::Same => self.parts.first().map(|part| out.extend_from_slice(&part.reply)),
            Split::Union => self.union(&mut out),
            Split::Largest => self
                .parts
                .iter()
                .try_fold(0, |largest, part| Some(integer(&part.reply)?.max(largest)))
                .map(|largest| put_integer(&mut out, largest)),
            Split::Sums => self.sums(&mut out),
            Split::Scan { here, next } => self.scanned(&mut out, here, next),
        };
        if merged.is_none() {
            out.clear();
            put_error(
                &mut out,
                &format!(
                    "ERR handle response, bad {} resp: a server's reply has an unexpected form",
                    self.name
                ),
            );
        }
        out
    }

    fn arrays(&self) -> Option<Vec<Vec<&[u8]>>> {
        let parts = self.parts.iter();
        parts.map(|part| elements(&part.reply).map(Iterator::collect)).collect()
    }

    fn joined(&self, out: &mut Vec<u8>) -> Option<()> {
        let parts = self.arrays()?;
        put_array(out, parts.iter().map(Vec::len).sum());
        parts
            .iter()
            .flatten()
            .for_each(|element| out.extend_from_slice(element));
        Some(())
    }

    fn any(&self, out: &mut Vec<u8>) -> Option<()> {
        let there = self
            .parts
            .iter()
            .filter(|part| !matches!(part.reply.as_slice(), b"$-1\r\n" | b"_\r\n"));
        let chosen = there.choose(&mut rand::rng()).or(self.parts.first())?;
        out.extend_from_slice(&chosen.reply);
        Some(())
    }

    fn every(&self, out: &mut Vec<u8>) -> Option<()> {
        let parts = self.arrays()?;
        let len = parts.first()?.len();
        put_array(out, len);
        for place in 0..len {
            let all = parts
                .iter()
                .map(|part| part.get(place).and_then(|element| integer(element)))
                .try_fold(true, |all, one| Some(all & (one? == 1)))?;
            put_integer(out, all.into());
        }
        Some(())
    }

    fn union(&self, out: &mut Vec<u8>) -> Option<()> {
        let all: BTreeSet<&[u8]> = self.arrays()?.into_iter().flatten().collect();
        put_array(out, all.len());
        all.iter().for_each(|element| out.extend_from_slice(element));
        Some(())
    }

    fn sums(&self, out: &mut Vec<u8>) -> Option<()> {
        let parts = self.arrays()?;
        let first = parts.first()?;
        put_array(out, first.len());
        for (place, name) in first.iter().enumerate().step_by(2) {
            let numbers = parts.iter().map(|part| integer(part.get(place + 1)?));
            out.extend_from_slice(name);
            put_integer(out, numbers.sum::<Option<i64>>()?);
        }
        Some(())
    }

    fn scanned(&self, out: &mut Vec<u8>, here: ScanPlace, next: Option<ScanPlace>) -> Option<()> {
        let reply = &self.parts.first()?.reply;
        let mut elements = elements(reply)?;
        let (cursor, keys) = (bulk(elements.next()?)?, elements.next()?);
        let cursor = decimal(cursor).and_then(|cursor| u64::try_from(cursor).ok())?;
        let number = match (cursor, next) {
            (0, None) => 0,
            (0, Some(place)) => ScanCursor { place, cursor }.number()?,
            _ => ScanCursor { place: here, cursor }.number()?,
        };
        put_array(out, 2);
        put_bulk(out, number.to_string().as_bytes());
        out.extend_from_slice(keys);
        Some(())
    }

    fn values(&self, out: &mut Vec<u8>) -> Option<()> {
        let parts = self.arrays()?;
        put_array(out, self.places.len());
        for (part, place) in &self.places {
            out.extend_from_slice(parts.get(*part as usize)?.get(*place as usize)?);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(kind: Split, places: Vec<(u32, u32)>, replies: &[&str]) -> String {
        let slots = replies.iter().map(|_| vec![1]).collect();
        let mut merge = Merge::new(kind, "mget", 0, Instant::now(), slots, places);
        for (part, reply) in replies.iter().enumerate().rev() {
            let (slots, last) = merge.complete(part as u32, reply.as_bytes(), false);
            assert_eq!((slots, last), (vec![1], part == 0));
        }
        String::from_utf8(merge.reply()).unwrap()
    }

    #[test]
    fn slots_that_did_not_count_a_part_do_not_hear_of_its_end() {
        let merge = || Merge::new(Split::Count, "dbsize", 0, Instant::now(), vec![vec![1, 2]], Vec::new());
        assert_eq!(merge().complete(0, b":1\r\n", false), (vec![1, 2], true));
        let mut uncounted = merge().bound(Bond::Ordered);
        assert_eq!(uncounted.slots(0), Some(&mut vec![1, 2]));
        assert_eq!(uncounted.complete(0, b":1\r\n", false), (Vec::new(), true));
    }

    #[test]
    fn values_come_in_the_order_of_the_keys() {
        let reply = merged(
            Split::Mget,
            vec![(0, 0), (1, 0), (0, 1)],
            &["*2\r\n$1\r\na\r\n_\r\n", "*1\r\n$-1\r\n"],
        );
        assert_eq!(reply, "*3\r\n$1\r\na\r\n$-1\r\n_\r\n");
    }

    #[test]
    fn counts_are_summed() {
        assert_eq!(merged(Split::Count, vec![], &[":2\r\n", ":0\r\n", ":3\r\n"]), ":5\r\n");
        assert_eq!(merged(Split::Mset, vec![], &["+OK\r\n", "+OK\r\n"]), "+OK\r\n");
    }

    #[test]
    fn an_error_of_a_part_is_the_error_of_all() {
        for kind in [Split::Mget, Split::Mset, Split::Count] {
            assert_eq!(
                merged(kind, vec![(0, 0)], &["*1\r\n:1\r\n", "-LOADING wait\r\n"]),
                "-LOADING wait\r\n"
            );
        }
    }

    #[test]
    fn replies_of_all_servers_become_one() {
        let all = |kind, replies| merged(kind, vec![], replies);
        assert_eq!(
            all(Split::Join, &["*1\r\n:1\r\n", "*0\r\n", "*1\r\n:2\r\n"]),
            "*2\r\n:1\r\n:2\r\n"
        );
        assert_eq!(all(Split::Any, &["$-1\r\n", "$1\r\na\r\n", "$-1\r\n"]), "$1\r\na\r\n");
        assert_eq!(all(Split::Any, &["_\r\n", "_\r\n"]), "_\r\n");
        let every = all(Split::Every, &["*2\r\n:1\r\n:1\r\n", "*2\r\n:1\r\n:0\r\n"]);
        assert_eq!(every, "*2\r\n:1\r\n:0\r\n");
        assert_eq!(all(Split::Same, &["+OK\r\n", "+OK\r\n"]), "+OK\r\n");
        assert_eq!(all(Split::Same, &["+OK\r\n", "-ERR no\r\n"]), "-ERR no\r\n");
        let names = ["*2\r\n$1\r\na\r\n$1\r\nb\r\n", "*0\r\n", "*1\r\n$1\r\na\r\n"];
        assert_eq!(all(Split::Union, &names), names[0]);
        assert_eq!(all(Split::Largest, &[":1\r\n", ":3\r\n", ":2\r\n"]), ":3\r\n");
        assert_eq!(
            all(Split::Sums, &["*2\r\n$1\r\na\r\n:1\r\n", "*2\r\n$1\r\na\r\n:2\r\n"]),
            "*2\r\n$1\r\na\r\n:3\r\n"
        );
        assert_eq!(all(Split::Sums, &["*0\r\n", "*0\r\n"]), "*0\r\n");
        let places = ScanPlace::all([1, 2]);
        let scan = |next| Split::Scan { here: places[0], next };
        let reply = ["*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n"];
        assert_eq!(all(scan(None), &reply), reply[0]);
        assert!(all(scan(Some(places[1])), &reply).starts_with("*2\r\n$3\r\n128\r\n*1"));
        assert!(all(scan(None), &["*2\r\n$1\r\n7\r\n*0\r\n"]).starts_with("*2\r\n$7\r\n7340096\r\n"));
    }

    #[test]
    fn replies_of_an_unexpected_form_are_an_error() {
        assert!(
            merged(Split::Mget, vec![(0, 0), (0, 1)], &["*1\r\n:1\r\n"])
                .starts_with("-ERR handle response, bad mget resp")
        );
        for kind in [Split::Count, Split::Largest, Split::Union, Split::Sums] {
            assert!(merged(kind, vec![], &["+OK\r\n"]).starts_with("-ERR handle response"));
        }
    }
}
