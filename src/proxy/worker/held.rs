use std::cell::Cell;
use std::rc::Rc;

/// How much a worker holds back for clients: requests for slots that are locked, and those that servers refused for now.
#[derive(Debug)]
pub(in crate::proxy) struct Held {
    max_requests: usize,
    max_bytes: usize,
    requests: Cell<usize>,
    bytes: Cell<usize>,
}

/// A request that is held; it counts until this is dropped.
#[derive(Debug)]
pub(in crate::proxy) struct HeldRequest {
    held: Rc<Held>,
    bytes: usize,
}

impl Held {
    pub(super) fn new(max_requests: usize, max_bytes: usize) -> Rc<Self> {
        Rc::new(Self {
            max_requests,
            max_bytes,
            requests: Cell::new(0),
            bytes: Cell::new(0),
        })
    }

    /// Holds a request of so many bytes; `None` when too much is held already.
    pub(in crate::proxy) fn hold(self: &Rc<Self>, bytes: usize) -> Option<HeldRequest> {
        if self.requests.get() >= self.max_requests || bytes > self.max_bytes.saturating_sub(self.bytes.get()) {
            return None;
        }
        self.requests.set(self.requests.get() + 1);
        self.bytes.set(self.bytes.get() + bytes);
        Some(HeldRequest {
            held: self.clone(),
            bytes,
        })
    }
}

impl HeldRequest {
    /// So many bytes came behind it.
    pub(in crate::proxy) fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.held.bytes.set(self.held.bytes.get() + bytes);
    }

    /// Whether more may come behind it.
    pub(in crate::proxy) fn may_grow(&self) -> bool {
        self.held.bytes.get() < self.held.max_bytes
    }
}

impl Drop for HeldRequest {
    fn drop(&mut self) {
        self.held.requests.set(self.held.requests.get() - 1);
        self.held.bytes.set(self.held.bytes.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_allowed() {
        let held = Held::new(2, 100);
        let mut first = held.hold(60).unwrap();
        assert!(held.hold(41).is_none(), "bytes");
        let second = held.hold(40).unwrap();
        assert!(!first.may_grow() && held.hold(0).is_none(), "requests");
        drop(second);
        first.grow(39);
        assert!(first.may_grow() && held.hold(2).is_none());
        drop(first);
        assert!(held.hold(100).is_some());
    }
}
