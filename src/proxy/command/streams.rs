use std::ops::Range;

use crate::proxy::resp::{Request, bulk, elements};

/// What `XREAD` or `XREADGROUP` asks for. Their options may stand in any order, and a group may have an option's name, so
/// that they are read one by one, as servers do: the key specification alone would be misled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StreamRead {
    /// To read the streams that these arguments name.
    Streams {
        /// The names' places.
        keys: Range<usize>,
        /// The place of the milliseconds to wait, where it may wait.
        block: Option<usize>,
    },
    /// Nothing that a server would understand.
    Malformed,
}

impl StreamRead {
    /// Reads a request.
    pub(crate) fn of(request: &Request<'_>) -> Self {
        let (mut place, mut block) = (1, None);
        while let Some(option) = request.get(place) {
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            place += if is(b"STREAMS") {
                let first = place + 1;
                let rest = request.len() - first;
                return if rest > 0 && rest.is_multiple_of(2) {
                    Self::Streams {
                        keys: first..first + rest / 2,
                        block,
                    }
                } else {
                    Self::Malformed
                };
            } else if is(b"BLOCK") {
                block = Some(place + 1);
                2
            } else if is(b"COUNT") {
                2
            } else if is(b"GROUP") {
                3
            } else if is(b"NOACK") {
                1
            } else {
                return Self::Malformed;
            };
        }
        Self::Malformed
    }

    /// The names that are read from their stream's end on, and what says so: their places.
    pub(crate) fn read_from_end(&self, request: &Request<'_>) -> Vec<(usize, usize)> {
        let Self::Streams { keys, .. } = self else {
            return Vec::new();
        };
        let ids = keys.clone().map(|key| (key, key + keys.len()));
        ids.filter(|(_, id)| request.arg(*id) == b"$").collect()
    }
}

/// The stream's last entry, as `XREVRANGE` with `COUNT 1` answers; `None` when that is no such answer.
pub(crate) fn last_entry(reply: &[u8]) -> Option<&[u8]> {
    match elements(reply)?.next() {
        None => Some(b"0-0"),
        Some(entry) => bulk(elements(entry)?.next()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::resp::{Limits, RequestParser, Step};

    fn read(line: &str) -> StreamRead {
        read_with_ends(line).0
    }

    fn read_with_ends(line: &str) -> (StreamRead, Vec<(usize, usize)>) {
        let data = [line.as_bytes(), b"\r\n"].concat();
        let mut parser = RequestParser::default();
        let Ok(Step::Done(len)) = parser.parse(&data, Limits::AUTHENTICATED) else {
            panic!("{line}")
        };
        let request = parser.request(&data, len);
        let read = StreamRead::of(&request);
        let ends = read.read_from_end(&request);
        (read, ends)
    }

    #[test]
    fn streams_that_are_read_from_their_end_are_found() {
        assert_eq!(read_with_ends("xread block 0 streams a $ b $ 0 $").1, [(4, 7), (6, 9)]);
        assert_eq!(read_with_ends("xread streams a").1, []);
        assert_eq!(last_entry(b"*1\r\n*2\r\n$3\r\n7-1\r\n*0\r\n"), Some(b"7-1".as_slice()));
        assert_eq!(last_entry(b"*0\r\n"), Some(b"0-0".as_slice()));
        assert_eq!(last_entry(b"-WRONGTYPE no\r\n"), None);
    }

    #[test]
    fn options_are_read_in_any_order() {
        for (line, keys, block) in [
            ("xread streams a 0", 2..3, None),
            ("xread count 2 STREAMS a b 0 0", 4..6, None),
            ("xread streams block streams 0 0", 2..4, None),
            ("xreadgroup group streams block streams a b > >", 5..7, None),
            ("xreadgroup noack count 1 group g streams streams a >", 8..9, None),
            ("xread block 0 streams a 0", 4..5, Some(2)),
            ("xread count 1 BLOCK 0 streams a 0", 6..7, Some(4)),
            ("xreadgroup block 0 group g c streams a >", 7..8, Some(2)),
            ("xreadgroup group streams streams block 0 streams a >", 7..8, Some(5)),
        ] {
            assert_eq!(read(line), StreamRead::Streams { keys, block }, "{line}");
        }
        for line in [
            "xread",
            "xread streams",
            "xread streams a b 0",
            "xread a streams b 0",
            "xread count streams a 0",
            "xreadgroup group g c",
        ] {
            assert_eq!(read(line), StreamRead::Malformed, "{line}");
        }
    }
}
