//! Faults that are tried on a cluster under load, by end-to-end tests (`e2e/tests/e2e_faults.rs`) and by `make chaos`.

mod coordinator;
mod dashboards;
mod node;
mod operators;
mod pods;
mod proxies;
mod scene;
mod servers;
mod surroundings;

use std::pin::Pin;
use std::time::Duration;

pub use scene::Scene;

use crate::{Verdict, Writer, judge};

/// What a fault may cost that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    Nothing,
    /// What was acknowledged in the last moment before it: replication is asynchronous.
    LastMoment,
    /// Everything before it: there is no copy anywhere.
    All,
}

/// What is promised of a fault.
#[derive(Debug, Clone, Copy)]
pub struct Promise {
    /// How long writes may be held up.
    pub goal: Duration,
    /// What may be lost.
    pub loss: Loss,
    /// Whether a client may see an error, or a connection break.
    pub errors: bool,
}

/// Strikes, waits until clients can write again, and undoes what does not end by itself; when it struck, in milliseconds
/// since 1970.
type Strike = for<'a> fn(&'a Scene, &'a Writer) -> Pin<Box<dyn Future<Output = u64> + 'a>>;

/// A fault.
#[derive(Clone, Copy)]
pub struct Fault {
    /// What happens, as a test is named.
    pub name: &'static str,
    /// What is promised.
    pub promise: Promise,
    strike: Strike,
}

/// The entries of the table below.
macro_rules! fault {
    ($part:ident::$name:ident, $goal:expr, $loss:ident, errors: $errors:expr) => {
        Fault {
            name: stringify!($name),
            promise: Promise {
                goal: Duration::from_millis($goal),
                loss: Loss::$loss,
                errors: $errors,
            },
            strike: |scene, writer| Box::pin($part::$name(scene, writer)),
        }
    };
}

/// All faults. Goals are in milliseconds; where an issue of ours or DESIGN.md sets none, what a user would take for granted.
pub const FAULTS: &[Fault] = &[
    fault!(servers::primary_is_killed, 2000, LastMoment, errors: true),
    fault!(servers::primary_is_frozen_and_wakes_as_a_replica, 4000, LastMoment, errors: true),
    fault!(servers::primary_runs_out_of_memory, 2000, LastMoment, errors: true),
    fault!(servers::replica_is_killed, 1000, Nothing, errors: false),
    fault!(servers::replica_is_frozen_and_wakes, 2000, Nothing, errors: false),
    fault!(servers::replica_runs_out_of_memory, 1000, Nothing, errors: false),
    fault!(servers::primary_hands_over_by_hand, 50, Nothing, errors: false),
    fault!(pods::pod_of_the_primary_is_deleted, 50, Nothing, errors: false),
    fault!(pods::pod_of_the_primary_is_deleted_by_force, 2000, LastMoment, errors: true),
    fault!(pods::node_of_the_primary_is_drained, 2000, Nothing, errors: true),
    fault!(pods::all_servers_are_killed_at_once, 10_000, All, errors: true),
    fault!(pods::all_pods_are_killed_at_once, 20_000, All, errors: true),
    fault!(proxies::proxy_is_killed, 2000, Nothing, errors: true),
    fault!(proxies::proxy_is_frozen, 4000, Nothing, errors: true),
    fault!(proxies::all_proxies_are_killed_at_once, 5000, Nothing, errors: true),
    fault!(dashboards::active_dashboard_is_killed, 100, Nothing, errors: false),
    fault!(dashboards::active_dashboard_is_frozen_and_wakes, 100, Nothing, errors: false),
    fault!(dashboards::active_dashboard_is_frozen_and_the_primary_killed, 8000, LastMoment, errors: true),
    fault!(coordinator::member_of_etcd_is_killed, 100, Nothing, errors: false),
    fault!(coordinator::member_of_etcd_and_the_primary_are_killed, 4000, LastMoment, errors: true),
    fault!(coordinator::all_of_etcd_is_down_for_a_minute, 100, Nothing, errors: false),
    fault!(operators::leader_is_frozen_and_the_primary_killed, 5000, LastMoment, errors: true),
    fault!(operators::leader_is_killed_for_good_and_another_one_acts, 50, Nothing, errors: false),
    fault!(operators::leader_is_frozen_and_another_one_acts, 50, Nothing, errors: false),
    fault!(operators::leader_is_killed_with_the_primary, 5000, LastMoment, errors: true),
    fault!(operators::leader_is_killed_while_it_fails_over, 5000, LastMoment, errors: true),
    fault!(operators::leader_is_killed_when_clients_write_again, 5000, LastMoment, errors: true),
    fault!(operators::leader_is_killed_when_the_status_names_the_new_primary, 5000, LastMoment, errors: true),
    fault!(operators::leader_is_killed_when_the_former_primary_follows, 5000, LastMoment, errors: true),
    fault!(operators::leader_wakes_after_a_minute_and_does_nothing_stale, 5000, LastMoment, errors: true),
    fault!(surroundings::names_can_not_be_resolved, 100, Nothing, errors: false),
    fault!(surroundings::names_can_not_be_resolved_and_the_primary_is_killed, 4000, LastMoment, errors: true),
    fault!(surroundings::api_server_hangs_and_the_primary_is_killed, 5000, LastMoment, errors: true),
    fault!(node::node_of_the_primary_is_powered_off, 5000, LastMoment, errors: true),
    fault!(node::node_with_one_of_everything_is_powered_off, 8000, LastMoment, errors: true),
    fault!(node::node_of_the_primary_is_frozen, 6000, LastMoment, errors: true),
    fault!(node::node_of_the_primary_is_cut_off, 6000, LastMoment, errors: true),
    fault!(node::node_of_the_primary_hears_nothing, 6000, LastMoment, errors: true),
    fault!(node::node_of_the_primary_is_not_heard, 6000, LastMoment, errors: true),
];

impl Loss {
    /// Why that may be lost, for people.
    pub fn why(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::LastMoment => "its last moment: replication is asynchronous",
            Self::All => "there was no copy",
        }
    }
}

impl Fault {
    /// Strikes while clients write, waits until the cluster is whole again, and tells what it cost.
    ///
    /// # Panics
    /// When something does not come about in its time.
    pub async fn strike(&self, scene: &Scene) -> Verdict {
        scene.wait_until_whole().await;
        scene.renew_pods().await;
        let writer = Writer::start(scene.codis()).await;
        let since = (self.strike)(scene, &writer).await;
        scene.wait_until_whole().await;
        let log = writer.stop().await;
        judge(self.name, &log, since, self.promise)
    }
}

/// How long clients may take to be able to write again before a fault counts as one that nothing was done about.
const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until every client was acknowledged a write that began `after` ms past the fault.
async fn wait_for_writes(writer: &Writer, since: u64, after: u64) -> u64 {
    writer.wait_for_writes_after(since + after, PATIENCE).await;
    since
}
