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
    waiting: VecDeque<Entry>,
    held: Vec<u8>,
    /// How many bytes of `held` are still to be sent.
    held_live: usize,
    /// On its way to the client.
    pub(super) out: Outbox,
    /// How large replies are: follows a larger one at once, smaller ones slowly.
    size: usize,
}

#[derive(Debug)]
enum Entry {
    Waiting,
    Held { start: usize, len: usize },
    Merging(Box<Merge>),
}

impl Default for Replies {
    fn default() -> Self {
        Self {
            first: 0,
            waiting: VecDeque::new(),
            held: Vec::new(),
            held_live: 0,
            out: Outbox::default(),
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
            Entry::Merging(merge) => merge.missing(),
        };
        self.waiting.iter().map(count).sum()
    }

    /// Bytes that the client has not taken.
    pub(super) fn backlog(&self) -> usize {
        self.out.len() + self.held_live
    }

    /// How many requests may be under way now, `most` at most: fewer while replies are large, so that a client that
    /// asks faster than it reads does not fill the memory.
    pub(super) fn window(&self, most: usize) -> usize {
        (WINDOW_BYTES / self.size.max(1)).max(MIN_WINDOW).min(most)
    }

    /// A request was forwarded: its sequence number.
    pub(super) fn expect(&mut self) -> u64 {
        self.waiting.push_back(Entry::Waiting);
        self.first + self.waiting.len() as u64 - 1
    }

    /// A request was split: its sequence number.
    pub(super) fn expect_merge(&mut self, merge: Box<Merge>) -> u64 {
        self.waiting.push_back(Entry::Merging(merge));
        self.first + self.waiting.len() as u64 - 1
    }

    /// A reply of the proxy's own, behind all that are due.
    pub(super) fn answer(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.waiting.is_empty() {
            write(self.out.tail());
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
            self.release();
        } else if let Some(entry) = self.waiting.get_mut(place) {
            let start = self.held.len();
            self.held.extend_from_slice(reply);
            self.held_live += reply.len();
            *entry = Entry::Held {
                start,
                len: reply.len(),
            };
        }
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
        while let Some(Entry::Held { start, len }) = self.waiting.front() {
            self.out.put(&self.held[*start..start + len]);
            self.held_live -= len;
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

    proptest! {
        #[test]
        fn replies_leave_in_the_order_of_requests(
            steps in proptest::collection::vec((0_u8..3, any::<prop::sample::Index>(), 0_usize..9000), 1..120),
        ) {
            let mut replies = Replies::default();
            let (mut open, mut want, mut texts) = (Vec::new(), Vec::new(), Vec::new());
            for (kind, pick, len) in steps {
                match kind {
                    0 => {
                        let sequence = replies.expect();
                        open.push((sequence, texts.len()));
                        texts.push(format!("[{}]", "r".repeat(len) + &texts.len().to_string()));
                    }
                    1 => {
                        let text = format!("<{}>", texts.len());
                        replies.answer(|out| out.extend_from_slice(text.as_bytes()));
                        texts.push(text);
                    }
                    _ if !open.is_empty() => {
                        let (sequence, text) = open.swap_remove(pick.index(open.len()));
                        replies.complete(sequence, texts[text].as_bytes());
                    }
                    _ => {}
                }
            }
            for (sequence, text) in open.drain(..).rev() {
                replies.complete(sequence, texts[text].as_bytes());
            }
            want.extend(texts.concat().into_bytes());
            prop_assert_eq!(replies.under_way(), 0);
            prop_assert_eq!(&*replies.out.tail(), &want);
            prop_assert!(replies.held.is_empty() && replies.held_live == 0);
        }
    }
}
