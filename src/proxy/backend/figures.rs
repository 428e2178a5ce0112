use std::cell::Cell;

/// What a server's connection counts over its life, however often it is opened anew.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) opened: Cell<u64>,
    pub(super) lost: Cell<u64>,
    pub(super) failed: Cell<u64>,
    pub(super) read: Cell<u64>,
    pub(super) written: Cell<u64>,
}

/// Adds to a count.
pub(super) fn add(count: &Cell<u64>, number: usize) {
    count.set(count.get() + number as u64);
}

/// Connections to one server: those of one worker, or of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::proxy) struct BackendFigures {
    /// How many there are to be.
    pub(in crate::proxy) connections: u64,
    /// Those that are open.
    pub(in crate::proxy) connected: u64,
    /// Requests that wait for a reply.
    pub(in crate::proxy) under_way: u64,
    /// How often one was opened.
    pub(in crate::proxy) opened: u64,
    /// How often one was lost, or closed because of a time-out.
    pub(in crate::proxy) lost: u64,
    /// How often one could not be opened.
    pub(in crate::proxy) failed: u64,
    /// Bytes of replies.
    pub(in crate::proxy) read: u64,
    /// Bytes of requests.
    pub(in crate::proxy) written: u64,
}

impl BackendFigures {
    /// Those of one connection.
    pub(super) fn of(counts: &Counts, connected: bool, under_way: usize) -> Self {
        Self {
            connections: 1,
            connected: connected.into(),
            under_way: under_way as u64,
            opened: counts.opened.get(),
            lost: counts.lost.get(),
            failed: counts.failed.get(),
            read: counts.read.get(),
            written: counts.written.get(),
        }
    }

    /// Adds another connection's.
    pub(in crate::proxy) fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.connected += other.connected;
        self.under_way += other.under_way;
        self.opened += other.opened;
        self.lost += other.lost;
        self.failed += other.failed;
        self.read += other.read;
        self.written += other.written;
    }
}
