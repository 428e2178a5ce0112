use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An address as Codis keeps it: the text `host:port`, where host is a DNS name or an IP (an IPv6 one in brackets).
///
/// Addresses are identities here and are compared as text; who connects resolves the name itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort(String);

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid address {text:?}: {reason}; it must be host:port")]
pub struct AddrError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl HostPort {
    /// Joins a host (brackets are added around an IPv6 one) and a port.
    ///
    /// # Errors
    /// When the host is empty or holds characters that no address has.
    pub fn new(host: &str, port: u16) -> Result<Self, AddrError> {
        if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
        .parse()
    }

    /// The host, without brackets.
    pub fn host(&self) -> &str {
        let host = self.0.rsplit_once(':').map_or(self.0.as_str(), |(host, _)| host);
        host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.0
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or_default()
    }

    /// The text, `host:port`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the pod behind this address: the first label of the host, when the host is a name of several labels
    /// (`shop-g1-0.shop-servers.ns.svc`), as a headless Service gives it. `None` for IPs and single names.
    pub fn pod(&self) -> Option<&str> {
        let host = self.host();
        if host.parse::<std::net::IpAddr>().is_ok() {
            return None;
        }
        host.split_once('.').map(|(pod, _)| pod).filter(|pod| !pod.is_empty())
    }
}

impl FromStr for HostPort {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        let fail = |reason| AddrError {
            text: text.to_owned(),
            reason,
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| fail("there is no port"))?;
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(fail("the port is not a number"));
        }
        match port.parse::<u16>() {
            Ok(0) => return Err(fail("the port is 0")),
            Ok(_) => {}
            Err(_) => return Err(fail("the port is above 65535")),
        }
        if host.is_empty() {
            return Err(fail("there is no host"));
        }
        if let Some(inner) = host.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or_else(|| fail("a bracket is missing"))?;
            inner
                .parse::<std::net::Ipv6Addr>()
                .map_err(|_| fail("what is in brackets is not an IPv6 address"))?;
        } else if host.len() > 253
            || !host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        {
            return Err(fail("the host is neither a DNS name nor an IP"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for HostPort {
    type Error = AddrError;
    fn try_from(text: String) -> Result<Self, AddrError> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(addr: HostPort) -> Self {
        addr.0
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_is_the_first_label_of_a_name_and_nothing_of_an_ip() {
        let addr: HostPort = "shop-g1-0.shop-servers.ns.svc:6379".parse().unwrap();
        assert_eq!((addr.pod(), addr.port()), (Some("shop-g1-0"), 6379));
        for without in ["10.0.0.1:6379", "localhost:6379", "[::1]:6379"] {
            assert_eq!(without.parse::<HostPort>().unwrap().pod(), None, "{without}");
        }
        assert_eq!("[::1]:6379".parse::<HostPort>().unwrap().host(), "::1");
    }

    #[test]
    fn texts_that_are_no_addresses_are_refused() {
        for text in [
            "",
            "host",
            "host:",
            ":1",
            "host:0",
            "host:65536",
            "host:-1",
            "host:+1",
            "a b:1",
            "::1:80",
            "[::1:80",
            "a/b:1",
        ] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }
}
