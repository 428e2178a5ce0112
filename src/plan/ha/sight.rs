use std::time::Duration;

use super::policy::Turn;
use crate::model::{Group, GroupId, HostPort, Info, ProxyToken};

/// What one round saw of a cluster. Times are monotonic, since the loop began.
#[derive(Debug, Clone, Default)]
pub struct Round {
    /// When.
    pub at: Duration,
    /// How often rounds are meant to be.
    pub interval: Duration,
    /// Whether a person has the cluster to himself: nothing is to be asked for.
    pub paused: bool,
    /// Whose turn it is.
    pub turn: Turn,
    /// Whether a dashboard was active and answered. Without one, the groups are as they were told last, and nobody can be
    /// asked for anything.
    pub dashboard: bool,
    /// The groups, ascending.
    pub groups: Vec<GroupSight>,
    /// The registered proxies.
    pub proxies: Vec<ProxySight>,
    /// Pods without data that are no registered proxies.
    pub stateless: Vec<StatelessPod>,
}

/// How a pod's node is, as Kubernetes tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NodeSight {
    /// It works, as far as that is known, or the pod has none yet.
    #[default]
    Well,
    /// Nothing is heard of it: what ran there may still run.
    Lost,
    /// It was deleted, or a person declared it out of service: nothing runs there any more.
    Gone,
}

impl NodeSight {
    /// Whether nothing is heard of it.
    pub fn is_lost(self) -> bool {
        self != Self::Well
    }
}

/// A group.
#[derive(Debug, Clone)]
pub struct GroupSight {
    /// Its record, the primary first.
    pub record: Group,
    /// The record's epoch, which a wish names.
    pub epoch: i64,
    /// Its servers in the order of the record.
    pub servers: Vec<ServerSight>,
    /// Whether its servers keep their data on volumes.
    pub persistent: bool,
    /// The server that a person wants to lead.
    pub wanted_primary: Option<HostPort>,
    /// The server that a person allowed to lead whatever it lacks.
    pub accepted_loss: Option<HostPort>,
}

/// A server.
#[derive(Debug, Clone)]
pub struct ServerSight {
    /// Its address, which is its identity.
    pub server: HostPort,
    /// What it said to the operator itself.
    pub probe: Probe,
    /// Its pod.
    pub pod: PodSight,
    /// The UID of its pod, if there is one.
    pub uid: Option<String>,
    /// Whether a person changed, since the pod was made, what it is made with.
    pub outdated: bool,
    /// What holds the pod up, as Kubernetes tells it; empty when nothing is told.
    pub trouble: String,
    /// Its node.
    pub node: NodeSight,
    /// Whether its pod can start nowhere, because its volume is on a node that no longer exists.
    pub volume_lost: bool,
    /// Whether the dashboard's last poll of it was answered; `None`: there was none.
    pub polled: Option<bool>,
    /// Proxies that answer and can't use it.
    pub proxies_without: usize,
    /// Proxies that answer.
    pub proxies_asked: usize,
}

/// What came of asking a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Its `INFO`.
    Answered(Box<Info>),
    /// Its host says that nobody listens there: the process is gone.
    Refused,
    /// No answer in time, or no way there; why.
    Silent(String),
    /// It has no address.
    Nowhere,
}

/// A server's pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PodSight {
    /// There is none.
    #[default]
    Absent,
    /// It does not run yet.
    Pending,
    /// Its container runs, this pod (UID).
    Running(String),
    /// Its container ended, and was not started again yet.
    Ended,
    /// It is about to end.
    Leaving,
}

/// A registered proxy.
#[derive(Debug, Clone)]
pub struct ProxySight {
    /// The proxy.
    pub token: ProxyToken,
    /// Its pod's name.
    pub pod: String,
    /// The UID of its pod.
    pub uid: String,
    /// Whether that pod exists and is not about to end.
    pub pod_stays: bool,
    /// Whether its admin port answered the operator itself.
    pub answered: bool,
    /// Whether the dashboard's last poll of it was answered; `None`: there was none.
    pub polled: Option<bool>,
    /// The epoch of its record, which a wish names.
    pub epoch: i64,
    /// Its node.
    pub node: NodeSight,
}

