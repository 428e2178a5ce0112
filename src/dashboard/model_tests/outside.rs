//! What dashboards talk to: proxies with a real slot map, and servers as far as they let proxies in.

use crate::model::{HostPort, Proxy, ProxyToken, ServerUserKind, Slot, SlotId};
use crate::proxy::SlotMap;

/// Where a proxy runs: one process after the other, all with one token.
pub(super) struct Host {
    pub(super) token: ProxyToken,
    number: usize,
    starts: usize,
    pub(super) process: Process,
}

/// A process of a proxy.
pub(super) struct Process {
    pub(super) incarnation: String,
    map: Map,
    pub(super) online: bool,
    pub(super) closed: bool,
    pub(super) frozen: bool,
    /// It took an older epoch after a newer one.
    pub(super) went_back: bool,
}

/// What a proxy knows; or one that takes whatever comes.
enum Map {
    Real(SlotMap),
    Careless(Vec<Slot>),
}

/// A push on its way.
pub(super) struct Push {
    pub(super) token: ProxyToken,
    pub(super) incarnation: String,
    pub(super) slots: Vec<Slot>,
}

impl Host {
    pub(super) fn new(number: usize, careless: bool) -> Self {
        Self {
            token: format!("{number:032x}").as_str().into(),
            number,
            starts: 1,
            process: Process::new(1, careless),
        }
    }

    /// The process ends, and another one begins.
    pub(super) fn restart(&mut self, careless: bool) {
        self.starts += 1;
        self.process = Process::new(self.starts, careless);
    }

    /// What it says of itself.
    pub(super) fn model(&self) -> Proxy {
        Proxy {
            id: 0,
            token: self.token.clone(),
            start_time: self.process.incarnation.clone(),
            admin_addr: self.addr(),
            proto_type: "tcp4".to_owned(),
            proxy_addr: format!("p{}:2", self.number),
            jodis_path: String::new(),
            product_name: "demo".to_owned(),
            pid: 1,
            pwd: String::new(),
            sys: String::new(),
            hostname: String::new(),
            datacenter: String::new(),
            incarnation: self.process.incarnation.clone(),
            shut_off: false,
        }
    }

    pub(super) fn addr(&self) -> String {
        format!("p{}:1", self.number)
    }
}

impl Process {
    fn new(start: usize, careless: bool) -> Self {
        let map = if careless {
            Map::Careless(SlotId::all().map(Slot::offline).collect())
        } else {
            Map::Real(SlotMap::default())
        };
        Self {
            incarnation: format!("i{start}"),
            map,
            online: false,
            closed: false,
            frozen: false,
            went_back: false,
        }
    }

    pub(super) fn answers(&self) -> bool {
        !self.frozen
    }

    pub(super) fn slots(&self) -> &[Slot] {
        match &self.map {
            Map::Real(map) => map.slots(),
            Map::Careless(slots) => slots,
        }
    }

    /// Whether it took a push that was meant for it.
    pub(super) fn take(&mut self, push: &Push) -> bool {
        if self.frozen || push.incarnation != self.incarnation {
            return false;
        }
        let held: Vec<i64> = push
            .slots
            .iter()
            .map(|slot| self.slots()[slot.id.index()].epoch)
            .collect();
        let taken = match &mut self.map {
            Map::Real(map) => map.push(&push.slots).is_ok(),
            Map::Careless(slots) => {
                push.slots.iter().for_each(|slot| slots[slot.id.index()] = slot.clone());
                true
            }
        };
        let now = push.slots.iter().map(|slot| self.slots()[slot.id.index()].epoch);
        self.went_back |= now.zip(held).any(|(now, held)| now < held);
        taken
    }

    /// Whether it began to serve.
    pub(super) fn start(&mut self) -> bool {
        let complete = match &self.map {
            Map::Real(map) => map.missing() == 0,
            Map::Careless(slots) => slots.iter().all(|slot| slot.epoch > 0),
        };
        self.online |= complete && !self.closed && !self.frozen;
        self.online
    }

    /// Where it writes what is of this slot, should a client ask.
    pub(super) fn writes_to(&self, id: SlotId) -> Option<&HostPort> {
        let slot = &self.slots()[id.index()];
        let serves = self.online && !self.closed && !slot.locked;
        slot.backend_addr.as_ref().filter(|_| serves)
    }
}

/// A server, as far as it matters to who may write to it.
pub(super) struct Server {
    pub(super) name: HostPort,
    starts: usize,
    /// Whether it knows users for each proxy. Others let in everybody.
    pub(super) prepared: bool,
    pub(super) hangs: bool,
    /// The proxies that it lets in.
    pub(super) users: Vec<ServerUserKind>,
    /// The latest dashboard that was here: no earlier one is heard any more.
    topom: i64,
    pub(super) fence: bool,
    /// It closed its fence: nobody's writes are taken.
    pub(super) stopped: bool,
}

impl Server {
    pub(super) fn new(name: HostPort, prepared: bool) -> Self {
        Self {
            name,
            starts: 1,
            prepared,
            hangs: false,
            users: Vec::new(),
            topom: 0,
            fence: false,
            stopped: false,
        }
    }

    pub(super) fn run_id(&self) -> String {
        format!("{}-{}", self.name, self.starts)
    }

    /// Another process: it knows nobody, and lets nobody in.
    pub(super) fn restart(&mut self) {
        *self = Self {
            starts: self.starts + 1,
            ..Self::new(self.name.clone(), self.prepared)
        };
    }

    /// Whether it hears the dashboard of this epoch.
    pub(super) fn hears(&mut self, topom: i64) -> bool {
        let hears = !self.hangs && (topom >= self.topom || !self.prepared);
        if hears {
            self.topom = self.topom.max(topom);
        }
        hears
    }

    /// Whether what this process sends is written.
    pub(super) fn takes_writes_of(&self, user: &ServerUserKind) -> bool {
        !self.stopped && (!self.prepared || self.users.contains(user))
    }
}
