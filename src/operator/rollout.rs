//! Which servers' pods were made with what the spec says now, and what holds one of them up.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;

use super::build::SPEC_DIGEST;

/// What `kubectl rollout restart` leaves in the template of a StatefulSet.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// Whether a person changed, since this pod was made, what the servers of its set are made with, or asked for a restart. A
/// newer operator may build pods otherwise: that alone is no reason.
pub(super) fn is_outdated(pod: &Pod, set: &StatefulSet) -> bool {
    let template = set.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
    let Some(template) = template.and_then(|metadata| metadata.annotations.as_ref()) else {
        return false;
    };
    let none = BTreeMap::new();
    let made_with = pod.metadata.annotations.as_ref().unwrap_or(&none);
    [SPEC_DIGEST, RESTARTED_AT]
        .into_iter()
        .any(|key| template.contains_key(key) && made_with.get(key) != template.get(key))
}

/// What a pod waits for, or why its container ended, as Kubernetes tells it; empty when nothing is told.
pub(super) fn trouble(pod: &Pod) -> String {
    let Some(status) = &pod.status else {
        return String::new();
    };
    let said = |reason: Option<&str>, message: Option<&str>| match (reason, message) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        (Some(word), None) | (None, Some(word)) => word.to_owned(),
        (None, None) => String::new(),
    };
    let containers = status.container_statuses.iter().flatten();
    let waits = containers.filter_map(|container| container.state.as_ref()?.waiting.as_ref());
    let mut texts = waits
        .filter(|waiting| waiting.reason.as_deref() != Some("ContainerCreating"))
        .map(|waiting| said(waiting.reason.as_deref(), waiting.message.as_deref()));
    if let Some(text) = texts.next() {
        return text;
    }
    let mut conditions = status.conditions.iter().flatten();
    conditions
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .map(|condition| said(condition.reason.as_deref(), condition.message.as_deref()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(annotations: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"annotations": annotations}})).unwrap()
    }

    fn set(annotations: Value) -> StatefulSet {
        serde_json::from_value(json!({"spec": {"selector": {}, "serviceName": "s",
            "template": {"metadata": {"annotations": annotations}}}}))
        .unwrap()
    }

    #[test]
    fn a_pod_is_outdated_when_the_spec_was_changed_or_a_restart_asked_for() {
        let made = |digest: &str| json!({SPEC_DIGEST: digest});
        assert!(!is_outdated(&pod(made("1")), &set(made("1"))));
        assert!(is_outdated(&pod(made("1")), &set(made("2"))));
        let restart = |at: &str| json!({SPEC_DIGEST: "1", RESTARTED_AT: at});
        assert!(is_outdated(&pod(made("1")), &set(restart("now"))));
        assert!(is_outdated(&pod(restart("then")), &set(restart("now"))));
        assert!(!is_outdated(&pod(restart("now")), &set(restart("now"))));
    }

    #[test]
    fn what_a_newer_operator_adds_to_a_template_outdates_nothing() {
        let (older, newer) = (
            json!({SPEC_DIGEST: "1"}),
            json!({SPEC_DIGEST: "1", "codis.dev/new": "x"}),
        );
        assert!(!is_outdated(&pod(older), &set(newer)));
        assert!(!is_outdated(&pod(json!({})), &set(Value::Null)));
    }

    #[test]
    fn what_holds_a_pod_up_is_told_in_kubernetes_words() {
        let of = |status: Value| trouble(&serde_json::from_value(json!({"status": status})).unwrap());
        let waiting = json!({"containerStatuses": [{"name": "server", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}]});
        assert_eq!(of(waiting), "ErrImagePull: not found");
        let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/3 nodes are available"}]});
        assert_eq!(of(unscheduled), "Unschedulable: 0/3 nodes are available");
        assert_eq!(of(json!({})), "");
    }
}
