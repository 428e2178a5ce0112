mod files;
mod state;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use self::files::{Files, Turn};
use self::state::{Revision, State};
use super::{Acquired, Later, Lock, Record, Snapshot, Store, StoreError, Write};
use crate::model::{ProductName, Topom, store_paths};

/// How long a holder of the lock may act before it looks again. It bounds how long a holder whose disk hangs goes on.
const HOLD: Duration = Duration::from_millis(2400);
/// How long a holder that lives, but gives no sign of it, keeps others out: one that was stopped acts no more after
/// [`HOLD`], which it counts from before its last sign. Nobody waits for this when it dies: the kernel frees the lock.
const SILENCE: Duration = Duration::from_secs(3);
/// The longest call. A slow disk takes most of a second for all slots.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long one watch of the lock lasts, and how often it looks.
const WATCH_TIME: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(50);

/// The coordinator in files, for dashboards of one host: for development and tests.
///
/// The lock is the file that Codis has for it, held with `flock` by the holder's open file ([`File::try_lock`] of the standard
/// library: nothing to maintain, and the kernel frees it however the holder dies). The file alone is no lock, so one that a killed
/// dashboard left is taken over; and who removes or replaces the file takes the lock away, because it is then another file
/// that the next one locks. A holder shows that it is at work by the time of its file, with each renewal. One that is stopped
/// (SIGSTOP, a debugger) keeps its file locked; whoever waits takes the lock away when that time stands still.
///
/// One that is stopped in the middle of a call, for milliseconds of each second, keeps everybody out until it goes on or
/// ends: what it wrote half, it may still write.
pub(crate) struct FilesystemStore {
    shared: Arc<Shared>,
}

struct Shared {
    files: Files,
    product: ProductName,
    held: Mutex<Option<Held>>,
    /// The last sign of another holder.
    sign: Mutex<Option<Sign>>,
}

/// Our holding of the lock.
struct Held {
    revision: i64,
    file: File,
}

/// A sign of the lock's holder.
struct Sign {
    beaten_at: Option<SystemTime>,
    /// When it was seen first.
    since: Instant,
}

/// The lock, as it was seen.
struct Seen {
    made_at: i64,
    free: bool,
}

impl FilesystemStore {
    /// A store for this product. Looks at the folder when it is first used, and makes it then.
    pub(crate) fn new(root: PathBuf, product: ProductName) -> Self {
        Self {
            shared: Arc::new(Shared {
                files: Files::new(root, product.clone()),
                product,
                held: Mutex::default(),
                sign: Mutex::default(),
            }),
        }
    }

