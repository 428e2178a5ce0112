use std::collections::VecDeque;

use super::merge::Merge;
use crate::proxy::outbox::Outbox;

/// What is aimed at to be under way for one client, in bytes of replies.
const WINDOW_BYTES: usize = 2 << 20;
/// How large a reply is taken to be before any was seen.
const FIRST_GUESS: usize = 64 << 10;
/// Requests that may be under way however large the replies are.
const MIN_WINDOW: usize = 2;

/// The replies that a client waits for, in the order of its requests. A reply whose turn has come goes straight to the
/// outgoing buffer; one that has to wait for an earlier one is held.
#[derive(Debug)]
pub(super) struct Replies {
    /// The sequence number of the first that waits.
    first: u64,
    /// How many were forwarded.
    forwarded: u64,
    waiting: VecDeque<Entry>,
    held: Vec<u8>,
    /// How many bytes of `held` are still to be sent.
    held_live: usize,
    /// How many bytes there are of replies that come in parts and have to wait.
    growing: usize,
    /// How many bytes there are of replies to parts that wait for the other parts.
    merging: usize,
    /// On its way to the client.
    pub(super) out: Outbox,
    /// Whether that ends in the middle of the first reply.
    begun: bool,
    /// What was published since, and waits for that reply's end.
    aside: Vec<u8>,
    /// How large replies are: follows a larger one at once, smaller ones slowly.
    size: usize,
}

#[derive(Debug)]
enum Entry {
    Waiting,
    Held {
        start: usize,
        len: usize,
    },
    Merging(Box<Merge>),
    /// It comes in parts, and its turn has not.
    Growing(Box<Growing>),
}

/// What came of a reply.
#[derive(Debug)]
struct Growing {
    bytes: Vec<u8>,
    whole: bool,
}

impl Default for Replies {
    fn default() -> Self {
        Self {
            first: 0,
            forwarded: 0,
            waiting: VecDeque::new(),
            held: Vec::new(),
            held_live: 0,
            growing: 0,
            merging: 0,
            out: Outbox::default(),
            begun: false,
            aside: Vec::new(),
            size: FIRST_GUESS,
        }
    }
}

impl Replies {
    /// How many requests are under way.
    pub(super) fn under_way(&self) -> usize {
        self.waiting.len()
    }

    /// How many requests and parts of requests were given to servers and not answered.
    pub(super) fn at_servers(&self) -> usize {
        let count = |entry: &Entry| match entry {
            Entry::Waiting => 1,
            Entry::Held { .. } => 0,
            Entry::Growing(growing) => usize::from(!growing.whole),
            Entry::Merging(merge) => merge.missing(),
        };
        self.waiting.iter().map(count).sum()
    }

    /// Bytes that the client has not taken.
    pub(super) fn backlog(&self) -> usize {
        self.out.len() + self.held_live + self.growing + self.aside.len()
    }

    /// How many requests may be under way now, `most` at most: fewer while replies are large, so that a client that
    /// asks faster than it reads does not fill the memory.
    pub(super) fn window(&self, most: usize) -> usize {
        (WINDOW_BYTES / self.size.max(1)).max(MIN_WINDOW).min(most)
    }

    /// How many requests were forwarded so far.
    pub(super) fn forwarded(&self) -> u64 {
        self.forwarded
    }

    /// A request was forwarded: its sequence number.
    pub(super) fn expect(&mut self) -> u64 {
        self.forwarded += 1;
        self.waiting.push_back(Entry::Waiting);
        self.first + self.waiting.len() as u64 - 1
    }

    /// A request was split: its sequence number.
    pub(super) fn expect_merge(&mut self, merge: Box<Merge>) -> u64 {
        self.forwarded += 1;
        self.waiting.push_back(Entry::Merging(merge));
        self.first + self.waiting.len() as u64 - 1
    }

    /// A reply of the proxy's own, behind all that are due.
    pub(super) fn answer(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.waiting.is_empty() {
            self.out.put_by(write);
        } else {
            let start = self.held.len();
            write(&mut self.held);
            let len = self.held.len() - start;
            self.held_live += len;
            self.waiting.push_back(Entry::Held { start, len });
        }
    }

    /// The reply to request `sequence` came.
    pub(super) fn complete(&mut self, sequence: u64, reply: &[u8]) {
        // Errors say nothing of how large replies are.
        if reply.first() != Some(&b'-') {
            self.size = reply.len().max((self.size * 15 + reply.len()) / 16);
        }
        let place = sequence.wrapping_sub(self.first) as usize;
        if place == 0 && !self.waiting.is_empty() {
            self.out.put(reply);
            self.waiting.pop_front();
            self.first += 1;
            self.end_first();
            self.release();
        } else if let Some(entry) = self.waiting.get_mut(place) {
            if let Entry::Growing(growing) = entry {
                growing.bytes.extend_from_slice(reply);
                growing.whole = true;
                self.growing += reply.len();
                return;
            }
            let start = self.held.len();
            self.held.extend_from_slice(reply);
            self.held_live += reply.len();
            *entry = Entry::Held {
                start,
                len: reply.len(),
            };
        }
    }

