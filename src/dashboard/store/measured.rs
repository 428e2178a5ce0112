use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use super::{Acquired, Later, Lock, Snapshot, Store, StoreError, Write};
use crate::dashboard::metrics::Metrics;
use crate::model::Topom;

/// A store whose calls are measured.
pub(crate) struct MeasuredStore {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
}

impl MeasuredStore {
    /// Measures the calls to this store.
    pub(crate) fn new(store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics }
    }

    fn timed<'a, T: 'a>(&'a self, operation: &'static str, call: Later<'a, T>) -> Later<'a, T> {
        let began = Instant::now();
        self.counted(operation, call, move || Some(began.elapsed()))
    }

    fn counted<'a, T: 'a>(
        &'a self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send + 'a,
        took: impl FnOnce() -> Option<std::time::Duration> + Send + 'a,
    ) -> Later<'a, T> {
        Box::pin(async move {
            let result = call.await;
            self.metrics.store_called(operation, took(), result.is_err());
            result
        })
    }
}

impl Store for MeasuredStore {
    fn max_writes(&self) -> usize {
        self.store.max_writes()
    }

    fn claim<'a>(&'a self, owner: Option<&'a str>) -> Later<'a, ()> {
        self.timed("claim", self.store.claim(owner))
    }

    fn acquire<'a>(&'a self, topom: &'a Topom) -> Later<'a, Acquired> {
        self.timed("acquire", self.store.acquire(topom))
    }

    // It lasts as long as nothing happens: its time says nothing of the store.
    fn wait_changed(&self, since: Option<i64>) -> Later<'_, ()> {
        self.counted("watch", self.store.wait_changed(since), || None)
    }

    fn renew(&self, lock: Lock) -> Later<'_, Instant> {
        self.timed("renew", self.store.renew(lock))
    }

    fn release(&self, lock: Lock) -> Later<'_, ()> {
        self.timed("release", self.store.release(lock))
    }

    fn remove_lock(&self) -> Later<'_, ()> {
        self.timed("remove_lock", self.store.remove_lock())
    }

    fn load(&self) -> Later<'_, Snapshot> {
        self.timed("load", self.store.load())
    }

    fn fence(&self, lock: Lock) -> Later<'_, i64> {
        self.timed("fence", self.store.fence(lock))
    }

    fn commit<'a>(&'a self, lock: Lock, fence: i64, writes: &'a [Write]) -> Later<'a, i64> {
        self.timed("commit", self.store.commit(lock, fence, writes))
    }
}
