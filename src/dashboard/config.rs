use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::coordinator::Coordinator;
use super::fences::Durability;
use crate::model::{ByteSize, GoDuration, ProductName};
use crate::tls::{Identity, PemFile};

/// The file that `--default-config` prints: every key with its default, and what it is for.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// Why a configuration can't be used. Each names the key and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is not TOML, or holds a key or a value that does not exist.
    #[error("the configuration can't be read: {0}")]
    Toml(String),
    /// A value is out of its range.
    #[error("{key} = {value}: {reason}")]
    Value {
        /// The key, as in the file.
        key: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        reason: String,
    },
}

/// The error for this key's value.
pub(super) fn wrong(key: &'static str, value: impl fmt::Display, reason: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        key,
        value: value.to_string(),
        reason: reason.into(),
    }
}

/// A text that is never shown: neither by `Debug` nor in JSON.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "***" })
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("")
    }
}

/// dashboard.toml, as it stands there. The keys and their meaning are those of Codis 3.2, but for the coordinator:
/// etcd is its v3 API here, also over TLS, and zookeeper is not spoken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Kind of the coordinator.
    pub coordinator_name: String,
    /// Its endpoints, separated by commas; or the root folder.
    pub coordinator_addr: String,
    /// `user:password`.
    pub coordinator_auth: Secret,
    /// PEM file of etcd's CA.
    pub coordinator_tls_ca: String,
    /// PEM file of the certificate that etcd is shown.
    pub coordinator_tls_cert: String,
    /// PEM file of that certificate's key.
    pub coordinator_tls_key: String,
    /// Where the API listens.
    pub admin_addr: String,
    /// Certificate of the API, PEM; empty: plain HTTP.
    pub admin_tls_cert: String,
    /// Its key.
    pub admin_tls_key: String,
    /// What changes have to be asked with.
    #[serde(skip_serializing)]
    pub admin_token: Secret,
    /// The product.
    pub product_name: String,
    /// The product's secret.
    #[serde(skip_serializing)]
    pub product_auth: Secret,
    /// When primaries stop by themselves.
    pub durability: String,
    /// How proxies serve moving slots.
    pub migration_method: String,
    /// Slots moved at once.
    pub migration_parallel_slots: i64,
    /// `maxbulks` of a move.
    pub migration_async_maxbulks: i64,
    /// `maxbytes` of a move.
    pub migration_async_maxbytes: ByteSize,
    /// `numkeys` of a move.
    pub migration_async_numkeys: i64,
    /// Longest call of a move.
    pub migration_timeout: GoDuration,
    /// Longest call to a Sentinel.
    pub sentinel_client_timeout: GoDuration,
    /// Sentinels that must agree.
    pub sentinel_quorum: i64,
    /// Replicas that copy at once after a failover.
    pub sentinel_parallel_syncs: i64,
    /// Silence after which a server counts as down.
    pub sentinel_down_after: GoDuration,
    /// Longest failover.
    pub sentinel_failover_timeout: GoDuration,
    /// Script that Sentinels call.
    pub sentinel_notification_script: String,
    /// Script that Sentinels call.
    pub sentinel_client_reconfig_script: String,
}

impl Default for Config {
    fn default() -> Self {
        let seconds = |s| GoDuration(std::time::Duration::from_secs(s));
        Self {
            coordinator_name: "etcd".to_owned(),
            coordinator_addr: "127.0.0.1:2379".to_owned(),
            coordinator_auth: Secret::default(),
            coordinator_tls_ca: String::new(),
            coordinator_tls_cert: String::new(),
            coordinator_tls_key: String::new(),
            admin_addr: "0.0.0.0:18080".to_owned(),
            admin_tls_cert: String::new(),
            admin_tls_key: String::new(),
            admin_token: Secret::default(),
            product_name: "codis-demo".to_owned(),
            product_auth: Secret::default(),
            durability: "preferred".to_owned(),
            migration_method: "semi-async".to_owned(),
            migration_parallel_slots: 100,
            migration_async_maxbulks: 200,
            migration_async_maxbytes: ByteSize(32 << 20),
            migration_async_numkeys: 500,
            migration_timeout: seconds(30),
            sentinel_client_timeout: seconds(10),
            sentinel_quorum: 2,
            sentinel_parallel_syncs: 1,
            sentinel_down_after: seconds(30),
            sentinel_failover_timeout: seconds(300),
            sentinel_notification_script: String::new(),
            sentinel_client_reconfig_script: String::new(),
        }
    }
}