    /// Does this on a thread where files may be waited for. If it takes too long it may still be done, later.
    fn call<T, F>(&self, work: F) -> Later<'_, T>
    where
        T: Send + 'static,
        F: FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let task = tokio::task::spawn_blocking(move || work(&shared));
            let reason = match tokio::time::timeout(CALL_TIMEOUT, task).await {
                Ok(Ok(result)) => return result,
                Ok(Err(failed)) => failed.to_string(),
                Err(_) => format!("no answer within {} s", CALL_TIMEOUT.as_secs_f32()),
            };
            Err(StoreError::Unreachable {
                doing: format!("using the records of {}", self.shared.product),
                store: self.shared.files.name(),
                reason,
            })
        })
    }

    async fn watch(&self, since: Option<i64>) -> Result<(), StoreError> {
        let began = Instant::now();
        let mut known = since;
        loop {
            let seen = self.call(Shared::look).await?;
            if seen.free || seen.made_at > *known.get_or_insert(seen.made_at) || began.elapsed() > WATCH_TIME {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Each call, for whoever has the turn: nobody else reads or writes meanwhile.
impl Shared {
    /// Waits for the turn, and finishes what a process did that was killed in its turn.
    fn enter(&self) -> Result<(Turn, State), StoreError> {
        let turn = self.files.turn()?;
        let mut state = self.files.state()?;
        self.finish(&mut state)?;
        Ok((turn, state))
    }

    /// Makes these changes: all of them, once the state is saved.
    fn make(&self, state: &mut State) -> Result<(), StoreError> {
        self.files.save(state)?;
        self.finish(state)
    }

    /// Writes the records that the state says are to be written. Harmless when repeated.
    fn finish(&self, state: &mut State) -> Result<(), StoreError> {
        if state.unfinished.is_empty() {
            return Ok(());
        }
        for (key, value) in &state.unfinished {
            self.files.write(key, value.as_deref())?;
        }
        state.unfinished.clear();
        self.files.save(state)
    }

    fn lock_key(&self) -> String {
        store_paths::lock(&self.product)
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who has the lock.
    fn holder(&self, state: &State) -> Result<Option<String>, StoreError> {
        let key = self.lock_key();
        let Some(content) = self.files.read(&key)? else {
            return Ok(None);
        };
        let name = match serde_json::from_slice::<Topom>(&content) {
            Ok(topom) => topom.admin_addr,
            Err(_) => "unknown (the lock's value is not a dashboard's)".to_owned(),
        };
        if state.revision_of(&key, Some(&content)) == Revision::Foreign {
            // Codis' own dashboards do not lock their file: nobody knows whether this one lives.
            return Ok(Some(format!(
                "{name}, whose lock was not made by a dashboard of this kind; when it is gone, start with --remove-lock"
            )));
        }
        let is_kept = self.files.lock(&key)?.is_none() && !self.is_silent(&key)?;
        Ok(is_kept.then_some(name))
    }

    /// Whether the lock's holder has given no sign for so long that it does not act any more.
    fn is_silent(&self, key: &str) -> Result<bool, StoreError> {
        let (beaten_at, since) = (self.files.beaten_at(key)?, Instant::now());
        let mut sign = self.sign.lock().unwrap_or_else(PoisonError::into_inner);
        let known = sign.take().filter(|known| known.beaten_at == beaten_at);
        let known = sign.insert(known.unwrap_or(Sign { beaten_at, since }));
        Ok(known.since.elapsed() > SILENCE)
    }

    fn is_ours(&self, state: &State, lock: Lock) -> Result<bool, StoreError> {
        match &*self.held() {
            Some(held) if held.revision == lock.revision && state.lock == lock.revision => {
                self.files.is_same(&self.lock_key(), &held.file)
            }
            _ => Ok(false),
        }
    }

    fn check_ours(&self, state: &State, lock: Lock) -> Result<(), StoreError> {
        if self.is_ours(state, lock)? {
            Ok(())
        } else {
            Err(StoreError::LockLost)
        }
    }

    fn claim(&self, owner: Option<&str>) -> Result<(), StoreError> {
        let (_turn, mut state) = self.enter()?;
        let key = store_paths::owner(&self.product);
        let found = self.files.read(&key)?;
        match (found, owner) {
            (None, None) => Ok(()),
            (None, Some(owner)) => {
                state.change([(key, Some(owner.to_owned()))]);
                self.make(&mut state)
            }
            (Some(found), Some(owner)) if found == owner.as_bytes() => Ok(()),
            (Some(found), _) => Err(StoreError::Owned {
                product: self.product.to_string(),
                owner: String::from_utf8_lossy(&found).into_owned(),
                claimant: owner.unwrap_or("a dashboard without --owner-id").to_owned(),
            }),
        }
    }

    fn acquire(&self, topom: &Topom) -> Result<Acquired, StoreError> {
        let asked_at = Instant::now();
        let (_turn, mut state) = self.enter()?;
        // Whoever asks does not know of a lock: one that we have was taken by a call that got no answer.
        *self.held() = None;
        if let Some(by) = self.holder(&state)? {
            let revision = state.revision;
            return Ok(Acquired::Held { by, revision });
        }
        let key = self.lock_key();
        let value = crate::dashboard::topology::to_json(topom).map_err(|reason| StoreError::Corrupt {
            key: key.clone(),
            reason: reason.to_string(),
        })?;
        state.change([(key.clone(), Some(value))]);
        state.lock = state.revision;
        self.make(&mut state)?;
        let revision = state.lock;
        match self.files.lock(&key)? {
            Some(file) => *self.held() = Some(Held { revision, file }),
            None => {
                let by = "unknown".to_owned();
                return Ok(Acquired::Held { by, revision });
            }
        }
        Ok(Acquired::Ours(Lock {
            revision,
            lease: 0,
            valid_until: asked_at + HOLD,
        }))
    }

    fn look(&self) -> Result<Seen, StoreError> {
        let (_turn, state) = self.enter()?;
        Ok(Seen {
            made_at: state.lock,
            free: self.holder(&state)?.is_none(),
        })
    }

    fn renew(&self, lock: Lock) -> Result<Instant, StoreError> {
        let asked_at = Instant::now();
        let (_turn, state) = self.enter()?;
        self.check_ours(&state, lock)?;
        if let Some(held) = &*self.held() {
            self.files.beat(&held.file)?;
        }
        Ok(asked_at + HOLD)
    }

    fn release(&self, lock: Lock) -> Result<(), StoreError> {
        let (_turn, mut state) = self.enter()?;
        if self.is_ours(&state, lock)? {
            state.change([(self.lock_key(), None)]);
            self.make(&mut state)?;
        }
        self.held().take_if(|held| held.revision == lock.revision);
        Ok(())
    }

    fn remove_lock(&self) -> Result<(), StoreError> {
        let (_turn, mut state) = self.enter()?;
        state.change([(self.lock_key(), None)]);
        self.make(&mut state)
    }

    /// The lock is not among the records: it is looked at where it counts, in each change.
    fn load(&self) -> Result<Snapshot, StoreError> {
        let (_turn, mut state) = self.enter()?;
        let (mut found, mut foreign) = (Vec::new(), false);
        for key in self.files.keys()? {
            if key == self.lock_key() {
                continue;
            }
            // One that somebody removed since it was listed is not there.
            if let Some(value) = self.files.read(&key)? {
                foreign |= state.revision_of(&key, Some(&value)) == Revision::Foreign;
                found.push((key, value));
            }
        }
        if foreign {
            state.revision += 1;
            for (key, value) in &found {
                if state.revision_of(key, Some(value)) == Revision::Foreign {
                    state.take(key, value);
                }
            }
            self.files.save(&state)?;
        }
        let records = found.into_iter().map(|(key, value)| {
            let revision = match state.revision_of(&key, Some(&value)) {
                Revision::Written(revision) => revision,
                Revision::Absent | Revision::Foreign => state.revision,
            };
            Record { key, value, revision }
        });
        Ok(Snapshot {
            records: records.collect(),
            revision: state.revision,
        })
    }

    /// The lock's record gets a new revision, which is the fence; its file stays as it is, and ours.
    fn fence(&self, lock: Lock) -> Result<i64, StoreError> {
        let (_turn, mut state) = self.enter()?;
        self.check_ours(&state, lock)?;
        let key = self.lock_key();
        let content = self.files.read(&key)?.ok_or(StoreError::LockLost)?;
        state.revision += 1;
        state.take(&key, &content);
        self.files.save(&state)?;
        Ok(state.revision)
    }

    fn commit(&self, lock: Lock, fence: i64, writes: Vec<Write>) -> Result<i64, StoreError> {
        let (_turn, mut state) = self.enter()?;
        self.check_ours(&state, lock)?;
        if !self.is_at(&state, &self.lock_key(), fence)? {
            return Err(StoreError::Conflict);
        }
        for write in &writes {
            if !self.is_at(&state, &write.key, write.expected)? {
                return Err(StoreError::Conflict);
            }
        }
        state.change(writes.into_iter().map(|write| (write.key, write.value)));
        let revision = state.revision;
        self.make(&mut state)?;
        Ok(revision)
    }

    fn is_at(&self, state: &State, key: &str, revision: i64) -> Result<bool, StoreError> {
        let content = self.files.read(key)?;
        Ok(state.revision_of(key, content.as_deref()).is(revision))
    }
}

impl Store for FilesystemStore {
    /// All at once: a change is made as a whole.
    fn max_writes(&self) -> usize {
        usize::MAX
    }

    fn claim<'a>(&'a self, owner: Option<&'a str>) -> Later<'a, ()> {
        let owner = owner.map(str::to_owned);
        self.call(move |shared| shared.claim(owner.as_deref()))
    }

    fn acquire<'a>(&'a self, topom: &'a Topom) -> Later<'a, Acquired> {
        let topom = topom.clone();
        self.call(move |shared| shared.acquire(&topom))
    }

    fn wait_changed(&self, since: Option<i64>) -> Later<'_, ()> {
        Box::pin(self.watch(since))
    }

    fn renew(&self, lock: Lock) -> Later<'_, Instant> {
        self.call(move |shared| shared.renew(lock))
    }

    fn release(&self, lock: Lock) -> Later<'_, ()> {
        self.call(move |shared| shared.release(lock))
    }

    fn remove_lock(&self) -> Later<'_, ()> {
        self.call(Shared::remove_lock)
    }

    fn load(&self) -> Later<'_, Snapshot> {
        self.call(Shared::load)
    }

    fn fence(&self, lock: Lock) -> Later<'_, i64> {
        self.call(move |shared| shared.fence(lock))
    }

    fn commit<'a>(&'a self, lock: Lock, fence: i64, writes: &'a [Write]) -> Later<'a, i64> {
        let writes = writes.to_vec();
        self.call(move |shared| shared.commit(lock, fence, writes))
    }
}
