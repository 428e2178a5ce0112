//! The proxy under load and with servers that fail: apart, so that nothing that is timed runs beside it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed expectation is a failed test"
)]

mod differential;
mod faults;
mod memory;
mod streaming;
#[path = "../support/mod.rs"]
mod support;
