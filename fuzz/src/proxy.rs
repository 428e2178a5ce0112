//! The part of codis-proxy that reads bytes: its own source, without the many libraries that the rest needs.
#![allow(
    dead_code,
    unused_imports,
    private_interfaces,
    reason = "the rest of the proxy uses it"
)]

#[path = "../../src/proxy/command/mod.rs"]
pub(crate) mod command;
#[path = "../../src/proxy/pubsub/kind.rs"]
mod pubsub;
#[path = "../../src/proxy/resp/mod.rs"]
pub(crate) mod resp;
