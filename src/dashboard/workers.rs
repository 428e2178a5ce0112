use std::collections::HashSet;
use std::hash::Hash;

use tokio::task::{JoinError, JoinSet};

/// Work on each of many things: on one thing once at a time, on several at the same time, so that none waits for another's
/// end. All of it ends with this.
pub(crate) struct Workers<K: 'static> {
    busy: HashSet<K>,
    tasks: JoinSet<K>,
}

impl<K> Default for Workers<K> {
    fn default() -> Self {
        Self {
            busy: HashSet::new(),
            tasks: JoinSet::new(),
        }
    }
}

impl<K: Hash + Eq + Copy + Send> Workers<K> {
    /// Begins this work on `key`, unless some is under way on it.
    pub(crate) fn begin(&mut self, key: K, work: impl Future<Output = ()> + Send + 'static) {
        if self.busy.insert(key) {
            self.tasks.spawn(async move {
                work.await;
                key
            });
        }
    }

    /// Returns when some work has ended; never, while there is none.
    ///
    /// # Errors
    /// When it panicked.
    pub(crate) async fn ended(&mut self) -> Result<(), JoinError> {
        match self.tasks.join_next().await {
            Some(done) => {
                self.busy.remove(&done?);
                Ok(())
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_that_hangs_holds_up_nobody_that_comes_later() {
        let mut workers = Workers::default();
        workers.begin(1, std::future::pending());
        workers.begin(2, async {});
        workers.ended().await.unwrap();
        workers.begin(2, async {});
        workers.ended().await.unwrap();
    }

    #[tokio::test]
    async fn nothing_is_begun_twice_at_a_time() {
        let (mut workers, begun) = (Workers::default(), Arc::new(AtomicU32::new(0)));
        let count = || {
            let begun = Arc::clone(&begun);
            async move {
                begun.fetch_add(1, Ordering::SeqCst);
            }
        };
        workers.begin(1, count());
        workers.begin(1, count());
        workers.ended().await.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        workers.begin(1, count());
        workers.ended().await.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn that_work_panicked_is_told() {
        let mut workers = Workers::default();
        workers.begin(1, async { panic!("on purpose") });
        assert!(workers.ended().await.is_err());
    }
}
