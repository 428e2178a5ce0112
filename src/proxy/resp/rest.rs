use super::request::{Limits, ProtocolError, bulk_length, check_end};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The next thing is an argument's length.
    Length,
    /// So many bytes of an argument are missing.
    Body(usize),
    /// The next thing is the CRLF behind an argument.
    End,
}

/// What is missing of a request whose beginning was parsed, and whose bytes are passed on as they arrive: nothing is kept
/// but where its end is.
#[derive(Debug)]
pub(crate) struct RequestRest {
    stage: Stage,
    /// Arguments, the one that was begun included.
    missing: usize,
}

impl RequestRest {
    /// `body`: how long the argument is whose first byte comes next. `missing`: how many arguments there are to come,
    /// this one included.
    pub(super) fn new(body: Option<usize>, missing: usize) -> Self {
        Self {
            stage: body.map_or(Stage::Length, Stage::Body),
            missing,
        }
    }

    /// Goes on: how many bytes of `data` belong to the request, and whether it ends there. Where it does not, the bytes
    /// behind have to be given again with more; they are few.
    ///
    /// # Errors
    /// When this is no request.
    pub(crate) fn advance(&mut self, data: &[u8]) -> Result<(usize, bool), ProtocolError> {
        let mut used = 0;
        loop {
            match self.stage {
                Stage::Length if self.missing == 0 => return Ok((used, true)),
                Stage::Length => {
                    let Some((len, next)) = bulk_length(data, used, Limits::AUTHENTICATED)? else {
                        return Ok((used, false));
                    };
                    used = next;
                    self.stage = Stage::Body(len);
                }
                Stage::Body(left) => {
                    let here = left.min(data.len() - used);
                    used += here;
                    if here < left {
                        self.stage = Stage::Body(left - here);
                        return Ok((used, false));
                    }
                    self.stage = Stage::End;
                }
                Stage::End => {
                    let Some(tail) = data.get(used..used + 2) else {
                        return Ok((used, false));
                    };
                    check_end(tail)?;
                    used += 2;
                    self.missing -= 1;
                    self.stage = Stage::Length;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{RequestParser, Step, put_request};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn malformed_rest_is_refused() {
        for data in [
            b"abcxx".as_slice(),
            b"abc\r\n:1\r\n",
            b"abc\r\n$536870913\r\n",
            b"abc\r\n$x\r\n",
        ] {
            assert!(RequestRest::new(Some(3), 2).advance(data).is_err(), "{data:?}");
        }
    }

    proptest! {
        #[test]
        fn rest_ends_where_the_request_does_however_it_arrives(
            args in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..6),
            first in 1_usize..60,
            step in 1_usize..30,
        ) {
            let mut data = Vec::new();
            put_request(&mut data, args.iter().map(Vec::as_slice));
            let len = data.len();
            data.extend_from_slice(b"*1\r\n");
            let (mut parser, first) = (RequestParser::default(), first.min(len - 1));
            prop_assert_eq!(parser.parse(&data[..first], Limits::AUTHENTICATED), Ok(Step::More));
            prop_assume!(parser.least_len() > 0);
            let (begun, count) = parser.begun(&data[..first]);
            prop_assert!(count == args.len() && begun.args_from(0).eq(args[..begun.len()].iter().map(Vec::as_slice)));
            let (mut rest, mut at, mut end) = (parser.rest(), begun.raw().len(), first);
            loop {
                let (used, done) = rest.advance(&data[at..end]).unwrap();
                at += used;
                if done { break }
                prop_assert!(end < data.len());
                end = (end + step).min(data.len());
            }
            prop_assert_eq!(at, len);
        }
    }
}
