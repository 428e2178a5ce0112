use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::api::{CodisCluster, CodisClusterStatus, Phase};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabels {
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// A part of a failover: `detect`, from the first look that did not find the primary at work to the decision; `promote`, from
/// there until the proxies knew the new one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

type PerCluster = Family<ClusterLabels, Gauge<i64>>;

/// The operator's figures.
pub(super) struct Metrics {
    registry: Registry,
    seconds: Histogram,
    failures: Family<ReasonLabels, Counter<u64, AtomicU64>>,
    ready: PerCluster,
    servers_ready: PerCluster,
    servers_wanted: PerCluster,
    proxies_ready: PerCluster,
    slots_assigned: PerCluster,
    reconciled: Family<ClusterLabels, Counter<u64, AtomicU64>>,
    failover: Family<PhaseLabels, Histogram>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("codis_operator");
        let seconds = Histogram::new(exponential_buckets(0.005, 2.0, 14));
        registry.register(
            "reconciliation_seconds",
            "Time that reconciliations took",
            seconds.clone(),
        );
        let failures = Family::default();
        registry.register(
            "reconciliation_failures",
            "Reconciliations that failed, by reason",
            failures.clone(),
        );
        let reconciled = Family::default();
        registry.register(
            "cluster_reconciled",
            "Reconciliations of the cluster that came to their end",
            reconciled.clone(),
        );
        let failover: Family<PhaseLabels, Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.01, 2.0, 14)));
        registry.register(
            "failover_seconds",
            "Time that failovers took, by phase: detect, promote",
            failover.clone(),
        );
        let mut per_cluster = |name: &str, help: &str| {
            let family = PerCluster::default();
            registry.register(name, help, family.clone());
            family
        };
        Self {
            ready: per_cluster("cluster_ready", "Whether the cluster is as its spec says"),
            servers_ready: per_cluster(
                "cluster_servers_ready",
                "Servers that hold their role, replicas in sync",
            ),
            servers_wanted: per_cluster("cluster_servers_wanted", "Servers that should be"),
            proxies_ready: per_cluster("cluster_proxies_ready", "Proxies that serve clients"),
            slots_assigned: per_cluster("cluster_slots_assigned", "Slots that have a group, of 1024"),
            reconciled,
            failover,
            registry,
            seconds,
            failures,
        }
    }

    /// Measures until it is dropped.
    pub(super) fn reconciliation(&self) -> Timer<'_> {
        Timer {
            metrics: self,
            began: Instant::now(),
        }
    }

    /// A group's primary was replaced.
    pub(super) fn failed_over(&self, detect: Duration, promote: Duration) {
        for (phase, time) in [("detect", detect), ("promote", promote)] {
            self.failover
                .get_or_create(&PhaseLabels { phase })
                .observe(time.as_secs_f64());
        }
    }

    pub(super) fn failed(&self, reason: &'static str) {
        self.failures.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub(super) fn observe(&self, cluster: &CodisCluster, status: &CodisClusterStatus) {
        let labels = labels(cluster);
        self.reconciled.get_or_create(&labels).inc();
        self.ready
            .get_or_create(&labels)
            .set(i64::from(status.phase == Some(Phase::Ready)));
        self.servers_ready
            .get_or_create(&labels)
            .set(status.servers.ready.into());
        self.servers_wanted
            .get_or_create(&labels)
            .set(status.servers.total.into());
        self.proxies_ready
            .get_or_create(&labels)
            .set(status.proxies.ready.into());
        self.slots_assigned.get_or_create(&labels).set(status.slots.into());
    }

    /// Stops telling of a cluster that is deleted.
    pub(super) fn forget(&self, cluster: &CodisCluster) {
        let labels = labels(cluster);
        let all = [
            &self.ready,
            &self.servers_ready,
            &self.servers_wanted,
            &self.proxies_ready,
            &self.slots_assigned,
        ];
        for family in all {
            family.remove(&labels);
        }
        self.reconciled.remove(&labels);
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String can't fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn labels(cluster: &CodisCluster) -> ClusterLabels {
    ClusterLabels {
        namespace: cluster.namespace().unwrap_or_default(),
        name: cluster.name_any(),
    }
}

pub(super) struct Timer<'a> {
    metrics: &'a Metrics,
    began: Instant,
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.metrics.seconds.observe(self.began.elapsed().as_secs_f64());
    }
}
