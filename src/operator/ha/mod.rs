//! The HA loop: per cluster, looks at everything each `probeInterval`, has [`crate::plan::ha`] decide, and asks for what that
//! says. It runs in every instance of the operator, whoever leads: what the dashboard is asked for names the epoch that was
//! seen, so that two who ask are as harmless as one, and a failover needs neither the API server nor a leader.

mod act;
mod deletions;
mod eyes;
mod live;
mod marks;
mod nodes;
mod patrol;
mod reports;
mod volumes;
mod world;

pub(super) use act::DASHBOARD_TIMEOUT;
pub(super) use patrol::{ClusterRef, Means, run};
#[cfg(test)]
pub(super) use reports::DataLossRecord;
pub(super) use reports::{Report, Reports};