/// A pod that holds no data, and is no registered proxy's: a dashboard's, or a proxy's that is forgotten or not known yet.
#[derive(Debug, Clone)]
pub struct StatelessPod {
    /// Its name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
    /// Whether it answered the operator itself, if it was asked.
    pub answered: bool,
    /// Its node.
    pub node: NodeSight,
}

/// Something to ask for. Everything may be asked for twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make `to` the primary of the group although `from` can't hand over.
    Promote {
        /// The group.
        group: GroupId,
        /// Its primary until now.
        from: HostPort,
        /// The one that is to lead.
        to: HostPort,
        /// The epoch of the group's record that this rests on.
        epoch: i64,
        /// Whatever it lacks.
        force: bool,
        /// Bytes of the replication stream that `from` was seen to have and `to` has not, where that is known.
        behind: Option<u64>,
    },
    /// Have the primary lead with the data that it has, whatever another server may have.
    KeepPrimary {
        /// The group.
        group: GroupId,
        /// Its primary.
        server: HostPort,
        /// The epoch of the group's record that this rests on.
        epoch: i64,
    },
    /// Have `from` hand over to `to`.
    HandOver {
        /// The group.
        group: GroupId,
        /// Its primary until now.
        from: HostPort,
        /// The one that is to lead.
        to: HostPort,
        /// The epoch of the group's record that this rests on.
        epoch: i64,
    },
    /// Shut a proxy off at the servers, forget it, and delete its pod.
    DropProxy {
        /// The proxy.
        token: ProxyToken,
        /// Its pod.
        pod: String,
        /// The UID of its pod: another one of the name is not meant.
        uid: String,
        /// The epoch of its record that this rests on.
        epoch: i64,
    },
    /// Delete a pod without data, whose node is lost, without waiting for anybody there.
    ForceDeletePod {
        /// The pod.
        pod: String,
        /// Its UID: another pod of the name is not meant.
        uid: String,
    },
    /// Delete a server's pod, whose node is lost, without waiting for anybody there.
    ForceDeleteServer {
        /// Its group.
        group: GroupId,
        /// The server.
        server: HostPort,
        /// The pod's UID: another pod of the name is not meant.
        uid: String,
        /// The epoch of the group's record that this rests on.
        epoch: i64,
    },
    /// Delete the claim of a server whose volume is gone with its node, and its pod, so that it begins anew.
    GiveUpVolume {
        /// Its group.
        group: GroupId,
        /// The server.
        server: HostPort,
        /// The pod's UID: another pod of the name is not meant.
        uid: String,
        /// The epoch of the group's record that this rests on.
        epoch: i64,
    },
    /// Take a person's mark away that is done with.
    ClearMark {
        /// The group that it names a server for.
        group: GroupId,
        /// The mark.
        mark: Mark,
        /// The server that it names.
        server: HostPort,
    },
    /// Tell that a replica is about to end: its primary is to go on without it.
    SetAside {
        /// Its group.
        group: GroupId,
        /// The replica.
        server: HostPort,
        /// The UID of its pod.
        uid: String,
        /// The epoch of the group's record that this rests on: its next process is not meant.
        epoch: i64,
    },
    /// Delete a server's pod, so that another one is made as the spec says now.
    ReplaceServer {
        /// Its group.
        group: GroupId,
        /// The server.
        server: HostPort,
        /// The pod's UID: another pod of the name is not meant.
        uid: String,
        /// The epoch of the group's record that this rests on.
        epoch: i64,
    },
    /// Delete a server's pod, so that it is started anew.
    RestartServer {
        /// Its group.
        group: GroupId,
        /// The server.
        server: HostPort,
        /// The pod's UID: another pod of the name is not meant.
        uid: String,
        /// The epoch of the group's record that this rests on.
        epoch: i64,
    },
}

