//! One event loop per core. Everything that a request touches belongs to one thread: no lock, no channel, no atomic.

mod bell;
mod control;
mod errors;
mod figures;
mod guesses;
mod held;
mod hot_keys;
mod latency;
mod memory;
mod observers;
mod peers;
mod queued;
mod readings;
mod relief;
mod run;
mod settings;
mod slow_log;
mod turn;

pub(super) use bell::Bell;
pub(super) use control::{Control, WorkerHandle};
pub(super) use figures::{Outcome, Totals};
pub(super) use held::{Held, HeldRequest};
pub(super) use latency::Latencies;
pub(super) use memory::{Holder, Memory, MemoryShare};
pub(super) use observers::{Observers, Tap};
pub(super) use queued::{Queued, QueuedBytes};
pub(super) use readings::Readings;
pub(super) use run::spawn;
pub(super) use settings::Settings;
pub(super) use slow_log::{SlowEntry, SlowLog, kept_args};

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use self::figures::Figures;
use self::turn::Turn;
use super::private::Places;
use super::pubsub::PubSub;
use super::router::Router;
use super::session::Client;

/// How much is read from a socket at once.
const READ_BUFFER: usize = 64 << 10;

/// What the tasks of one thread share.
#[derive(Debug)]
pub(super) struct Worker {
    /// The process' settings.
    pub(super) settings: Arc<Settings>,
    /// Where slots are.
    pub(super) router: Router,
    /// Connections of clients' own to servers.
    pub(super) private: Places,
    /// What clients are subscribed to.
    pub(super) pubsub: PubSub,
    /// Who has something to send.
    pub(super) turn: Turn,
    /// What was counted.
    pub(super) figures: Figures,
    /// What waits, all together.
    pub(super) memory: Rc<Memory>,
    /// What is held back.
    pub(super) held: Rc<Held>,
    /// What transactions that were begun hold.
    pub(super) queued: Rc<Queued>,
    /// What clients that are too slow have to take of long replies.
    pub(super) late: Rc<Held>,
    /// Requests that took long.
    pub(super) slow_log: SlowLog,
    /// Who looks at requests.
    pub(super) observers: Observers,
    /// What every socket is read into; what has to wait is copied out of it.
    pub(super) buffer: RefCell<Vec<u8>>,
    pub(super) clients: RefCell<HashMap<u64, Rc<Client>>>,
    now: Cell<Instant>,
    draining: Cell<bool>,
}

impl Worker {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        let memory = Memory::new(settings.max_memory);
        let held = Held::new(settings.hold_max_requests, settings.hold_max_bytes);
        let late = Held::new(usize::MAX, settings.session_max_output);
        Self {
            queued: Queued::new(settings.session_max_queued),
            observers: Observers::new(settings.hot_keys_sample),
            slow_log: SlowLog::default(),
            settings,
            held,
            late,
            router: Router::default(),
            private: Places::new(&memory),
            memory,
            pubsub: PubSub::default(),
            turn: Turn::default(),
            figures: Figures::default(),
            buffer: RefCell::new(vec![0; READ_BUFFER]),
            clients: RefCell::default(),
            now: Cell::new(Instant::now()),
            draining: Cell::new(false),
        }
    }

    /// The time when the socket in hand was read: exact enough, and free.
    pub(super) fn now(&self) -> Instant {
        self.now.get()
    }

    /// Looks at the clock.
    pub(super) fn refresh_now(&self) -> Instant {
        let now = Instant::now();
        self.now.set(now);
        now
    }

    /// Whether the process is about to end: what is under way is finished, nothing new begun.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Forgets a client.
    pub(super) fn forget(&self, client: &Client) {
        self.clients.borrow_mut().remove(&client.id());
        self.settings.sessions.left();
    }
}
