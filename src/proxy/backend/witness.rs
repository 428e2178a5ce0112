use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::{HostPort, ServerWitness};

/// What went wrong with one connection to a server.
#[derive(Debug, Default)]
pub(super) struct Witness {
    pub(super) connect_errors: Cell<i64>,
    pub(super) lost: Cell<i64>,
    pub(super) timeouts: Cell<i64>,
    last_error: RefCell<String>,
    last_error_at: Cell<i64>,
}

impl Witness {
    /// One more of these.
    pub(super) fn note(&self, count: &Cell<i64>, error: &str) {
        count.set(count.get().wrapping_add(1));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_error_at.set(now.as_secs() as i64);
        error.clone_into(&mut self.last_error.borrow_mut());
    }

    /// As one connection's share of what is told. `silent`: how long a reply is due without a byte of it.
    pub(super) fn tell(&self, server: &HostPort, open: bool, silent: Option<Duration>) -> ServerWitness {
        ServerWitness {
            server: server.clone(),
            open: i64::from(open),
            closed: i64::from(!open),
            silent_ms: silent.map_or(0, |silent| silent.as_millis() as i64),
            connect_errors: self.connect_errors.get(),
            lost: self.lost.get(),
            timeouts: self.timeouts.get(),
            last_error: self.last_error.borrow().clone(),
            last_error_at: self.last_error_at.get(),
        }
    }
}

/// What all connections saw, as one for each server.
pub(in crate::proxy) fn by_server(seen: impl Iterator<Item = ServerWitness>) -> Vec<ServerWitness> {
    let mut servers: BTreeMap<String, ServerWitness> = BTreeMap::new();
    for one in seen {
        match servers.get_mut(one.server.as_str()) {
            Some(sum) => sum.add(one),
            None => drop(servers.insert(one.server.to_string(), one)),
        }
    }
    servers.into_values().collect()
}
