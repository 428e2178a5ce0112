use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::Backend;
use super::pipeline::{Pipeline, ReceiveError};
use crate::proxy::session::Client;
use crate::proxy::worker::Worker;

/// How long a client that takes its reply slowly may have others wait, besides the time that it takes at [`SLOWEST`].
const GRACE: Duration = Duration::from_secs(1);
/// Bytes per second of a client that is not too slow.
const SLOWEST: usize = 16 << 20;

/// A long reply on its way from a server's shared connection to a client while the server still sends it. The connection
/// is read only as fast as the client takes, unless others wait behind it for too long.
#[derive(Debug, Default)]
pub(super) struct Passing {
    /// Who has to take something before more is read.
    waits_for: RefCell<Option<Rc<Client>>>,
    /// Whether it took something, and nothing was read since.
    goes_on: Cell<bool>,
    passed: Cell<usize>,
    /// How long others waited for this client.
    held_up: Cell<Duration>,
    /// Up to when that was counted.
    counted: Cell<Option<Instant>>,
    /// Read on, however slow the client is.
    hurries: Cell<bool>,
}

impl Passing {
    /// Another reply begins.
    pub(super) fn begin(&self) {
        self.waits_for.take();
        self.passed.set(0);
        self.held_up.set(Duration::ZERO);
        self.hurries.set(false);
    }

    /// So many bytes are passed on. Whether that does not depend any more on what the client takes.
    pub(super) fn passes(&self, bytes: usize) -> bool {
        self.passed.set(self.passed.get() + bytes);
        self.hurries.get()
    }

    /// Nothing is read until this client took something.
    pub(super) fn wait_for(&self, client: &Rc<Client>, now: Instant) {
        *self.waits_for.borrow_mut() = Some(client.clone());
        self.counted.set(Some(now));
    }

    /// Whether nothing is read now.
    pub(super) fn waits(&self) -> bool {
        self.waits_for.borrow().is_some()
    }

    /// Ready when there is no client to wait for any more.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waits_for = self.waits_for.borrow_mut();
        let Some(client) = &*waits_for else {
            return Poll::Ready(());
        };
        if client.poll_room(cx).is_pending() {
            return Poll::Pending;
        }
        *waits_for = None;
        self.goes_on.set(true);
        Poll::Ready(())
    }

    /// Whether this is the first read after a wait.
    pub(super) fn goes_on(&self) -> bool {
        self.goes_on.take()
    }

    /// Counts the time in which others waited, if any did: whether that was too long, and the connection is read on.
    pub(super) fn hurry(&self, now: Instant, others_wait: bool) -> bool {
        let since = self.counted.replace(Some(now)).unwrap_or(now);
        if others_wait {
            let held_up = self.held_up.get() + now.saturating_duration_since(since);
            self.held_up.set(held_up);
        }
        let fair = GRACE + Duration::from_secs_f64(self.passed.get() as f64 / SLOWEST as f64);
        let over = self.held_up.get() > fair;
        if over {
            self.hurries.set(true);
            self.waits_for.take();
            self.goes_on.set(true);
        }
        over
    }
}

impl Backend {
    /// Passes on the beginning of a long reply. Its client has to take some of it before more is read.
    pub(super) fn pass_on(&self, worker: &Rc<Worker>, pipeline: &mut Pipeline) -> Result<(), ReceiveError> {
        let settings = &worker.settings;
        let (least, most) = (settings.stream_threshold, settings.session_max_output);
        pipeline.pass_on(
            least,
            if worker.memory.is_over() { least } else { most },
            |ticket, bytes, first| {
                let Some(client) = &ticket.client else { return };
                if first {
                    self.passing.begin();
                }
                let hurries = self.passing.passes(bytes.len());
                client.pass(worker, ticket, bytes, hurries);
                if !hurries && client.is_full(worker) {
                    self.passing.wait_for(client, worker.now());
                }
            },
        )
    }

    /// A client that takes a long reply too slowly does not hold others up for long.
    pub(super) fn hurry(&self, worker: &Worker, now: Instant) {
        if !self.passing.waits() {
            return;
        }
        let mut pipeline = self.pipeline.borrow_mut();
        pipeline.excuse(now);
        let slot_is_waited_for = || {
            pipeline
                .slot_of_first()
                .is_some_and(|slot| worker.router.is_emptying(slot))
        };
        let others = pipeline.others_wait() || !self.parked.borrow().is_empty() || slot_is_waited_for();
        if self.passing.hurry(now, others) {
            self.bell.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_client_holds_others_up_for_a_time_that_grows_with_what_it_took() {
        let (passing, begin) = (Passing::default(), Instant::now());
        let after = |millis| begin + Duration::from_millis(millis);
        passing.counted.set(Some(begin));
        assert!(!passing.hurry(after(60_000), false), "nobody waited");
        assert!(!passing.hurry(after(60_900), true));
        passing.passes(SLOWEST);
        assert!(!passing.hurry(after(61_900), true));
        assert!(passing.hurry(after(62_100), true) && passing.passes(1));
        passing.begin();
        assert!(!passing.passes(1));
    }
}
