use std::collections::BTreeMap;

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::child_meta;
use crate::operator::labels::{self, Component, GROUP_LABEL};
use crate::operator::validate::Cluster;

/// One budget for each set of pods that has more than one: a drain may take one at a time. A set of one has none, or no
/// node that holds it could ever be drained.
pub(super) fn all(cluster: &Cluster) -> Vec<PodDisruptionBudget> {
    let mut budgets = Vec::new();
    if cluster.replicas_per_group > 1 {
        budgets.extend(cluster.groups.iter().map(|group| {
            let mut selector = labels::selector(&cluster.name, Component::Server);
            selector.insert(GROUP_LABEL.to_owned(), group.to_string());
            one_at_a_time(cluster, cluster.servers_name(*group), selector)
        }));
    }
    if cluster.proxies.replicas > 1 {
        budgets.push(one_at_a_time(
            cluster,
            cluster.proxy_name(),
            labels::selector(&cluster.name, Component::Proxy),
        ));
    }
    if cluster.dashboard.replicas > 1 {
        let selector = labels::selector(&cluster.name, Component::Dashboard);
        budgets.push(one_at_a_time(cluster, cluster.dashboard_name(), selector));
    }
    budgets
}

fn one_at_a_time(cluster: &Cluster, name: String, selector: BTreeMap<String, String>) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: child_meta(cluster, name),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(selector),
                ..LabelSelector::default()
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
