//! codis-dashboard: the one that owns a product's slot map and commands its servers and proxies.
//!
//! - [`store`](self): records and the lock, in etcd or in files; [`topology`](self): the same in memory; `rules`: what may
//!   change and how, pure.
//! - `lead`: competing for the lock; `term`: one holding of it, through which every change goes.
//! - `view` (what proxies are told), `admission` (who gets a role): pure decisions. `proxies`, `roles`, `aside`, `leaving`, `polls`: the
//!   I/O that carries them out.
//! - `sentinels`: the Sentinels that the user runs. `slot_action`: the switches of the mover of slots.
//! - `api`: Codis 3.2's HTTP API.

pub(crate) mod admission;
mod api;
mod aside;
mod config;
mod coordinator;
mod error;
mod fault;
mod fences;
mod identity;
pub(crate) mod in_sync;
mod lead;
mod leaving;
mod links;
mod logging;
mod marks;
mod metrics;
#[cfg(test)]
mod model_tests;
mod moves;
pub(crate) mod observations;
mod polls;
pub(crate) mod promotion;
mod proxies;
mod report;
mod roles;
mod rules;
mod run;
#[cfg(test)]
mod samples;
mod sentinels;
mod server;
mod slot_action;
mod stats;
mod store;
mod term;
mod topology;
mod users;
mod view;
mod workers;

pub use api::openapi;
pub use config::{Config, ConfigError, DEFAULT_TOML, Secret, Settings};
pub use coordinator::{Coordinator, EtcdSettings, EtcdTls};
#[cfg(debug_assertions)]
pub use fault::POINTS as FAULT_POINTS;
pub use fences::Durability;
pub use logging::{LevelError, LogLevel, Logging};
pub use run::{Options, Running, StartError, start};
pub use server::{Lookup, SystemLookup};
