use crate::proxy::resp::{Request, decimal};

/// Where keys of a command are, as servers describe it (Redis' key specifications): where to begin, and how to go on
/// from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeySpec {
    /// Known places.
    At {
        /// Where the first key, or what tells their number, is.
        begin: Begin,
        /// How to go on.
        find: Find,
    },
    /// The server itself can't say.
    Unknown,
}

/// Where the search begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Begin {
    /// At this argument.
    Index(usize),
    /// Behind this word, looked for from an argument on (negative: backwards, counted from the end).
    Keyword(&'static str, i32),
}

/// How the keys follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Find {
    /// Up to `last` (0: only the first; negative: counted from the end), every `step`, among the first `1/limit` of
    /// what follows (0 and 1: all).
    Range { last: i32, step: usize, limit: usize },
    /// As many as argument `number` says, from `first` on, every `step`. Both are relative to the beginning.
    Count { number: usize, first: usize, step: usize },
}

/// Why the keys of a request can't be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    /// The argument that says how many keys there are is no number.
    #[error("ERR value is not an integer or out of range")]
    NotANumber,
    /// The argument that says how many keys there are is below 0.
    #[error("ERR Number of keys can't be negative")]
    Negative,
    /// The argument that says how many keys there are says more than there are arguments.
    #[error("ERR Number of keys can't be greater than number of args")]
    TooMany,
}

impl KeySpec {
    /// Reads `1:range,0,1,0`, `STREAMS@1:range,-1,1,2`, `2:count,0,1,1` or `?`.
    pub(super) fn parse(text: &'static str) -> Option<Self> {
        if text == "?" {
            return Some(Self::Unknown);
        }
        let (begin, find) = text.split_once(':')?;
        let begin = match begin.split_once('@') {
            Some((word, from)) => Begin::Keyword(word, from.parse().ok()?),
            None => Begin::Index(begin.parse().ok()?),
        };
        let mut parts = find.split(',');
        let kind = parts.next()?;
        let mut number = || parts.next()?.parse::<i32>().ok();
        let [one, two, three] = [number()?, number()?, number()?];
        let positive = |n: i32| usize::try_from(n).ok();
        let find = match kind {
            "range" => Find::Range {
                last: one,
                step: positive(two)?.max(1),
                limit: positive(three)?,
            },
            "count" => Find::Count {
                number: positive(one)?,
                first: positive(two)?,
                step: positive(three)?.max(1),
            },
            _ => return None,
        };
        Some(Self::At { begin, find })
    }

    /// The place of the key, if there is exactly one, always at the same place.
    pub(super) fn single(&self) -> Option<u16> {
        match self {
            Self::At {
                begin: Begin::Index(index),
                find: Find::Range { last: 0, .. },
            } => u16::try_from(*index).ok(),
            _ => None,
        }
    }

    /// Appends the places of the keys of `request`.
    ///
    /// # Errors
    /// When the request does not say how many keys it has.
    pub(crate) fn places(&self, request: &Request<'_>, places: &mut Vec<usize>) -> Result<(), KeyError> {
        let Self::At { begin, find } = self else { return Ok(()) };
        let len = request.len();
        // A server takes the last of several `STORE`, the specification the first: all have to be checked.
        if let (Begin::Keyword(word, from), Find::Range { last: 0, .. }) = (begin, *find) {
            let mut next = *from;
            while let Some(place) = keyword(request, word, next) {
                places.push(place);
                let Ok(after) = i32::try_from(place + 1) else { break };
                next = after;
            }
            return Ok(());
        }
        let begin = match begin {
            Begin::Index(index) => Some(*index),
            Begin::Keyword(word, from) => keyword(request, word, *from),
        };
        let Some(begin) = begin.filter(|begin| *begin < len) else {
            return Ok(());
        };
        match *find {
            Find::Range { last, step, limit } => {
                let end = match usize::try_from(last) {
                    Ok(last) => begin + last + 1,
                    Err(_) if limit > 1 => {
                        (begin + (len - begin) / limit).saturating_sub(last.unsigned_abs() as usize - 1)
                    }
                    Err(_) => (len + 1).saturating_sub(last.unsigned_abs() as usize),
                };
                places.extend((begin..end.min(len)).step_by(step));
            }
            Find::Count { number, first, step } => {
                let count = decimal(request.arg(begin + number)).ok_or(KeyError::NotANumber)?;
                let count = usize::try_from(count).map_err(|_| KeyError::Negative)?;
                let first = begin + first;
                if count > len.saturating_sub(first).div_ceil(step) {
                    return Err(KeyError::TooMany);
                }
                places.extend((first..len).step_by(step).take(count));
            }
        }
        Ok(())
    }
}

