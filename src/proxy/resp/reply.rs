use memchr::memchr;

use super::request::decimal;

/// Longest line in a reply; errors and simple strings are far shorter.
const MAX_LINE: usize = 1 << 20;

/// What came from a server is no reply; its connection has to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server sent what is no reply: {0}")]
pub(crate) struct ReplyError(&'static str);

/// Finds where a reply ends, RESP2 and RESP3. What was seen of an unfinished reply is remembered, so that each byte is
/// looked at once; nesting costs nothing, because only the number of missing elements matters.
#[derive(Debug, Clone)]
pub(crate) struct ReplyScanner {
    at: usize,
    missing: u64,
    /// Where the body of the bulk that was begun ends, its CRLF included.
    bulk_end: Option<usize>,
}

impl Default for ReplyScanner {
    fn default() -> Self {
        Self {
            at: 0,
            missing: 1,
            bulk_end: None,
        }
    }
}

impl ReplyScanner {
    /// How many of `given` bytes the scanner never looks at again: they may be passed on before the reply's end comes.
    pub(crate) fn settled(&self, given: usize) -> usize {
        self.bulk_end.map_or(self.at, |end| given.min(end - 2))
    }

    /// The first `len` bytes, all of them settled, will not be given again.
    pub(crate) fn forget(&mut self, len: usize) {
        self.at = self.at.saturating_sub(len);
        self.bulk_end = self.bulk_end.map(|end| end - len);
    }

    /// Scans on. `data` begins where the reply begins, with what was given before and more. The reply's length, or
    /// `None` when its end has not arrived. After a length the scanner is ready for the next reply.
    ///
    /// # Errors
    /// When this is no reply.
    pub(crate) fn scan(&mut self, data: &[u8]) -> Result<Option<usize>, ReplyError> {
        loop {
            if let Some(end) = self.bulk_end {
                match data.get(end - 2..end) {
                    None => return Ok(None),
                    Some(b"\r\n") => {}
                    Some(_) => return Err(ReplyError("a bulk without its end")),
                }
                (self.at, self.bulk_end) = (end, None);
            }
            if self.missing == 0 {
                let len = self.at;
                *self = Self::default();
                return Ok(Some(len));
            }
            let rest = data.get(self.at..).unwrap_or_default();
            let Some(line) = memchr(b'\n', rest) else {
                return if rest.len() > MAX_LINE {
                    Err(ReplyError("an endless line"))
                } else {
                    Ok(None)
                };
            };
            let [kind, text @ .., b'\r'] = &rest[..line] else {
                return Err(ReplyError("a line without its end"));
            };
            self.at += line + 1;
            let number = || {
                decimal(text)
                    .filter(|n| (-1..=i64::from(u32::MAX)).contains(n))
                    .ok_or(ReplyError("a bad length"))
            };
            let more = match kind {
                b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => 0,
                b'$' | b'=' | b'!' => {
                    if let Ok(len) = usize::try_from(number()?) {
                        self.bulk_end = Some(self.at + len + 2);
                    }
                    0
                }
                b'*' | b'~' | b'>' => u64::try_from(number()?).unwrap_or(0),
                b'%' => 2 * u64::try_from(number()?).unwrap_or(0),
                // Attributes precede the element that they belong to, which is still missing then.
                b'|' => 2 * u64::try_from(number()?).unwrap_or(0) + 1,
                _ => return Err(ReplyError("an unknown type")),
            };
            self.missing = (self.missing - 1)
                .checked_add(more)
                .ok_or(ReplyError("too many elements"))?;
        }
    }
}

/// The elements of an array reply, each as it stands; `None` when the reply is not an array.
pub(crate) fn elements(reply: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let end = memchr(b'\n', reply)?;
    let [b'*', number @ .., b'\r'] = &reply[..end] else {
        return None;
    };
    let mut left = usize::try_from(decimal(number)?).ok()?;
    let mut rest = &reply[end + 1..];
    Some(std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        let len = ReplyScanner::default().scan(rest).ok()??;
        let (element, tail) = rest.split_at(len);
        rest = tail;
        Some(element)
    }))
}

