//! What end-to-end tests need: a Kubernetes cluster, faults of its nodes, namespaces that go away, and patience with a deadline.
//!
//! [`Cluster::get`] is the cluster that `KUBECONFIG` names or else the local one of `e2e/cluster`, which it starts when it is not
//! up. Everything here panics with what was being done when it fails: a test has no other way to go on.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod absent;
mod cluster;
mod codis;
mod command;
mod eventually;
pub mod faults;
mod judge;
mod namespace;
mod node;
pub mod operator;
mod process;
mod slot;
mod wire;
mod writer;

pub use absent::Absent;
pub use cluster::Cluster;
pub use codis::{BRING_UP, Codis};
pub use command::{Failed, run};
pub use eventually::eventually;
pub use judge::{Broken, Verdict, judge};
pub use namespace::Namespace;
pub use node::{Direction, Node};
pub use process::Server;
pub use slot::slot_of;
pub use writer::{Log, Writer, now};
