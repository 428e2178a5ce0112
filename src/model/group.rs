use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::slot::{is_false, is_zero};
use super::{Failover, HostPort, PromotionCause};

/// A group's number: 1 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "i64", into = "i64")]
pub struct GroupId(u16);

/// A number that is no group. The text is Codis'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid group id = {0}, out of range")]
pub struct GroupIdError(pub i64);

impl GroupId {
    /// The largest number.
    pub const MAX: i64 = 9999;

    /// The group with this number.
    ///
    /// # Errors
    /// When the number is not in 1..=9999.
    pub fn new(number: i64) -> Result<Self, GroupIdError> {
        if (1..=Self::MAX).contains(&number) {
            Ok(Self(number as u16))
        } else {
            Err(GroupIdError(number))
        }
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<i64> for GroupId {
    type Error = GroupIdError;
    fn try_from(number: i64) -> Result<Self, GroupIdError> {
        Self::new(number)
    }
}

impl From<GroupId> for i64 {
    fn from(group: GroupId) -> Self {
        group.0.into()
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where giving a server its role (Codis' sync-action) stands. Absent in JSON when nothing was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionState {
    /// Nothing was asked.
    #[default]
    #[serde(rename = "")]
    Nothing,
    /// Waits for its turn.
    Pending,
    /// Is being carried out.
    Syncing,
    /// The server took its role. A replica may still be copying.
    Synced,
    /// The server refused, or could not be reached.
    SyncedFailed,
}

impl ActionState {
    /// Whether nothing was asked.
    pub fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }
}

/// A server's sync-action: `{}` when there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ServerAction {
    /// Its place in the queue.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub index: i64,
    /// How far it is.
    #[serde(default, skip_serializing_if = "ActionState::is_nothing")]
    pub state: ActionState,
    /// Our own: a primary is to lead with the data that it has, whatever another server may have.
    #[serde(default, skip_serializing_if = "is_false")]
    pub forced: bool,
}

impl ServerAction {
    /// One that waits for its turn, at this place in the queue.
    pub fn pending(index: i64) -> Self {
        Self {
            index,
            state: ActionState::Pending,
            forced: false,
        }
    }

    /// Whether it is still to be done, or done just now.
    pub fn is_open(&self) -> bool {
        matches!(self.state, ActionState::Pending | ActionState::Syncing)
    }
}

/// A server of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupServer {
    /// Its address; its identity for ever.
    pub server: HostPort,
    /// Where it is; proxies prefer replicas of their own.
    #[serde(default)]
    pub datacenter: String,
    /// Its sync-action.
    #[serde(default)]
    pub action: ServerAction,
    /// Whether it may answer reads.
    #[serde(default)]
    pub replica_group: bool,
    /// Our own: the run id of the server process that was last given a role, `None` before the first time. A process
    /// with another run id has to be admitted anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admitted_run_id: Option<String>,
    /// Our own: it was admitted as a server that the operator prepared, with users of its own. From then on nobody logs in
    /// there as anybody else.
    #[serde(default, skip_serializing_if = "is_false")]
    pub prepared: bool,
    /// Our own: a proxy was shut off, and this server did not hear of it yet, so that it may still let that proxy in.
    #[serde(default, skip_serializing_if = "is_false")]
    pub leaky: bool,
}

impl GroupServer {
    /// A server of which nothing is known yet.
    pub fn new(server: HostPort, datacenter: impl Into<String>) -> Self {
        Self {
            server,
            datacenter: datacenter.into(),
            action: ServerAction::default(),
            replica_group: false,
            admitted_run_id: None,
            prepared: false,
            leaky: false,
        }
    }
}

/// Where a promotion stands. Absent in JSON when there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PromoteState {
    /// No promotion.
    #[default]
    #[serde(rename = "")]
    Nothing,
    /// Proxies are being locked.
    Preparing,
    /// Every proxy holds the group's slots locked; the candidate is being made the primary.
    Prepared,
    /// The order of the servers was changed; proxies are being unlocked.
    Finished,
}

impl PromoteState {
    /// Whether there is no promotion.
    pub fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }
}

/// A group's promotion: `{}` when there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Promoting {
    /// The place of the candidate among the servers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub index: i64,
    /// How far it is.
    #[serde(default, skip_serializing_if = "PromoteState::is_nothing")]
    pub state: PromoteState,
    /// Our own: whether the candidate is taken whatever speaks against it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub forced: bool,
    /// Our own: whether it is given up rather than done without the primary's help.
    #[serde(default, skip_serializing_if = "is_false")]
    pub planned: bool,
    /// Our own: when it was asked for, in milliseconds since 1970; 0: that is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub began_ms: i64,
    /// Our own: what whoever asked for it knew about it.
    #[serde(default, skip_serializing_if = "PromotionCause::is_empty")]
    pub cause: PromotionCause,
}

/// A stretch of a group's history under one primary. A copy of the data belongs to the newest one whose id it has, and is
/// the fresher the further it got in that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lineage {
    /// Counts the primaries of the group; larger is newer.
    pub epoch: i64,
    /// The servers' replication id.
    pub id: String,
    /// The offset at which it began.
    pub offset: i64,
}

