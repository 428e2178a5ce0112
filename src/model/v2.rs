//! Answers of the routes of our own, `/api/topom/v2/…`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::slot::is_false;
use super::{Group, HostPort, Proxy, ProxyToken, ServerWitness, SlotMapping};

/// A promotion that was done.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Promotion {
    /// How long it took in all, in milliseconds.
    pub took_ms: f64,
    /// How long writes to the group waited, in milliseconds.
    pub locked_ms: f64,
    /// How long it took, of that, from the record of the new primary until the proxies were told it, in milliseconds.
    #[serde(default)]
    pub unlock_ms: f64,
    /// Whether the former primary handed over, so that nothing was lost.
    pub handed_over: bool,
}

/// What a caller may ask for besides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PromotionOptions {
    /// The group's epoch that the caller saw: the promotion is refused when it changed since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Take the candidate whatever speaks against it, and lose what it lacks.
    pub force: bool,
    /// Shut off the proxies that don't lock the group's slots in time.
    pub shut_off: bool,
}

/// `GET /api/topom/v2/status`: what the dashboard knows of servers and proxies, beyond Codis' stats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The revision of the lock, as an epoch: larger with each change of the active dashboard.
    pub lock_epoch: i64,
    /// The epoch of the slot that was changed last; name it to change slots as they were seen.
    #[serde(default)]
    pub slots_epoch: i64,
    /// All groups, ascending.
    pub groups: Vec<GroupStatus>,
    /// All proxies, ascending by token.
    pub proxies: Vec<ProxyStatus>,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupStatus {
    /// The revision of its record as an epoch; name it to change what was seen.
    pub epoch: i64,
    /// Its record, with promotion, history and the replicas that are in sync.
    pub group: Group,
    /// Its servers in the order of the record, the primary first.
    pub servers: Vec<ServerStatus>,
}

/// A server, as its last poll found it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerStatus {
    /// The server.
    pub server: HostPort,
    /// Whether the last poll was answered.
    pub reachable: bool,
    /// Why it was not; empty otherwise, also before the first poll.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Milliseconds since the last poll that was answered began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_ms_ago: Option<u64>,
    /// Its process.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub run_id: String,
    /// `master` or `slave`, as it says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub role: String,
    /// Whether this process was given its role.
    pub admitted: bool,
    /// Whether it may be promoted.
    pub in_sync: bool,
    /// Whether its link to its primary is up and nothing is being copied.
    pub linked: bool,
    /// Seconds since it last heard of its primary; -1 for a primary.
    pub last_io_seconds: i64,
    /// The history that its data belongs to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub history: String,
    /// How far it is in that.
    pub offset: i64,
    /// Keys in all databases.
    pub keys: u64,
}

/// A proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProxyStatus {
    /// The proxy.
    pub token: ProxyToken,
    /// The revision of its record as an epoch; name it to change what was seen.
    #[serde(default)]
    pub epoch: i64,
    /// Where its admin API is.
    pub admin_addr: String,
    /// Whether a poll ended since this dashboard is active; before that `reachable` says nothing.
    #[serde(default = "polled")]
    pub polled: bool,
    /// Whether the last poll was answered.
    pub reachable: bool,
    /// Whether it acknowledged the whole slot map, and every change since.
    pub acknowledged: bool,
    /// Whether the servers keep it out.
    pub shut_off: bool,
    /// What it saw of the servers by the last poll.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerWitness>,
}

/// Dashboards of before don't tell.
fn polled() -> bool {
    true
}

impl ProxyStatus {
    /// Whether the last poll was answered; `None`: there was none.
    pub fn answered(&self) -> Option<bool> {
        self.polled.then_some(self.reachable)
    }
}

/// Everything that the store holds of a product: what `codis-admin --config-dump` prints, and more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// The largest epoch that was told to anybody by then.
    #[serde(default)]
    pub epoch: i64,
    /// All slots.
    pub slots: Vec<SlotMapping>,
    /// All groups.
    pub group: Vec<Group>,
    /// All proxies.
    #[serde(default)]
    pub proxy: Vec<Proxy>,
    /// Whether what is there is to be replaced.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_that_was_not_polled_yet_is_not_one_that_did_not_answer() {
        let status = |polled: &str, reachable: bool| -> ProxyStatus {
            serde_json::from_str(&format!(
                r#"{{"token": "t1", "admin_addr": "p:11080", {polled} "reachable": {reachable}, "acknowledged": true, "shut_off": false}}"#
            ))
            .unwrap()
        };
        assert_eq!(status(r#""polled": false,"#, false).answered(), None);
        assert_eq!(status(r#""polled": true,"#, false).answered(), Some(false));
        assert_eq!(status(r#""polled": true,"#, true).answered(), Some(true));
        // A dashboard of before does not tell.
        assert_eq!(status("", false).answered(), Some(false));
    }
}
