//! How much memory a client takes, and how it is given back.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Client, Session};
use crate::proxy::worker::{Holder, Worker};

/// A client that takes nothing for so long of what waits for it may be closed before others.
const STUCK: Duration = Duration::from_millis(500);
/// A client that neither sent nor got anything for so long needs no buffers.
const IDLE: Duration = Duration::from_secs(2);

impl Session {
    fn memory(&self) -> usize {
        let refused = self.refused.as_deref().map_or(0, |refused| refused.memory());
        self.input.capacity() + self.replies.memory() + self.apart.memory() + refused
    }

    /// Empty buffers are given back; who gets none of its own any more allocates them anew.
    fn give_back(&mut self) {
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        self.replies.give_back();
    }
}

impl Client {
    /// Counts what it takes of the worker's memory.
    pub(super) fn count(&self, worker: &Worker, session: &Session) {
        if self.share.set(session.memory() + self.transport.memory()) {
            worker.turn.end_soon();
        }
    }

    /// Gives back what it does not need now.
    pub(super) fn slim(&self, worker: &Worker, session: &mut Session, now: Instant) {
        let since = |then: Instant| now.saturating_duration_since(then);
        if worker.memory.is_tight() || since(session.last_read.max(session.last_sent)) > IDLE {
            session.give_back();
            self.count(worker, session);
        }
    }

    /// What it holds.
    pub(in crate::proxy) fn holder(&self, now: Instant) -> Holder {
        let session = self.session.borrow();
        let blocked = session.apart.blocked.as_ref().map_or(0, |blocked| blocked.bytes());
        Holder {
            id: self.id,
            bytes: self.share.bytes() + blocked,
            stuck: self.wants_write.get() && now.saturating_duration_since(session.last_sent) > STUCK,
        }
    }

    /// Is closed, because it takes memory that others need.
    pub(in crate::proxy) fn evict(self: &Rc<Self>, worker: &Worker) {
        self.let_go(worker);
        self.doom();
    }

    /// Nothing that it asked for is of use to anyone.
    pub(super) fn let_go(&self, worker: &Worker) {
        self.unblock(worker);
        let mut session = self.session.borrow_mut();
        session.gone = true;
        session.leave_topics(worker);
        session.apart = Default::default();
        session.input = Vec::new();
        session.held = None;
        session.refused = None;
        session.replies.drop_all();
        self.share.set(session.memory());
        drop(session);
        self.room.open();
    }
}
