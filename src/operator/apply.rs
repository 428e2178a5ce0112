use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::build::Children;
use super::error::{Error, Invalid};
use super::labels::{self, MANAGER};
use super::old_configs;
use super::validate::Cluster;

/// How many objects of a kind are applied at the same time.
const AT_ONCE: usize = 8;

/// How far Kubernetes is with what was applied.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rollout {
    /// Pods that are ready.
    pub(super) ready: i32,
    /// Whether all pods there should be are ready and made from the latest template, and no other is left.
    pub(super) done: bool,
}

/// How far all parts are.
#[derive(Debug, Clone, Default)]
pub(super) struct Rollouts {
    /// Kubernetes rolls them by itself.
    pub(super) proxies: Rollout,
    /// Kubernetes rolls them by itself.
    pub(super) dashboards: Rollout,
    /// The servers' sets, by name: the operator rolls their pods.
    pub(super) servers: BTreeMap<String, StatefulSet>,
}

/// Brings all children to what they were built as, and deletes those that are no longer built. Applying an unchanged
/// object changes nothing, not even its version.
pub(super) async fn apply(
    client: &Client,
    known: &KnownChildren,
    cluster: &Cluster,
    children: Children,
) -> Result<Rollouts, Error> {
    // Taken apart in full, so that a new kind of child can't be forgotten here.
    let Children {
        config,
        users,
        services,
        disruption_budgets,
        proxies,
        dashboard,
        servers,
    } = children;
    let to = &Target { client, known, cluster };
    // What pods mount and are found by comes first, so that no pod starts without it; StatefulSets of servers come last.
    let config_name = config.name_any();
    to.apply(vec![config]).await?;
    to.apply(users).await?;
    to.apply(services).await?;
    delete_orphaned_budgets(client, cluster, &disruption_budgets).await?;
    to.apply(disruption_budgets).await?;
    let dashboards = to.apply(vec![dashboard]).await?;
    let proxies = to.apply(vec![proxies]).await?;
    let servers = to.apply(servers).await?;
    if let Err(error) = old_configs::delete_unused(client, cluster, &config_name).await {
        tracing::warn!(cluster = %format!("{}/{}", cluster.namespace, cluster.name), %error, "what servers were configured with before is kept");
    }
    Ok(Rollouts {
        proxies: proxies.first().map(of_deployment).unwrap_or_default(),
        dashboards: dashboards.first().map(of_stateful_set).unwrap_or_default(),
        servers: servers.into_iter().map(|set| (set.name_any(), set)).collect(),
    })
}

/// How far Kubernetes is with what was applied before, and nothing is applied.
pub(super) async fn look(client: &Client, cluster: &Cluster) -> Result<Rollouts, Error> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &cluster.namespace);
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &cluster.namespace);
    let (proxies, dashboards) = (cluster.proxy_name(), cluster.dashboard_name());
    let selector = labels::as_selector(&labels::of_cluster(&cluster.name));
    let all_sets = ListParams::default().labels(&selector);
    let (proxies, dashboards, all) = tokio::try_join!(
        async {
            deployments
                .get_opt(&proxies)
                .await
                .map_err(Error::kube(format!("reading Deployment {proxies}")))
        },
        async {
            sets.get_opt(&dashboards)
                .await
                .map_err(Error::kube(format!("reading StatefulSet {dashboards}")))
        },
        async { sets.list(&all_sets).await.map_err(Error::kube("listing StatefulSets")) },
    )?;
    Ok(Rollouts {
        proxies: proxies.as_ref().map(of_deployment).unwrap_or_default(),
        dashboards: dashboards.as_ref().map(of_stateful_set).unwrap_or_default(),
        servers: all.into_iter().map(|set| (set.name_any(), set)).collect(),
    })
}

fn of_deployment(deployment: &Deployment) -> Rollout {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    deployment.status.as_ref().map_or_else(Rollout::default, |status| {
        let seen = status.observed_generation == deployment.metadata.generation;
        Rollout::of(
            seen,
            wanted,
            [status.replicas, status.updated_replicas, status.ready_replicas],
        )
    })
}

