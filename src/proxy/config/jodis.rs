//! What the `jodis_*` keys mean.

use std::time::Duration;

use super::{Config, ConfigError};
use crate::model::HostPort;

/// The shortest life of a registration: with less, one late renewal would end it.
const MIN_TTL: Duration = Duration::from_secs(3);

/// Where proxies are registered for Jodis clients: an etcd, by its v3 API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::proxy) struct JodisSettings {
    /// At least one.
    pub(in crate::proxy) endpoints: Vec<HostPort>,
    /// User and password.
    pub(in crate::proxy) auth: Option<(String, String)>,
    /// How long a registration outlives a proxy that vanished.
    pub(in crate::proxy) ttl: Duration,
    /// Whether the key is that of Codis 2.
    pub(in crate::proxy) compatible: bool,
}

impl JodisSettings {
    /// Checks the keys; `None` when nothing is registered.
    ///
    /// # Errors
    /// Names the first key that is wrong, and what to write instead.
    pub(in crate::proxy) fn parse(config: &Config) -> Result<Option<Self>, ConfigError> {
        let fail = |key: &str, what: &str| Err(ConfigError(format!("{key}: {what}")));
        if config.jodis_addr.is_empty() {
            return Ok(None);
        }
        if config.jodis_name != "etcd" {
            return fail(
                "jodis_name",
                "this codis-proxy registers itself in etcd (v3 API) only: write \"etcd\", and etcd's endpoints in \
                 jodis_addr; or leave jodis_addr empty, and have clients connect to a Service instead",
            );
        }
        let endpoints = config.jodis_addr.split(',').map(|text| text.trim().parse::<HostPort>());
        let endpoints = match endpoints.collect::<Result<Vec<_>, _>>() {
            Ok(endpoints) => endpoints,
            Err(error) => return fail("jodis_addr", &error.to_string()),
        };
        let auth = match config.jodis_auth.split_once(':') {
            Some((user, password)) => Some((user.to_owned(), password.to_owned())),
            None if config.jodis_auth.is_empty() => None,
            None => return fail("jodis_auth", "must be USER:PASSWORD"),
        };
        Ok(Some(Self {
            endpoints,
            auth,
            ttl: config.jodis_timeout.0.max(MIN_TTL),
            compatible: config.jodis_compatible,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(toml: &str) -> Result<Option<JodisSettings>, ConfigError> {
        JodisSettings::parse(&toml::from_str(toml).unwrap())
    }

    #[test]
    fn nothing_is_registered_without_an_address() {
        assert_eq!(parsed("jodis_name = \"zookeeper\""), Ok(None));
    }

    #[test]
    fn endpoints_and_password_are_those_of_etcd() {
        let text =
            "jodis_name = \"etcd\"\njodis_addr = \"a:1, b:2\"\njodis_auth = \"me:se:cret\"\njodis_timeout = \"1s\"";
        let settings = parsed(text).unwrap().unwrap();
        assert_eq!(settings.endpoints, ["a:1".parse().unwrap(), "b:2".parse().unwrap()]);
        assert_eq!(settings.auth, Some(("me".to_owned(), "se:cret".to_owned())));
        assert_eq!((settings.ttl, settings.compatible), (MIN_TTL, false));
    }

    #[test]
    fn what_can_not_be_done_is_refused_by_key() {
        for (text, key) in [
            ("jodis_name = \"zookeeper\"\njodis_addr = \"a:1\"", "jodis_name: "),
            ("jodis_addr = \"a:1\"", "jodis_name: "),
            ("jodis_name = \"etcd\"\njodis_addr = \"a\"", "jodis_addr: "),
            (
                "jodis_name = \"etcd\"\njodis_addr = \"a:1\"\njodis_auth = \"secret\"",
                "jodis_auth: ",
            ),
        ] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.contains(key) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
