//! Whether a server's connection takes a request now.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Backend;
use crate::proxy::session::Client;

/// How long requests wait for a connection that was lost, or for a server that is silent, before they fail.
const HOLD: Duration = Duration::from_secs(2);
/// How many bytes of requests a server may have left unanswered before its clients are no longer read.
const MAX_WAITING_BYTES: usize = 16 << 20;
/// The same while memory is short.
const MAX_WAITING_IF_TIGHT: usize = 1 << 20;

/// Whether a request can be given to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Admit {
    /// Now.
    Yes,
    /// Not yet: it is being opened, or full, or its server silent.
    Later,
    /// No: it could not be opened for a while, or its server was silent for as long.
    No,
}

impl Admit {
    /// What a request hears that waits since then.
    fn waiting_since(since: Instant, now: Instant) -> Self {
        if now.saturating_duration_since(since) < HOLD {
            Self::Later
        } else {
            Self::No
        }
    }
}

/// How many requests may be under way on a connection: no more of them while its server is silent for too long. A server
/// that carries out a slow command is silent like one that hangs, so that what it was sent is waited for; but what it was
/// not sent yet can still go elsewhere. One number says both, so that it costs a request nothing to ask.
#[derive(Debug)]
pub(super) struct Gate {
    all: usize,
    most: Cell<usize>,
    shut: Cell<Option<Instant>>,
}

impl Gate {
    /// It lets so many in.
    pub(super) fn new(all: usize) -> Self {
        Self {
            all,
            most: Cell::new(all),
            shut: Cell::default(),
        }
    }

    /// The server is silent for too long. Whether that is news.
    pub(super) fn shut(&self, now: Instant) -> bool {
        self.most.set(0);
        let news = self.shut.get().is_none();
        if news {
            self.shut.set(Some(now));
        }
        news
    }

    /// The server said something, or is not waited for any more. Since when it had been silent for too long, if it had.
    pub(super) fn open(&self) -> Option<Instant> {
        self.most.set(self.all);
        self.shut.take()
    }

    /// Whether so many requests under way are as many as may be.
    fn is_reached(&self, under_way: usize) -> bool {
        under_way >= self.most.get()
    }

    /// Whether so many leave room for those that waited.
    pub(super) fn has_room(&self, under_way: usize) -> bool {
        under_way * 4 <= self.all * 3
    }
}

impl Backend {
    /// Whether a request can be given to it now.
    pub(in crate::proxy) fn admit(&self, now: Instant) -> Admit {
        if self.transport.borrow().is_none() {
            return Admit::waiting_since(self.since.get(), now);
        }
        let pipeline = self.pipeline.borrow();
        let full = self.gate.is_reached(pipeline.under_way()) || pipeline.bytes() > self.max_waiting_bytes();
        match (full, self.gate.shut.get()) {
            (false, _) => Admit::Yes,
            (true, None) => Admit::Later,
            (true, Some(since)) => Admit::waiting_since(since, now),
        }
    }

    /// Whether requests wait because it is lost or silent, rather than full.
    pub(in crate::proxy) fn is_missed(&self) -> bool {
        self.transport.borrow().is_none() || self.gate.shut.get().is_some()
    }

    /// How many bytes of requests may be unanswered.
    pub(super) fn max_waiting_bytes(&self) -> usize {
        if self.share.is_tight() {
            MAX_WAITING_IF_TIGHT
        } else {
            MAX_WAITING_BYTES
        }
    }

    /// Has the client go on when something changes here.
    pub(in crate::proxy) fn park(&self, client: &Rc<Client>) {
        self.parked.borrow_mut().push(client.clone());
    }

    /// Has clients go on.
    pub(super) fn wake_parked(&self) {
        for client in self.parked.borrow_mut().drain(..) {
            client.wake();
        }
    }

    /// Has clients hear that what they wait for did not come in time.
    pub(super) fn wake_overdue(&self, now: Instant) {
        let since = match &*self.transport.borrow() {
            None => Some(self.since.get()),
            Some(_) => self.gate.shut.get(),
        };
        if since.is_some_and(|since| Admit::waiting_since(since, now) == Admit::No) {
            self.wake_parked();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_server_gets_no_more_until_it_says_something() {
        let (gate, begin) = (Gate::new(2), Instant::now());
        let later = begin + Duration::from_millis(50);
        assert!(!gate.is_reached(1) && gate.is_reached(2));
        assert!(gate.shut(begin) && gate.is_reached(0));
        assert!(!gate.shut(later), "it is known already");
        assert_eq!(gate.open(), Some(begin));
        assert!(!gate.is_reached(1) && gate.is_reached(2) && gate.open().is_none());
    }

    #[test]
    fn requests_wait_for_a_while_and_then_fail() {
        let begin = Instant::now();
        let after = |millis| Admit::waiting_since(begin, begin + Duration::from_millis(millis));
        assert_eq!((after(1999), after(2000)), (Admit::Later, Admit::No));
    }
}