/// A server that was taken out of its group, and may still follow its primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Leaving {
    /// The server.
    pub server: HostPort,
    /// Whether it was admitted as one that the operator prepared.
    #[serde(default, skip_serializing_if = "is_false")]
    pub prepared: bool,
}

/// The stored record of a group. `servers[0]` is the primary; the order is all there is about roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// The group.
    pub id: GroupId,
    /// Its servers, the primary first.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub servers: Vec<GroupServer>,
    /// Its promotion.
    #[serde(default)]
    pub promoting: Promoting,
    /// Whether proxies may hold an older view of the group.
    #[serde(default)]
    pub out_of_sync: bool,
    /// Our own: a primary of this group was admitted once, so its servers may hold data. From then on a primary that
    /// comes back empty is not given its role while another server may know more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub bootstrapped: bool,
    /// Our own: the replicas that hold all that the primary acknowledged, but for what is under way: those that may be
    /// promoted when the primary is gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_sync: Vec<HostPort>,
    /// Our own: the primary stops taking writes by itself when it hears of no replica any more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fenced: bool,
    /// Our own: the group's history, the newest stretch last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<Lineage>,
    /// Our own: servers that are to follow nobody of this group any more, and were not told yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<Leaving>,
    /// Our own: the last time that its primary was replaced without anybody having planned it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failover: Option<Box<Failover>>,
}

/// How much of a group's history is kept. A copy older than that is one of unknown history.
const KEPT_LINEAGE: usize = 8;

impl Group {
    /// A group without servers.
    pub fn new(id: GroupId) -> Self {
        Self {
            id,
            servers: Vec::new(),
            promoting: Promoting::default(),
            out_of_sync: false,
            bootstrapped: false,
            in_sync: Vec::new(),
            fenced: false,
            lineage: Vec::new(),
            leaving: Vec::new(),
            last_failover: None,
        }
    }

    /// The number of the newest stretch of history; 0: none is known.
    pub fn lineage_epoch(&self) -> i64 {
        self.lineage.last().map_or(0, |newest| newest.epoch)
    }

    /// Begins a stretch of history. Nothing changes when it is the one under way.
    pub fn begin_lineage(&mut self, id: &str, offset: i64) {
        let newest = self.lineage.last();
        if id.is_empty() || newest.is_some_and(|newest| newest.id == id) {
            return;
        }
        let epoch = self.lineage_epoch() + 1;
        self.lineage.push(Lineage {
            epoch,
            id: id.to_owned(),
            offset,
        });
        let surplus = self.lineage.len().saturating_sub(KEPT_LINEAGE);
        self.lineage.drain(..surplus);
    }

    /// How fresh a copy of this history, this far in it, is: the larger the fresher. `None` where the history is not one of
    /// the group's, as far as these are kept.
    pub fn rank(&self, history: &str, offset: i64) -> Option<(i64, i64)> {
        let mut known = self.lineage.iter().rev();
        let stretch = known.find(|stretch| stretch.id == history && !history.is_empty())?;
        Some((stretch.epoch, offset))
    }

    /// The primary, if there is any server.
    pub fn primary(&self) -> Option<&GroupServer> {
        self.servers.first()
    }
}

/// Go writes an empty slice as `null`.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<GroupServer>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_of_a_group_is_that_of_codis() {
        let json = r#"{"id":1,"servers":[{"server":"127.0.0.1:36379","datacenter":"dc1","action":{},"replica_group":true},{"server":"127.0.0.1:36380","datacenter":"dc2","action":{"index":1,"state":"pending"},"replica_group":false},{"server":"127.0.0.1:36381","datacenter":"","action":{"state":"synced_failed"},"replica_group":false}],"promoting":{"index":1,"state":"preparing"},"out_of_sync":false}"#;
        let group: Group = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&group).unwrap(), json);
        assert_eq!(group.servers[1].action.state, ActionState::Pending);
        assert!(
            serde_json::from_str::<Group>(r#"{"id":1,"servers":null}"#)
                .unwrap()
                .servers
                .is_empty()
        );
    }

    #[test]
    fn history_is_counted_and_kept_for_a_while() {
        let mut group = Group::new(GroupId::new(1).unwrap());
        group.begin_lineage("", 0);
        for id in ["a", "a", "b"] {
            group.begin_lineage(id, 7);
        }
        let epochs = |group: &Group| group.lineage.iter().map(|stretch| stretch.epoch).collect::<Vec<_>>();
        assert_eq!(epochs(&group), [1, 2]);
        (0..20).for_each(|n| group.begin_lineage(&format!("n{n}"), n));
        assert_eq!(epochs(&group), (15..=22).collect::<Vec<_>>());
    }

    #[test]
    fn group_numbers_are_1_to_9999() {
        assert!(GroupId::new(1).is_ok() && GroupId::new(9999).is_ok());
        assert_eq!(
            GroupId::new(0).unwrap_err().to_string(),
            "invalid group id = 0, out of range"
        );
        assert!(GroupId::new(10_000).is_err() && GroupId::new(-1).is_err());
    }
}
