//! proxy.toml: Codis' keys, and some of ours.

mod jodis;
mod tls;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(super) use self::jodis::JodisSettings;
pub use self::tls::AuthClients;
use crate::model::{ByteSize, GoDuration, HostPort, ProductName};

/// Every key with its default, as `--default-config` prints it.
pub const DEFAULT_CONFIG: &str = include_str!("default.toml");

/// The least that a client may have waiting for it, or send.
const MIN_SESSION_SIZE: ByteSize = ByteSize(1 << 20);
/// The least memory for what waits.
const MIN_MEMORY: ByteSize = ByteSize(16 << 20);
/// The longest slow log.
const MAX_SLOW_LOG: u32 = 100_000;

/// The least from which on requests and replies are passed on in parts.
const MIN_STREAMED: ByteSize = ByteSize(64 << 10);

/// Keys that are never shown.
const SECRETS: [&str; 5] = [
    "dashboard_token",
    "product_auth",
    "session_auth",
    "jodis_auth",
    "metrics_report_influxdb_password",
];

/// Keys that are read and do nothing (yet).
const WITHOUT_EFFECT: [&str; 18] = [
    "proxy_max_offheap_size",
    "proxy_heap_placeholder",
    "backend_recv_bufsize",
    "backend_send_bufsize",
    "backend_primary_parallel",
    "backend_replica_parallel",
    "session_recv_bufsize",
    "session_send_bufsize",
    "metrics_report_server",
    "metrics_report_period",
    "metrics_report_influxdb_server",
    "metrics_report_influxdb_period",
    "metrics_report_influxdb_username",
    "metrics_report_influxdb_password",
    "metrics_report_influxdb_database",
    "metrics_report_statsd_server",
    "metrics_report_statsd_period",
    "metrics_report_statsd_prefix",
];

/// The settings. Fields are the keys of the file; [`DEFAULT_CONFIG`] says what each means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs, reason = "default.toml describes each key")]
pub struct Config {
    pub product_name: ProductName,
    pub product_auth: String,
    pub session_auth: String,
    pub dashboard_ca: String,
    pub dashboard_token: String,
    pub admin_addr: String,
    pub proto_type: ProtoType,
    pub proxy_addr: String,
    pub proxy_tls_addr: String,
    pub proxy_tls_cert: String,
    pub proxy_tls_key: String,
    pub proxy_tls_ca: String,
    pub proxy_tls_auth_clients: AuthClients,
    pub jodis_name: String,
    pub jodis_addr: String,
    pub jodis_auth: String,
    pub jodis_timeout: GoDuration,
    pub jodis_compatible: bool,
    pub proxy_datacenter: String,
    pub proxy_max_clients: u32,
    pub proxy_max_offheap_size: ByteSize,
    pub proxy_heap_placeholder: ByteSize,
    pub proxy_max_memory: ByteSize,
    pub proxy_nap: GoDuration,
    pub backend_tls: bool,
    pub backend_tls_port: u16,
    pub backend_tls_ca: String,
    pub backend_tls_cert: String,
    pub backend_tls_key: String,
    pub backend_ping_period: GoDuration,
    pub backend_ping_timeout: GoDuration,
    pub backend_recv_bufsize: ByteSize,
    pub backend_send_bufsize: ByteSize,
    pub backend_recv_timeout: GoDuration,
    pub backend_send_timeout: GoDuration,
    pub backend_max_pipeline: u32,
    pub backend_primary_only: bool,
    pub backend_replica_max_lag: GoDuration,
    pub backend_primary_parallel: u32,
    pub backend_replica_parallel: u32,
    pub backend_keepalive_period: GoDuration,
    pub backend_number_databases: u32,
    pub session_recv_bufsize: ByteSize,
    pub session_send_bufsize: ByteSize,
    pub session_recv_timeout: GoDuration,
    pub session_send_timeout: GoDuration,
    pub session_max_pipeline: u32,
    pub session_keepalive_period: GoDuration,
    pub session_break_on_failure: bool,
    pub session_allow_keys: bool,
    pub session_allow_flush: bool,
    pub session_replica_reads: bool,
    pub hold_timeout: GoDuration,
    pub hold_max_requests: u32,
    pub hold_max_bytes: ByteSize,
    pub repeat_timeout: GoDuration,
    pub session_max_output_size: ByteSize,
    pub session_max_request_size: ByteSize,
    pub session_max_queued_size: ByteSize,
    pub session_stream_threshold: ByteSize,
    pub session_auth_failures: u32,
    pub slowlog_log_slower_than: i64,
    pub slowlog_max_len: u32,
    pub hot_keys_sample: u32,
    pub admin_monitor: bool,
    pub shutdown_timeout: GoDuration,
    pub metrics_report_server: String,
    pub metrics_report_period: GoDuration,
    pub metrics_report_influxdb_server: String,
    pub metrics_report_influxdb_period: GoDuration,
    pub metrics_report_influxdb_username: String,
    pub metrics_report_influxdb_password: String,
    pub metrics_report_influxdb_database: String,
    pub metrics_report_statsd_server: String,
    pub metrics_report_statsd_period: GoDuration,
    pub metrics_report_statsd_prefix: String,
}

