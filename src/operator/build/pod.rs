//! What the pods of all parts have in common.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, EnvVar, EnvVarSource, ExecAction, HTTPGetAction, Lifecycle, LifecycleHandler,
    LocalObjectReference, ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodTemplateSpec,
    Probe, ResourceRequirements, SeccompProfile, SecretKeySelector, SecurityContext, Toleration,
    WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::{AntiAffinity, PodTemplate, ResourcesSpec};
use crate::operator::validate::Cluster;

/// The user of the image with our own binaries.
pub(super) const OUR_UID: i64 = 65532;

pub(super) fn env(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.into()),
        value_from: None,
    }
}

pub(super) fn env_field(name: &str, path: &str) -> EnvVar {
    let field_ref = Some(ObjectFieldSelector {
        field_path: path.to_owned(),
        ..ObjectFieldSelector::default()
    });
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref,
            ..EnvVarSource::default()
        }),
    }
}

pub(super) fn env_secret(name: &str, secret: &str, key: &str) -> EnvVar {
    let secret_key_ref = Some(SecretKeySelector {
        name: secret.to_owned(),
        key: key.to_owned(),
        ..SecretKeySelector::default()
    });
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref,
            ..EnvVarSource::default()
        }),
    }
}

/// Adds to the pods of a part what people want there. The main container is the first one.
pub(super) fn customise(pod: &mut PodTemplateSpec, wanted: &PodTemplate) {
    let metadata = pod.metadata.get_or_insert_default();
    extend(&mut metadata.labels, &wanted.labels);
    extend(&mut metadata.annotations, &wanted.annotations);
    let Some(spec) = &mut pod.spec else { return };
    extend(&mut spec.node_selector, &wanted.node_selector);
    append(&mut spec.tolerations, &wanted.tolerations);
    append(&mut spec.volumes, &wanted.volumes);
    spec.priority_class_name = wanted.priority_class_name.clone();
    if let Some(main) = spec.containers.first_mut() {
        append(&mut main.env, &wanted.env);
        append(&mut main.volume_mounts, &wanted.volume_mounts);
    }
    spec.containers.extend(wanted.sidecars.iter().cloned());
}

fn extend(map: &mut Option<BTreeMap<String, String>>, with: &BTreeMap<String, String>) {
    if !with.is_empty() {
        let with = with.iter().map(|(key, value)| (key.clone(), value.clone()));
        map.get_or_insert_default().extend(with);
    }
}

fn append<T: Clone>(list: &mut Option<Vec<T>>, with: &[T]) {
    if !with.is_empty() {
        list.get_or_insert_default().extend_from_slice(with);
    }
}

/// What images are pulled with.
pub(super) fn image_pull_secrets(cluster: &Cluster) -> Option<Vec<LocalObjectReference>> {
    let names = &cluster.image_pull_secrets;
    (!names.is_empty()).then(|| {
        names
            .iter()
            .map(|name| LocalObjectReference { name: name.clone() })
            .collect()
    })
}

/// A pod that runs as this user and nothing else.
pub(super) fn pod_security(uid: i64) -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(uid),
        run_as_group: Some(uid),
        fs_group: Some(uid),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

/// A container that can write to its volumes and nowhere else.
pub(super) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        ..SecurityContext::default()
    }
}

pub(super) fn resources(spec: Option<&ResourcesSpec>) -> Option<ResourceRequirements> {
    let some = |map: &BTreeMap<_, _>| (!map.is_empty()).then(|| map.clone());
    spec.map(|spec| ResourceRequirements {
        claims: None,
        limits: some(&spec.limits),
        requests: some(&spec.requests),
    })
}

pub(super) fn http_probe(path: &str, port: u16, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(port.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

pub(super) fn exec_probe(command: &[&str], period: i32) -> Probe {
    Probe {
        exec: Some(ExecAction {
            command: Some(command.iter().map(|part| (*part).to_owned()).collect()),
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        failure_threshold: Some(3),
        ..Probe::default()
    }
}

/// Runs a command in the container before it is told to stop.
pub(super) fn before_stop(command: &[&str]) -> Lifecycle {
    Lifecycle {
        pre_stop: Some(LifecycleHandler {
            exec: Some(ExecAction {
                command: Some(command.iter().map(|part| (*part).to_owned()).collect()),
            }),
            ..LifecycleHandler::default()
        }),
        ..Lifecycle::default()
    }
}

/// Keeps pods with these labels off each other's nodes and, where there are any, zones.
pub(super) fn spread(labels: &BTreeMap<String, String>, how: AntiAffinity) -> Option<Affinity> {
    let term = |topology_key: &str| PodAffinityTerm {
        topology_key: topology_key.to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(labels.clone()),
            ..LabelSelector::default()
        }),
        ..PodAffinityTerm::default()
    };
    let weighted = |weight, key| WeightedPodAffinityTerm {
        weight,
        pod_affinity_term: term(key),
    };
    let (node, zone) = ("kubernetes.io/hostname", "topology.kubernetes.io/zone");
    let anti = match how {
        AntiAffinity::None => return None,
        AntiAffinity::Preferred => PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![weighted(100, node), weighted(50, zone)]),
            ..PodAntiAffinity::default()
        },
        AntiAffinity::Required => PodAntiAffinity {
            required_during_scheduling_ignored_during_execution: Some(vec![term(node)]),
            preferred_during_scheduling_ignored_during_execution: Some(vec![weighted(50, zone)]),
        },
    };
    Some(Affinity {
        pod_anti_affinity: Some(anti),
        ..Affinity::default()
    })
}

/// A pod with data stays with its node: only whoever knows where the data is decides that it is lost.
pub(super) fn stay_on_lost_nodes() -> Vec<Toleration> {
    ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
        .map(|key| tolerate(key, None))
        .into()
}

/// A pod without data leaves a lost node soon.
pub(super) fn leave_lost_nodes() -> Vec<Toleration> {
    ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]
        .map(|key| tolerate(key, Some(10)))
        .into()
}

fn tolerate(key: &str, seconds: Option<i64>) -> Toleration {
    Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: seconds,
        value: None,
    }
}
