//! How the mover of slots is governed, and what it shows. In memory only: as in Codis, a restarted dashboard moves without
//! pauses, and is not disabled.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::model::{SlotActionProgress, SlotActionStats};

/// The longest pause between two batches, in µs.
const LONGEST_PAUSE: i64 = 1_000_000;

/// The switches of the mover of slots and its progress, for one term.
#[derive(Default)]
pub(crate) struct SlotActionControl {
    pause: AtomicU32,
    disabled: AtomicBool,
    running: AtomicI64,
    status: Mutex<String>,
    changed: Notify,
}

/// A batch that is under way, until this is dropped.
pub(crate) struct Batch<'a>(&'a SlotActionControl);

impl SlotActionControl {
    /// Sets the pause between two batches, in µs; what is out of range is brought into it.
    pub(crate) fn set_interval(&self, micros: i64) {
        let pause = micros.clamp(0, LONGEST_PAUSE);
        self.pause.store(pause as u32, Ordering::SeqCst);
        self.wake();
    }

    /// With `true` no move is begun, and those under way pause.
    pub(crate) fn set_disabled(&self, disabled: bool) {
        self.disabled.store(disabled, Ordering::SeqCst);
        self.wake();
    }

    /// There is something to do, or it is to be done in another way.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// What `stats` tells.
    pub(crate) fn stats(&self) -> SlotActionStats {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        SlotActionStats {
            interval: self.pause.load(Ordering::SeqCst).into(),
            disabled: self.is_disabled(),
            progress: SlotActionProgress { status },
            executor: self.running(),
        }
    }

    /// Whether no move may be begun, and those under way have to pause.
    pub(crate) fn is_disabled(&self) -> bool {
        self.disabled.load(Ordering::SeqCst)
    }

    /// How many batches are under way.
    pub(crate) fn running(&self) -> i64 {
        self.running.load(Ordering::SeqCst)
    }
}

/// What the mover needs.
impl SlotActionControl {
    /// The pause between two batches.
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_micros(self.pause.load(Ordering::SeqCst).into())
    }

    /// Returns when there is something to do, or it is to be done in another way. One caller only.
    pub(crate) async fn woken(&self) {
        self.changed.notified().await;
    }

    /// Notes that a batch begins.
    pub(crate) fn begin_batch(&self) -> Batch<'_> {
        self.running.fetch_add(1, Ordering::SeqCst);
        Batch(self)
    }

    /// Notes what was done last, for people; nothing when it is done.
    pub(crate) fn report(&self, status: impl Into<String>) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status.into();
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_is_brought_into_its_range() {
        let control = SlotActionControl::default();
        for (given, micros) in [
            (-1, 0),
            (0, 0),
            (2500, 2500),
            (1_000_000, 1_000_000),
            (i64::MAX, 1_000_000),
        ] {
            control.set_interval(given);
            assert_eq!(control.stats().interval, micros);
            assert_eq!(control.interval(), Duration::from_micros(micros as u64));
        }
    }

    #[test]
    fn batches_count_while_they_last() {
        let control = SlotActionControl::default();
        let first = control.begin_batch();
        let second = control.begin_batch();
        control.report("[OK] Slot[0004]@DB[0]=2187");
        let stats = control.stats();
        assert_eq!(
            (stats.executor, stats.progress.status.as_str()),
            (2, "[OK] Slot[0004]@DB[0]=2187")
        );
        drop(first);
        assert_eq!(control.running(), 1);
        drop(second);
        assert_eq!(control.stats().executor, 0);
    }

    #[tokio::test]
    async fn who_waits_learns_of_a_change_made_before() {
        let control = SlotActionControl::default();
        control.set_disabled(true);
        control.woken().await;
        assert!(control.is_disabled());
    }
}
