//! Volumes that are gone with their node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::operator::build::claim_name;

/// How often it is asked whether the volume of a pod that waits for a place is gone.
const EVERY: Duration = Duration::from_secs(5);
/// How long the API server may take for that.
const PATIENCE: Duration = Duration::from_secs(5);
/// The label that names a node's host.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// What is known of the volumes of pods that wait for a place.
#[derive(Clone)]
pub(super) struct Volumes {
    client: Client,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

struct Known {
    asked: Instant,
    lost: bool,
}

impl Volumes {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            known: Arc::default(),
        }
    }

    /// Whether this server's pod waits for a place, and its volume was found gone when that was looked for last. Asks again in a
    /// task of its own when it is time to: a round must not wait.
    pub(super) fn is_lost(&self, pod: &Pod) -> bool {
        let (Some(uid), Some(namespace)) = (pod.uid(), pod.namespace()) else {
            return false;
        };
        let mut known = self.known();
        if !waits_for_a_place(pod) {
            known.remove(&uid);
            return false;
        }
        let before = known.get(&uid);
        let lost = before.is_some_and(|known| known.lost);
        if before.is_none_or(|known| known.asked.elapsed() >= EVERY) {
            let asked = Instant::now();
            known.insert(uid.clone(), Known { asked, lost });
            let (volumes, name) = (self.clone(), pod.name_any());
            tokio::spawn(async move {
                let found = tokio::time::timeout(PATIENCE, lost_claim(&volumes.client, &namespace, &name)).await;
                match found {
                    Ok(Ok(claim)) => {
                        if let Some(known) = volumes.known().get_mut(&uid) {
                            known.lost = claim.is_some();
                        }
                    }
                    Ok(Err(error)) => tracing::warn!(pod = name, %error, "its volume can't be looked for"),
                    Err(_) => tracing::warn!(pod = name, "its volume can't be looked for: no answer"),
                }
            });
        }
        lost
    }

    /// Forgets all but these pods, by UID.
    pub(super) fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.known().retain(|uid, _| is_there(uid));
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what a server's pod holds is there again in the next pod of its name.
pub(super) fn keeps_data(pod: &Pod) -> bool {
    let claim = claim_name(&pod.name_any());
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut claims = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
    claims.any(|source| source.claim_name == claim)
}

/// Whether a pod was not given a node, because there is none for it.
pub(super) fn waits_for_a_place(pod: &Pod) -> bool {
    let placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut refused = conditions.filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    !placed && refused.next().is_some()
}

/// The claim of a server's pod, if its volume is certainly gone, as the API server has it now.
pub(super) async fn lost_claim(
    client: &Client,
    namespace: &str,
    pod: &str,
) -> Result<Option<PersistentVolumeClaim>, kube::Error> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let Some(claim) = claims.get_opt(&claim_name(pod)).await? else {
        return Ok(None);
    };
    let Some(name) = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()) else {
        return Ok(None);
    };
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let Some(volume) = volumes.get_opt(name).await? else {
        return Ok(Some(claim));
    };
    let Some(hosts) = hosts(&volume) else { return Ok(None) };
    let nodes: Api<Node> = Api::all(client.clone());
    let labelled = ListParams::default().labels(&format!("{HOSTNAME} in ({})", hosts.join(",")));
    let none_left = nodes.list_metadata(&labelled).await?.items.is_empty();
    Ok(none_left.then_some(claim))
}

/// The hosts, by their label, that a volume can be used on; `None` when it is not bound to hosts. What binds it to a zone or the
/// like says nothing: nodes of that may come and go.
fn hosts(volume: &PersistentVolume) -> Option<Vec<String>> {
    let affinity = volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
    let host = |requirement: &NodeSelectorRequirement| {
        let names = requirement.key == HOSTNAME && requirement.operator == "In";
        names.then(|| requirement.values.clone())?
    };
    // Any of the terms will do, each with all that it requires.
    let terms = affinity.node_selector_terms.iter();
    let of_terms: Option<Vec<_>> = terms
        .map(|term| term.match_expressions.iter().flatten().find_map(host))
        .collect();
    let hosts: Vec<String> = of_terms?.into_iter().flatten().collect();
    (!hosts.is_empty()).then_some(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn bound_to(terms: Value) -> Option<Vec<String>> {
        let spec = json!({"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}});
        hosts(&serde_json::from_value(json!({"spec": spec})).unwrap())
    }

    #[test]
    fn only_volumes_that_are_bound_to_hosts_go_with_a_node() {
        let on = |names: Value| json!({"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": names}]});
        let zone =
            json!({"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"]}]});
        assert_eq!(bound_to(json!([on(json!(["n1"]))])), Some(vec!["n1".to_owned()]));
        let both = bound_to(json!([on(json!(["n1"])), on(json!(["n2"]))]));
        assert_eq!(both, Some(vec!["n1".to_owned(), "n2".to_owned()]));
        assert_eq!(bound_to(json!([zone])), None);
        assert_eq!(
            bound_to(json!([on(json!(["n1"])), zone])),
            None,
            "it may be had in the zone"
        );
        let other = json!({"matchExpressions": [{"key": HOSTNAME, "operator": "NotIn", "values": ["n1"]}]});
        assert_eq!(bound_to(json!([other])), None);
        assert_eq!(bound_to(json!([])), None);
        assert_eq!(hosts(&PersistentVolume::default()), None);
    }

    #[test]
    fn only_a_pod_with_a_claim_of_its_own_keeps_its_data() {
        let pod = |volumes: Value| -> Pod {
            let spec = json!({"containers": [], "volumes": volumes});
            serde_json::from_value(json!({"metadata": {"name": "shop-g1-0"}, "spec": spec})).unwrap()
        };
        let claimed = |name: &str| json!({"name": "v", "persistentVolumeClaim": {"claimName": name}});
        let memory = json!({"name": "data", "emptyDir": {}});
        assert!(keeps_data(&pod(json!([memory, claimed("data-shop-g1-0")]))));
        for volumes in [json!([]), json!([memory]), json!([claimed("somebody-elses")])] {
            assert!(!keeps_data(&pod(volumes)));
        }
    }

    #[test]
    fn a_pod_waits_for_a_place_when_it_was_refused_one() {
        let pod = |spec: Value, status: &str| -> Pod {
            let condition = json!({"type": "PodScheduled", "status": status, "reason": "Unschedulable"});
            serde_json::from_value(json!({"spec": spec, "status": {"conditions": [condition]}})).unwrap()
        };
        assert!(waits_for_a_place(&pod(json!({"containers": []}), "False")));
        assert!(!waits_for_a_place(&pod(json!({"containers": []}), "True")));
        assert!(!waits_for_a_place(&pod(
            json!({"containers": [], "nodeName": "n"}),
            "False"
        )));
        assert!(!waits_for_a_place(&Pod::default()));
    }
}
