use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator found. Written only when it changed; figures that change fast are metrics.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CodisClusterStatus {
    /// The cluster in one word; the conditions tell more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,

    /// `Ready`, `Progressing`, `Degraded`, `SlotsAssigned` and `Paused`, each with the generation it speaks of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Whether the slots were assigned once. From then on an empty store is a lost store, never an empty cluster.
    #[serde(default)]
    #[x_kube(validation = Rule::new("!oldSelf || self").message("what was bootstrapped once stays so"))]
    pub bootstrapped: bool,

    /// The coordinator's members, where the spec names none: the default when the cluster began. It stays with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub coordinator: Vec<String>,

    /// The product's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,

    /// Slots that have a group, of 1024.
    #[serde(default)]
    pub slots: i32,

    /// Servers in all.
    #[serde(default)]
    pub servers: ServersStatus,

    /// Each group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub groups: Vec<GroupStatus>,

    /// Proxies.
    #[serde(default)]
    pub proxies: ProxiesStatus,

    /// The dashboard.
    #[serde(default)]
    pub dashboard: DashboardStatus,
}

/// A cluster in one word.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Phase {
    /// The spec can't be carried out as it is; see the condition `Ready`.
    Invalid,
    /// Being brought up; it never served yet.
    Creating,
    /// Serving, and something is under way.
    Progressing,
    /// All is as the spec says.
    Ready,
    /// Something is missing or broken; see the condition `Degraded`.
    Degraded,
    /// On its way out.
    Deleting,
}

/// Servers in all.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServersStatus {
    /// Groups that exist.
    pub groups: i32,
    /// Servers that hold their role; replicas only while in sync.
    pub ready: i32,
    /// Servers that should be.
    pub total: i32,
    /// Servers whose pods are made with what the spec says now.
    #[serde(default)]
    pub updated: i32,
    /// The label selector of the servers' pods.
    #[serde(default)]
    pub selector: String,
}

/// A group.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupStatus {
    /// Its number.
    pub id: i32,
    /// How many slots it owns.
    pub slots: i32,
    /// The pod of its primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// The last time that its primary was replaced without anybody having planned it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<FailoverStatus>,
    /// The last time that it lost its data, because all servers that had it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_data_loss: Option<DataLossStatus>,
    /// Its servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerStatus>,
}

/// A primary that was replaced without anybody having planned it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverStatus {
    /// When it was done, by the clock of the dashboard.
    pub at: Time,
    /// The pod of the primary until then.
    pub from: String,
    /// The pod of the primary since.
    pub to: String,
    /// Why.
    pub reason: String,
    /// Milliseconds from the first look that did not find the primary at work to the decision; 0 where it was not the operator's.
    pub detect_ms: i64,
    /// Milliseconds from the decision until the new primary led.
    pub promote_ms: i64,
    /// Milliseconds from there until the proxies knew it, and clients could write again.
    #[serde(default)]
    pub write_ms: i64,
    /// Bytes of the replication stream that the former primary was seen to have, and the new one had not: writes that are lost.
    /// What came after it was last seen is not counted. Absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_bytes: Option<i64>,
}

/// Data that a group lost: every server that had it ended, and the one that led next began without it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataLossStatus {
    /// When that was found.
    pub at: Time,
    /// The keys that were there at the last look before.
    pub keys: i64,
}

/// A server.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// Its pod.
    pub pod: String,
    /// The node it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The role it holds.
    pub role: ServerRole,
    /// Whether it holds the group's data as far as the dashboard can see.
    pub in_sync: bool,
}

/// A server's role.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum ServerRole {
    /// Takes writes.
    Primary,
    /// Follows the primary.
    Replica,
    /// Holds no role yet, or can't be asked.
    None,
}

/// Proxies.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct ProxiesStatus {
    /// Proxies that serve clients.
    pub ready: i32,
    /// Proxies that should be.
    pub total: i32,
}

/// The dashboard.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct DashboardStatus {
    /// The pod of the active instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<String>,
}

/// The conditions there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// Every slot is served and everything is as the spec says.
    Ready,
    /// Something is under way.
    Progressing,
    /// Something is missing or broken.
    Degraded,
    /// Every slot has a group.
    SlotsAssigned,
    /// The operator keeps its hands off, because it was told to.
    Paused,
}

impl ConditionType {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Progressing => "Progressing",
            Self::Degraded => "Degraded",
            Self::SlotsAssigned => "SlotsAssigned",
            Self::Paused => "Paused",
        }
    }
}
