use std::collections::BTreeSet;
use std::fmt::Debug;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::build::Children;
use super::error::Error;
use super::labels::{self, MANAGER};
use super::validate::Cluster;

/// How many objects of a kind are applied at the same time.
const AT_ONCE: usize = 8;

/// Brings all children to what they were built as, and deletes those that are no longer built. Applying an unchanged
/// object changes nothing, not even its version.
pub(super) async fn apply(client: &Client, cluster: &Cluster, children: Children) -> Result<(), Error> {
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
    // What pods mount and are found by comes first, so that no pod starts without it; StatefulSets of servers come last.
    apply_all(client, cluster, vec![config]).await?;
    apply_all(client, cluster, users).await?;
    apply_all(client, cluster, services).await?;
    delete_orphaned_budgets(client, cluster, &disruption_budgets).await?;
    apply_all(client, cluster, disruption_budgets).await?;
    apply_all(client, cluster, vec![dashboard]).await?;
    apply_all(client, cluster, vec![proxies]).await?;
    apply_all(client, cluster, servers).await
}

async fn apply_all<K>(client: &Client, cluster: &Cluster, objects: Vec<K>) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), &cluster.namespace);
    let params = PatchParams::apply(MANAGER).force();
    stream::iter(objects)
        .map(|object| {
            let (api, params) = (&api, &params);
            async move {
                let name = object.name_any();
                let action = format!("applying {} {name}", K::kind(&()));
                api.patch(&name, params, &Patch::Apply(&object))
                    .await
                    .map_err(Error::kube(action))
                    .map(drop)
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
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
