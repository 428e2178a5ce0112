//! What the two HTTP APIs tell: `/topom`, `/topom/stats`, `/proxy`, `/proxy/stats`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::slot::{is_false, is_zero};
use super::{Group, HostPort, Proxy, RemoteError, Slot, SlotMapping, Topom};

/// `GET /topom`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Overview {
    /// The version of the program.
    pub version: String,
    /// When and with what it was built.
    pub compile: String,
    /// Every key of dashboard.toml but `product_auth`.
    pub config: serde_json::Value,
    /// The dashboard.
    pub model: Topom,
    /// All that it knows.
    pub stats: Stats,
}

/// `GET /topom/stats`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stats {
    /// Whether the dashboard is on its way out.
    pub closed: bool,
    /// All 1024 slots.
    pub slots: Vec<SlotMapping>,
    /// Groups and their servers.
    pub group: GroupStats,
    /// Proxies.
    pub proxy: ProxyStats,
    /// The mover of slots.
    pub slot_action: SlotActionStats,
    /// Sentinels.
    pub sentinels: SentinelStats,
}

/// Groups, and the last poll of each server.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GroupStats {
    /// Groups, ascending by id.
    pub models: Vec<Group>,
    /// By server address. A server is missing until its first poll.
    #[serde(default)]
    pub stats: BTreeMap<String, RedisStats>,
}

/// The last poll of a server or sentinel. `timeout` without `stats` and `error`: it did not answer in time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RedisStats {
    /// `INFO` as a flat map, with `maxmemory`, and `master_addr` for replicas.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stats: BTreeMap<String, String>,
    /// Why it could not be polled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RemoteError>,
    /// What a Sentinel watches, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sentinel: BTreeMap<String, SentinelGroup>,
    /// When, in seconds since 1970.
    #[serde(default)]
    pub unixtime: i64,
    /// Whether the poll was given up.
    #[serde(default, skip_serializing_if = "is_false")]
    pub timeout: bool,
}

/// A primary that a Sentinel watches, and its replicas, in the Sentinel's own fields.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SentinelGroup {
    /// The primary.
    pub master: BTreeMap<String, String>,
    /// Its replicas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slaves: Vec<BTreeMap<String, String>>,
}

/// Proxies, and the last poll of each.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ProxyStats {
    /// Proxies, ascending by id.
    pub models: Vec<Proxy>,
    /// By token. A proxy is missing until its first poll.
    #[serde(default)]
    pub stats: BTreeMap<String, ProxyStatsEntry>,
}

/// The last poll of a proxy.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ProxyStatsEntry {
    /// What it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<ProxyStatsBody>,
    /// Why it could not be polled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RemoteError>,
    /// When, in seconds since 1970.
    #[serde(default)]
    pub unixtime: i64,
    /// Whether the poll was given up.
    #[serde(default, skip_serializing_if = "is_false")]
    pub timeout: bool,
}

/// The mover of slots.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SlotActionStats {
    /// Pause between batches, in µs.
    pub interval: i64,
    /// Whether no move is begun and running ones pause.
    pub disabled: bool,
    /// The last thing it did.
    pub progress: SlotActionProgress,
    /// Batches under way.
    pub executor: i64,
}

/// The last thing the mover did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SlotActionProgress {
    /// For people.
    pub status: String,
}

/// Sentinels as the dashboard sees them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SentinelStats {
    /// The record.
    pub model: Sentinel,
    /// By address.
    #[serde(default)]
    pub stats: BTreeMap<String, RedisStats>,
    /// The primaries that the sentinels name, by group.
    #[serde(default)]
    pub masters: BTreeMap<String, String>,
}

/// The stored record of the sentinels.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Sentinel {
    /// Their addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// Whether they may know less than the store.
    #[serde(default)]
    pub out_of_sync: bool,
}

/// `GET /proxy`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProxyOverview {
    /// The version of the program.
    pub version: String,
    /// When and with what it was built.
    pub compile: String,
    /// Every key of proxy.toml but the passwords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<serde_json::Value>,
    /// The proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Proxy>,
    /// What it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<ProxyStatsBody>,
    /// What it routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<Slot>,
}

/// `GET /proxy/stats`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ProxyStatsBody {
    /// Whether it serves clients.
    pub online: bool,
    /// Whether it is on its way out.
    pub closed: bool,
    /// Sentinels it follows.
    #[serde(default)]
    pub sentinels: ProxySentinels,
    /// Requests.
    pub ops: Ops,
    /// Clients.
    pub sessions: Sessions,
    /// What the process uses.
    #[serde(default)]
    pub rusage: Rusage,
    /// How servers are chosen.
    #[serde(default)]
    pub backend: ProxyBackend,
    /// Our own: what it sees of each server that slots are routed to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerWitness>,
    /// Go's runtime figures in Codis' proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<serde_json::Value>,
}

/// Sentinels that a proxy follows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ProxySentinels {
    /// Their addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// The primaries that they name, by group.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub masters: BTreeMap<String, String>,
    /// Whether a slot follows them rather than the last push.
    #[serde(default, skip_serializing_if = "is_false")]
    pub switched: bool,
}

/// Requests that a proxy served.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Ops {
    /// All.
    pub total: i64,
    /// Those it could give no answer to.
    pub fails: i64,
    /// Answers of servers that were errors.
    #[serde(default)]
    pub redis: OpsRedis,
    /// In the last second.
    #[serde(default)]
    pub qps: i64,
    /// By command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<OpStat>,
}

/// Errors that servers answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct OpsRedis {
    /// How many.
    pub errors: i64,
}

/// One command's figures.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct OpStat {
    /// Its name, upper case.
    pub opstr: String,
    /// Calls.
    pub calls: i64,
    /// Time in all, µs.
    pub usecs: i64,
    /// Time of one, µs.
    pub usecs_percall: i64,
    /// Calls without an answer.
    pub fails: i64,
    /// Calls answered with an error.
    pub redis_errtype: i64,
}

/// Clients of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Sessions {
    /// All since the start, refused ones included.
    pub total: i64,
    /// Now.
    pub alive: i64,
}

/// What a proxy's process uses.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Rusage {
    /// When.
    pub now: String,
    /// Cores.
    pub cpu: f64,
    /// Resident bytes.
    pub mem: i64,
    /// Raw figures of the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<serde_json::Value>,
}

/// What a proxy sees of a server. Counts begin when the proxy's first connection to it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerWitness {
    /// The server.
    pub server: HostPort,
    /// Connections that are open.
    pub open: i64,
    /// Those that should be open and are not.
    pub closed: i64,
    /// How long replies are due without a byte of them, in ms, on the connection where that is longest.
    pub silent_ms: i64,
    /// Tries to connect that failed.
    pub connect_errors: i64,
    /// Connections that were lost.
    pub lost: i64,
    /// Those of them that were closed because the server did not answer, or took nothing.
    pub timeouts: i64,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_error: String,
    /// When that was, in seconds since 1970.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub last_error_at: i64,
}

impl ServerWitness {
    /// Adds what other connections to the same server saw.
    pub fn add(&mut self, other: Self) {
        self.open += other.open;
        self.closed += other.closed;
        self.silent_ms = self.silent_ms.max(other.silent_ms);
        self.connect_errors += other.connect_errors;
        self.lost += other.lost;
        self.timeouts += other.timeouts;
        if other.last_error_at > self.last_error_at {
            self.last_error_at = other.last_error_at;
            self.last_error = other.last_error;
        }
    }
}

/// How a proxy chooses servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ProxyBackend {
    /// Whether replicas are never read from.
    pub primary_only: bool,
}