/// The place behind `word`. The last argument is never taken for it, because nothing would follow.
fn keyword(request: &Request<'_>, word: &str, from: i32) -> Option<usize> {
    let is_word = |place: &usize| request.arg(*place).eq_ignore_ascii_case(word.as_bytes());
    let len = request.len();
    match usize::try_from(from) {
        Ok(from) => (from..len.saturating_sub(1)).find(is_word),
        Err(_) => (2..=len.checked_sub(from.unsigned_abs() as usize)?).rev().find(is_word),
    }
    .map(|place| place + 1)
}

#[cfg(test)]
mod tests {
    use super::super::{Found, table};
    use super::*;
    use crate::proxy::resp::{Limits, RequestParser, Step};
    use proptest::prelude::*;

    fn keys_of(line: &str) -> Result<Vec<String>, KeyError> {
        let data = [line.as_bytes(), b"\r\n"].concat();
        let mut parser = RequestParser::default();
        let Ok(Step::Done(len)) = parser.parse(&data, Limits::AUTHENTICATED) else {
            panic!("{line}")
        };
        let request = parser.request(&data, len);
        let Found::Known(command) = table().find(request.arg(0)) else {
            panic!("{line}")
        };
        let mut places = Vec::new();
        for spec in &command.keys {
            spec.places(&request, &mut places)?;
        }
        Ok(places
            .into_iter()
            .map(|p| String::from_utf8_lossy(request.arg(p)).into_owned())
            .collect())
    }

    #[test]
    fn keys_are_found_wherever_the_command_has_them() {
        let table: [(&str, &[&str]); 15] = [
            ("get a", &["a"]),
            ("mset a 1 b 2", &["a", "b"]),
            ("del a b c", &["a", "b", "c"]),
            ("eval script 2 a b arg", &["a", "b"]),
            ("eval script 0 arg", &[]),
            ("zunionstore d 2 a b weights 1 2", &["d", "a", "b"]),
            ("zinter 2 a b withscores", &["a", "b"]),
            ("lmpop 1 a left", &["a"]),
            ("xread count 2 streams a b 0 0", &["a", "b"]),
            ("xreadgroup group streams c streams a b > >", &["a", "b"]),
            ("georadius a 1 2 3 m store d", &["a", "d"]),
            ("georadius a 1 2 3 m store b storedist c store d", &["a", "b", "d", "c"]),
            ("smove a b m", &["a", "b"]),
            ("sort a limit 0 1", &["a"]),
            ("lcs a b len", &["a", "b"]),
        ];
        for (line, keys) in table {
            assert_eq!(keys_of(line).unwrap(), keys, "{line}");
        }
    }

    #[test]
    fn numbers_of_keys_that_are_none_are_refused() {
        assert_eq!(keys_of("eval s x a"), Err(KeyError::NotANumber));
        assert_eq!(keys_of("eval s -1 a"), Err(KeyError::Negative));
        assert_eq!(keys_of("eval s 2 a"), Err(KeyError::TooMany));
        assert_eq!(keys_of("eval s 9223372036854775807 a"), Err(KeyError::TooMany));
    }

    proptest! {
        #[test]
        fn places_are_arguments(
            name in proptest::sample::select(table().all().iter().map(|c| c.name).collect::<Vec<_>>()),
            args in proptest::collection::vec("streams|store|keys|[0-9]|-1|a", 0..8),
        ) {
            let words: Vec<&[u8]> = std::iter::once(name.as_bytes()).chain(args.iter().map(|a| a.as_bytes())).collect();
            let mut data = Vec::new();
            crate::proxy::resp::put_request(&mut data, words.iter().copied());
            let mut parser = RequestParser::default();
            let Ok(Step::Done(len)) = parser.parse(&data, Limits::AUTHENTICATED) else { panic!("a request") };
            let request = parser.request(&data, len);
            let Found::Known(command) = table().find(name.as_bytes()) else { panic!("{name}") };
            let mut places = Vec::new();
            for spec in &command.keys {
                let _ = spec.places(&request, &mut places);
            }
            prop_assert!(places.iter().all(|place| *place < request.len()));
        }
    }
}
