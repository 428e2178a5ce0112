use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What the files of the records can't tell: who wrote them when, and what is still to be written. Pure.
///
/// It is one file that is replaced at once. So a change of many records is made at the moment when the state that names it
/// as [`State::unfinished`] is in place; the records are written after that, by whoever comes next if need be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The revision of the last change. Never smaller than it was.
    pub(super) revision: i64,
    /// The revision that made the lock last.
    pub(super) lock: i64,
    records: BTreeMap<String, Known>,
    /// What the last change writes (`None`: removes), until it is done.
    pub(super) unfinished: BTreeMap<String, Option<String>>,
}

/// A record as it was written by a dashboard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    revision: i64,
    /// Whoever edits a file by hand does not tell. So a record is what was written only while its content is the same.
    sha256: String,
}

/// Which revision a record has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Revision {
    /// It does not exist.
    Absent,
    /// It is as a dashboard wrote it at this revision.
    Written(i64),
    /// Somebody else wrote it.
    Foreign,
}

impl Revision {
    /// Whether a write that expects this revision (0: no record) may be made.
    pub(super) fn is(self, expected: i64) -> bool {
        match self {
            Self::Absent => expected == 0,
            Self::Written(revision) => revision == expected,
            Self::Foreign => false,
        }
    }
}

impl State {
    /// Of a folder that has none yet. It begins with the time in milliseconds: where somebody emptied the folder, proxies that
    /// go on see no revision again.
    pub(super) fn begin(unix_millis: i64) -> Self {
        Self {
            revision: unix_millis.max(1),
            lock: 0,
            records: BTreeMap::new(),
            unfinished: BTreeMap::new(),
        }
    }

    /// The revision of the record that has this content.
    pub(super) fn revision_of(&self, key: &str, content: Option<&[u8]>) -> Revision {
        match (content, self.records.get(key)) {
            (None, _) => Revision::Absent,
            (Some(content), Some(known)) if known.sha256 == digest(content) => Revision::Written(known.revision),
            (Some(_), _) => Revision::Foreign,
        }
    }

    /// Makes a change, but for writing the records.
    pub(super) fn change(&mut self, changes: impl IntoIterator<Item = (String, Option<String>)>) {
        self.revision += 1;
        for (key, value) in changes {
            match &value {
                Some(value) => self.take(&key, value.as_bytes()),
                None => drop(self.records.remove(&key)),
            }
            self.unfinished.insert(key, value);
        }
    }

    /// From now on the record with this content is written at the present revision.
    pub(super) fn take(&mut self, key: &str, content: &[u8]) {
        let known = Known {
            revision: self.revision,
            sha256: digest(content),
        };
        self.records.insert(key.to_owned(), known);
    }
}

fn digest(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_the_revision_that_wrote_it_until_somebody_else_edits_it() {
        let mut state = State::begin(5);
        state.change([("a".to_owned(), Some("1".to_owned())), ("b".to_owned(), None)]);
        assert_eq!(state.revision, 6);
        let of = |key, content: Option<&str>| state.revision_of(key, content.map(str::as_bytes));
        assert_eq!(of("a", Some("1")), Revision::Written(6));
        assert_eq!(of("a", Some("2")), Revision::Foreign);
        assert_eq!(of("a", None), Revision::Absent);
        assert_eq!(of("c", Some("1")), Revision::Foreign);
        state.change([("a".to_owned(), None)]);
        assert_eq!(state.revision_of("a", Some(b"1")), Revision::Foreign);
    }

    #[test]
    fn nothing_that_somebody_else_wrote_is_expected() {
        for expected in [0, 7] {
            assert!(!Revision::Foreign.is(expected));
        }
        assert!(Revision::Absent.is(0) && !Revision::Absent.is(7));
        assert!(Revision::Written(7).is(7) && !Revision::Written(7).is(0) && !Revision::Written(7).is(8));
    }
}
