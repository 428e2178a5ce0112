use std::cell::Cell;

/// Kinds of errors, by how their text begins; the first that fits counts. The proxy's own come first: they begin as
/// unspecific ones of servers do.
const KINDS: [(&str, &str); 23] = [
    ("offline", "ERR handle request, slot is not ready"),
    ("backend", "ERR handle response, backend conn"),
    ("merge", "ERR handle response"),
    ("held", "ERR handle request, the slot was locked"),
    ("shutdown", "ERR handle request, the proxy is shutting down"),
    ("refused", "ERR handle request"),
    ("tls", "ERR Protocol error: TLS"),
    ("protocol", "ERR Protocol error"),
    ("arity", "ERR wrong number of arguments"),
    ("unknown", "ERR unknown"),
    ("crossslot", "CROSSSLOT"),
    ("noauth", "NOAUTH"),
    ("wrongpass", "WRONGPASS"),
    ("wrongtype", "WRONGTYPE"),
    ("loading", "LOADING"),
    ("masterdown", "MASTERDOWN"),
    ("readonly", "READONLY"),
    ("noreplicas", "NOREPLICAS"),
    ("noperm", "NOPERM"),
    ("oom", "OOM"),
    ("busy", "BUSY"),
    ("noscript", "NOSCRIPT"),
    ("err", "ERR"),
];

const PLACES: usize = KINDS.len() + 1;

/// Errors that one worker's clients got, by kind.
#[derive(Debug, Default)]
pub(super) struct Errors([Cell<u64>; PLACES]);

/// Errors by kind: a copy of one worker's figures, or the sum over several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::proxy) struct ErrorCounts([u64; PLACES]);

/// Where errors of this text are counted; the last place is for those that fit nowhere.
fn place(text: &[u8]) -> usize {
    let fits = |(_, begin): &(&str, &str)| text.starts_with(begin.as_bytes());
    KINDS.iter().position(fits).unwrap_or(KINDS.len())
}

impl Errors {
    pub(super) fn record(&self, text: &[u8]) {
        let count = &self.0[place(text)];
        count.set(count.get() + 1);
    }

    pub(super) fn copy(&self) -> ErrorCounts {
        ErrorCounts(std::array::from_fn(|place| self.0[place].get()))
    }
}

impl ErrorCounts {
    /// Adds another worker's.
    pub(super) fn add(&mut self, other: &Self) {
        for (mine, more) in self.0.iter_mut().zip(other.0) {
            *mine += more;
        }
    }

    /// All.
    pub(in crate::proxy) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Each kind's name and number.
    pub(in crate::proxy) fn by_kind(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = KINDS.iter().map(|(name, _)| *name).chain(["other"]);
        names.zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart_by_how_they_begin() {
        let errors = Errors::default();
        for text in [
            "ERR handle request, slot is not ready, may be offline",
            "ERR handle response, backend conn reset",
            "ERR handle request, command 'KEYS' is not allowed",
            "LOADING wait",
            "ERR syntax error",
            "MYERR of a script",
        ] {
            errors.record(text.as_bytes());
        }
        let mut counts = errors.copy();
        counts.add(&errors.copy());
        let found: Vec<_> = counts.by_kind().filter(|(_, count)| *count > 0).collect();
        let kinds = ["offline", "backend", "refused", "loading", "err", "other"];
        assert_eq!(found, kinds.map(|kind| (kind, 2)));
    }
}
