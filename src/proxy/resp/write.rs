/// Which form of the protocol a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Protocol {
    /// RESP2, what every connection begins with.
    #[default]
    Resp2,
    /// RESP3, after `HELLO 3`.
    Resp3,
}

impl Protocol {
    /// The number that `HELLO` takes.
    pub(crate) fn version(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// `kind`, a number, CRLF.
fn put_header(out: &mut Vec<u8>, kind: u8, number: i64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.push(kind);
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// `+text`.
pub(crate) fn put_simple(out: &mut Vec<u8>, text: &str) {
    out.push(b'+');
    put_line(out, text);
}

/// `-text`. The text begins with the error's code.
pub(crate) fn put_error(out: &mut Vec<u8>, text: &str) {
    out.push(b'-');
    put_line(out, text);
}

/// A line may hold no line break, whoever gave it.
fn put_line(out: &mut Vec<u8>, text: &str) {
    out.extend(
        text.bytes()
            .map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }),
    );
    out.extend_from_slice(b"\r\n");
}

/// `:number`.
pub(crate) fn put_integer(out: &mut Vec<u8>, number: i64) {
    put_header(out, b':', number);
}

/// A bulk string.
pub(crate) fn put_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    put_header(out, b'$', bytes.len() as i64);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// The head of an array.
pub(crate) fn put_array(out: &mut Vec<u8>, len: usize) {
    put_header(out, b'*', len as i64);
}

/// The head of what comes without having been asked for: in RESP2 an array.
pub(crate) fn put_push(out: &mut Vec<u8>, protocol: Protocol, len: usize) {
    let kind = match protocol {
        Protocol::Resp2 => b'*',
        Protocol::Resp3 => b'>',
    };
    put_header(out, kind, len as i64);
}

/// The head of a map of `len` pairs: in RESP2 an array of twice as many.
pub(crate) fn begin_map(out: &mut Vec<u8>, protocol: Protocol, len: usize) {
    match protocol {
        Protocol::Resp2 => put_header(out, b'*', 2 * len as i64),
        Protocol::Resp3 => put_header(out, b'%', len as i64),
    }
}

/// Nothing.
pub(crate) fn put_null(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"$-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// An array that is not there: what waited too long, or was not carried out, is answered with.
pub(crate) fn put_null_array(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"*-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// A request.
pub(crate) fn put_request<'a>(out: &mut Vec<u8>, args: impl ExactSizeIterator<Item = &'a [u8]>) {
    put_array(out, args.len());
    for arg in args {
        put_bulk(out, arg);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_written_as_redis_does() {
        let mut out = Vec::new();
        put_simple(&mut out, "OK");
        put_error(&mut out, "ERR a\r\nb");
        put_integer(&mut out, i64::MIN);
        put_bulk(&mut out, b"x\r\n");
        begin_map(&mut out, Protocol::Resp2, 1);
        begin_map(&mut out, Protocol::Resp3, 1);
        put_null(&mut out, Protocol::Resp2);
        put_null(&mut out, Protocol::Resp3);
        let want = "+OK\r\n-ERR a  b\r\n:-9223372036854775808\r\n$3\r\nx\r\n\r\n*2\r\n%1\r\n$-1\r\n_\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}
