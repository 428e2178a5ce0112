use std::cell::RefCell;
use std::rc::Rc;
use std::task::Poll;

use super::{Bell, Worker};
use crate::proxy::backend::Backend;
use crate::proxy::session::Client;

/// Who has something to send at the end of this turn. All sockets that are ready are read first; then each server gets
/// one write, then each client one: without that, 15 to 40 % more CPU.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Turn {
    backends: RefCell<Vec<Rc<Backend>>>,
    clients: RefCell<Vec<Rc<Client>>>,
    bell: Bell,
}

impl Turn {
    /// The server's connection has something to send. Call it once until the turn's end.
    pub(in crate::proxy) fn add_backend(&self, backend: &Rc<Backend>) {
        self.backends.borrow_mut().push(backend.clone());
        self.bell.ring();
    }

    /// The client has something to get. Call it once until the turn's end.
    pub(in crate::proxy) fn add_client(&self, client: &Rc<Client>) {
        self.clients.borrow_mut().push(client.clone());
        self.bell.ring();
    }
}

/// Ends each turn, for ever. The task is woken by the first that has something to send, and so runs behind all that were
/// ready by then.
pub(super) async fn end_turns(worker: Rc<Worker>) {
    let (mut backends, mut clients) = (Vec::new(), Vec::new());
    std::future::poll_fn(|cx| {
        worker.turn.bell.answered(cx);
        std::mem::swap(&mut backends, &mut *worker.turn.backends.borrow_mut());
        for backend in backends.drain(..) {
            backend.flush();
        }
        std::mem::swap(&mut clients, &mut *worker.turn.clients.borrow_mut());
        for client in clients.drain(..) {
            client.flush(&worker);
        }
        Poll::<()>::Pending
    })
    .await;
}