/// `proto_type`: how clients connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProtoType {
    /// IPv6 where there is any, with IPv4 in it.
    Tcp,
    /// IPv4 only.
    Tcp4,
    /// IPv6 only.
    Tcp6,
}

impl ProtoType {
    /// The text in the file and in the proxy's record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tcp4 => "tcp4",
            Self::Tcp6 => "tcp6",
        }
    }
}

/// Why settings can't be used. Trying again is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid configuration: {0}")]
pub struct ConfigError(pub String);

impl Default for Config {
    fn default() -> Self {
        #[allow(clippy::expect_used, reason = "a constant; a test reads it")]
        Self {
            product_name: "codis-demo".parse().expect("a name"),
            product_auth: String::new(),
            session_auth: String::new(),
            dashboard_ca: String::new(),
            dashboard_token: String::new(),
            admin_addr: "0.0.0.0:11080".to_owned(),
            proto_type: ProtoType::Tcp4,
            proxy_addr: "0.0.0.0:19000".to_owned(),
            proxy_tls_addr: String::new(),
            proxy_tls_cert: String::new(),
            proxy_tls_key: String::new(),
            proxy_tls_ca: String::new(),
            proxy_tls_auth_clients: AuthClients::No,
            jodis_name: String::new(),
            jodis_addr: String::new(),
            jodis_auth: String::new(),
            jodis_timeout: seconds(20),
            jodis_compatible: false,
            proxy_datacenter: String::new(),
            proxy_max_clients: 1000,
            proxy_max_offheap_size: ByteSize(1 << 30),
            proxy_heap_placeholder: ByteSize(256 << 20),
            proxy_max_memory: ByteSize(0),
            proxy_nap: GoDuration(Duration::from_micros(100)),
            backend_tls: false,
            backend_tls_port: 0,
            backend_tls_ca: String::new(),
            backend_tls_cert: String::new(),
            backend_tls_key: String::new(),
            backend_ping_period: seconds(1),
            backend_ping_timeout: seconds(1),
            backend_recv_bufsize: ByteSize(128 << 10),
            backend_send_bufsize: ByteSize(128 << 10),
            backend_recv_timeout: seconds(3),
            backend_send_timeout: seconds(3),
            backend_max_pipeline: 20480,
            backend_primary_only: false,
            backend_replica_max_lag: seconds(3),
            backend_primary_parallel: 1,
            backend_replica_parallel: 1,
            backend_keepalive_period: seconds(75),
            backend_number_databases: 16,
            session_recv_bufsize: ByteSize(128 << 10),
            session_send_bufsize: ByteSize(64 << 10),
            session_recv_timeout: seconds(30 * 60),
            session_send_timeout: seconds(30),
            session_max_pipeline: 10000,
            session_keepalive_period: seconds(75),
            session_break_on_failure: false,
            session_allow_keys: false,
            session_allow_flush: false,
            session_replica_reads: false,
            hold_timeout: seconds(10),
            hold_max_requests: 10_000,
            hold_max_bytes: ByteSize(64 << 20),
            repeat_timeout: seconds(2),
            session_max_output_size: ByteSize(256 << 20),
            session_max_request_size: ByteSize(1 << 30),
            session_max_queued_size: ByteSize(128 << 20),
            session_stream_threshold: ByteSize(1 << 20),
            session_auth_failures: 10,
            slowlog_log_slower_than: 10_000,
            slowlog_max_len: 128,
            hot_keys_sample: 0,
            admin_monitor: false,
            shutdown_timeout: seconds(20),
            metrics_report_server: String::new(),
            metrics_report_period: seconds(1),
            metrics_report_influxdb_server: String::new(),
            metrics_report_influxdb_period: seconds(1),
            metrics_report_influxdb_username: String::new(),
            metrics_report_influxdb_password: String::new(),
            metrics_report_influxdb_database: String::new(),
            metrics_report_statsd_server: String::new(),
            metrics_report_statsd_period: seconds(1),
            metrics_report_statsd_prefix: String::new(),
        }
    }
}

fn seconds(seconds: u64) -> GoDuration {
    GoDuration(Duration::from_secs(seconds))
}

