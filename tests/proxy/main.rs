//! The proxy from the outside, in one binary, because each costs seconds to link: `cargo test --test proxy routing::`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed expectation is a failed test"
)]

mod admin;
mod blocking;
mod cluster_commands;
mod commands;
mod databases;
mod hold;
mod introspection;
mod metrics;
mod protocol;
mod pubsub;
mod replica_reads;
mod routing;
#[path = "../support/mod.rs"]
mod support;
mod transactions;
mod witness;
