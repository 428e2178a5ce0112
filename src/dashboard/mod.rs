//! codis-dashboard: the one that owns a product's slot map and commands its servers and proxies.
//!
//! - [`store`](self): records and the lock, in etcd or in files; [`topology`](self): the same in memory; `rules`: what may
//!   change and how, pure.
//! - `lead`: competing for the lock; `term`: one holding of it, through which every change goes.
//! - `view` (what proxies are told), `admission` (who gets a role): pure decisions. `proxies`, `roles`, `polls`: the I/O
//!   that carries them out.
//! - `api`: Codis 3.2's HTTP API.

mod admission;
mod api;
mod config;
mod coordinator;
mod error;
mod identity;
mod lead;
mod links;
mod logging;
mod observations;
mod polls;
mod proxies;
mod roles;
mod rules;
mod run;
mod server;
mod stats;
mod store;
mod term;
mod topology;
mod view;

pub use config::{Config, ConfigError, DEFAULT_TOML, Secret, Settings};
pub use coordinator::{Coordinator, EtcdSettings, EtcdTls};
pub use logging::{LevelError, LogLevel, Logging};
pub use run::{Options, Running, StartError, start};
pub use server::{Lookup, SystemLookup};