/// What [`Config`] means, everything checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The product.
    pub product: ProductName,
    /// The product's secret.
    pub product_auth: Secret,
    /// Where the API listens.
    pub listen: SocketAddr,
    /// Certificate and key of the API; `None`: plain HTTP.
    pub tls: Option<Identity>,
    /// Where the records are.
    pub coordinator: Coordinator,
    /// When primaries stop by themselves.
    pub durability: Durability,
    /// `forward_method` of the slots that proxies are told: 0 sync, 1 semi-async.
    pub forward_method: i64,
    /// The file as it was, for the overview.
    pub shown: Config,
}

impl Config {
    /// Reads a file's text.
    ///
    /// # Errors
    /// When it is not TOML, or names an unknown key, or a value has the wrong type.
    pub fn parse(toml: &str) -> Result<Self, ConfigError> {
        toml::from_str(toml).map_err(|error| {
            // The library's own text quotes the line, which may hold a password.
            let start = error.span().map_or(0, |span| span.start).min(toml.len());
            let number = toml.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
            let key = toml
                .lines()
                .nth(number - 1)
                .and_then(|line| line.split('=').next())
                .unwrap_or_default()
                .trim();
            ConfigError::Toml(match key {
                "product_auth" | "coordinator_auth" | "admin_token" => {
                    format!("line {number}, {key}: write a text in quotes")
                }
                _ => format!("line {number}, {key}: {}", error.message()),
            })
        })
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`ConfigError::Value`], for the first that is wrong.
    pub fn check(self) -> Result<Settings, ConfigError> {
        self.check_ranges()?;
        let product = self
            .product_name
            .parse()
            .map_err(|error: crate::model::ProductNameError| {
                wrong("product_name", &self.product_name, error.to_string())
            })?;
        let listen = self.admin_addr.parse().map_err(|_| {
            wrong(
                "admin_addr",
                &self.admin_addr,
                "write IP:PORT, for example 0.0.0.0:18080",
            )
        })?;
        let forward_method = match self.migration_method.to_ascii_lowercase().as_str() {
            "sync" => 0,
            "semi-async" => 1,
            _ => {
                return Err(wrong(
                    "migration_method",
                    &self.migration_method,
                    "write \"sync\" or \"semi-async\"",
                ));
            }
        };
        let durability = match self.durability.to_ascii_lowercase().as_str() {
            "none" => Durability::None,
            "preferred" => Durability::Preferred,
            "required" => Durability::Required,
            _ => {
                let reason = "write \"none\", \"preferred\" or \"required\"";
                return Err(wrong("durability", &self.durability, reason));
            }
        };
        let (tls, coordinator) = (self.tls()?, Coordinator::parse(&self)?);
        self.check_token()?;
        Ok(Settings {
            product,
            product_auth: self.product_auth.clone(),
            listen,
            tls,
            coordinator,
            durability,
            forward_method,
            shown: self,
        })
    }

