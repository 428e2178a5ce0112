//! A copy of what the coordinator holds of a cluster (slots, groups, epochs), in a ConfigMap, and the way back: an empty store
//! never means an empty cluster (DESIGN 3, rule 10).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};

use super::error::Error;
use super::labels::{self, MANAGER};
use super::validate::Cluster;
use crate::api::Retention;
use crate::client::DashboardClient;
use crate::model::{Export, GroupId};

/// The key of the ConfigMap that holds what `v2/export` of the dashboard answered.
const TOPOLOGY: &str = "topology.json";
/// The key that names the product it is of.
const PRODUCT: &str = "product";

/// What was written last for each cluster, by UID: what did not change is not written again.
#[derive(Debug, Default)]
pub(super) struct Mirrors(Mutex<HashMap<String, String>>);

impl Mirrors {
    fn holds(&self, uid: &str, text: &str) -> bool {
        self.lock().get(uid).is_some_and(|written| written == text)
    }

    /// Forgets a cluster's.
    pub(super) fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of going on from the copy.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Restored {
    /// The dashboard has it; it begins anew with that.
    Done,
    /// There is no copy.
    Nothing,
    /// The copy can't be used; why, and the remedy.
    Refused(String),
}

fn name_of(cluster: &Cluster) -> String {
    format!("{}-topology", cluster.name)
}

/// Whether the copy outlives the cluster's object, as the data does.
fn is_retained(cluster: &Cluster) -> bool {
    cluster
        .storage
        .as_ref()
        .is_some_and(|storage| storage.when_deleted == Retention::Retain)
}

/// Writes down what the dashboard has, if that changed.
pub(super) async fn keep(
    client: &Client,
    mirrors: &Mirrors,
    cluster: &Cluster,
    dashboard: &DashboardClient,
) -> Result<(), Error> {
    let exported = dashboard.export().await?;
    let text = serde_json::to_string(&exported).unwrap_or_default();
    let key = format!("{}{text}", is_retained(cluster));
    if mirrors.holds(&cluster.uid, &key) {
        return Ok(());
    }
    let name = name_of(cluster);
    let copy = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels::of_cluster(&cluster.name)),
            owner_references: (!is_retained(cluster)).then(|| vec![cluster.owner.clone()]),
            ..ObjectMeta::default()
        },
        data: Some(
            [
                (TOPOLOGY.to_owned(), text),
                (PRODUCT.to_owned(), cluster.product.to_string()),
            ]
            .into(),
        ),
        ..ConfigMap::default()
    };
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &cluster.namespace);
    api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&copy))
        .await
        .map_err(Error::kube(format!("writing ConfigMap {name}")))?;
    mirrors.lock().insert(cluster.uid.clone(), key);
    Ok(())
}

/// Has the dashboard, whose store is empty, go on from the copy.
pub(super) async fn restore(
    client: &Client,
    cluster: &Cluster,
    dashboard: &DashboardClient,
) -> Result<Restored, Error> {
    let name = name_of(cluster);
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &cluster.namespace);
    let copy = api
        .get_opt(&name)
        .await
        .map_err(Error::kube(format!("reading ConfigMap {name}")))?;
    let Some(copy) = copy else { return Ok(Restored::Nothing) };
    match usable(cluster, &copy) {
        Ok(None) => Ok(Restored::Nothing),
        Ok(Some(exported)) => {
            // What registered itself since is registered again by itself.
            let exported = Export {
                force: true,
                ..exported
            };
            dashboard.import(&exported).await?;
            Ok(Restored::Done)
        }
        Err(why) => Ok(Restored::Refused(format!(
            "the ConfigMap {name} holds the slot map of a cluster whose data may still be there, and {why}; or remove it, and the \
             volumes, to begin anew"
        ))),
    }
}

