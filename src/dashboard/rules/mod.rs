//! What the API allows: each function takes the records as they are and says which are to change, or why not. Pure.
//!
//! The texts of refusals are those of Codis 3.2 where it has one, because its tools show them.

pub(crate) mod actions;
pub(crate) mod epochs;
pub(crate) mod groups;
pub(crate) mod mirror;
pub(crate) mod promotion;
pub(crate) mod proxies;
pub(crate) mod rebalance;
pub(crate) mod replica_groups;
pub(crate) mod replication;
pub(crate) mod sentinels;
pub(crate) mod slot_actions;
pub(crate) mod slot_moves;
pub(crate) mod slots;

use super::topology::{Change, Topology};
use crate::model::{Group, GroupId};

/// Why a request is refused. Repeating it changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(pub(crate) String);

/// The records to change, or why not.
pub(crate) type Ruling = Result<Vec<Change>, Refusal>;

fn refuse<T>(reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(reason.into()))
}

/// The group, if it exists.
///
/// # Errors
/// When it does not.
pub(crate) fn existing(topology: &Topology, id: GroupId) -> Result<&Group, Refusal> {
    topology
        .group(id)
        .ok_or_else(|| Refusal(format!("group-[{id}] doesn't exist")))
}

fn not_promoting(group: &Group) -> Result<(), Refusal> {
    if group.promoting.state.is_nothing() {
        Ok(())
    } else {
        refuse(format!("group-[{}] is promoting", group.id))
    }
}

#[cfg(test)]
mod fixture {
    use super::*;
    use crate::model::{GroupServer, HostPort};

    pub(super) fn addr(text: &str) -> HostPort {
        text.parse().unwrap()
    }

    pub(super) fn gid(number: i64) -> GroupId {
        GroupId::new(number).unwrap()
    }

    pub(super) fn after(topology: &Topology, changes: &[Change]) -> Topology {
        let mut topology = topology.clone();
        topology.apply(changes, 100);
        topology
    }

    /// Group 1 with servers a:1 and b:1, group 2 with c:1, group 3 empty.
    pub(super) fn topology() -> Topology {
        let group = |number, servers: &[&str]| {
            let mut group = Group::new(gid(number));
            group.servers = servers.iter().map(|s| GroupServer::new(addr(s), "")).collect();
            Change::PutGroup(group)
        };
        after(
            &Topology::empty(1),
            &[group(1, &["a:1", "b:1"]), group(2, &["c:1"]), group(3, &[])],
        )
    }

    pub(super) fn refused(ruling: Ruling) -> String {
        ruling.unwrap_err().to_string()
    }
}
