//! Connections of the dashboard to the servers: names resolved off the hot path, logins as ACL users made for one server,
//! every call bounded in time.

mod commands;
mod connection;
mod resolve;

pub(crate) use connection::{ReplicationSource, Server, Servers};
pub(crate) use resolve::Resolver;
pub use resolve::{Lookup, SystemLookup};

use crate::model::HostPort;

/// What the records say of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is in no group.
    Stranger,
    /// It is in a group, and was never known as one that the operator prepared.
    Member,
    /// It was admitted as one that the operator prepared.
    Prepared,
}

/// Why a server did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ServerError {
    /// The name has no address, or none in time.
    #[error("lookup {addr}: {reason}")]
    Lookup {
        /// The server.
        addr: HostPort,
        /// What happened.
        reason: String,
    },
    /// No connection.
    #[error("dial tcp {addr}: {reason}")]
    Dial {
        /// The server.
        addr: HostPort,
        /// What happened.
        reason: String,
    },
    /// The connection broke, or no answer came in time. What was asked may have been done.
    #[error("{addr}: {command}: {reason}")]
    Lost {
        /// The server.
        addr: HostPort,
        /// What was asked.
        command: &'static str,
        /// What happened.
        reason: String,
    },
    /// It let nobody in.
    #[error("{addr}: login refused: {reason}")]
    Login {
        /// The server.
        addr: HostPort,
        /// As whom, and its words.
        reason: String,
    },
    /// A dashboard of a later lock was here. Either the lock is lost and that is not known yet, or the store was emptied or
    /// restored from an older copy.
    #[error(
        "{addr}: a dashboard with lock revision {theirs} commands it, later than ours, {ours}; if the store was emptied or \
         restored from a backup, import the slot map (PUT /api/topom/v2/import)"
    )]
    Superseded {
        /// The server.
        addr: HostPort,
        /// The other one's revision.
        theirs: i64,
        /// Ours.
        ours: i64,
    },
    /// It answered with an error.
    #[error("{addr}: {command} was refused: {reason}")]
    Refused {
        /// The server.
        addr: HostPort,
        /// What was asked.
        command: &'static str,
        /// Its words.
        reason: String,
    },
}

impl ServerError {
    /// Whether the same may work later without anybody doing anything.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Lookup { .. } | Self::Dial { .. } | Self::Lost { .. } | Self::Superseded { .. } => true,
            // A name may lead to a stranger for a while, when an IP was given to another pod.
            Self::Login { addr, .. } => addr.host().parse::<std::net::IpAddr>().is_err(),
            Self::Refused { .. } => false,
        }
    }
}
