use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is done without a person when something fails.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HaSpec {
    /// `Automatic`: everything that loses nothing which need not be lost. `Aggressive`: a group whose primary did not come
    /// back within `restartAfter` gets the newest copy that can be had, although it may lack acknowledged writes; one that is
    /// back with data of its own leads with these. `ReportOnly`: nobody is promoted, restarted or replaced,
    /// only told of; servers that start are still given their roles.
    #[serde(default)]
    pub mode: HaMode,

    /// How often each server is asked how it is, such as `500ms`. An answer may take as long. From `100ms` to `60s`.
    #[serde(default = "probe_interval")]
    #[schemars(regex(pattern = DURATION))]
    pub probe_interval: String,

    /// How many times in a row a server has to be silent before it counts as hung. One that ended counts at once.
    #[serde(default = "failure_threshold")]
    #[schemars(range(min = 1, max = 100))]
    pub failure_threshold: i32,

    /// How long a server may run without answering or following its primary before its pod is restarted, such as `30s`. The
    /// last copy of a group is restarted only if its process does not answer at all and its data is on a volume.
    #[serde(default = "restart_after")]
    #[schemars(regex(pattern = DURATION))]
    pub restart_after: String,

    /// How long the node of a replica may be lost before its pod is deleted although it may still run there, such as `5m`, so
    /// that another one takes its place elsewhere. Only while another server leads the group. Absent: it waits until the node is
    /// back, is deleted, or has the taint `node.kubernetes.io/out-of-service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub force_delete_after: Option<String>,

    /// How long the third failover of a group within ten minutes waits, such as `10s`; each further one waits twice as long,
    /// up to five minutes.
    #[serde(default = "cooldown")]
    #[schemars(regex(pattern = DURATION))]
    pub cooldown: String,

    /// What a primary does that hears of no replica any more. `Preferred`: it stops taking writes within three seconds, until
    /// the lost replica is recorded as one that can't be promoted, which takes about a second when the dashboard works.
    /// `None`: it goes on, and what it takes while it is cut off may be lost. `Required`: it takes no writes without a
    /// replica in sync.
    #[serde(default)]
    pub durability: Durability,
}

/// A duration as Go writes it, of one unit or several: `500ms`, `1m30s`.
const DURATION: &str = r"^([0-9]+(ms|s|m|h))+$";

impl Default for HaSpec {
    fn default() -> Self {
        Self {
            mode: HaMode::default(),
            probe_interval: probe_interval(),
            failure_threshold: failure_threshold(),
            restart_after: restart_after(),
            force_delete_after: None,
            cooldown: cooldown(),
            durability: Durability::default(),
        }
    }
}

fn probe_interval() -> String {
    "500ms".to_owned()
}

fn failure_threshold() -> i32 {
    3
}

fn restart_after() -> String {
    "30s".to_owned()
}

fn cooldown() -> String {
    "10s".to_owned()
}

/// What may be done without a person.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum HaMode {
    /// Everything that loses nothing which need not be lost.
    #[default]
    Automatic,
    /// Also what may lose acknowledged writes, when nothing better came back in time.
    Aggressive,
    /// Only to give servers that start their roles.
    ReportOnly,
}

/// What a primary does that hears of no replica any more.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Durability {
    /// It stops until the loss is recorded.
    #[default]
    Preferred,
    /// It goes on.
    None,
    /// It stops until a replica is in sync.
    Required,
}

impl Durability {
    /// As the dashboard's setting `durability` names it.
    pub fn as_setting(self) -> &'static str {
        match self {
            Self::Preferred => "preferred",
            Self::None => "none",
            Self::Required => "required",
        }
    }
}