    /// Something that answers no request, in two pieces: it goes between replies.
    pub(super) fn push(&mut self, pieces: [&[u8]; 2]) {
        for piece in pieces {
            if self.begun {
                self.aside.extend_from_slice(piece);
            } else {
                self.out.put(piece);
            }
        }
    }

    /// The first reply was there as a whole: what waited for its end follows.
    fn end_first(&mut self) {
        if std::mem::take(&mut self.begun) {
            self.out.put(&std::mem::take(&mut self.aside));
        }
    }

    /// A part of the reply to request `sequence` came, which is not its end.
    pub(super) fn pass(&mut self, sequence: u64, bytes: &[u8]) {
        // Whoever gets such a reply asks for few more before it took it.
        self.size = WINDOW_BYTES;
        let place = sequence.wrapping_sub(self.first) as usize;
        if place == 0 && !self.waiting.is_empty() {
            self.out.put(bytes);
            self.begun = true;
        } else if let Some(entry) = self.waiting.get_mut(place) {
            self.growing += bytes.len();
            match entry {
                Entry::Growing(growing) => growing.bytes.extend_from_slice(bytes),
                _ => {
                    *entry = Entry::Growing(Box::new(Growing {
                        bytes: bytes.to_vec(),
                        whole: false,
                    }));
                }
            }
        }
    }

    /// Takes parts of the reply to request `sequence` back: whether its client got none of them, so that it may be told
    /// something else.
    pub(super) fn take_back(&mut self, sequence: u64) -> bool {
        let place = sequence.wrapping_sub(self.first) as usize;
        match self.waiting.get_mut(place) {
            Some(entry) if place > 0 => {
                if let Entry::Growing(growing) = entry {
                    self.growing -= growing.bytes.len();
                }
                *entry = Entry::Waiting;
                true
            }
            _ => false,
        }
    }

    /// How many bytes of memory they take.
    pub(super) fn memory(&self) -> usize {
        let held = self.held.capacity() + self.growing + self.merging;
        held + self.out.memory() + self.aside.capacity() + self.waiting.capacity() * size_of::<Entry>()
    }

    /// The client takes nothing any more.
    pub(super) fn drop_all(&mut self) {
        if self.held_live + self.growing + self.merging > 0 {
            for entry in &mut self.waiting {
                match entry {
                    Entry::Waiting => {}
                    Entry::Held { start, len } => (*start, *len) = (0, 0),
                    Entry::Merging(merge) => merge.forget(),
                    Entry::Growing(growing) => growing.bytes = Vec::new(),
                }
            }
            (self.held_live, self.growing, self.merging) = (0, 0, 0);
        }
        self.held = Vec::new();
        self.aside = Vec::new();
        self.out.clear();
    }

    /// Gives back what is empty.
    pub(super) fn give_back(&mut self) {
        if self.held_live == 0 {
            self.held = Vec::new();
        }
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        if self.out.is_empty() {
            self.out.clear();
        }
    }

    /// The reply to a part of a split request came, of so many bytes.
    pub(super) fn part_came(&mut self, bytes: usize) {
        self.merging += bytes;
    }

    /// The replies to all parts of a split request, of so many bytes, became one.
    pub(super) fn are_merged(&mut self, bytes: usize) {
        self.merging -= bytes;
    }

    /// The state of the split request `sequence`.
    pub(super) fn merge(&mut self, sequence: u64) -> Option<&mut Merge> {
        let place = sequence.wrapping_sub(self.first) as usize;
        match self.waiting.get_mut(place) {
            Some(Entry::Merging(merge)) => Some(merge),
            _ => None,
        }
    }

    /// Sends on what was held and has nothing to wait for any more.
    fn release(&mut self) {
        while let Some(entry) = self.waiting.front_mut() {
            match entry {
                Entry::Held { start, len } => {
                    self.out.put(&self.held[*start..*start + *len]);
                    self.held_live -= *len;
                }
                Entry::Growing(growing) => {
                    self.out.put(&growing.bytes);
                    self.growing -= growing.bytes.len();
                    if !growing.whole {
                        self.begun = true;
                        *entry = Entry::Waiting;
                        break;
                    }
                }
                Entry::Waiting | Entry::Merging(_) => break,
            }
            self.waiting.pop_front();
            self.first += 1;
        }
        if self.held_live == 0 {
            if self.held.capacity() > 64 << 10 {
                self.held = Vec::new()
            } else {
                self.held.clear()
            }
        } else if self.held.len() > 64 << 10 && self.held_live < self.held.len() / 2 {
            self.compact();
        }
        if self.waiting.is_empty() && self.waiting.capacity() > 1024 {
            self.waiting = VecDeque::new();
        }
    }

