use std::cell::Cell;
use std::rc::Rc;

/// Who holds so much and takes nothing is closed before all others.
const WORTH_IT: usize = 64 << 10;

/// How much memory what waits in a worker takes: requests that were read and not answered, and replies that were not
/// taken. Each client and each connection to a server counts its own, once a turn.
#[derive(Debug)]
pub(in crate::proxy) struct Memory {
    most: usize,
    bytes: Cell<usize>,
    /// How many of them clients have.
    of_clients: Cell<usize>,
}

/// What one client or connection has of it, given back when this is dropped.
#[derive(Debug)]
pub(in crate::proxy) struct MemoryShare {
    all: Rc<Memory>,
    bytes: Cell<usize>,
    is_clients: bool,
}

impl Memory {
    /// At most so many bytes.
    pub(in crate::proxy) fn new(most: usize) -> Rc<Self> {
        Rc::new(Self {
            most,
            bytes: Cell::new(0),
            of_clients: Cell::new(0),
        })
    }

    /// A client's, for whom nothing waits yet.
    pub(in crate::proxy) fn share_of_client(self: &Rc<Self>) -> MemoryShare {
        self.new_share(true)
    }

    /// That of a connection to a server.
    pub(in crate::proxy) fn share(self: &Rc<Self>) -> MemoryShare {
        self.new_share(false)
    }

    fn new_share(self: &Rc<Self>, is_clients: bool) -> MemoryShare {
        MemoryShare {
            all: self.clone(),
            bytes: Cell::new(0),
            is_clients,
        }
    }

    /// How much there may be.
    pub(in crate::proxy) fn most(&self) -> usize {
        self.most
    }

    /// How much there is.
    pub(in crate::proxy) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Whether it is half full: from then on nobody is read on who has replies to take.
    pub(in crate::proxy) fn is_tight(&self) -> bool {
        self.bytes.get() > self.most / 2
    }

    /// Whether there is more than there may be.
    pub(in crate::proxy) fn is_over(&self) -> bool {
        self.bytes.get() > self.most
    }

    /// Whether there would be more than there may be with so many bytes more.
    pub(in crate::proxy) fn would_be_over(&self, bytes: usize) -> bool {
        bytes > self.most.saturating_sub(self.bytes.get())
    }

    /// How much clients have to give back: when there is too much, so that there is some room again. Half of all is theirs,
    /// whatever connections to servers have.
    pub(super) fn excess(&self) -> usize {
        if !self.is_over() {
            return 0;
        }
        let too_much = self.bytes.get() - self.most / 8 * 7;
        too_much.min(self.of_clients.get().saturating_sub(self.most / 2))
    }
}

impl MemoryShare {
    /// It is so much now. Whether all together have too much.
    pub(in crate::proxy) fn set(&self, bytes: usize) -> bool {
        let before = self.bytes.replace(bytes);
        let change = |count: &Cell<usize>| count.set(count.get() - before + bytes);
        change(&self.all.bytes);
        if self.is_clients {
            change(&self.all.of_clients);
        }
        self.all.is_over()
    }

    /// How much it is.
    pub(in crate::proxy) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// As [`Memory::is_tight`].
    pub(in crate::proxy) fn is_tight(&self) -> bool {
        self.all.is_tight()
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// A client that might be closed.
#[derive(Debug, Clone, Copy)]
pub(in crate::proxy) struct Holder {
    /// Its number.
    pub(in crate::proxy) id: u64,
    /// How much it holds.
    pub(in crate::proxy) bytes: usize,
    /// Whether it took nothing for a while of what waits for it.
    pub(in crate::proxy) stuck: bool,
}

/// Whom to close so that `excess` bytes are given back: those first that hold much and take nothing, then whoever holds
/// most.
pub(super) fn to_close(mut holders: Vec<Holder>, excess: usize) -> Vec<u64> {
    holders.retain(|holder| holder.bytes > 0);
    holders.sort_unstable_by_key(|holder| {
        let first = holder.stuck && holder.bytes >= WORTH_IT;
        std::cmp::Reverse((first, holder.bytes))
    });
    let mut given_back = 0;
    let enough = holders.into_iter().take_while(|holder| {
        let needed = given_back < excess;
        given_back += holder.bytes;
        needed
    });
    enough.map(|holder| holder.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_given_back() {
        let memory = Memory::new(100);
        let (client, server) = (memory.share_of_client(), memory.share());
        assert!(!client.set(50) && !memory.is_tight());
        assert!(!server.set(50) && memory.is_tight() && !memory.is_over());
        assert!(server.set(51) && memory.is_over());
        client.set(10);
        drop(server);
        assert_eq!((memory.bytes(), client.bytes()), (10, 10));
    }

    #[test]
    fn clients_give_back_only_what_is_more_than_half() {
        let memory = Memory::new(80);
        let (client, server) = (memory.share_of_client(), memory.share());
        client.set(80);
        assert_eq!(memory.excess(), 0);
        client.set(100);
        assert_eq!(memory.excess(), 30);
        client.set(50);
        server.set(100);
        assert_eq!(memory.excess(), 10);
        client.set(40);
        assert_eq!(memory.excess(), 0);
    }

    #[test]
    fn those_that_hold_most_and_take_nothing_are_closed_first() {
        let holder = |id, kib: usize, stuck| Holder {
            id,
            bytes: kib << 10,
            stuck,
        };
        let all = vec![
            holder(1, 900, false),
            holder(2, 100, true),
            holder(3, 200, true),
            holder(4, 10, true),
            holder(5, 0, true),
        ];
        let close = |kib: usize| to_close(all.clone(), kib << 10);
        assert_eq!(close(0), Vec::<u64>::new());
        assert_eq!(close(150), [3]);
        assert_eq!(close(201), [3, 2]);
        assert_eq!(close(400), [3, 2, 1]);
        assert_eq!(close(5000), [3, 2, 1, 4]);
    }
}
