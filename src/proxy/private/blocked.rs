use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::model::{HostPort, SlotId};
use crate::proxy::backend::Backend;
use crate::proxy::worker::{Memory, MemoryShare, Worker};

/// A request on a client's own connection, seen by those who may have it come back, or not wait for it.
#[derive(Debug)]
pub(in crate::proxy) struct Blocked {
    slot: SlotId,
    /// The number of its connection at the server, and a shared connection there: whoever waits can only be woken from
    /// outside.
    at: RefCell<Option<(i64, Rc<Backend>)>>,
    wanted_back: Cell<bool>,
    cancelled: Cell<bool>,
    cut: Cell<bool>,
    /// Its server answers nobody any more.
    lost: Cell<bool>,
    changed: Notify,
    /// What the request takes of the worker's memory.
    share: MemoryShare,
}

impl Blocked {
    /// One that has not been sent yet.
    pub(in crate::proxy) fn new(memory: &Rc<Memory>, slot: SlotId) -> Rc<Self> {
        Rc::new(Self {
            slot,
            at: RefCell::default(),
            wanted_back: Cell::new(false),
            cancelled: Cell::new(false),
            cut: Cell::new(false),
            lost: Cell::new(false),
            changed: Notify::new(),
            share: memory.share_of_client(),
        })
    }

    /// The request takes so many bytes of memory now.
    pub(in crate::proxy) fn takes(&self, bytes: usize) {
        if !self.cancelled.get() {
            self.share.set(bytes);
        }
    }

    /// How many that are.
    pub(in crate::proxy) fn bytes(&self) -> usize {
        self.share.bytes()
    }

    /// Its way to the slot's server begins.
    pub(in crate::proxy) fn begins(&self) {
        self.wanted_back.set(self.cancelled.get());
    }

    /// It is about to wait at a server.
    pub(in crate::proxy) fn is_sent(&self, id: i64, backend: Rc<Backend>) {
        *self.at.borrow_mut() = Some((id, backend));
    }

    /// It waits at no server any more.
    pub(in crate::proxy) fn is_back(&self) {
        *self.at.borrow_mut() = None;
    }

    /// Whether it is to come back.
    pub(in crate::proxy) fn is_wanted_back(&self) -> bool {
        self.wanted_back.get()
    }

    /// Whether nobody waits for it any more.
    pub(in crate::proxy) fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    /// Has it come back. Whether it gave its client something is told by its reply only.
    pub(in crate::proxy) fn want_back(&self, worker: &Worker) {
        self.wanted_back.set(true);
        self.wake(worker);
        self.changed.notify_one();
    }

    /// Has it come back for good. What it takes is as good as given back: nobody else has to give up something for it.
    pub(in crate::proxy) fn cancel(&self, worker: &Worker) {
        self.takes(0);
        self.cancelled.set(true);
        self.want_back(worker);
    }

    /// Asks the server to end the waiting, as its time-out would. Asked again while there is no reply: the first may
    /// have come before what it was to end.
    pub(in crate::proxy) fn wake(&self, worker: &Worker) {
        if let Some((id, backend)) = &*self.at.borrow() {
            let id = id.to_string();
            backend.tell(worker, &[b"CLIENT", b"UNBLOCK", id.as_bytes(), b"TIMEOUT"]);
        }
    }

    /// Until a change of the slot map waits no longer for it.
    pub(in crate::proxy) async fn until_cut(&self) {
        while !self.cut.get() {
            self.changed().await;
        }
    }

    /// Until it is wanted back.
    pub(in crate::proxy) async fn until_wanted_back(&self) {
        while !self.wanted_back.get() {
            self.changed().await;
        }
    }

    /// Whether its server answers nobody any more.
    pub(in crate::proxy) fn is_lost(&self) -> bool {
        self.lost.get()
    }

    /// Until it is wanted back, or lost.
    pub(in crate::proxy) async fn until_wanted_back_or_lost(&self) {
        while !self.wanted_back.get() && !self.lost.get() {
            self.changed().await;
        }
    }

    /// Until it is wanted back, or routes changed.
    pub(in crate::proxy) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// All requests on connections of a worker's clients' own, by slot.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Waiting(RefCell<HashMap<SlotId, Vec<Rc<Blocked>>>>);

impl Waiting {
    /// Takes one in.
    pub(in crate::proxy) fn insert(&self, blocked: &Rc<Blocked>) {
        self.0
            .borrow_mut()
            .entry(blocked.slot)
            .or_default()
            .push(blocked.clone());
    }

    /// Forgets one.
    pub(in crate::proxy) fn remove(&self, blocked: &Rc<Blocked>) {
        let mut waiting = self.0.borrow_mut();
        if let Some(of_slot) = waiting.get_mut(&blocked.slot) {
            of_slot.retain(|other| !Rc::ptr_eq(other, blocked));
            if of_slot.is_empty() {
                waiting.remove(&blocked.slot);
            }
        }
    }

    /// The slot is no longer where they wait.
    pub(in crate::proxy) fn want_back(&self, worker: &Worker, slot: SlotId) {
        for blocked in self.0.borrow().get(&slot).into_iter().flatten() {
            blocked.want_back(worker);
        }
    }

    /// What is under way to these slots is given up.
    pub(in crate::proxy) fn cut(&self, slots: &[SlotId]) {
        let waiting = self.0.borrow();
        for blocked in slots.iter().filter_map(|slot| waiting.get(slot)).flatten() {
            blocked.cut.set(true);
            blocked.changed.notify_one();
        }
    }

    /// The server at this address answers nobody any more: what waits there will not be answered either, and its own
    /// connection may never show that.
    pub(in crate::proxy) fn lose(&self, addr: &HostPort) {
        for blocked in self.0.borrow().values().flatten() {
            if blocked
                .at
                .borrow()
                .as_ref()
                .is_some_and(|(_, backend)| backend.addr() == addr)
            {
                blocked.lost.set(true);
                blocked.changed.notify_one();
            }
        }
    }

    /// Routes may have changed.
    pub(in crate::proxy) fn routes_changed(&self) {
        for blocked in self.0.borrow().values().flatten() {
            blocked.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::config::Config;
    use crate::proxy::session::tests::worker_of;

    #[test]
    fn memory_of_a_request_counts_while_somebody_waits_for_it() {
        let worker = worker_of(&Config::default());
        let slot = SlotId::of_key(b"a");
        let blocked = [(); 2].map(|()| Blocked::new(&worker.memory, slot));
        blocked.iter().for_each(|blocked| blocked.takes(1000));
        assert_eq!((worker.memory.bytes(), blocked[0].bytes()), (2000, 1000));
        blocked[0].cancel(&worker);
        blocked[0].takes(1000);
        assert_eq!(worker.memory.bytes(), 1000);
        drop(blocked);
        assert_eq!(worker.memory.bytes(), 0);
    }
}
