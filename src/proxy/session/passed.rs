//! Long replies on their way to clients while their servers still send them.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::Client;
use crate::proxy::backend::Ticket;
use crate::proxy::worker::{Outcome, Settings, Worker};

/// Those who wait until a client took enough of what waits for it.
#[derive(Debug)]
pub(super) struct Room {
    /// So many bytes may wait for the client then.
    most: usize,
    waiting: RefCell<Vec<Waker>>,
}

impl Room {
    /// For one client.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            most: settings.stream_window / 2,
            waiting: RefCell::default(),
        }
    }

    /// The client has `backlog` bytes to take: has those who wait go on, if that is little enough.
    pub(super) fn look(&self, backlog: usize) {
        if backlog <= self.most {
            self.open();
        }
    }

    /// Has those who wait go on.
    pub(super) fn open(&self) {
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }
}

impl Client {
    /// More of a reply whose end has not come. `hurries`: although the client has much to take already, because others
    /// would wait for it too long.
    pub(in crate::proxy) fn pass(self: &Rc<Self>, worker: &Worker, ticket: &Ticket, bytes: &[u8], hurries: bool) {
        let mut session = self.session.borrow_mut();
        if session.gone {
            return;
        }
        if session.refused.is_some() {
            session.carried_out(worker, ticket);
        }
        session.replies.pass(ticket.sequence, bytes);
        if hurries {
            if session.apart.late.is_none() {
                session.apart.late = worker.late.hold(0);
            }
            if let Some(late) = &mut session.apart.late {
                late.grow(bytes.len());
            }
            if session.apart.late.as_ref().is_none_or(|late| !late.may_grow()) {
                self.doom();
            }
        }
        self.is_answered(worker, session);
    }

    /// There is no more of a reply whose beginning was passed on. Whoever saw that can only be cut off.
    pub(in crate::proxy) fn cut(self: &Rc<Self>, worker: &Rc<Worker>, ticket: Ticket, error: &[u8]) {
        if self.session.borrow_mut().replies.take_back(ticket.sequence) {
            self.complete(worker, ticket, error, Outcome::Failed);
        } else {
            self.doom();
            self.complete(worker, ticket, b"", Outcome::Failed);
        }
    }

    /// Whether so much waits for it that it has to take some before more of a long reply is read.
    pub(in crate::proxy) fn is_full(&self, worker: &Worker) -> bool {
        let session = self.session.borrow();
        !session.gone && session.replies.backlog() > worker.settings.stream_window
    }

    /// Ready when it took enough, or is gone.
    pub(in crate::proxy) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let session = self.session.borrow();
        if session.gone || session.replies.backlog() <= self.room.most {
            return Poll::Ready(());
        }
        let mut waiting = self.room.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
