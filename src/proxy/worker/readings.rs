use std::collections::BTreeMap;

use super::errors::ErrorCounts;
use super::latency::Latencies;
use super::{Totals, Worker};
use crate::proxy::backend::BackendFigures;
use crate::proxy::session::ClientFigures;

/// All that one worker can tell in figures, or the sum over several. Put together when somebody asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::proxy) struct Readings {
    /// Requests, each command's too.
    pub(in crate::proxy) totals: Totals,
    /// How long those took that went to a server.
    pub(in crate::proxy) latencies: Latencies,
    /// Errors that clients got.
    pub(in crate::proxy) errors: ErrorCounts,
    /// Bytes read from clients.
    pub(in crate::proxy) from_clients: u64,
    /// Bytes that clients took.
    pub(in crate::proxy) to_clients: u64,
    /// Clients that were closed because of the memory that they took.
    pub(in crate::proxy) closed_for_memory: u64,
    /// The memory that what waits takes, and how much of it there may be.
    pub(in crate::proxy) memory: (u64, u64),
    /// What clients have waiting now.
    pub(in crate::proxy) clients: ClientFigures,
    /// Connections to servers, by server.
    pub(in crate::proxy) backends: BTreeMap<String, BackendFigures>,
}

impl Readings {
    /// What this worker tells.
    pub(in crate::proxy) fn of(worker: &Worker) -> Self {
        let mut readings = worker.figures.readings();
        readings.memory = (worker.memory.bytes() as u64, worker.memory.most() as u64);
        for client in worker.clients.borrow().values() {
            readings.clients.add(client.figures());
        }
        worker.router.each_backend(|backend| {
            let entry = readings.backends.entry(backend.addr().to_string()).or_default();
            entry.add(backend.figures());
        });
        readings
    }

    /// Adds another worker's.
    pub(in crate::proxy) fn add(&mut self, other: Self) {
        self.totals.add(other.totals);
        self.latencies.add(&other.latencies);
        self.errors.add(&other.errors);
        self.from_clients += other.from_clients;
        self.to_clients += other.to_clients;
        self.closed_for_memory += other.closed_for_memory;
        self.memory.0 += other.memory.0;
        self.memory.1 += other.memory.1;
        self.clients.add(other.clients);
        for (server, more) in other.backends {
            self.backends.entry(server).or_default().add(more);
        }
    }
}