/// What a copy holds, if it is of this cluster or of an earlier one whose data this one has.
fn usable(cluster: &Cluster, copy: &ConfigMap) -> Result<Option<Export>, String> {
    let owners = copy.owner_references();
    let ours = labels::of_cluster(&cluster.name)
        .iter()
        .all(|(key, value)| copy.labels().get(key) == Some(value));
    // One that goes with a deleted cluster of the same name is of data that is gone too.
    if !ours || !(owners.is_empty() || owners.iter().any(|owner| owner.uid == cluster.uid)) {
        return Ok(None);
    }
    let text = |key: &str| copy.data.as_ref().and_then(|data| data.get(key));
    if text(PRODUCT).map(String::as_str) != Some(cluster.product.as_str()) {
        return Err(format!(
            "it is of product {:?}: set spec.product to that",
            text(PRODUCT).map_or("", String::as_str)
        ));
    }
    let exported: Export = serde_json::from_str(text(TOPOLOGY).map_or("", String::as_str))
        .map_err(|error| format!("it can't be read ({error}): restore the coordinator's data from a backup"))?;
    let groups: BTreeSet<GroupId> = exported.group.iter().map(|group| group.id).collect();
    if groups != cluster.groups.iter().copied().collect() {
        return Err(format!(
            "it is of {} groups: set spec.servers.groups to that",
            groups.len()
        ));
    }
    Ok(Some(exported))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::StorageSpec;
    use crate::model::{Group, SlotId, SlotMapping};
    use crate::operator::build::fixtures::valid_shop;

    fn exported(groups: i64) -> Export {
        Export {
            epoch: 9,
            slots: SlotId::all().map(SlotMapping::offline).collect(),
            group: (1..=groups).map(|id| Group::new(GroupId::new(id).unwrap())).collect(),
            proxy: Vec::new(),
            force: false,
        }
    }

    fn copy(cluster: &Cluster, exported: &Export, owned: bool) -> ConfigMap {
        let data = [
            (TOPOLOGY.to_owned(), serde_json::to_string(exported).unwrap()),
            (PRODUCT.to_owned(), cluster.product.to_string()),
        ];
        ConfigMap {
            metadata: ObjectMeta {
                labels: Some(labels::of_cluster("shop")),
                owner_references: owned.then(|| vec![cluster.owner.clone()]),
                ..ObjectMeta::default()
            },
            data: Some(data.into()),
            ..ConfigMap::default()
        }
    }

    #[test]
    fn a_copy_is_used_by_its_own_cluster_and_by_the_next_one_when_it_was_kept() {
        let cluster = valid_shop();
        let whole = exported(3);
        assert_eq!(usable(&cluster, &copy(&cluster, &whole, true)), Ok(Some(whole.clone())));
        assert_eq!(
            usable(&cluster, &copy(&cluster, &whole, false)),
            Ok(Some(whole.clone()))
        );
        let mut former = valid_shop();
        former.owner.uid = "former".to_owned();
        assert_eq!(usable(&cluster, &copy(&former, &whole, true)), Ok(None));
        let mut foreign = copy(&cluster, &whole, false);
        foreign.metadata.labels = None;
        assert_eq!(usable(&cluster, &foreign), Ok(None));
    }

    #[test]
    fn a_copy_that_does_not_fit_the_spec_is_refused_with_the_remedy() {
        let cluster = valid_shop();
        let error = usable(&cluster, &copy(&cluster, &exported(2), false)).unwrap_err();
        assert!(
            error.contains("2 groups") && error.contains("spec.servers.groups"),
            "{error}"
        );
        let mut other = copy(&cluster, &exported(3), false);
        other.data.as_mut().unwrap().insert(PRODUCT.to_owned(), "x".to_owned());
        assert!(usable(&cluster, &other).unwrap_err().contains("spec.product"));
        other.data = None;
        assert!(usable(&cluster, &other).is_err());
    }

    #[test]
    fn a_copy_stays_when_the_data_does() {
        let mut cluster = valid_shop();
        assert!(!is_retained(&cluster));
        let storage = |text| serde_json::from_str::<StorageSpec>(text).unwrap();
        cluster.storage = Some(storage(r#"{"size": "1Gi"}"#));
        assert!(is_retained(&cluster));
        cluster.storage = Some(storage(r#"{"size": "1Gi", "whenDeleted": "Delete"}"#));
        assert!(!is_retained(&cluster));
    }
}