impl Config {
    /// Reads proxy.toml.
    ///
    /// # Errors
    /// When it is no TOML, or a key is unknown or has a value that it can't have; the error names the key.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self =
            toml::from_str(text).map_err(|error| ConfigError(error.to_string().trim_end().to_owned()))?;
        config.validate()?;
        Ok(config)
    }

    /// Checks what types alone can't say.
    ///
    /// # Errors
    /// Names the key and what it has to be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fail = |key: &str, what: &str| Err(ConfigError(format!("{key}: {what}")));
        for (key, addr, may_be_empty) in [
            ("admin_addr", &self.admin_addr, false),
            ("proxy_addr", &self.proxy_addr, true),
            ("proxy_tls_addr", &self.proxy_tls_addr, true),
        ] {
            match addr.parse::<HostPort>() {
                Err(error) if !(may_be_empty && addr.is_empty()) => return fail(key, &error.to_string()),
                _ => {}
            }
        }
        if let Some((key, what)) = self.wrong_tls() {
            return fail(key, what);
        }
        let at_least_one = [
            ("proxy_max_clients", self.proxy_max_clients),
            ("backend_max_pipeline", self.backend_max_pipeline),
            ("session_max_pipeline", self.session_max_pipeline),
            ("backend_primary_parallel", self.backend_primary_parallel),
            ("backend_replica_parallel", self.backend_replica_parallel),
            ("backend_number_databases", self.backend_number_databases),
        ];
        if let Some((key, _)) = at_least_one.iter().find(|(_, number)| *number == 0) {
            return fail(key, "must be 1 or more");
        }
        if self.proxy_nap.0 > Duration::from_millis(1) {
            return fail(
                "proxy_nap",
                "must be 1ms or less, or every reply would be late; 0 switches it off",
            );
        }
        if self.backend_number_databases > u32::from(u16::MAX) {
            return fail("backend_number_databases", "must be 65535 or less");
        }
        for (key, size) in [
            ("session_max_output_size", self.session_max_output_size),
            ("session_max_request_size", self.session_max_request_size),
            ("session_max_queued_size", self.session_max_queued_size),
        ] {
            if size < MIN_SESSION_SIZE {
                return fail(
                    key,
                    "must be 1mb or more, or ordinary requests and replies would not pass",
                );
            }
        }
        if self.proxy_max_memory != ByteSize(0) && self.proxy_max_memory < MIN_MEMORY {
            return fail(
                "proxy_max_memory",
                "must be 16mb or more, or clients would be closed in ordinary use; 0 has it found out",
            );
        }
        if self.session_stream_threshold < MIN_STREAMED {
            return fail(
                "session_stream_threshold",
                "must be 64kb or more, or ordinary requests would take connections of their own",
            );
        }
        if self.slowlog_max_len > MAX_SLOW_LOG {
            return fail("slowlog_max_len", "must be 100000 or less: each worker keeps so many");
        }
        if self.backend_recv_timeout.0 < Duration::from_millis(100) {
            return fail(
                "backend_recv_timeout",
                "must be 100ms or more, or every slow reply would fail",
            );
        }
        if self.backend_send_timeout.0 < Duration::from_millis(100) {
            return fail("backend_send_timeout", "must be 100ms or more");
        }
        JodisSettings::parse(self).map(drop)
    }

    /// Keys that were set to something else than their default, and do nothing.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let (mine, default) = (self.to_json(), Self::default().to_json());
        WITHOUT_EFFECT
            .into_iter()
            .filter(|key| mine.get(key) != default.get(key))
            .collect()
    }

    /// All keys but the passwords, as `/proxy` shows them.
    pub fn shown(&self) -> serde_json::Value {
        let mut json = self.to_json();
        if let Some(keys) = json.as_object_mut() {
            keys.retain(|key, _| !SECRETS.contains(&key.as_str()));
        }
        json
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_defaults_are_the_defaults() {
        assert_eq!(Config::parse(DEFAULT_CONFIG).unwrap(), Config::default());
        let keys: toml::Table = DEFAULT_CONFIG.parse().unwrap();
        assert_eq!(keys.len(), Config::default().to_json().as_object().unwrap().len());
    }

    #[test]
    fn errors_name_the_key() {
        for (text, key) in [
            ("nonsense = 1", "nonsense"),
            ("proxy_addr = \"x\"", "proxy_addr"),
            ("proxy_nap = \"2ms\"", "proxy_nap"),
            ("proxy_max_clients = 0", "proxy_max_clients"),
            ("proxy_max_clients = -1", "proxy_max_clients"),
            ("proxy_max_memory = \"1mb\"", "proxy_max_memory"),
            ("backend_recv_timeout = \"1ms\"", "backend_recv_timeout"),
            ("session_recv_timeout = \"x\"", "session_recv_timeout"),
            ("session_stream_threshold = \"1kb\"", "session_stream_threshold"),
            ("proto_type = \"unix\"", "proto_type"),
            ("product_name = \"a/b\"", "product_name"),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let text = "dashboard_token = \"s3cret\"\nproduct_auth = \"s3cret\"\nsession_auth = \"s3cret\"\njodis_auth = \"s3cret\"\nmetrics_report_influxdb_password = \"s3cret\"";
        let shown = Config::parse(text).unwrap().shown().to_string();
        assert!(
            !shown.contains("s3cret") && shown.contains("backend_recv_timeout"),
            "{shown}"
        );
    }

    #[test]
    fn settings_without_effect_are_told() {
        assert!(Config::default().without_effect().is_empty());
        assert_eq!(
            Config::parse("proxy_heap_placeholder = 0").unwrap().without_effect(),
            ["proxy_heap_placeholder"]
        );
        let reported = "metrics_report_influxdb_password = \"x\"\nmetrics_report_statsd_prefix = \"x\"";
        assert_eq!(
            Config::parse(reported).unwrap().without_effect(),
            ["metrics_report_influxdb_password", "metrics_report_statsd_prefix"]
        );
    }
}
