use std::rc::Rc;
use std::time::{Duration, Instant};

use super::transaction::Transaction;
use super::upload::Upload;
use super::{Client, Session, Verdict, Wait};
use crate::model::SlotId;
use crate::proxy::private::{Blocked, Private};
use crate::proxy::pubsub::TopicSet;
use crate::proxy::worker::{HeldRequest, Worker};

/// How long a client's own connection is kept for its next use.
const KEEP: Duration = Duration::from_secs(10);

/// What of a client does not go over shared connections as it comes. Most clients have nothing here.
#[derive(Debug, Default)]
pub(super) struct Apart {
    /// The request under way is alone: whatever follows waits until it is answered, so that the order is kept.
    pub(super) alone: bool,
    /// What was queued since `MULTI`.
    pub(super) transaction: Option<Box<Transaction>>,
    pub(super) watch: Option<Watch>,
    kept_back: KeptBack,
    /// The client's own connection, while nothing is under way on it.
    pub(super) own: Option<Box<Private>>,
    /// Its command that waits at a server.
    pub(super) blocked: Option<Rc<Blocked>>,
    /// What it is subscribed to.
    pub(super) topics: Option<Box<TopicSet>>,
    /// A request that is passed on, or thrown away, as it arrives.
    pub(super) upload: Option<Box<Upload>>,
    /// Counts what it did not take of a long reply in time.
    pub(super) late: Option<HeldRequest>,
}

/// Keys that the client's own connection watches.
#[derive(Debug)]
pub(super) struct Watch {
    /// All of them lie in it.
    pub(super) slot: SlotId,
    /// How often the slot had been given another server by then.
    pub(super) moves: u32,
}

impl Watch {
    /// Whether what happened to the keys since is still known: they are where they were.
    pub(super) fn holds(&self, worker: &Worker) -> bool {
        worker.router.moves(self.slot) == self.moves
    }
}

/// Since when a client's transactions on watched keys were refused at short intervals, and when the last was.
#[derive(Debug, Default)]
struct KeptBack(Option<(Instant, Instant)>);

impl KeptBack {
    /// One more was refused: whether that went on for less than `limit`. When none was for as long, it begins anew.
    fn goes_on(&mut self, now: Instant, limit: Duration) -> bool {
        let since = |then: Instant| now.saturating_duration_since(then);
        let first = self
            .0
            .filter(|(_, last)| since(*last) < limit)
            .map_or(now, |(first, _)| first);
        self.0 = Some((first, now));
        since(first) < limit
    }
}

impl Client {
    /// A transaction on watched keys was refused as a whole. Whether the client is to hear that keys may have changed, so
    /// that it begins anew, rather than of the refusal.
    pub(super) fn may_begin_anew(&self, worker: &Worker) -> bool {
        let kept_back = &mut self.session.borrow_mut().apart.kept_back;
        kept_back.goes_on(worker.now(), worker.settings.repeat_timeout)
    }
}

impl Apart {
    /// How many bytes of memory it takes.
    pub(super) fn memory(&self) -> usize {
        let transaction = self.transaction.as_deref().map_or(0, Transaction::memory);
        transaction + self.upload.as_deref().map_or(0, Upload::memory)
    }
}

impl Session {
    /// Whether everything before was answered, so that the next request may take a way of its own; else what becomes of
    /// the request.
    pub(super) fn begin_alone(&mut self) -> Result<(), Verdict> {
        if self.replies.under_way() > 0 {
            return Err(Verdict::Waits(Wait::AllReplies));
        }
        Ok(())
    }

    /// A command got an error: the transaction that it was meant for can't be carried out.
    pub(super) fn abort_transaction(&mut self) {
        if let Some(transaction) = &mut self.apart.transaction {
            transaction.abort();
        }
    }

    /// Forgets all that there is, as `RESET` does.
    pub(super) fn reset_apart(&mut self, worker: &Worker) {
        self.leave_topics(worker);
        self.apart.transaction = None;
        self.unwatch();
    }

    /// Watches nothing any more. The connection that did is closed: that is how its server forgets it too.
    pub(super) fn unwatch(&mut self) {
        if self.apart.watch.take().is_some() {
            self.apart.own = None;
        }
    }

    /// Whether the client's own connection was of no use for a while.
    pub(super) fn drop_idle(&mut self, worker: &Worker) {
        let idle = worker.now().saturating_duration_since(self.last_read) > KEEP;
        if idle && self.apart.watch.is_none() {
            self.apart.own = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_that_go_on_for_too_long_are_shown() {
        let (mut kept_back, begin, limit) = (KeptBack::default(), Instant::now(), Duration::from_secs(2));
        let mut after = |seconds| kept_back.goes_on(begin + Duration::from_secs(seconds), limit);
        assert_eq!([0, 1, 2, 3, 4].map(&mut after), [true, true, false, false, false]);
        assert!(after(6), "there was none for a while");
        assert!(
            !KeptBack::default().goes_on(begin, Duration::ZERO),
            "it is switched off"
        );
    }
}