/// What a bulk string holds; `None` when the reply is none.
pub(crate) fn bulk(reply: &[u8]) -> Option<&[u8]> {
    let end = memchr(b'\n', reply)?;
    reply.starts_with(b"$").then_some(())?;
    reply.get(end + 1..)?.strip_suffix(b"\r\n")
}

/// The number of an integer reply.
pub(crate) fn integer(reply: &[u8]) -> Option<i64> {
    decimal(reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REPLIES: [&[u8]; 16] = [
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":-12\r\n",
        b"$5\r\nhe\r\no\r\n",
        b"$0\r\n\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*2\r\n*1\r\n:1\r\n$1\r\na\r\n",
        b"_\r\n",
        b"%1\r\n+a\r\n~2\r\n#t\r\n,1.5\r\n",
        b"|1\r\n+ttl\r\n:3\r\n*1\r\n(123\r\n",
        b"=7\r\ntxt:abc\r\n",
        b"!5\r\nERR x\r\n",
        b">2\r\n+pubsub\r\n+x\r\n",
        b"*3\r\n%0\r\n*0\r\n|0\r\n_\r\n",
    ];

    #[test]
    fn ends_are_found_wherever_reads_split() {
        for reply in REPLIES {
            let data = [reply, b"+next\r\n"].concat();
            for split in 0..reply.len() {
                let mut scanner = ReplyScanner::default();
                assert_eq!(scanner.scan(&data[..split]), Ok(None), "{reply:?} at {split}");
                assert_eq!(scanner.scan(&data), Ok(Some(reply.len())), "{reply:?} at {split}");
                assert_eq!(scanner.scan(&data[reply.len()..]), Ok(Some(7)));
            }
        }
    }

    #[test]
    fn what_is_settled_need_not_be_given_again() {
        for reply in REPLIES {
            let data = [reply, b"+next\r\n"].concat();
            for step in 1..reply.len() {
                let (mut scanner, mut kept, mut passed) = (ReplyScanner::default(), Vec::new(), Vec::new());
                let mut chunks = data.chunks(step);
                let len = loop {
                    kept.extend_from_slice(chunks.next().unwrap());
                    if let Some(len) = scanner.scan(&kept).unwrap() {
                        break len;
                    }
                    let settled = scanner.settled(kept.len());
                    passed.extend(kept.drain(..settled));
                    scanner.forget(settled);
                };
                passed.extend_from_slice(&kept[..len]);
                assert_eq!(passed, reply, "{step} bytes at a time");
            }
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for data in [
            b"x\r\n".as_slice(),
            b"$3\r\nabcde\r\n",
            b"$-2\r\n",
            b"*?\r\n",
            b"$99999999999\r\n",
            b"+a\n",
            b"\r\n",
        ] {
            assert!(ReplyScanner::default().scan(data).is_err(), "{data:?}");
        }
    }

    #[test]
    fn elements_of_an_array_are_given_as_they_stand() {
        let all: Vec<_> = elements(b"*3\r\n$-1\r\n$1\r\na\r\n*1\r\n:1\r\n").unwrap().collect();
        assert_eq!(all, [b"$-1\r\n".as_slice(), b"$1\r\na\r\n", b"*1\r\n:1\r\n"]);
        assert!(elements(b"-ERR\r\n").is_none() && elements(b"*-1\r\n").is_none());
        assert_eq!((integer(b":5\r\n"), integer(b"+5\r\n")), (Some(5), None));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(data in proptest::collection::vec(prop_oneof![any::<u8>(), proptest::sample::select(b"*$%|:\r\n0123-".to_vec())], 0..200)) {
            let mut scanner = ReplyScanner::default();
            for end in 0..=data.len() {
                if !matches!(scanner.scan(&data[..end]), Ok(None)) { break; }
            }
            let _ = elements(&data).map(Iterator::count);
        }
    }
}