    /// The keys whose value differs from the default although nothing is made of them yet.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let default = Self::default();
        let changed = [
            (
                "migration_parallel_slots",
                self.migration_parallel_slots != default.migration_parallel_slots,
            ),
            (
                "migration_async_maxbulks",
                self.migration_async_maxbulks != default.migration_async_maxbulks,
            ),
            (
                "migration_async_maxbytes",
                self.migration_async_maxbytes != default.migration_async_maxbytes,
            ),
            (
                "migration_async_numkeys",
                self.migration_async_numkeys != default.migration_async_numkeys,
            ),
            ("migration_timeout", self.migration_timeout != default.migration_timeout),
        ];
        changed
            .into_iter()
            .filter(|(_, changed)| *changed)
            .map(|(key, _)| key)
            .collect()
    }

    fn check_ranges(&self) -> Result<(), ConfigError> {
        let positive = "it must be greater than 0";
        for (key, value) in [
            ("migration_parallel_slots", self.migration_parallel_slots),
            ("migration_async_maxbulks", self.migration_async_maxbulks),
            ("migration_async_numkeys", self.migration_async_numkeys),
            ("sentinel_quorum", self.sentinel_quorum),
            ("sentinel_parallel_syncs", self.sentinel_parallel_syncs),
        ] {
            if value <= 0 {
                return Err(wrong(key, value, positive));
            }
        }
        if self.migration_async_maxbytes.0 == 0 {
            return Err(wrong(
                "migration_async_maxbytes",
                self.migration_async_maxbytes,
                positive,
            ));
        }
        for (key, value) in [
            ("migration_timeout", self.migration_timeout),
            ("sentinel_client_timeout", self.sentinel_client_timeout),
            ("sentinel_down_after", self.sentinel_down_after),
            ("sentinel_failover_timeout", self.sentinel_failover_timeout),
        ] {
            if value.0.is_zero() {
                return Err(wrong(key, value, positive));
            }
        }
        Ok(())
    }

    fn tls(&self) -> Result<Option<Identity>, ConfigError> {
        match (self.admin_tls_cert.as_str(), self.admin_tls_key.as_str()) {
            ("", "") => Ok(None),
            ("", _) => Err(wrong(
                "admin_tls_cert",
                "\"\"",
                "admin_tls_key is set: name its certificate, too",
            )),
            (_, "") => Err(wrong(
                "admin_tls_key",
                "\"\"",
                "admin_tls_cert is set: name its key, too",
            )),
            (cert, key) => Ok(Some(Identity {
                cert: PemFile::new("admin_tls_cert", cert),
                key: PemFile::new("admin_tls_key", key),
            })),
        }
    }

    fn check_token(&self) -> Result<(), ConfigError> {
        // What a header can't carry nobody could ever give.
        if self.admin_token.reveal().bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(())
        } else {
            Err(wrong(
                "admin_token",
                "***",
                "write letters, digits and signs of ASCII, no spaces",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(toml: &str) -> Result<Settings, ConfigError> {
        Config::parse(toml).and_then(Config::check)
    }

    #[test]
    fn the_default_file_holds_every_key_with_its_default() {
        assert_eq!(Config::parse(DEFAULT_TOML).unwrap(), Config::default());
        let keys = serde_json::to_value(Config::default()).unwrap();
        for key in keys
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .chain(["product_auth", "admin_token"])
        {
            assert!(
                DEFAULT_TOML.lines().any(|line| line.starts_with(&format!("{key} = "))),
                "{key}"
            );
        }
        Config::default().check().unwrap();
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = with("product_nam = \"x\"").unwrap_err().to_string();
        assert!(error.contains("product_nam"), "{error}");
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        for (toml, key) in [
            ("migration_parallel_slots = 0", "migration_parallel_slots"),
            ("migration_async_maxbytes = \"0\"", "migration_async_maxbytes"),
            ("migration_timeout = \"0s\"", "migration_timeout"),
            ("sentinel_quorum = -1", "sentinel_quorum"),
            ("sentinel_down_after = 0", "sentinel_down_after"),
            ("product_name = \"a/b\"", "product_name"),
            ("admin_addr = \"nowhere\"", "admin_addr"),
            ("migration_method = \"fast\"", "migration_method"),
            ("durability = \"maybe\"", "durability"),
            ("coordinator_name = \"zookeeper\"", "coordinator_name"),
            ("coordinator_addr = \"\"", "coordinator_addr"),
            ("coordinator_addr = \"https://etcd:2379\"", "coordinator_tls_ca"),
            ("coordinator_addr = \"etcd\"", "coordinator_addr"),
            ("coordinator_auth = \"nocolon\"", "coordinator_auth"),
            ("admin_tls_cert = \"a\"", "admin_tls_key"),
            ("admin_tls_key = \"a\"", "admin_tls_cert"),
            ("admin_token = \"a b\"", "admin_token"),
        ] {
            let error = with(toml).unwrap_err().to_string();
            assert!(error.starts_with(key), "{toml}: {error}");
        }
    }

    #[test]
    fn passwords_are_shown_nowhere() {
        let settings =
            with("product_auth = \"hush1\"\ncoordinator_auth = \"root:hush2\"\nadmin_token = \"hush3\"").unwrap();
        let shown = format!("{settings:?} {}", serde_json::to_string(&settings.shown).unwrap());
        assert!(!shown.contains("hush"), "{shown}");
        for toml in [
            "coordinator_auth = \"hush\"",
            "admin_token = \"hush hush\"",
            "admin_token = hush",
            "product_auth = 'hush",
            "\nproduct_auth = [\"hush\"]",
        ] {
            let error = with(toml).unwrap_err().to_string();
            assert!(
                !error.contains("hush") && (error.contains("_auth") || error.contains("admin_token")),
                "{error}"
            );
        }
    }
}