/// What a person may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// That a server leads.
    HandOver,
    /// That a server may lead though it may lack acknowledged writes.
    AcceptDataLoss,
}

/// Something to ask for, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What.
    pub action: Action,
    /// Why, for people.
    pub reason: String,
    /// How long what it mends was there before it was certain.
    pub after: Duration,
}

/// Something that people should know and that nothing is done about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// In one word.
    pub reason: NoticeReason,
    /// What, and the remedy.
    pub message: String,
}

/// In one word, what people should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoticeReason {
    /// A primary seems to be gone, and only one witness says so.
    OneWitness,
    /// A primary is gone and no copy is known to have all of its data.
    NoCopy,
    /// A primary runs and does not answer, and its group has no other server.
    PrimaryHung,
    /// A group's primary was replaced too often lately.
    Flapping,
    /// Something would be done if it were allowed.
    ReportOnly,
    /// Something would be done if the cluster were not paused.
    Paused,
    /// Servers that are to be replaced are not, because one that was replaced is not well, or has the only copy.
    RolloutStopped,
    /// A primary that is to go can't hand over.
    NoSuccessor,
    /// A server can't write to its volume.
    DiskFails,
    /// A server's node is lost, and the server may still run there.
    NodeLost,
    /// A server's volume is on a node that no longer exists, and nobody else leads its group.
    VolumeLost,
    /// A primary refuses writes because its memory is used up.
    MemoryFull,
    /// A replica does not get in sync.
    ReplicaBehind,
    /// An annotation can't be read, or names nobody.
    BadAnnotation,
    /// What was asked for was refused, or could not be done.
    NotDone,
}

impl NoticeReason {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OneWitness => "PrimaryUnreachable",
            Self::NoCopy => "NoCopyInSync",
            Self::PrimaryHung => "PrimaryHung",
            Self::Flapping => "Flapping",
            Self::ReportOnly => "ReportOnly",
            Self::Paused => "Paused",
            Self::RolloutStopped => "RolloutStopped",
            Self::NoSuccessor => "NoSuccessor",
            Self::DiskFails => "DiskFails",
            Self::NodeLost => "NodeLost",
            Self::VolumeLost => "VolumeLost",
            Self::MemoryFull => "MemoryFull",
            Self::ReplicaBehind => "ReplicaBehind",
            Self::BadAnnotation => "BadAnnotation",
            Self::NotDone => "NotDone",
        }
    }
}

/// What a round comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// What to ask for.
    pub orders: Vec<Order>,
    /// What people should know.
    pub notices: Vec<Notice>,
}

impl ServerSight {
    /// What it said, if it answered.
    pub fn info(&self) -> Option<&Info> {
        match &self.probe {
            Probe::Answered(info) => Some(info),
            _ => None,
        }
    }
}

impl Action {
    /// In one word, for figures.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Promote { .. } => "promote",
            Self::KeepPrimary { .. } => "keep_primary",
            Self::HandOver { .. } => "hand_over",
            Self::DropProxy { .. } => "drop_proxy",
            Self::ForceDeletePod { .. } => "force_delete_pod",
            Self::ForceDeleteServer { .. } => "force_delete_server",
            Self::GiveUpVolume { .. } => "give_up_volume",
            Self::ClearMark { .. } => "clear_mark",
            Self::SetAside { .. } => "set_aside",
            Self::ReplaceServer { .. } => "replace_server",
            Self::RestartServer { .. } => "restart_server",
        }
    }

    /// The group that it disturbs.
    pub fn group(&self) -> Option<GroupId> {
        match self {
            Self::Promote { group, .. }
            | Self::KeepPrimary { group, .. }
            | Self::HandOver { group, .. }
            | Self::ReplaceServer { group, .. }
            | Self::RestartServer { group, .. }
            | Self::ForceDeleteServer { group, .. }
            | Self::GiveUpVolume { group, .. } => Some(*group),
            Self::DropProxy { .. } | Self::ClearMark { .. } | Self::SetAside { .. } | Self::ForceDeletePod { .. } => {
                None
            }
        }
    }
}
