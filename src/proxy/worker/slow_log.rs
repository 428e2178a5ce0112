use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use crate::proxy::resp::Request;

/// Arguments of a request that are kept, and bytes of each; as Redis.
const MAX_ARGS: usize = 32;
const MAX_ARG: usize = 128;

/// A request that took long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::proxy) struct SlowEntry {
    /// Counts up.
    pub(in crate::proxy) id: u64,
    /// Seconds since 1970.
    pub(in crate::proxy) at: u64,
    /// From reading the request to its reply.
    pub(in crate::proxy) took: Duration,
    /// What was asked for, in part.
    pub(in crate::proxy) args: Vec<Vec<u8>>,
    /// Who asked.
    pub(in crate::proxy) addr: String,
    /// What it calls itself.
    pub(in crate::proxy) name: Vec<u8>,
}

/// The last requests of one worker's clients that took long.
#[derive(Debug, Default)]
pub(in crate::proxy) struct SlowLog(RefCell<VecDeque<SlowEntry>>);

impl SlowLog {
    /// Remembers one, and at most `most`.
    pub(in crate::proxy) fn add(&self, entry: SlowEntry, most: usize) {
        let mut entries = self.0.borrow_mut();
        entries.push_back(entry);
        while entries.len() > most {
            entries.pop_front();
        }
    }

    /// All that are remembered.
    pub(in crate::proxy) fn entries(&self) -> Vec<SlowEntry> {
        self.0.borrow().iter().cloned().collect()
    }

    /// How many are remembered.
    pub(in crate::proxy) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Forgets all.
    pub(in crate::proxy) fn reset(&self) {
        self.0.borrow_mut().clear();
    }
}

/// What is kept of a request, in the form in which Redis does.
pub(in crate::proxy) fn kept_args(request: &Request<'_>) -> Vec<Vec<u8>> {
    let shown = if request.len() > MAX_ARGS {
        MAX_ARGS - 1
    } else {
        request.len()
    };
    let mut args: Vec<Vec<u8>> = (0..shown).map(|place| kept_arg(request.arg(place))).collect();
    if shown < request.len() {
        args.push(format!("... ({} more arguments)", request.len() - shown).into_bytes());
    }
    args
}

fn kept_arg(arg: &[u8]) -> Vec<u8> {
    let mut kept = arg[..arg.len().min(MAX_ARG)].to_vec();
    if arg.len() > MAX_ARG {
        kept.extend_from_slice(format!("... ({} more bytes)", arg.len() - MAX_ARG).as_bytes());
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::resp::{Limits, RequestParser, Step, put_request};

    fn kept(args: &[Vec<u8>]) -> Vec<String> {
        let (mut raw, mut parser) = (Vec::new(), RequestParser::default());
        put_request(&mut raw, args.iter().map(Vec::as_slice));
        let Ok(Step::Done(len)) = parser.parse(&raw, Limits::AUTHENTICATED) else {
            panic!("a whole request")
        };
        let kept = kept_args(&parser.request(&raw, len));
        kept.into_iter().map(|arg| String::from_utf8(arg).unwrap()).collect()
    }

    #[test]
    fn long_requests_are_kept_in_part_as_redis_does() {
        assert_eq!(kept(&[b"GET".to_vec(), b"a".to_vec()]), ["GET", "a"]);
        let long = kept(&[b"SET".to_vec(), vec![b'x'; 130]]);
        assert_eq!(long[1], format!("{}... (2 more bytes)", "x".repeat(128)));
        let many = kept(&vec![b"k".to_vec(); 33]);
        assert_eq!((many.len(), many[31].as_str()), (32, "... (2 more arguments)"));
        assert_eq!(kept(&vec![b"k".to_vec(); 32]).len(), 32);
    }

    #[test]
    fn only_the_last_are_remembered() {
        let log = SlowLog::default();
        for id in 0..10 {
            let entry = SlowEntry {
                id,
                at: 0,
                took: Duration::ZERO,
                args: Vec::new(),
                addr: String::new(),
                name: Vec::new(),
            };
            log.add(entry, 3);
        }
        let ids: Vec<_> = log.entries().into_iter().map(|entry| entry.id).collect();
        assert_eq!(ids, [7, 8, 9]);
        log.reset();
        assert_eq!(log.len(), 0);
    }
}
