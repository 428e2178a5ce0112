use std::time::Duration;

use super::TimeoutAt;
use crate::proxy::resp::{Request, decimal};

/// How a command that may wait says for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// The argument.
    place: usize,
    /// Whether that is in milliseconds; else in seconds, with a fraction.
    millis: bool,
}

impl Patience {
    /// Of a command that says so in seconds.
    pub(crate) fn seconds(at: TimeoutAt, request: &Request<'_>) -> Self {
        Self {
            place: match at {
                TimeoutAt::First => 1,
                TimeoutAt::Last => request.len() - 1,
            },
            millis: false,
        }
    }

    /// Of `XREAD`: this argument.
    pub(crate) fn millis(place: usize) -> Self {
        Self { place, millis: true }
    }

    /// How long; `None` is without end, and what a server will refuse, which needs no end.
    pub(crate) fn read(self, request: &Request<'_>) -> Option<Duration> {
        let text = request.arg(self.place);
        let time = if self.millis {
            Duration::from_millis(u64::try_from(decimal(text)?).ok()?)
        } else {
            Duration::try_from_secs_f64(std::str::from_utf8(text).ok()?.parse().ok()?).ok()?
        };
        (!time.is_zero()).then_some(time)
    }

    /// The request's arguments with so much time instead. At least a millisecond, because none would be without end.
    pub(crate) fn rewrite(self, args: &mut [Vec<u8>], left: Duration) {
        let millis = left.as_millis().max(1);
        if let Some(arg) = args.get_mut(self.place) {
            *arg = if self.millis {
                millis.to_string()
            } else {
                format!("{}.{:03}", millis / 1000, millis % 1000)
            }
            .into_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::resp::{Limits, RequestParser, Step};

    #[test]
    fn time_is_read_and_written_anew() {
        let seconds = |place| Patience { place, millis: false };
        for (line, patience, read, left, written) in [
            ("blpop a 1.5", seconds(2), Some(1500), 20, "0.020"),
            ("blmpop 2 1 left", seconds(1), Some(2000), 1001, "1.001"),
            ("xread block 30 streams a $", Patience::millis(2), Some(30), 0, "1"),
            ("blpop a 0", seconds(2), None, 7, "0.007"),
            ("blpop a -1", seconds(2), None, 7, "0.007"),
            ("blpop a x", seconds(2), None, 7, "0.007"),
            ("blpop a inf", seconds(2), None, 7, "0.007"),
        ] {
            let data = [line.as_bytes(), b"\r\n"].concat();
            let mut parser = RequestParser::default();
            let Ok(Step::Done(len)) = parser.parse(&data, Limits::AUTHENTICATED) else {
                panic!("{line}")
            };
            let request = parser.request(&data, len);
            assert_eq!(patience.read(&request), read.map(Duration::from_millis), "{line}");
            let mut args: Vec<_> = request.args_from(0).map(<[u8]>::to_vec).collect();
            patience.rewrite(&mut args, Duration::from_millis(left));
            assert_eq!(args[patience.place], written.as_bytes(), "{line}");
        }
    }
}
