//! Real processes for the integration tests, on free loopback ports. All end with the test, however it ends.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

pub mod backend;
pub mod certificates;
pub mod checker;
pub mod clients;
pub mod dashboard;
pub mod etcd;
pub mod etcd_cluster;
pub mod etcd_tls;
pub mod grammar;
pub mod nutcracker;
mod process;
pub mod proxy;
pub mod raw;
pub mod relay;
pub mod sentinel;
pub mod shop;
pub mod tls;
pub mod valkey;
pub mod wire;
pub mod writer;

pub use process::*;

/// A plain HTTP client.
pub fn web() -> reqwest::Client {
    // The library wants to know how TLS is done, used or not.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().tls_certs_only([]).no_proxy();
    client.build().unwrap()
}
