//! What happens before a deleted cluster's object may go: its writers end, then its keys leave the coordinator. All
//! else is owned by the object and goes with it.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};

use super::apply::delete;
use super::controller::Context;
use super::dereference::dereference;
use super::error::Error;
use super::events::{normal, publish, warning};
use super::labels::{self, Component};
use super::purge::{Leftover, note, purge};
use super::validate::{Coordinator, coordinator, product};
use crate::api::CodisCluster;

/// How long the dashboards may take to end. One that is left over, on a node that nobody hears of, may claim the prefix
/// again: then the keys are swept once more later.
const WRITERS: Duration = Duration::from_secs(20);
/// How long after its deletion a cluster's keys are tried to be removed before that is put off.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends the cluster's dashboards and proxies, then removes its keys; bounded in time.
pub(super) async fn clean_up(context: &Context, cluster: &CodisCluster) -> Result<Action, Error> {
    let (namespace, name) = (cluster.namespace().unwrap_or_default(), cluster.name_any());
    let age = cluster
        .metadata
        .deletion_timestamp
        .as_ref()
        .map_or(Duration::ZERO, |deleted| {
            Timestamp::now()
                .duration_since(deleted.0)
                .try_into()
                .unwrap_or_default()
        });
    end_writers(context, cluster, &namespace, &name).await?;
    let left = writers_left(context, &namespace, &name).await?;
    if left && age < WRITERS {
        return Err(Error::Waiting("its dashboards are ending".to_owned()));
    }
    let Ok(product) = product(cluster) else {
        return Ok(Action::await_change());
    };
    let Some((coordinator, secret)) = where_keys_lie(context, cluster, &namespace).await? else {
        // Never had a coordinator: nothing was ever written.
        return Ok(Action::await_change());
    };
    let uid = cluster.uid().unwrap_or_default();
    let leftover = Leftover {
        product: product.clone(),
        uid: uid.clone(),
        endpoints: coordinator.endpoints.clone(),
        secret,
    };
    match purge(&coordinator, &product, &uid).await {
        Ok(()) => {
            if left {
                note(&context.client, &context.settings, &leftover).await?;
            }
            publish(
                &context.recorder,
                cluster,
                normal(
                    "KeysRemoved",
                    format!("removed the keys of product {product} from the coordinator"),
                ),
            )
            .await;
        }
        Err(error) if age < PATIENCE => return Err(Error::Waiting(error.to_string())),
        Err(error) => {
            note(&context.client, &context.settings, &leftover).await?;
            let text = format!("the cluster's keys could not be removed and are swept later: {error}");
            tracing::warn!(cluster = %format!("{namespace}/{name}"), "{text}");
            publish(&context.recorder, cluster, warning("KeysLeft", text)).await;
        }
    }
    Ok(Action::await_change())
}

/// The same for an object that can't be read any more: its keys are noted to be swept, and it may go.
pub(super) async fn clean_up_unreadable(
    context: &Context,
    namespace: &str,
    name: &str,
    finalizer: &str,
) -> Result<(), Error> {
    let resource = ApiResource::erase::<CodisCluster>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &resource);
    let reading = Error::kube(format!("reading CodisCluster {name}"));
    let Some(object) = api.get_opt(name).await.map_err(reading)? else {
        return Ok(());
    };
    if !object.finalizers().iter().any(|held| held == finalizer) {
        return Ok(());
    }
    let texts = |value: &serde_json::Value| serde_json::from_value::<Vec<String>>(value.clone()).unwrap_or_default();
    let etcd = &object.data["spec"]["coordinator"]["etcd"];
    let named = [
        texts(&etcd["endpoints"]),
        texts(&object.data["status"]["coordinator"]),
        context.settings.coordinator.clone(),
    ];
    let product = object.data["status"]["product"]
        .as_str()
        .map_or_else(|| format!("{namespace}.{name}"), str::to_owned);
    let endpoints = named
        .into_iter()
        .find(|endpoints| !endpoints.is_empty())
        .unwrap_or_default();
    if let (Ok(product), false) = (product.parse(), endpoints.is_empty()) {
        let secret = etcd["secretRef"]["name"]
            .as_str()
            .map(|secret| (namespace.to_owned(), secret.to_owned()));
        let leftover = Leftover {
            product,
            uid: object.uid().unwrap_or_default(),
            endpoints,
            secret,
        };
        note(&context.client, &context.settings, &leftover).await?;
    }
    let kept: Vec<&String> = object.finalizers().iter().filter(|held| *held != finalizer).collect();
    let patch = serde_json::json!({"metadata": {"finalizers": kept, "resourceVersion": object.resource_version()}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map_err(Error::kube(format!("releasing CodisCluster {name}")))
        .map(drop)
}

async fn end_writers(context: &Context, cluster: &CodisCluster, namespace: &str, name: &str) -> Result<(), Error> {
    let owned = |owners: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference]| {
        owners
            .iter()
            .any(|owner| Some(&owner.uid) == cluster.metadata.uid.as_ref())
    };
    let proxies: Api<Deployment> = Api::namespaced(context.client.clone(), namespace);
    let reading = |what: &str| Error::kube(format!("reading {what}"));
    if let Some(proxy) = proxies
        .get_opt(&format!("{name}-proxy"))
        .await
        .map_err(reading("the proxies' Deployment"))?
        && owned(proxy.owner_references())
    {
        delete(&proxies, &proxy).await?;
    }
    let sets: Api<StatefulSet> = Api::namespaced(context.client.clone(), namespace);
    if let Some(set) = sets
        .get_opt(&format!("{name}-dashboard"))
        .await
        .map_err(reading("the dashboards' StatefulSet"))?
        && owned(set.owner_references())
    {
        delete(&sets, &set).await?;
    }
    Ok(())
}

async fn writers_left(context: &Context, namespace: &str, name: &str) -> Result<bool, Error> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let selector = labels::as_selector(&labels::selector(name, Component::Dashboard));
    let left = pods.list_metadata(&ListParams::default().labels(&selector)).await;
    Ok(!left
        .map_err(Error::kube("listing the dashboards' Pods"))?
        .items
        .is_empty())
}

/// The coordinator, with as much of its login as is still there, and the Secret that held it.
async fn where_keys_lie(
    context: &Context,
    cluster: &CodisCluster,
    namespace: &str,
) -> Result<Option<(Coordinator, Option<(String, String)>)>, Error> {
    let refs = dereference(&context.client, cluster).await?;
    let etcd = cluster.spec.coordinator.as_ref().map(|coordinator| &coordinator.etcd);
    let secret = etcd
        .and_then(|etcd| etcd.secret_ref.as_ref())
        .map(|secret| (namespace.to_owned(), secret.name.clone()));
    let found = coordinator(cluster, &refs, &context.settings).ok();
    let without_login = || {
        etcd.map(|etcd| Coordinator {
            endpoints: etcd.endpoints.clone(),
            login: None,
        })
    };
    Ok(found.or_else(without_login).map(|coordinator| (coordinator, secret)))
}
