use memchr::{memchr, memchr2};

use super::inline;
use super::rest::RequestRest;
use super::write::put_request;

/// How a client begins that speaks TLS. No request does, and waiting for the end of a line would be of no use.
const TLS_HANDSHAKE: &[u8] = &[0x16, 3];
/// Longest line that is looked at before its end was seen, and longest inline request: as Redis.
const MAX_LINE: usize = 64 << 10;

/// What a client may announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Arguments of a request.
    pub(crate) args: i64,
    /// Bytes of an argument.
    pub(crate) bulk: i64,
    /// Whether these are the narrow limits of those who did not log in yet.
    pub(crate) unauthenticated: bool,
}

impl Limits {
    /// Clients that may do something.
    pub(crate) const AUTHENTICATED: Self = Self {
        args: 1 << 20,
        bulk: 512 << 20,
        unauthenticated: false,
    };
    /// Clients that have to give a password first. The numbers are Redis'.
    pub(crate) const UNAUTHENTICATED: Self = Self {
        args: 10,
        bulk: 16 << 10,
        unauthenticated: true,
    };
}

/// A request that can't be understood: it is answered with this text and the connection closed, because nobody knows
/// where the next request begins. Texts are Redis' where Redis has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ERR Protocol error: {0}")]
pub(crate) struct ProtocolError(pub(crate) String);

impl ProtocolError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// How far parsing came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The request goes on in bytes that did not arrive yet.
    More,
    /// The request is this many bytes long. Without arguments (an empty line, `*0`) it is to be ignored.
    Done(usize),
}

/// An argument's place in the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arg {
    start: u32,
    len: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begin,
    /// The next thing is an argument's length.
    Length,
    /// The next thing is an argument of this many bytes.
    Body(usize),
}

/// Parses one request at a time, in place. What was parsed of a request that has not arrived as a whole is remembered,
/// so that each byte is looked at once however it arrives; nothing is allocated by an announced length.
#[derive(Debug)]
pub(crate) struct RequestParser {
    stage: Stage,
    at: usize,
    missing: usize,
    args: Vec<Arg>,
    /// An inline request, rewritten in the form in which it is forwarded.
    inline: Vec<u8>,
    is_inline: bool,
}

impl Default for RequestParser {
    fn default() -> Self {
        Self {
            stage: Stage::Begin,
            at: 0,
            missing: 0,
            args: Vec::new(),
            inline: Vec::new(),
            is_inline: false,
        }
    }
}

/// A whole request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    raw: &'a [u8],
    args: &'a [Arg],
}

impl<'a> Request<'a> {
    /// The request as it is forwarded: an array of bulk strings.
    pub(crate) fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The number of arguments, the command's name included.
    pub(crate) fn len(&self) -> usize {
        self.args.len()
    }

    /// Argument `index`; empty when there is none.
    pub(crate) fn arg(&self, index: usize) -> &'a [u8] {
        self.get(index).unwrap_or_default()
    }

    /// Argument `index`, if there is one.
    pub(crate) fn get(&self, index: usize) -> Option<&'a [u8]> {
        let arg = self.args.get(index)?;
        self.raw.get(arg.start as usize..(arg.start + arg.len) as usize)
    }

    /// The arguments from `from` on.
    pub(crate) fn args_from(&self, from: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let Self { raw, args } = *self;
        args.iter()
            .skip(from)
            .map(move |arg| &raw[arg.start as usize..(arg.start + arg.len) as usize])
    }
}

impl RequestParser {
    /// Forgets what was parsed: the next bytes begin a request.
    pub(crate) fn reset(&mut self) {
        self.stage = Stage::Begin;
        self.at = 0;
        self.args.clear();
        if self.args.capacity() > 1024 {
            self.args = Vec::new();
        }
    }

