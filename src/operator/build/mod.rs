//! All children of a cluster as values. Pure: what is built depends on nothing but the validated cluster.

mod dashboard;
mod disruption;
mod pod;
mod proxies;
mod server_config;
mod servers;
mod services;

pub(super) use self::server_config::is_config_map_name;
pub(super) use self::servers::{IN_SYNC, SERVER_CONTAINER, SPEC_DIGEST, claim_name};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ObjectMeta;

use super::labels;
use super::validate::Cluster;

/// Everything that a cluster consists of, but for its generated password, which is made once and kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Children {
    /// What servers are configured with from now on.
    pub config: ConfigMap,
    /// The static users of each group's servers.
    pub users: Vec<Secret>,
    /// Headless ones for names, one for the active dashboard, one for clients.
    pub services: Vec<Service>,
    /// One for each group that a disruption could hurt, one for proxies, one for dashboards.
    pub disruption_budgets: Vec<PodDisruptionBudget>,
    /// The proxies.
    pub proxies: Deployment,
    /// The dashboards.
    pub dashboard: StatefulSet,
    /// The servers of each group.
    pub servers: Vec<StatefulSet>,
}

/// Builds all children of a cluster.
pub fn build(cluster: &Cluster) -> Children {
    let config = server_config::config_map(cluster);
    let config_name = config.metadata.name.clone().unwrap_or_default();
    Children {
        config,
        users: cluster
            .groups
            .iter()
            .map(|group| server_config::users_secret(cluster, *group))
            .collect(),
        services: services::all(cluster),
        disruption_budgets: disruption::all(cluster),
        proxies: proxies::deployment(cluster),
        dashboard: dashboard::stateful_set(cluster),
        servers: cluster
            .groups
            .iter()
            .map(|group| servers::stateful_set(cluster, *group, &config_name))
            .collect(),
    }
}

/// The Secret with a cluster's generated password.
pub(super) fn auth_secret_name(cluster: &str) -> String {
    format!("{cluster}-auth")
}

/// The metadata of a child: owned by the cluster, found by its labels.
pub(super) fn child_meta(cluster: &Cluster, name: impl Into<String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some(cluster.namespace.clone()),
        labels: Some(labels::of_cluster(&cluster.name)),
        owner_references: Some(vec![cluster.owner.clone()]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
pub(super) mod fixtures;
#[cfg(test)]
mod tests;
