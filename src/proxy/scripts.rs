//! Scripts that clients loaded. A server that never heard of one, because it is new or was restarted, is given it before
//! it is first asked to run it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha1::{Digest, Sha1};

use super::resp::put_request;

/// Most scripts that are kept, and their bytes; the oldest make place.
const MOST_SCRIPTS: usize = 1000;
const MOST_BYTES: usize = 16 << 20;
/// Most that is remembered of what a connection's server was given.
const MOST_REMEMBERED: usize = 10_000;

/// A script's name: SHA-1 over its text.
pub(super) type ScriptName = [u8; 20];

/// The scripts of the whole process. Locked only when one is loaded, or first needed on a connection.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    kept: Mutex<Kept>,
    /// Grows with each change.
    version: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    texts: HashMap<ScriptName, Arc<[u8]>>,
    by_age: VecDeque<ScriptName>,
    bytes: usize,
}

impl Scripts {
    /// Keeps a script that a client loads.
    pub(super) fn keep(&self, text: &[u8]) {
        let name: ScriptName = Sha1::digest(text).into();
        let mut kept = self.locked();
        if text.len() > MOST_BYTES || kept.texts.contains_key(&name) {
            return;
        }
        while kept.by_age.len() >= MOST_SCRIPTS || kept.bytes + text.len() > MOST_BYTES {
            let Some(oldest) = kept.by_age.pop_front() else { break };
            kept.bytes -= kept.texts.remove(&oldest).map_or(0, |text| text.len());
        }
        kept.bytes += text.len();
        kept.by_age.push_back(name);
        kept.texts.insert(name, text.into());
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        *self.locked() = Kept::default();
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    fn locked(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which scripts the server at the other end of a connection was given, or can't be given.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    version: u64,
    names: HashSet<ScriptName>,
}

impl Loaded {
    /// The text of a script that the server has to be given before it runs it. Told once.
    pub(super) fn missing(&mut self, scripts: &Scripts, name: ScriptName) -> Option<Arc<[u8]>> {
        let version = scripts.version.load(Ordering::Relaxed);
        if version != self.version || self.names.len() > MOST_REMEMBERED {
            self.version = version;
            self.names.clear();
        }
        if !self.names.insert(name) {
            return None;
        }
        scripts.locked().texts.get(&name).cloned()
    }
}

/// The request that gives a server a script.
pub(super) fn put_script_load(out: &mut Vec<u8>, text: &[u8]) {
    put_request(out, [b"SCRIPT".as_slice(), b"LOAD", text].into_iter());
}

/// Reads a name as clients write it.
pub(super) fn script_name(hex: &[u8]) -> Option<ScriptName> {
    let mut name = ScriptName::default();
    hex::decode_to_slice(hex, &mut name).ok()?;
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &[u8]) -> ScriptName {
        Sha1::digest(text).into()
    }

    #[test]
    fn script_is_given_once_to_each_connection() {
        let (scripts, mut one, mut other) = (Scripts::default(), Loaded::default(), Loaded::default());
        assert_eq!(one.missing(&scripts, name(b"a")), None);
        scripts.keep(b"a");
        assert_eq!(one.missing(&scripts, name(b"a")).as_deref(), Some(b"a".as_slice()));
        assert_eq!(one.missing(&scripts, name(b"a")), None);
        scripts.keep(b"a");
        assert_eq!(one.missing(&scripts, name(b"a")), None);
        assert!(other.missing(&scripts, name(b"a")).is_some());
        scripts.clear();
        assert_eq!(other.missing(&scripts, name(b"a")), None);
    }

    #[test]
    fn number_and_bytes_of_scripts_are_bounded() {
        let scripts = Scripts::default();
        for number in 0..MOST_SCRIPTS + 5 {
            scripts.keep(number.to_string().as_bytes());
        }
        assert_eq!(scripts.locked().texts.len(), MOST_SCRIPTS);
        assert!(!scripts.locked().texts.contains_key(&name(b"0")));
        scripts.keep(&vec![b'x'; MOST_BYTES]);
        assert_eq!(scripts.locked().texts.len(), 1);
        assert_eq!(scripts.locked().bytes, MOST_BYTES);
        scripts.keep(&vec![b'x'; MOST_BYTES + 1]);
        assert_eq!(scripts.locked().texts.len(), 1);
    }

    #[test]
    fn names_are_forty_hex_digits_in_any_case() {
        assert_eq!(
            script_name(b"DA39A3EE5E6B4B0D3255bfef95601890afd80709"),
            Some(name(b""))
        );
        assert_eq!(script_name(b"da39"), None);
        assert_eq!(script_name(&[b'x'; 40]), None);
    }
}
