//! Connections of the dashboard to the servers: names resolved off the hot path, logins as ACL users made for one server,
//! every call bounded in time.

mod connection;
mod info;
mod resolve;

pub(crate) use connection::{ReplicationSource, Server, Servers};
pub(crate) use info::Info;
pub(crate) use resolve::Resolver;
pub use resolve::{Lookup, SystemLookup};

use crate::model::HostPort;

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
            Self::Lookup { .. } | Self::Dial { .. } | Self::Lost { .. } => true,
            Self::Login { .. } | Self::Refused { .. } => false,
        }
    }
}
