use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::state::State;
use crate::dashboard::store::StoreError;
use crate::model::{ProductName, store_paths};

/// How long a call waits for its turn. Less than a call may take, so that it is said what it waited for.
const TURN: Duration = Duration::from_millis(800);
/// How often it asks.
const PAUSE: Duration = Duration::from_millis(2);

/// The folders of the store. A record `/codis3/…` is the file `ROOT/data/codis3/…`, as Codis keeps it; beside them lies
/// `ROOT/revisions/PRODUCT.json`. All files are written in `ROOT/temp` and renamed, so that nobody reads half a file.
///
/// This guards against the death of a process, not of the machine: nothing is flushed to the disk.
pub(super) struct Files {
    root: PathBuf,
    product: ProductName,
    /// How many more files are written, or removed, before it is as if the process had been killed.
    #[cfg(test)]
    pub(super) life: std::sync::Mutex<Option<usize>>,
}

/// Keeps every other call, of every process, out of the folders until it is dropped.
pub(super) struct Turn {
    _file: File,
}

impl Files {
    pub(super) fn new(root: PathBuf, product: ProductName) -> Self {
        Self {
            root,
            product,
            #[cfg(test)]
            life: std::sync::Mutex::default(),
        }
    }

    /// Waits for the turn: for `ROOT/data.lck`, the file by which Codis' own tools keep each other out.
    pub(super) fn turn(&self) -> Result<Turn, StoreError> {
        for folder in ["data", "temp", "revisions"].map(|name| self.root.join(name)) {
            fs::create_dir_all(&folder).map_err(|error| self.failed("making the folder", &folder, &error))?;
        }
        let path = self.root.join("data.lck");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = opened.map_err(|error| self.failed("opening", &path, &error))?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Turn { _file: file }),
                Err(TryLockError::WouldBlock) if began.elapsed() < TURN => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    return Err(StoreError::Unreachable {
                        doing: format!("locking {}", path.display()),
                        store: self.name(),
                        reason: format!("another process has kept it for {TURN:?}"),
                    });
                }
                Err(TryLockError::Error(error)) => return Err(self.failed("locking", &path, &error)),
            }
        }
    }

    /// Which store this is, for people.
    pub(super) fn name(&self) -> String {
        format!("the filesystem at {}", self.root.display())
    }

    /// Where this record lies.
    pub(super) fn path(&self, key: &str) -> PathBuf {
        self.root.join("data").join(key.trim_start_matches('/'))
    }

    /// The record's content.
    pub(super) fn read(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(key);
        present(fs::read(&path)).map_err(|error| self.failed("reading", &path, &error))
    }

    /// Writes the record, or removes it.
    pub(super) fn write(&self, key: &str, value: Option<&str>) -> Result<(), StoreError> {
        let path = self.path(key);
        match value {
            Some(value) => self.replace(&path, value.as_bytes()),
            None => {
                self.live()?;
                let removed = present(fs::remove_file(&path));
                removed
                    .map(drop)
                    .map_err(|error| self.failed("removing", &path, &error))
            }
        }
    }

    /// The keys of all records, ascending.
    pub(super) fn keys(&self) -> Result<Vec<String>, StoreError> {
        let data = self.root.join("data");
        let (mut keys, mut folders) = (Vec::new(), vec![self.path(&store_paths::product(&self.product))]);
        while let Some(folder) = folders.pop() {
            let failed = |error: io::Error| self.failed("listing", &folder, &error);
            for entry in present(fs::read_dir(&folder)).map_err(failed)?.into_iter().flatten() {
                let entry = entry.map_err(failed)?;
                let path = entry.path();
                if entry.file_type().map_err(failed)?.is_dir() {
                    folders.push(path);
                } else if let Ok(below) = path.strip_prefix(&data) {
                    keys.push(format!("/{}", below.display()));
                }
            }
        }
        keys.sort();
        Ok(keys)
    }

    /// The state, as it was saved last.
    pub(super) fn state(&self) -> Result<State, StoreError> {
        let path = self.state_path();
        let text = present(fs::read(&path)).map_err(|error| self.failed("reading", &path, &error))?;
        let Some(text) = text else {
            return Ok(State::begin(jiff::Timestamp::now().as_millisecond()));
        };
        serde_json::from_slice(&text).map_err(|error| StoreError::Corrupt {
            key: path.display().to_string(),
            reason: error.to_string(),
        })
    }

    /// Replaces the state.
    pub(super) fn save(&self, state: &State) -> Result<(), StoreError> {
        let path = self.state_path();
        let text = serde_json::to_vec(state).map_err(|error| StoreError::Corrupt {
            key: path.display().to_string(),
            reason: error.to_string(),
        })?;
        self.replace(&path, &text)
    }

    /// Locks the record's file for as long as what is returned lives; `None`: somebody else has it locked. The kernel frees the
    /// lock when the process dies.
    pub(super) fn lock(&self, key: &str) -> Result<Option<File>, StoreError> {
        let path = self.path(key);
        let file = File::open(&path).map_err(|error| self.failed("opening", &path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(self.failed("locking", &path, &error)),
        }
    }

    /// Marks the file as in use at this moment.
    pub(super) fn beat(&self, file: &File) -> Result<(), StoreError> {
        let marked = file.set_modified(SystemTime::now());
        marked.map_err(|error| self.failed("marking the lock in", &self.root, &error))
    }

    /// When the record's file was marked, or written, last. The clock that tells may be set at any time: only that it
    /// changes means something.
    pub(super) fn beaten_at(&self, key: &str) -> Result<Option<SystemTime>, StoreError> {
        let path = self.path(key);
        let modified = present(fs::metadata(&path).and_then(|metadata| metadata.modified()));
        modified.map_err(|error| self.failed("looking at", &path, &error))
    }

    /// Whether the record's file is this one, and not another of the same name.
    pub(super) fn is_same(&self, key: &str, file: &File) -> Result<bool, StoreError> {
        let path = self.path(key);
        let failed = |error: io::Error| self.failed("looking at", &path, &error);
        let ours = file.metadata().map_err(failed)?;
        let there = present(fs::metadata(&path)).map_err(failed)?;
        Ok(there.is_some_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())))
    }

    fn state_path(&self) -> PathBuf {
        self.root.join("revisions").join(format!("{}.json", self.product))
    }

    fn replace(&self, path: &Path, content: &[u8]) -> Result<(), StoreError> {
        let temp = self.root.join("temp").join(self.product.as_str());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| self.failed("making the folder", folder, &error))?;
        }
        self.live()?;
        fs::write(&temp, content).map_err(|error| self.failed("writing", &temp, &error))?;
        self.live()?;
        fs::rename(&temp, path).map_err(|error| self.failed("writing", path, &error))
    }

    /// In doubt, something was changed.
    fn failed(&self, doing: &str, path: &Path, error: &io::Error) -> StoreError {
        StoreError::Unreachable {
            doing: format!("{doing} {}", path.display()),
            store: self.name(),
            reason: error.to_string(),
        }
    }

    #[cfg(not(test))]
    fn live(&self) -> Result<(), StoreError> {
        Ok(())
    }

    #[cfg(test)]
    fn live(&self) -> Result<(), StoreError> {
        match &mut *self.life.lock().unwrap() {
            None => Ok(()),
            Some(0) => Err(self.failed("living", &self.root, &io::ErrorKind::Interrupted.into())),
            Some(steps) => {
                *steps -= 1;
                Ok(())
            }
        }
    }
}

fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
