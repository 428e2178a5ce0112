//! Real processes for the integration tests, on free loopback ports. All end with the test, however it ends.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

pub mod backend;
pub mod dashboard;
pub mod etcd;
pub mod etcd_cluster;
pub mod etcd_tls;
mod process;
pub mod proxy;
pub mod valkey;
pub mod wire;

pub use process::*;
