use crate::model::{Group, RedisStats};

/// What a server does at the moment, as the dashboard's last poll tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// The last poll failed, or there was none yet.
    Unknown,
    /// It answers and does not hold the role that its group says.
    Unassigned,
    /// It leads its group.
    Primary,
    /// It follows the group's primary, and is recorded as one that holds all that was acknowledged.
    InSync,
    /// It follows the group's primary and is still copying, or its link is down, or nobody recorded yet that it has caught up.
    Syncing,
}

impl ServerState {
    /// The state of the server at `index` of this group, from the last poll of it.
    pub fn of(group: &Group, index: usize, stats: Option<&RedisStats>) -> Self {
        let (Some(server), Some(stats)) = (group.servers.get(index), stats) else {
            return Self::Unknown;
        };
        if stats.error.is_some() || stats.timeout || stats.stats.is_empty() {
            return Self::Unknown;
        }
        let info = |field: &str| stats.stats.get(field).map(String::as_str);
        let admitted = server
            .admitted_run_id
            .as_deref()
            .is_some_and(|run_id| info("run_id") == Some(run_id));
        let role = info("role");
        match index {
            _ if !admitted => Self::Unassigned,
            0 if role == Some("master") => Self::Primary,
            0 => Self::Unassigned,
            _ if role != Some("slave") || info("master_server") != group.primary().map(|p| p.server.as_str()) => {
                Self::Unassigned
            }
            // Only who is recorded as in sync may be promoted.
            _ if info("master_link_status") == Some("up")
                && info("master_sync_in_progress") != Some("1")
                && group.in_sync.contains(&server.server) =>
            {
                Self::InSync
            }
            _ => Self::Syncing,
        }
    }

    /// Whether the server holds its role and its data.
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Primary | Self::InSync)
    }
}
