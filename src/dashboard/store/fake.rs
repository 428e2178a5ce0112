//! A store in memory that loses answers as it is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{Acquired, Later, Lock, Record, Snapshot, Store, StoreError, Write};
use crate::model::Topom;

/// What becomes of the next change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Answer {
    /// It is made, and the answer arrives.
    #[default]
    Normal,
    /// It is made, and the answer is lost.
    MadeButLost,
    /// It arrives only at [`FakeStore::deliver_late`].
    Late,
}

/// One product's store, whose lock is held from the beginning.
#[derive(Default)]
pub(crate) struct FakeStore {
    state: Mutex<State>,
    /// 0: what etcd takes, about.
    max_writes: usize,
}

#[derive(Default)]
struct State {
    next: VecDeque<Answer>,
    revision: i64,
    lock: i64,
    fence: i64,
    records: BTreeMap<String, Record>,
    late: Vec<(i64, Vec<Write>)>,
}

impl FakeStore {
    /// One that takes so many writes at once.
    pub(crate) fn with_max_writes(max_writes: usize) -> Self {
        Self {
            max_writes,
            ..Self::default()
        }
    }

    /// The lock.
    pub(crate) fn lock(&self) -> Lock {
        Lock {
            revision: self.state().lock,
            lease: 1,
            valid_until: Instant::now() + Duration::from_secs(60),
        }
    }

    /// Takes the lock away from whoever has it.
    pub(crate) fn take_lock(&self) -> Lock {
        let mut state = self.state();
        state.revision += 1;
        (state.lock, state.fence) = (state.revision, state.revision);
        drop(state);
        self.lock()
    }

    /// Says what becomes of the next change.
    pub(crate) fn next(&self, answer: Answer) {
        self.nth(0, answer);
    }

    /// Says what becomes of the change after so many others.
    pub(crate) fn nth(&self, before: usize, answer: Answer) {
        let mut state = self.state();
        state.next = vec![Answer::Normal; before].into();
        state.next.push_back(answer);
    }

    /// Somebody removes a record by hand.
    pub(crate) fn forget(&self, key: &str) {
        self.state().records.remove(key);
    }

    /// The revision of the last change.
    pub(crate) fn revision(&self) -> i64 {
        self.state().revision
    }

    /// The changes that are late arrive now.
    pub(crate) fn deliver_late(&self) {
        let mut state = self.state();
        for (fence, writes) in std::mem::take(&mut state.late) {
            let _ = state.make(fence, &writes);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn make(&mut self, fence: i64, writes: &[Write]) -> Result<i64, StoreError> {
        let revision_of = |key: &String| self.records.get(key).map_or(0, |record| record.revision);
        if fence != self.fence || writes.iter().any(|write| revision_of(&write.key) != write.expected) {
            return Err(StoreError::Conflict);
        }
        self.revision += 1;
        for write in writes {
            let (key, revision) = (write.key.clone(), self.revision);
            match write.value.clone().map(String::into_bytes) {
                Some(value) => drop(self.records.insert(key.clone(), Record { key, value, revision })),
                None => drop(self.records.remove(&key)),
            }
        }
        Ok(self.revision)
    }
}

fn later<'a, T: Send + 'a>(result: Result<T, StoreError>) -> Later<'a, T> {
    Box::pin(async { result })
}

impl Store for FakeStore {
    fn max_writes(&self) -> usize {
        match self.max_writes {
            0 => 100,
            max => max,
        }
    }

    fn claim<'a>(&'a self, _: Option<&'a str>) -> Later<'a, ()> {
        later(Ok(()))
    }

    fn acquire<'a>(&'a self, _: &'a Topom) -> Later<'a, Acquired> {
        later(Ok(Acquired::Ours(self.lock())))
    }

    fn wait_changed(&self, _: Option<i64>) -> Later<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn renew(&self, lock: Lock) -> Later<'_, Instant> {
        later(Ok(lock.valid_until))
    }

    fn release(&self, _: Lock) -> Later<'_, ()> {
        later(Ok(()))
    }

    fn remove_lock(&self) -> Later<'_, ()> {
        later(Ok(()))
    }

    fn load(&self) -> Later<'_, Snapshot> {
        let state = self.state();
        later(Ok(Snapshot {
            records: state.records.values().cloned().collect(),
            revision: state.revision,
        }))
    }

    fn fence(&self, lock: Lock) -> Later<'_, i64> {
        let mut state = self.state();
        if lock.revision != state.lock {
            return later(Err(StoreError::LockLost));
        }
        state.revision += 1;
        state.fence = state.revision;
        later(Ok(state.fence))
    }

    fn commit<'a>(&'a self, lock: Lock, fence: i64, writes: &'a [Write]) -> Later<'a, i64> {
        let mut state = self.state();
        if lock.revision != state.lock {
            return later(Err(StoreError::LockLost));
        }
        let lost = Err(StoreError::Unreachable {
            doing: "writing".to_owned(),
            store: "the store of this test".to_owned(),
            reason: "the answer is lost".to_owned(),
        });
        later(match state.next.pop_front().unwrap_or_default() {
            Answer::Normal => state.make(fence, writes),
            Answer::MadeButLost => state.make(fence, writes).and(lost),
            Answer::Late => {
                state.late.push((fence, writes.to_vec()));
                lost
            }
        })
    }
}
