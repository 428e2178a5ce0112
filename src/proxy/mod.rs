//! codis-proxy: plain Redis clients on one side, the servers of all slots on the other.
//!
//! Threads: one per core serves clients ([`worker`]), alone with its connections and its copy of the slot map; one
//! more serves everything else (admin API, registration, accepting). `state` is what both know of each other.

mod admin;
mod backend;
mod cgroup;
mod command;
mod config;
mod host;
mod jodis;
mod leftovers;
mod listen;
mod logging;
mod metrics;
mod outbox;
mod private;
mod pubsub;
mod register;
mod resp;
mod router;
mod scripts;
mod session;
mod slots;
mod start;
mod state;
mod tls;
mod transport;
mod worker;

#[cfg(test)]
pub(crate) use slots::SlotMap;

pub use cgroup::cores;
pub use config::{AuthClients, Config, ConfigError, DEFAULT_CONFIG, ProtoType};
pub use host::open_files_limit;
pub use listen::ListenError;
pub use logging::{LogControl, LogLevel, LogLevelError, start as start_log};
pub use register::WrongProduct;
pub use start::{Options, ProxyError, Source, run};
