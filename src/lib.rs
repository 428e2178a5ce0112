//! codis-operator: runs Codis-style clusters (sharded Valkey or Redis behind proxies) on Kubernetes.
//!
//! One library behind three thin binaries. Dependencies point one way only: [`model`] knows nobody; `plan` knows
//! [`model`]; `operator` knows `api`, [`model`], `plan` and `client`; `dashboard` and `proxy` know [`model`] and `plan`,
//! and never `api`.

pub mod client;
pub mod model;
pub mod proxy;
