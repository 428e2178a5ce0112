use crate::proxy::resp::{Limits, RequestParser, Step, put_request};
use crate::somewhere;

type Words = Vec<Vec<u8>>;

/// What became of a client's bytes.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    /// What was understood.
    requests: Vec<Words>,
    /// How many bytes these were.
    len: usize,
    /// What the client is told before it is closed.
    error: Option<String>,
}

/// Requests are the same ones, and errors too, wherever reads split; what is forwarded is what was understood.
pub fn requests(data: &[u8]) {
    for limits in [Limits::AUTHENTICATED, Limits::UNAUTHENTICATED] {
        let whole = read(data, [data.len()], limits);
        assert_eq!(read(data, 0..=data.len(), limits), whole, "byte by byte");
        let split = somewhere(data);
        assert_eq!(read(data, [split, data.len()], limits), whole, "split at {split}");
    }
}

/// Reads `data`, of which more and more has arrived: up to each of `ends`.
fn read(data: &[u8], ends: impl IntoIterator<Item = usize>, limits: Limits) -> Read {
    let mut parser = RequestParser::default();
    let mut read = Read {
        requests: Vec::new(),
        len: 0,
        error: None,
    };
    for end in ends {
        loop {
            let arrived = &data[read.len..end];
            match parser.parse(arrived, limits) {
                Ok(Step::More) => break,
                Ok(Step::Done(len)) => {
                    let request = parser.request(arrived, len);
                    let words: Words = request.args_from(0).map(<[u8]>::to_vec).collect();
                    assert_eq!(words.len(), request.len());
                    if !words.is_empty() {
                        is_forwarded_as(&words, request.raw());
                    }
                    read.requests.push(words);
                    read.len += len;
                    parser.reset();
                }
                Err(error) => {
                    read.error = Some(error.to_string());
                    return read;
                }
            }
        }
    }
    read
}

/// A server that is sent `raw` reads `words`.
fn is_forwarded_as(words: &Words, raw: &[u8]) {
    let mut expected = Vec::new();
    put_request(&mut expected, words.iter().map(Vec::as_slice));
    assert_eq!(raw, expected, "what is forwarded");
}