    fn compact(&mut self) {
        let mut kept = Vec::with_capacity(self.held_live);
        for entry in &mut self.waiting {
            if let Entry::Held { start, len } = entry {
                let from = *start;
                *start = kept.len();
                kept.extend_from_slice(&self.held[from..from + *len]);
            }
        }
        self.held = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn replies_of_large_values_narrow_the_window() {
        let mut replies = Replies::default();
        let mut answer = |size: usize| {
            let sequence = replies.expect();
            replies.complete(sequence, &vec![b'x'; size]);
            replies.window(1000)
        };
        assert_eq!(answer(10), 34);
        assert_eq!((0..100).map(|_| answer(10)).last(), Some(1000));
        assert_eq!(answer(1 << 20), MIN_WINDOW);
    }

    #[test]
    fn errors_do_not_widen_the_window() {
        let mut replies = Replies::default();
        let mut answer = |reply: &[u8]| {
            let sequence = replies.expect();
            replies.complete(sequence, reply);
            replies.window(1000)
        };
        assert_eq!(answer(&vec![b'x'; 1 << 20]), MIN_WINDOW);
        assert_eq!((0..100).map(|_| answer(b"-ERR\r\n")).last(), Some(MIN_WINDOW));
    }

    #[test]
    fn parts_are_taken_back_only_while_the_client_has_seen_none() {
        let mut replies = Replies::default();
        let (first, second) = (replies.expect(), replies.expect());
        replies.pass(second, b"$9\r\nbeg");
        assert_eq!((replies.backlog(), replies.at_servers()), (7, 2));
        assert!(replies.take_back(second));
        replies.pass(first, b"$9\r\n");
        assert!(!replies.take_back(first));
        replies.complete(second, b"-ERR\r\n");
        replies.complete(first, b"123456789\r\n");
        assert_eq!(replies.out.bytes(), b"$9\r\n123456789\r\n-ERR\r\n");
        replies.drop_all();
        assert_eq!((replies.backlog(), replies.under_way()), (0, 0));
    }

    #[test]
    fn what_is_published_does_not_come_in_the_middle_of_a_reply() {
        let mut replies = Replies::default();
        let publish = |replies: &mut Replies| replies.push([b">", b"m"]);
        let (first, second) = (replies.expect(), replies.expect());
        publish(&mut replies);
        replies.pass(first, b"$2\r\n");
        publish(&mut replies);
        replies.pass(second, b"$3\r\n");
        replies.complete(first, b"ab\r\n");
        publish(&mut replies);
        assert_eq!(replies.out.bytes(), b">m$2\r\nab\r\n>m$3\r\n");
        replies.complete(second, b"abc\r\n");
        publish(&mut replies);
        assert_eq!(replies.out.bytes(), b">m$2\r\nab\r\n>m$3\r\nabc\r\n>m>m");
        assert_eq!(replies.backlog(), replies.out.len());
    }

    proptest! {
        #[test]
        fn replies_leave_in_the_order_of_requests(
            steps in proptest::collection::vec((0_u8..4, any::<prop::sample::Index>(), 0_usize..9000), 1..120),
        ) {
            let mut replies = Replies::default();
            let (mut open, mut want, mut texts) = (Vec::new(), Vec::new(), Vec::new());
            for (kind, pick, len) in steps {
                match kind {
                    0 => {
                        let sequence = replies.expect();
                        open.push((sequence, texts.len(), 0));
                        texts.push(format!("[{}]", "r".repeat(len) + &texts.len().to_string()));
                    }
                    1 => {
                        let text = format!("<{}>", texts.len());
                        replies.answer(|out| out.extend_from_slice(text.as_bytes()));
                        texts.push(text);
                    }
                    2 if !open.is_empty() => {
                        let (sequence, text, passed) = open.swap_remove(pick.index(open.len()));
                        replies.complete(sequence, &texts[text].as_bytes()[passed..]);
                    }
                    3 if !open.is_empty() => {
                        let place = pick.index(open.len());
                        let (sequence, text, passed) = &mut open[place];
                        let end = (*passed + len / 9).min(texts[*text].len());
                        replies.pass(*sequence, &texts[*text].as_bytes()[*passed..end]);
                        *passed = end;
                    }
                    _ => {}
                }
            }
            for (sequence, text, passed) in open.drain(..).rev() {
                replies.complete(sequence, &texts[text].as_bytes()[passed..]);
            }
            want.extend(texts.concat().into_bytes());
            prop_assert_eq!(replies.under_way(), 0);
            prop_assert_eq!(replies.out.bytes(), want);
            prop_assert!(replies.held.is_empty() && replies.held_live == 0 && replies.growing == 0);
        }
    }
}
