//! codis-operator: runs Codis-style clusters (sharded Valkey or Redis behind proxies) on Kubernetes.
//!
//! One library behind three thin binaries. Dependencies point one way only: [`model`] knows nobody; [`client`] and
//! [`plan`] know [`model`]; [`operator`] knows [`api`], [`model`], [`plan`] and [`client`]; [`dashboard`] and [`proxy`] know
//! [`model`], [`plan`], [`client`], [`log_file`], [`tls`] and `serving`, and never [`api`].

pub mod api;
pub mod client;
pub mod dashboard;
pub mod log_file;
pub mod model;
pub mod operator;
pub mod plan;
pub mod proxy;
mod serving;
#[cfg(test)]
mod simulation;
pub mod tls;