    /// Parses on. `data` begins where the request begins, with what was given before and more.
    ///
    /// # Errors
    /// When this is no request. The parser is of no more use then.
    pub(crate) fn parse(&mut self, data: &[u8], limits: Limits) -> Result<Step, ProtocolError> {
        loop {
            match self.stage {
                Stage::Begin => {
                    self.args.clear();
                    match data.first() {
                        None => return Ok(Step::More),
                        Some(b'*') => {}
                        Some(_) => return self.parse_inline(data),
                    }
                    let Some((number, next)) = header(data, 1, "mbulk count")? else {
                        return Ok(Step::More);
                    };
                    let number =
                        number.filter(|n| *n <= limits.args || limits.unauthenticated && *n <= i64::from(i32::MAX));
                    let number = number.ok_or_else(|| ProtocolError::new("invalid multibulk length"))?;
                    if number > limits.args {
                        return Err(ProtocolError::new("unauthenticated multibulk length"));
                    }
                    (self.is_inline, self.at) = (false, next);
                    if number <= 0 {
                        return Ok(Step::Done(next));
                    }
                    self.missing = number as usize;
                    self.stage = Stage::Length;
                }
                Stage::Length => {
                    if self.missing == 0 {
                        return Ok(Step::Done(self.at));
                    }
                    let Some((len, next)) = bulk_length(data, self.at, limits)? else {
                        return Ok(Step::More);
                    };
                    self.at = next;
                    self.stage = Stage::Body(len);
                }
                Stage::Body(len) => {
                    let end = self.at + len;
                    let Some(tail) = data.get(end..end + 2) else {
                        return Ok(Step::More);
                    };
                    check_end(tail)?;
                    let start = u32::try_from(self.at).map_err(|_| too_big())?;
                    u32::try_from(end).map_err(|_| too_big())?;
                    self.args.push(Arg { start, len: len as u32 });
                    self.missing -= 1;
                    self.at = end + 2;
                    self.stage = Stage::Length;
                }
            }
        }
    }

    fn parse_inline(&mut self, data: &[u8]) -> Result<Step, ProtocolError> {
        if data.starts_with(TLS_HANDSHAKE) {
            return Err(ProtocolError::new("TLS is not spoken at this port"));
        }
        let Some(end) = memchr(b'\n', &data[self.at..]).map(|found| self.at + found) else {
            self.at = data.len();
            return if data.len() > MAX_LINE {
                Err(ProtocolError::new("too big inline request"))
            } else {
                Ok(Step::More)
            };
        };
        if end > MAX_LINE {
            return Err(ProtocolError::new("too big inline request"));
        }
        let line = data[..end].strip_suffix(b"\r").unwrap_or(&data[..end]);
        let words = inline::split(line).ok_or_else(|| ProtocolError::new("unbalanced quotes in request"))?;
        self.is_inline = true;
        self.inline.clear();
        if !words.is_empty() {
            put_request(&mut self.inline, words.iter().map(Vec::as_slice));
            // The rewritten form is our own: parsing it gives the places of the arguments.
            let mut places = Self::default();
            places.parse(&self.inline, Limits::AUTHENTICATED)?;
            self.args = places.args;
        }
        Ok(Step::Done(end + 1))
    }

    /// How long the request is at least, as far as what arrived of it tells.
    pub(crate) fn least_len(&self) -> usize {
        match self.stage {
            Stage::Begin => 0,
            Stage::Length => self.at,
            Stage::Body(len) => self.at + len + 2,
        }
    }

    /// What arrived of a request, of which `data` is the beginning: the arguments that are there as a whole, and how
    /// many there will be.
    pub(crate) fn begun<'a>(&'a self, data: &'a [u8]) -> (Request<'a>, usize) {
        let raw = &data[..self.at];
        (Request { raw, args: &self.args }, self.args.len() + self.missing)
    }

    /// What follows what [`RequestParser::begun`] tells.
    pub(crate) fn rest(&self) -> RequestRest {
        let body = match self.stage {
            Stage::Body(len) => Some(len),
            Stage::Begin | Stage::Length => None,
        };
        RequestRest::new(body, self.missing)
    }

    /// The request that was just parsed out of the first `len` bytes of `data`.
    pub(crate) fn request<'a>(&'a self, data: &'a [u8], len: usize) -> Request<'a> {
        Request {
            raw: if self.is_inline { &self.inline } else { &data[..len] },
            args: &self.args,
        }
    }
}