fn of_stateful_set(set: &StatefulSet) -> Rollout {
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas);
    set.status.as_ref().map_or_else(Rollout::default, |status| {
        let seen = status.observed_generation == set.metadata.generation;
        Rollout::of(
            seen,
            wanted,
            [Some(status.replicas), status.updated_replicas, status.ready_replicas],
        )
    })
}

impl Rollout {
    /// From what a status tells: whether it speaks of the latest template, how many pods are wanted, and how many there
    /// are in all, of the latest template, and ready.
    fn of(seen: bool, wanted: Option<i32>, [all, updated, ready]: [Option<i32>; 3]) -> Self {
        let is_wanted = |count: Option<i32>| count.unwrap_or_default() == wanted.unwrap_or_default();
        Self {
            ready: ready.unwrap_or_default(),
            done: seen && is_wanted(all) && is_wanted(updated) && is_wanted(ready),
        }
    }
}

/// Children that were seen to be absent or their cluster's own: UID of the cluster, kind and name. What is in here need
/// not be looked at before it is applied.
#[derive(Debug, Default)]
pub(super) struct KnownChildren(Mutex<HashSet<(String, String, String)>>);

impl KnownChildren {
    fn contains(&self, key: &(String, String, String)) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    fn insert(&self, key: (String, String, String)) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
    }

    /// Forgets a cluster's.
    pub(super) fn forget(&self, uid: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(of, ..)| of != uid);
    }
}

struct Target<'a> {
    client: &'a Client,
    known: &'a KnownChildren,
    cluster: &'a Cluster,
}

impl Target<'_> {
    async fn apply<K>(&self, objects: Vec<K>) -> Result<Vec<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.cluster.namespace);
        let params = PatchParams::apply(MANAGER).force();
        stream::iter(objects)
            .map(|object| {
                let (api, params) = (&api, &params);
                async move {
                    let name = object.name_any();
                    self.make_sure_it_is_ours(api, &name).await?;
                    let action = format!("applying {} {name}", K::kind(&()));
                    api.patch(&name, params, &Patch::Apply(&object))
                        .await
                        .map_err(Error::kube(action))
                }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Refuses to take over an object of the same name that somebody else made: it would be overwritten now, and be
    /// deleted together with the cluster.
    async fn make_sure_it_is_ours<K>(&self, api: &Api<K>, name: &str) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
    {
        let kind = K::kind(&());
        let key = (self.cluster.uid.clone(), kind.to_string(), name.to_owned());
        if self.known.contains(&key) {
            return Ok(());
        }
        let there = api
            .get_metadata_opt(name)
            .await
            .map_err(Error::kube(format!("reading {kind} {name}")))?;
        let ours = |object: PartialObjectMeta<K>| object.owner_references().iter().any(|o| o.uid == self.cluster.uid);
        if there.is_some_and(|object| !ours(object)) {
            return Err(Invalid {
                field: "metadata.name",
                message: format!(
                    "there is a {kind} {name} that is not this cluster's; remove it, or name the cluster otherwise"
                ),
            }
            .into());
        }
        self.known.insert(key);
        Ok(())
    }
}

/// Deletes disruption budgets of this cluster that are no longer built: those with its labels *and* its UID as owner.
async fn delete_orphaned_budgets(
    client: &Client,
    cluster: &Cluster,
    built: &[PodDisruptionBudget],
) -> Result<(), Error> {
    let api: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), &cluster.namespace);
    let built: BTreeSet<String> = built.iter().map(ResourceExt::name_any).collect();
    let selector = labels::as_selector(&labels::of_cluster(&cluster.name));
    let existing = api
        .list(&ListParams::default().labels(&selector))
        .await
        .map_err(Error::kube("listing PodDisruptionBudgets"))?;
    for budget in existing {
        let owned = budget.owner_references().iter().any(|owner| owner.uid == cluster.uid);
        if owned && !built.contains(&budget.name_any()) {
            delete(&api, &budget).await?;
        }
    }
    Ok(())
}

/// Deletes just this object, not a namesake made since; that it is gone already is fine.
pub(super) async fn delete<K>(api: &Api<K>, object: &K) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug,
{
    let name = object.name_any();
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: object.uid(),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    match api.delete(&name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err(Error::kube(format!("deleting {} {name}", K::kind(&())))(error)),
    }
}
