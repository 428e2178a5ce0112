use std::net::SocketAddr;

use super::SYNTAX;
use crate::proxy::resp::{Request, decimal};

/// Which clients `CLIENT LIST` and `CLIENT KILL` mean: those that fit all that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Select {
    ids: Option<Vec<u64>>,
    addr: Option<Vec<u8>>,
    local: Option<Vec<u8>>,
    /// Whether those of the type are ordinary clients: all of the proxy's are.
    ordinary: Option<bool>,
    /// Seconds.
    max_age: Option<u64>,
    /// Whoever asks is not meant.
    skip_asker: bool,
}

/// What is looked at of a client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) id: u64,
    pub(super) addr: SocketAddr,
    pub(super) local: SocketAddr,
    /// Seconds.
    pub(super) age: u64,
    pub(super) is_asker: bool,
}

fn id(arg: &[u8]) -> Result<u64, String> {
    let id = decimal(arg).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
    id.ok_or_else(|| "ERR client-id should be greater than 0".to_owned())
}

fn ordinary(arg: &[u8]) -> Result<bool, String> {
    let is = |word: &&str| arg.eq_ignore_ascii_case(word.as_bytes());
    if is(&"normal") {
        Ok(true)
    } else if ["master", "primary", "replica", "slave", "pubsub"].iter().any(is) {
        Ok(false)
    } else {
        Err(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(arg)))
    }
}

impl Select {
    /// `CLIENT LIST [TYPE type] [ID id …]`.
    pub(super) fn for_list(request: &Request<'_>) -> Result<Self, String> {
        let option = |word: &[u8]| request.arg(2).eq_ignore_ascii_case(word);
        match request.len() {
            2 => Ok(Self::default()),
            4 if option(b"TYPE") => Ok(Self {
                ordinary: Some(ordinary(request.arg(3))?),
                ..Self::default()
            }),
            4.. if option(b"ID") => Ok(Self {
                ids: Some(request.args_from(3).map(decimal_id).collect::<Result<_, _>>()?),
                ..Self::default()
            }),
            _ => Err(SYNTAX.to_owned()),
        }
    }

    /// `CLIENT KILL addr`, or `CLIENT KILL filter value …`.
    pub(super) fn for_kill(request: &Request<'_>) -> Result<Self, String> {
        if request.len() == 3 {
            return Ok(Self {
                addr: Some(request.arg(2).to_vec()),
                ..Self::default()
            });
        }
        if !request.len().is_multiple_of(2) {
            return Err(SYNTAX.to_owned());
        }
        let mut select = Self {
            skip_asker: true,
            ..Self::default()
        };
        for place in (2..request.len()).step_by(2) {
            let (filter, value) = (request.arg(place), request.arg(place + 1));
            let is = |word: &[u8]| filter.eq_ignore_ascii_case(word);
            if is(b"ID") {
                select.ids.get_or_insert_default().push(id(value)?);
            } else if is(b"ADDR") {
                select.addr = Some(value.to_vec());
            } else if is(b"LADDR") {
                select.local = Some(value.to_vec());
            } else if is(b"TYPE") {
                select.ordinary = Some(ordinary(value)?);
            } else if is(b"USER") {
                if value != b"default" {
                    return Err(format!("ERR No such user '{}'", String::from_utf8_lossy(value)));
                }
            } else if is(b"MAXAGE") {
                let seconds = decimal(value).and_then(|seconds| u64::try_from(seconds).ok());
                select.max_age =
                    Some(seconds.ok_or_else(|| "ERR maxage is not an integer or out of range".to_owned())?);
            } else if is(b"SKIPME") && value.eq_ignore_ascii_case(b"yes") {
                select.skip_asker = true;
            } else if is(b"SKIPME") && value.eq_ignore_ascii_case(b"no") {
                select.skip_asker = false;
            } else {
                return Err(SYNTAX.to_owned());
            }
        }
        Ok(select)
    }

    /// Whether this one is meant.
    pub(super) fn fits(&self, client: Candidate) -> bool {
        let is_at = |given: &Option<Vec<u8>>, addr: SocketAddr| {
            given
                .as_ref()
                .is_none_or(|given| *given == addr.to_string().into_bytes())
        };
        self.ids.as_ref().is_none_or(|ids| ids.contains(&client.id))
            && is_at(&self.addr, client.addr)
            && is_at(&self.local, client.local)
            && self.ordinary != Some(false)
            && self.max_age.is_none_or(|seconds| client.age >= seconds)
            && !(self.skip_asker && client.is_asker)
    }
}

fn decimal_id(arg: &[u8]) -> Result<u64, String> {
    id(arg).map_err(|_| "ERR Invalid client ID".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::resp::{Limits, RequestParser, Step, put_request};

    fn parsed<T>(words: &str, read: impl Fn(&Request<'_>) -> T) -> T {
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        let (mut raw, mut parser) = (Vec::new(), RequestParser::default());
        put_request(&mut raw, words.into_iter());
        let Ok(Step::Done(len)) = parser.parse(&raw, Limits::AUTHENTICATED) else {
            panic!("a whole request")
        };
        read(&parser.request(&raw, len))
    }

    const CLIENT: Candidate = Candidate {
        id: 7,
        addr: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5),
        local: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 6),
        age: 10,
        is_asker: false,
    };

    #[test]
    fn clients_are_chosen_by_all_that_is_given() {
        let kill = |words: &str| parsed(words, Select::for_kill).unwrap();
        for fitting in [
            "CLIENT KILL 127.0.0.1:5",
            "CLIENT KILL ID 7",
            "CLIENT KILL id 8 id 7 addr 127.0.0.1:5 laddr 127.0.0.1:6 type normal user default maxage 10",
        ] {
            assert!(kill(fitting).fits(CLIENT), "{fitting}");
        }
        for other in [
            "CLIENT KILL 127.0.0.1:6",
            "CLIENT KILL ID 8",
            "CLIENT KILL ID 7 TYPE replica",
            "CLIENT KILL ID 7 MAXAGE 11",
            "CLIENT KILL ID 7 LADDR 127.0.0.1:5",
        ] {
            assert!(!kill(other).fits(CLIENT), "{other}");
        }
        let asker = Candidate {
            is_asker: true,
            ..CLIENT
        };
        assert!(!kill("CLIENT KILL ID 7").fits(asker));
        assert!(kill("CLIENT KILL ID 7 SKIPME no").fits(asker) && kill("CLIENT KILL 127.0.0.1:5").fits(asker));
    }

    #[test]
    fn mistakes_get_the_errors_that_redis_gives() {
        for (words, error) in [
            ("CLIENT KILL ID x", "ERR client-id should be greater than 0"),
            ("CLIENT KILL ID 0", "ERR client-id should be greater than 0"),
            ("CLIENT KILL ID 1 x", SYNTAX),
            ("CLIENT KILL NOSUCH 1", SYNTAX),
            ("CLIENT KILL TYPE x", "ERR Unknown client type 'x'"),
            ("CLIENT KILL USER x", "ERR No such user 'x'"),
            ("CLIENT KILL SKIPME maybe", SYNTAX),
        ] {
            assert_eq!(parsed(words, Select::for_kill), Err(error.to_owned()), "{words}");
        }
        for (words, error) in [
            ("CLIENT LIST ID x", "ERR Invalid client ID"),
            ("CLIENT LIST ID", SYNTAX),
            ("CLIENT LIST TYPE x", "ERR Unknown client type 'x'"),
            ("CLIENT LIST NOSUCH 1", SYNTAX),
        ] {
            assert_eq!(parsed(words, Select::for_list), Err(error.to_owned()), "{words}");
        }
    }
}