fn too_big() -> ProtocolError {
    ProtocolError::new("too big request")
}

/// The length of the argument that begins at `at`, and the place of its first byte. `Ok(None)`: that has not arrived.
pub(super) fn bulk_length(data: &[u8], at: usize, limits: Limits) -> Result<Option<(usize, usize)>, ProtocolError> {
    match data.get(at) {
        None => return Ok(None),
        Some(b'$') => {}
        Some(other) => {
            let shown = char::from(*other);
            let shown = if shown.is_ascii_graphic() || shown == ' ' {
                shown
            } else {
                '?'
            };
            return Err(ProtocolError::new(format!("expected '$', got '{shown}'")));
        }
    }
    let Some((number, next)) = header(data, at + 1, "bulk count")? else {
        return Ok(None);
    };
    let largest = if limits.unauthenticated {
        Limits::AUTHENTICATED.bulk
    } else {
        limits.bulk
    };
    let number = number.filter(|n| (0..=largest).contains(n));
    let number = number.ok_or_else(|| ProtocolError::new("invalid bulk length"))?;
    if number > limits.bulk {
        return Err(ProtocolError::new("unauthenticated bulk length"));
    }
    Ok(Some((number as usize, next)))
}

/// Looks at the two bytes behind an argument. Redis skips them unseen. Whoever sends others has lost count, and forwarding
/// them would let proxy and server disagree on where the next request begins.
pub(super) fn check_end(tail: &[u8]) -> Result<(), ProtocolError> {
    if tail != b"\r\n" {
        return Err(ProtocolError::new("expected CRLF after a bulk"));
    }
    Ok(())
}

/// A number and the CRLF behind it, from `from` on: the number (`None`: it is none) and the place after. `Ok(None)`: the
/// line has not arrived as a whole.
fn header(data: &[u8], from: usize, what: &str) -> Result<Option<(Option<i64>, usize)>, ProtocolError> {
    let rest = data.get(from..).unwrap_or_default();
    let Some(end) = memchr2(b'\r', b'\n', &rest[..rest.len().min(MAX_LINE)]) else {
        return if rest.len() >= MAX_LINE {
            Err(ProtocolError::new(format!("too big {what} string")))
        } else {
            Ok(None)
        };
    };
    if rest[end] == b'\n' {
        return Err(ProtocolError::new("expected CRLF after a number"));
    }
    match rest.get(end + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((decimal(&rest[..end]), from + end + 2))),
        Some(_) => Err(ProtocolError::new("expected CRLF after a number")),
    }
}

