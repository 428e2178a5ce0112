use std::cell::Cell;
use std::rc::Rc;

/// How many bytes the transactions that a worker's clients began have queued together.
#[derive(Debug)]
pub(in crate::proxy) struct Queued {
    most: usize,
    bytes: Cell<usize>,
}

/// One transaction's share, given back when this is dropped.
#[derive(Debug)]
pub(in crate::proxy) struct QueuedBytes {
    all: Rc<Queued>,
    bytes: usize,
}

impl Queued {
    /// At most so many.
    pub(in crate::proxy) fn new(most: usize) -> Rc<Self> {
        Rc::new(Self {
            most,
            bytes: Cell::new(0),
        })
    }

    /// A transaction begins.
    pub(in crate::proxy) fn begin(self: &Rc<Self>) -> QueuedBytes {
        QueuedBytes {
            all: self.clone(),
            bytes: 0,
        }
    }
}

impl QueuedBytes {
    /// Takes so many more; whether there were so many left.
    pub(in crate::proxy) fn grow(&mut self, bytes: usize) -> bool {
        let taken = self.all.bytes.get();
        let fits = bytes <= self.all.most.saturating_sub(taken);
        if fits {
            self.bytes += bytes;
            self.all.bytes.set(taken + bytes);
        }
        fits
    }

    /// Gives all back.
    pub(in crate::proxy) fn release(&mut self) {
        self.all.bytes.set(self.all.bytes.get() - self.bytes);
        self.bytes = 0;
    }
}

impl Drop for QueuedBytes {
    fn drop(&mut self) {
        self.release();
    }
}
