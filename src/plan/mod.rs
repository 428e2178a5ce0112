//! Pure planners: values in, values out. No I/O, no clock, no Kubernetes.

pub mod ha;
mod rebalance;
mod server_state;
mod slots;
mod topology;

pub use rebalance::{Weight, WeightError, rebalance};
pub use server_state::ServerState;
pub use slots::even_owner;
pub use topology::{Desired, DesiredGroup, Observed, Plan, Problem, ProblemReason, ProxyPod, Step, plan_topology};
