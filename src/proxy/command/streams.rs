use std::ops::Range;

use crate::proxy::resp::Request;

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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::resp::{Limits, RequestParser, Step};

    fn read(line: &str) -> StreamRead {
        let data = [line.as_bytes(), b"\r\n"].concat();
        let mut parser = RequestParser::default();
        let Ok(Step::Done(len)) = parser.parse(&data, Limits::AUTHENTICATED) else {
            panic!("{line}")
        };
        StreamRead::of(&parser.request(&data, len))
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
