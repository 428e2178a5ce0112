//! High availability: what one round saw of a cluster, and what is to be asked for because of it. Pure: no I/O, no clock.
//!
//! DESIGN 3 has the rules. Those that bind here: the operator never commands a server, it asks the dashboard, with the
//! epoch of the group that it saw (2); a failover that nobody planned needs two witnesses (6); the freshest copy wins (5);
//! one disruption per group at a time (8); everything may be asked for again (9). The dashboard judges each wish once more,
//! by what the servers say at that moment.

mod alone;
mod behind;
mod copies;
mod decide;
mod group;
mod history;
mod leaving;
mod losses;
mod lost;
mod memory;
mod pods;
mod policy;
mod primary;
mod proxies;
mod rolling;
mod sight;

pub use decide::decide;
pub use history::{History, Undone};
pub use losses::DataLoss;
pub use policy::{Mode, Policy, Turn};
pub use primary::leads;
pub use sight::{
    Action, Decision, GroupSight, Mark, NodeSight, Notice, NoticeReason, Order, PodSight, Probe, ProxySight, Round,
    ServerSight, StatelessPod,
};

#[cfg(test)]
mod alone_tests;
#[cfg(test)]
mod behind_tests;
#[cfg(test)]
mod gap_tests;
#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod lost_tests;
#[cfg(test)]
mod pair_tests;
#[cfg(test)]
mod rolling_tests;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;
#[cfg(test)]
mod turn_tests;
