use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc::{Sender, error::TrySendError};

use super::hot_keys::HotKeys;
use crate::proxy::command::{Command, Local, Plan};
use crate::proxy::resp::Request;

/// Bytes of an argument that are shown.
const SHOWN: usize = 128;
/// Arguments that are shown.
const SHOWN_ARGS: usize = 32;

/// Those who look at the requests of one worker's clients. Mostly nobody does, and then it costs one look at a flag.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Observers {
    active: Cell<bool>,
    taps: RefCell<Vec<Tap>>,
    /// One of so many requests is counted by its key. 0: none.
    sample: u32,
    until_sample: Cell<u32>,
    hot_keys: RefCell<HotKeys>,
}

/// Somebody who reads along. What it does not take in time is dropped and counted.
#[derive(Debug, Clone)]
pub(in crate::proxy) struct Tap {
    lines: Sender<String>,
    dropped: Arc<AtomicU64>,
}

impl Tap {
    /// Lines go to `lines`.
    pub(in crate::proxy) fn new(lines: Sender<String>, dropped: Arc<AtomicU64>) -> Self {
        Self { lines, dropped }
    }

    /// Whether somebody still reads.
    fn tell(&self, line: String) -> bool {
        match self.lines.try_send(line) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

impl Observers {
    /// Counts one of `sample` requests by its key; 0: none.
    pub(super) fn new(sample: u32) -> Self {
        Self {
            active: Cell::new(sample > 0),
            sample,
            until_sample: Cell::new(sample),
            ..Self::default()
        }
    }

    /// Whether anybody looks.
    pub(in crate::proxy) fn are_there(&self) -> bool {
        self.active.get()
    }

    /// Shows what passes from now on.
    pub(in crate::proxy) fn add(&self, tap: Tap) {
        self.taps.borrow_mut().push(tap);
        self.active.set(true);
    }

    /// The keys that were counted.
    pub(in crate::proxy) fn hot_keys(&self) -> Vec<(Vec<u8>, u64)> {
        self.hot_keys.borrow().counts()
    }

    /// Begins to count anew.
    pub(in crate::proxy) fn reset(&self) {
        self.hot_keys.borrow_mut().clear();
    }

    /// A request was taken up; it came `from` there, for this database.
    pub(in crate::proxy) fn see(&self, from: SocketAddr, database: u16, command: &Command, request: &Request<'_>) {
        if self.sample > 0 {
            self.count(command, request);
        }
        let mut taps = self.taps.borrow_mut();
        if taps.is_empty() {
            return;
        }
        let line = line(from, database, command, request);
        taps.retain(|tap| tap.tell(line.clone()));
        self.active.set(self.sample > 0 || !taps.is_empty());
    }

    fn count(&self, command: &Command, request: &Request<'_>) {
        let left = self.until_sample.get() - 1;
        if left > 0 {
            self.until_sample.set(left);
            return;
        }
        self.until_sample.set(self.sample);
        let place = match command.plan {
            Plan::Key(place) => usize::from(place),
            _ => usize::try_from(command.range[0]).unwrap_or(0),
        };
        if let (1.., Some(key)) = (place, request.get(place)) {
            self.hot_keys.borrow_mut().count(key);
        }
    }
}

/// As `MONITOR` writes it. Of what may hold a password only the name is shown.
fn line(from: SocketAddr, database: u16, command: &Command, request: &Request<'_>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut line = format!("{}.{:06} [{database} {from}]", now.as_secs(), now.subsec_micros());
    // Refused ones (`ACL SETUSER`, `CONFIG SET`, `MIGRATE`) included.
    let secret = matches!(
        command.plan,
        Plan::Local(Local::Auth | Local::Hello | Local::Config) | Plan::Denied
    );
    let shown = if secret { 1 } else { request.len().min(SHOWN_ARGS) };
    for place in 0..shown {
        line.push(' ');
        quote(&mut line, request.arg(place));
    }
    if shown < request.len() {
        line.push_str(if secret { " (not shown)" } else { " ..." });
    }
    line.push('\n');
    line
}

/// In quotes, as Redis writes it.
fn quote(out: &mut String, bytes: &[u8]) {
    out.push('"');
    for byte in &bytes[..bytes.len().min(SHOWN)] {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'\\' | b'"' => out.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    if bytes.len() > SHOWN {
        out.push_str("...");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::command::{Found, table};
    use crate::proxy::resp::{Limits, RequestParser, Step, put_request};

    fn see(observers: &Observers, words: &[&[u8]]) {
        let (mut raw, mut parser) = (Vec::new(), RequestParser::default());
        put_request(&mut raw, words.iter().copied());
        let Ok(Step::Done(len)) = parser.parse(&raw, Limits::AUTHENTICATED) else {
            panic!("a whole request")
        };
        let Found::Known(command) = table().find(words[0]) else {
            panic!("a command")
        };
        observers.see("1.2.3.4:5".parse().unwrap(), 7, command, &parser.request(&raw, len));
    }

    #[test]
    fn taps_show_requests_but_no_password_and_drop_what_is_not_taken() {
        let observers = Observers::new(0);
        let (lines, mut taken) = tokio::sync::mpsc::channel(7);
        let dropped = Arc::new(AtomicU64::new(0));
        observers.add(Tap::new(lines, dropped.clone()));
        see(&observers, &[b"set", b"a\"\n\x01", b"1"]);
        see(&observers, &[b"AUTH", b"s3cret"]);
        see(&observers, &[b"HELLO", b"3", b"AUTH", b"default", b"s3cret"]);
        see(&observers, &[b"GET", b"a"]);
        let refused: [&[&[u8]]; 3] = [
            &[b"ACL", b"SETUSER", b"a", b">s3cret"],
            &[b"CONFIG", b"SET", b"requirepass", b"s3cret"],
            &[b"MIGRATE", b"h", b"1", b"k", b"0", b"1", b"AUTH", b"s3cret"],
        ];
        refused.iter().for_each(|words| see(&observers, words));
        see(&observers, &[b"GET", b"a"]);
        let shown: Vec<String> = std::iter::from_fn(|| taken.try_recv().ok()).collect();
        assert!(
            shown[0].ends_with(" [7 1.2.3.4:5] \"set\" \"a\\\"\\n\\x01\" \"1\"\n"),
            "{shown:?}"
        );
        assert!(shown.len() == 7 && !shown.concat().contains("s3cret"), "{shown:?}");
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        drop(taken);
        see(&observers, &[b"GET", b"a"]);
        assert!(!observers.are_there());
    }

    #[test]
    fn one_of_so_many_requests_is_counted_by_its_key() {
        let observers = Observers::new(3);
        for _ in 0..4 {
            for words in [[b"GET".as_slice(), b"a"], [b"DEL", b"b"], [b"XREAD", b"c"]] {
                see(&observers, &words);
            }
            see(&observers, &[b"PING"]);
        }
        let counted: u64 = observers.hot_keys().iter().map(|(_, count)| count).sum();
        assert!((1..=5).contains(&counted), "{:?}", observers.hot_keys());
        observers.reset();
        assert!(observers.hot_keys().is_empty());
    }
}
