use crate::proxy::command::last_entry;
use crate::proxy::resp::{ReplyError, ReplyScanner, bulk, elements, integer};
use crate::somewhere;

/// What became of a server's bytes: the lengths of the replies, and whether an error followed.
type Scanned = (Vec<usize>, Option<ReplyError>);

/// Replies end at the same places wherever reads split, and an array's elements are all that is in it.
pub fn replies(data: &[u8]) {
    let whole = scan(data, [data.len()]);
    assert_eq!(scan(data, 0..=data.len()), whole, "byte by byte");
    let split = somewhere(data);
    assert_eq!(scan(data, [split, data.len()]), whole, "split at {split}");
    let mut rest = data;
    for len in whole.0 {
        let (reply, after) = rest.split_at(len);
        rest = after;
        is_whole(reply);
    }
    // What is no whole reply harms nobody either.
    look_at(rest);
}

fn scan(data: &[u8], ends: impl IntoIterator<Item = usize>) -> Scanned {
    let (mut scanner, mut from, mut lengths) = (ReplyScanner::default(), 0, Vec::new());
    for end in ends {
        loop {
            match scanner.scan(&data[from..end]) {
                Ok(None) => break,
                Ok(Some(len)) => {
                    from += len;
                    lengths.push(len);
                }
                Err(error) => return (lengths, Some(error)),
            }
        }
    }
    (lengths, None)
}

fn is_whole(reply: &[u8]) {
    look_at(reply);
    if let Some(elements) = elements(reply) {
        let line = reply.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let inside: Vec<_> = elements.flatten().copied().collect();
        assert_eq!(inside, reply[line..], "the elements");
    }
}

fn look_at(reply: &[u8]) {
    let _ = (bulk(reply), integer(reply), last_entry(reply));
    let _ = elements(reply).map(Iterator::count);
}
