//! What servers were configured with before. A pod may start anew with it at any time, so it goes only after the last pod
//! that was made with it.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodSpec};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::apply::delete;
use super::build::is_config_map_name;
use super::error::Error;
use super::labels;
use super::validate::Cluster;

/// Deletes what neither `current` is nor anything refers to.
pub(super) async fn delete_unused(client: &Client, cluster: &Cluster, current: &str) -> Result<(), Error> {
    let selector = labels::as_selector(&labels::of_cluster(&cluster.name));
    let ours = ListParams::default().labels(&selector);
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &cluster.namespace);
    let there = api
        .list_metadata(&ours)
        .await
        .map_err(Error::kube("listing ConfigMaps"))?;
    let there = there.items.into_iter().map(|object| ConfigMap {
        metadata: object.metadata,
        ..ConfigMap::default()
    });
    let old: Vec<ConfigMap> = there.filter(|config| is_old(config, cluster, current)).collect();
    if old.is_empty() {
        return Ok(());
    }
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &cluster.namespace);
    let sets = sets
        .list(&ours)
        .await
        .map_err(Error::kube("listing StatefulSets"))?
        .items;
    // After the sets, so that what was made by a former template is among them.
    let pods: Api<Pod> = Api::namespaced(client.clone(), &cluster.namespace);
    let pods = pods.list(&ours).await.map_err(Error::kube("listing Pods"))?.items;
    for config in unused(&old, &sets, &pods) {
        delete(&api, config).await?;
    }
    Ok(())
}

/// Whether this is what servers of this very cluster were configured with once.
fn is_old(config: &ConfigMap, cluster: &Cluster, current: &str) -> bool {
    let name = config.name_any();
    let owned = config.owner_references().iter().any(|owner| owner.uid == cluster.uid);
    owned && name != current && is_config_map_name(&cluster.name, &name)
}

/// Those of these that may go: nothing refers to them, and nothing will. A set that Kubernetes has not looked at since its last
/// change may make pods as it was before: then nothing goes.
fn unused<'a>(old: &'a [ConfigMap], sets: &[StatefulSet], pods: &[Pod]) -> Vec<&'a ConfigMap> {
    let is_seen = |set: &StatefulSet| {
        let observed = set.status.as_ref().and_then(|status| status.observed_generation);
        observed == set.metadata.generation
    };
    if !sets.iter().all(is_seen) {
        return Vec::new();
    }
    let templates = sets.iter().filter_map(|set| set.spec.as_ref()?.template.spec.as_ref());
    let made = pods.iter().filter_map(|pod| pod.spec.as_ref());
    let used: BTreeSet<&str> = templates.chain(made).flat_map(referred).collect();
    old.iter()
        .filter(|config| !used.contains(config.name_any().as_str()))
        .collect()
}

/// The ConfigMaps that a pod mounts.
fn referred(pod: &PodSpec) -> impl Iterator<Item = &str> {
    let volumes = pod.volumes.iter().flatten();
    volumes.filter_map(|volume| Some(volume.config_map.as_ref()?.name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::build::fixtures::valid_shop;
    use crate::operator::build::{Children, build};

    fn with_config(text: &str) -> Children {
        let mut cluster = valid_shop();
        cluster.server_config.insert("hz".to_owned(), text.to_owned());
        build(&cluster)
    }

    /// A set as its cluster was applied last, which Kubernetes looked at in this generation.
    fn set(children: &Children, seen: i64) -> StatefulSet {
        let mut set = children.servers[0].clone();
        set.metadata.generation = Some(2);
        set.status = Some(k8s_openapi::api::apps::v1::StatefulSetStatus {
            observed_generation: Some(seen),
            ..Default::default()
        });
        set
    }

    fn pod(children: &Children) -> Pod {
        Pod {
            spec: children.servers[0].spec.as_ref().unwrap().template.spec.clone(),
            ..Pod::default()
        }
    }

    fn names(configs: Vec<&ConfigMap>) -> Vec<String> {
        configs.into_iter().map(ResourceExt::name_any).collect()
    }

    #[test]
    fn configuration_stays_while_a_pod_was_made_with_it() {
        let (before, now) = (with_config("10"), with_config("20"));
        let old = [before.config.clone()];
        let sets = [set(&now, 2)];
        assert_eq!(
            unused(&old, &sets, &[pod(&now), pod(&before)]),
            Vec::<&ConfigMap>::new()
        );
        assert_eq!(
            names(unused(&old, &sets, &[pod(&now), pod(&now)])),
            [before.config.name_any()]
        );
    }

    #[test]
    fn configuration_stays_while_a_set_may_make_pods_with_it() {
        let (before, now) = (with_config("10"), with_config("20"));
        let old = [before.config.clone()];
        assert_eq!(unused(&old, &[set(&before, 2)], &[pod(&now)]), Vec::<&ConfigMap>::new());
        // Kubernetes has not looked at the set since its template was changed.
        assert_eq!(unused(&old, &[set(&now, 1)], &[pod(&now)]), Vec::<&ConfigMap>::new());
    }

    #[test]
    fn only_what_servers_of_this_very_cluster_were_configured_with_is_old() {
        let cluster = valid_shop();
        let current = build(&cluster).config.name_any();
        let is_old = |name: &str, uid: &str| {
            let mut config = with_config("10").config;
            config.metadata.name = Some(name.to_owned());
            config.metadata.owner_references.as_mut().unwrap()[0].uid = uid.to_owned();
            super::is_old(&config, &cluster, &current)
        };
        assert!(is_old("shop-servers-0123abcd", &cluster.uid) && is_old("shop-servers", &cluster.uid));
        assert!(!is_old(&current, &cluster.uid));
        assert!(!is_old("shop-servers-0123abcd", "somebody else's"));
        for name in [
            "shop-topology",
            "shop-servers-of-mine",
            "shop-servers-0123abcde",
            "shop-serversx",
        ] {
            assert!(!is_old(name, &cluster.uid), "{name}");
        }
    }
}
