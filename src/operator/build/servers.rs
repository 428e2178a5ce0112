use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, PersistentVolumeClaim,
    PersistentVolumeClaimSpec, PodReadinessGate, PodSpec, PodTemplateSpec, SecretVolumeSource, Volume, VolumeMount,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ObjectMeta;

use super::server_config::users_secret_name;
use super::{child_meta, pod};
use crate::api::StorageSpec;
use crate::model::{GroupId, keyed_hash};
use crate::operator::labels::{self, Component, GROUP_LABEL};
use crate::operator::validate::{Cluster, SERVER_PORT};

/// The container that the server runs in.
pub(in crate::operator) const SERVER_CONTAINER: &str = "server";
/// Condition of a server's pod: the server holds its role and its group's data. The operator sets it, and a pod is not ready
/// without it, so that nobody drains the node of the last copy.
pub(in crate::operator) const IN_SYNC: &str = "codis.dev/in-sync";
/// Annotation of a server's pod: what of the spec it was made with.
pub(in crate::operator) const SPEC_DIGEST: &str = "codis.dev/spec-digest";
/// The volume with the data.
const DATA: &str = "data";
/// How long a server may take to end, in seconds: to hand over, to let its replicas catch up, and to write its file.
const GRACE: i64 = 60;
/// The user that the images of Valkey and Redis make for the server.
const SERVER_UID: i64 = 999;

/// The servers of one group. One set for each group, so that Kubernetes knows what a group is. `Parallel`, because a
/// server is not ready before it has a role, and `OnDelete`, because servers are rolled by role, not by ordinal. They are
/// configured with this ConfigMap.
pub(super) fn stateful_set(cluster: &Cluster, group: GroupId, config_map: &str) -> StatefulSet {
    let mut selector = labels::selector(&cluster.name, Component::Server);
    selector.insert(GROUP_LABEL.to_owned(), group.to_string());
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(selector.clone()),
            annotations: Some(BTreeMap::from([(SPEC_DIGEST.to_owned(), spec_digest(cluster))])),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            affinity: pod::spread(&selector, cluster.anti_affinity),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            image_pull_secrets: pod::image_pull_secrets(cluster),
            containers: vec![container(cluster)],
            readiness_gates: Some(vec![PodReadinessGate {
                condition_type: IN_SYNC.to_owned(),
            }]),
            security_context: Some(pod::pod_security(SERVER_UID)),
            termination_grace_period_seconds: Some(GRACE),
            tolerations: Some(pod::stay_on_lost_nodes()),
            volumes: Some(volumes(cluster, group, config_map)),
            ..PodSpec::default()
        }),
    };
    pod::customise(&mut template, &cluster.server_template);
    let retention = cluster
        .storage
        .as_ref()
        .map(|storage| StatefulSetPersistentVolumeClaimRetentionPolicy {
            when_deleted: Some(storage.when_deleted.as_str().to_owned()),
            when_scaled: Some(storage.when_scaled.as_str().to_owned()),
        });
    StatefulSet {
        metadata: child_meta(cluster, cluster.servers_name(group)),
        spec: Some(StatefulSetSpec {
            service_name: Some(cluster.servers_service()),
            replicas: Some(cluster.replicas_per_group.into()),
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                rolling_update: None,
            }),
            selector: LabelSelector {
                match_labels: Some(selector.clone()),
                ..LabelSelector::default()
            },
            template,
            volume_claim_templates: cluster.storage.as_ref().map(|storage| vec![claim(cluster, storage)]),
            persistent_volume_claim_retention_policy: retention,
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

/// Changes with everything of the spec that a server is made with, and with nothing else: a server is rolled when a person
/// changed that, and not because a newer operator builds pods otherwise.
pub(super) fn spec_digest(cluster: &Cluster) -> String {
    let made_with = serde_json::json!({
        "image": cluster.server_image,
        "maxMemory": cluster.max_memory,
        "config": cluster.server_config,
        "antiAffinity": cluster.anti_affinity,
        "resources": cluster.server_resources,
        "podTemplate": cluster.server_template,
    });
    keyed_hash(&cluster.uid, &made_with.to_string())[..16].to_owned()
}

/// The claim of a server's volume, as the StatefulSet names it.
pub(in crate::operator) fn claim_name(pod: &str) -> String {
    format!("{DATA}-{pod}")
}

/// The volume of each server. What can't be changed in a StatefulSet may not depend on anything that can be changed.
fn claim(cluster: &Cluster, storage: &StorageSpec) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(DATA.to_owned()),
            labels: Some(labels::of_cluster(&cluster.name)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), Quantity(storage.size.clone()))])),
                limits: None,
            }),
            storage_class_name: storage.class.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn container(cluster: &Cluster) -> Container {
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    Container {
        name: SERVER_CONTAINER.to_owned(),
        image: Some(cluster.server_image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(["sh", "/etc/codis/config/start.sh"].map(str::to_owned).into()),
        env: Some(vec![pod::env_field("POD_NAME", "metadata.name")]),
        ports: Some(vec![ContainerPort {
            name: Some("redis".to_owned()),
            container_port: SERVER_PORT.into(),
            ..ContainerPort::default()
        }]),
        // No liveness probe: a server without a role, or one that loads, is alive, and a hung one is for the operator
        // to judge, who knows what restarting it would cost.
        lifecycle: Some(pod::before_stop(&["sh", "/etc/codis/config/stop.sh"])),
        readiness_probe: Some(pod::exec_probe(&["sh", "/etc/codis/config/ready.sh"], 2)),
        resources: pod::resources(cluster.server_resources.as_ref()),
        security_context: Some(pod::container_security()),
        volume_mounts: Some(vec![
            mount("config", "/etc/codis/config", true),
            mount("users", "/etc/codis/users", true),
            mount("run", "/run/codis", false),
            mount(DATA, "/data", false),
        ]),
        ..Container::default()
    }
}

fn volumes(cluster: &Cluster, group: GroupId, config_map: &str) -> Vec<Volume> {
    let named = |name: &str| Volume {
        name: name.to_owned(),
        ..Volume::default()
    };
    let mut volumes = vec![
        Volume {
            config_map: Some(ConfigMapVolumeSource {
                name: config_map.to_owned(),
                ..ConfigMapVolumeSource::default()
            }),
            ..named("config")
        },
        Volume {
            secret: Some(SecretVolumeSource {
                secret_name: Some(users_secret_name(cluster, group)),
                default_mode: Some(0o440),
                ..SecretVolumeSource::default()
            }),
            ..named("users")
        },
        Volume {
            empty_dir: Some(EmptyDirVolumeSource {
                medium: Some("Memory".to_owned()),
                ..EmptyDirVolumeSource::default()
            }),
            ..named("run")
        },
    ];
    if cluster.storage.is_none() {
        volumes.push(Volume {
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..named(DATA)
        });
    }
    volumes
}