/// A number as Redis writes it: no plus, no leading zeros, no blanks.
pub(crate) fn decimal(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let (first, negative) = (*digits.first()?, digits.len() < text.len());
    if digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) || (first == b'0' && (digits.len() > 1 || negative))
    {
        return None;
    }
    let mut number: i64 = 0;
    for digit in digits {
        let digit = i64::from(digit - b'0');
        number = number.checked_mul(10)?;
        number = if negative {
            number.checked_sub(digit)?
        } else {
            number.checked_add(digit)?
        };
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse_all(data: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        let (mut parser, mut from, mut requests) = (RequestParser::default(), 0, Vec::new());
        while let Step::Done(len) = parser.parse(&data[from..], Limits::AUTHENTICATED)? {
            let request = parser.request(&data[from..], len);
            requests.push(request.args_from(0).map(<[u8]>::to_vec).collect());
            from += len;
            parser.reset();
        }
        Ok(requests)
    }

    fn error_of(data: &[u8], limits: Limits) -> String {
        match RequestParser::default().parse(data, limits) {
            Err(ProtocolError(text)) => text,
            Ok(step) => format!("{step:?}"),
        }
    }

    #[test]
    fn pipelines_and_inline_requests_are_read() {
        let requests =
            parse_all(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n\r\n*0\r\n*-1\r\nSET 'a b' \"c\\x41\"\n").unwrap();
        let texts: Vec<String> = requests
            .iter()
            .map(|r| {
                r.iter()
                    .map(|a| String::from_utf8_lossy(a))
                    .collect::<Vec<_>>()
                    .join("|")
            })
            .collect();
        assert_eq!(texts, ["GET|a", "PING", "", "", "", "SET|a b|cA"]);
    }

    #[test]
    fn malformed_requests_get_redis_own_errors() {
        let long = [b"PING ".as_slice(), &vec![b'x'; 70_000]].concat();
        let long_count = [b"*".as_slice(), &vec![b'1'; 70_000]].concat();
        let table: [(&[u8], &str); 16] = [
            (b"*x\r\n", "invalid multibulk length"),
            (b"*99999999999999999999\r\n", "invalid multibulk length"),
            (b"*1048577\r\n", "invalid multibulk length"),
            (b"*01\r\n", "invalid multibulk length"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$x\r\n", "invalid bulk length"),
            (b"*1\r\n$536870913\r\n", "invalid bulk length"),
            (b"*1\r\n$9223372036854775807\r\n", "invalid bulk length"),
            (b"*1\r\n*1\r\n", "expected '$', got '*'"),
            (b"*1\r\n:1\r\n", "expected '$', got ':'"),
            (b"*1\r\n\x01", "expected '$', got '?'"),
            (b"*1\r\n$3\r\nGETxx", "expected CRLF after a bulk"),
            (b"SET 'a\r\n", "unbalanced quotes in request"),
            (&long, "too big inline request"),
            (b"\x16\x03\x01\x02", "TLS is not spoken at this port"),
            (&long_count, "too big mbulk count string"),
        ];
        for (data, text) in table {
            assert_eq!(
                error_of(data, Limits::AUTHENTICATED),
                text,
                "{:?}",
                String::from_utf8_lossy(&data[..data.len().min(40)])
            );
        }
        assert_eq!(
            error_of(b"*11\r\n", Limits::UNAUTHENTICATED),
            "unauthenticated multibulk length"
        );
        assert_eq!(
            error_of(b"*1\r\n$16385\r\n", Limits::UNAUTHENTICATED),
            "unauthenticated bulk length"
        );
    }

    #[test]
    fn announced_lengths_allocate_nothing() {
        let mut parser = RequestParser::default();
        assert_eq!(
            parser.parse(b"*1048576\r\n$536870912\r\n", Limits::AUTHENTICATED),
            Ok(Step::More)
        );
        assert!(parser.args.capacity() < 16);
    }

    fn encoded(requests: &[Vec<Vec<u8>>]) -> Vec<u8> {
        let mut data = Vec::new();
        for request in requests {
            put_request(&mut data, request.iter().map(Vec::as_slice));
        }
        data
    }

    proptest! {
        #[test]
        fn requests_are_the_same_however_they_arrive(
            requests in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..5), 1..4),
        ) {
            let data = encoded(&requests);
            prop_assert_eq!(&parse_all(&data).unwrap(), &requests);
            for split in 0..data.len() {
                let (mut parser, mut from, mut got) = (RequestParser::default(), 0, Vec::new());
                for end in [split, data.len()] {
                    while let Step::Done(len) = parser.parse(&data[from..end], Limits::AUTHENTICATED).unwrap() {
                        got.push(parser.request(&data[from..end], len).args_from(0).map(<[u8]>::to_vec).collect::<Vec<_>>());
                        from += len;
                        parser.reset();
                    }
                }
                prop_assert_eq!(&got, &requests);
            }
        }

        #[test]
        fn random_bytes_never_panic(data in proptest::collection::vec(prop_oneof![any::<u8>(), proptest::sample::select(b"*$\r\n0123-".to_vec())], 0..200)) {
            let _ = parse_all(&data);
            let (mut parser, mut from) = (RequestParser::default(), 0);
            for end in 0..=data.len() {
                match parser.parse(&data[from..end], Limits::AUTHENTICATED) {
                    Ok(Step::Done(len)) => { from += len; parser.reset(); }
                    Ok(Step::More) => {}
                    Err(_) => break,
                }
            }
        }

        #[test]
        fn numbers_read_back(number in any::<i64>()) {
            prop_assert_eq!(decimal(number.to_string().as_bytes()), Some(number));
        }
    }
}
