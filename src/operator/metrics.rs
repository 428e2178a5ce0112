use std::collections::BTreeSet;
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
use crate::model::GroupId;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabels {
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupLabels {
    namespace: String,
    name: String,
    group: u32,
}

/// What the HA loop asked for, and what came of it: `done`, `late`, `failed`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    action: &'static str,
    result: &'static str,
}

/// A part of a failover: `detect`, from the first look that did not find the primary at work to the decision; `promote`, from
/// there until the new one led; `write`, from there until the proxies knew it.
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
    at_risk: Family<GroupLabels, Gauge<i64>>,
    actions: Family<ActionLabels, Counter<u64, AtomicU64>>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut all = Registry::default();
        let failover: Family<PhaseLabels, Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.01, 2.0, 14)));
        all.register(
            "codis_failover_seconds",
            "Time that failovers took, by phase: detect, promote, write",
            failover.clone(),
        );
        let at_risk = Family::default();
        all.register(
            "codis_acknowledged_bytes_at_risk",
            "Bytes of the replication stream that a group's primary had at the last look, and no replica in sync",
            at_risk.clone(),
        );
        let registry = all.sub_registry_with_prefix("codis_operator");
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
        let actions = Family::default();
        registry.register(
            "ha_actions",
            "What was asked for because something failed, and what came of it: done, late, failed",
            actions.clone(),
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
            at_risk,
            actions,
            registry: all,
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
    pub(super) fn failed_over(&self, detect: Duration, promote: Duration, write: Duration) {
        for (phase, time) in [("detect", detect), ("promote", promote), ("write", write)] {
            self.failover
                .get_or_create(&PhaseLabels { phase })
                .observe(time.as_secs_f64());
        }
    }

    /// Something was asked for, with this result.
    pub(super) fn acted(&self, action: &'static str, result: &'static str) {
        self.actions.get_or_create(&ActionLabels { action, result }).inc();
    }

    /// What the sudden end of a primary would lose, for as long as that is told.
    pub(super) fn risk_of(&self, cluster: &CodisCluster) -> Risk<'_> {
        Risk {
            metrics: self,
            cluster: labels(cluster),
            told: BTreeSet::new(),
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

/// What a cluster's groups would lose. Whoever drops it stops telling.
pub(super) struct Risk<'a> {
    metrics: &'a Metrics,
    cluster: ClusterLabels,
    told: BTreeSet<GroupId>,
}

impl Risk<'_> {
    /// Tells these groups' bytes, and of no other groups any more.
    pub(super) fn tell(&mut self, bytes: impl Iterator<Item = (GroupId, u64)>) {
        let before = std::mem::take(&mut self.told);
        for (group, bytes) in bytes {
            let gauge = self.metrics.at_risk.get_or_create(&self.labels(group)).clone();
            gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
            self.told.insert(group);
        }
        for group in before.difference(&self.told) {
            self.metrics.at_risk.remove(&self.labels(*group));
        }
    }

    fn labels(&self, group: GroupId) -> GroupLabels {
        GroupLabels {
            namespace: self.cluster.namespace.clone(),
            name: self.cluster.name.clone(),
            group: group.get().into(),
        }
    }
}

impl Drop for Risk<'_> {
    fn drop(&mut self) {
        self.tell(std::iter::empty());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::build::fixtures::shop;

    #[test]
    fn figures_have_the_names_that_dashboards_and_alerts_use() {
        let metrics = Metrics::new();
        metrics.failed_over(Duration::ZERO, Duration::ZERO, Duration::ZERO);
        let mut risk = metrics.risk_of(&shop());
        risk.tell([(GroupId::new(1).unwrap(), 5)].into_iter());
        metrics.acted("promote", "late");
        metrics.acted("promote", "late");
        let text = metrics.text();
        for line in [
            "codis_failover_seconds_count{phase=\"detect\"} 1",
            "codis_operator_ha_actions_total{action=\"promote\",result=\"late\"} 2",
            "codis_operator_reconciliation_seconds_count 0",
            "codis_acknowledged_bytes_at_risk{",
        ] {
            assert!(text.lines().any(|found| found.starts_with(line)), "{line} in {text}");
        }
    }

    #[test]
    fn what_a_group_would_lose_is_told_while_the_cluster_is_watched() {
        let metrics = Metrics::new();
        let lines = || {
            let text = metrics.text();
            let mut lines = text.lines().filter(|line| line.contains("acknowledged_bytes_at_risk{"));
            (lines.next().map(str::to_owned), lines.count())
        };
        let group = |number| GroupId::new(number).unwrap();
        let mut risk = metrics.risk_of(&shop());
        risk.tell([(group(1), 5), (group(2), 7)].into_iter());
        assert_eq!(lines().1, 1);
        risk.tell([(group(2), 9)].into_iter());
        let (line, others) = lines();
        let line = line.unwrap();
        assert!(
            line.contains("group=\"2\"") && line.ends_with(" 9") && others == 0,
            "{line}"
        );
        drop(risk);
        assert_eq!(lines(), (None, 0));
    }
}
