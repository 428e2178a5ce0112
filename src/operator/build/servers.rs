use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, PodSpec, PodTemplateSpec,
    SecretVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ObjectMeta;

use super::server_config::{config_map_name, users_secret_name};
use super::{child_meta, pod};
use crate::model::GroupId;
use crate::operator::labels::{self, Component, GROUP_LABEL};
use crate::operator::validate::{Cluster, SERVER_PORT};

/// The container that the server runs in.
pub(in crate::operator) const SERVER_CONTAINER: &str = "server";
/// The user that the images of Valkey and Redis make for the server.
const SERVER_UID: i64 = 999;

/// The servers of one group. One set for each group, so that Kubernetes knows what a group is. `Parallel`, because a
/// server is not ready before it has a role, and `OnDelete`, because servers are rolled by role, not by ordinal.
pub(super) fn stateful_set(cluster: &Cluster, group: GroupId) -> StatefulSet {
    let mut selector = labels::selector(&cluster.name, Component::Server);
    selector.insert(GROUP_LABEL.to_owned(), group.to_string());
    StatefulSet {
        metadata: child_meta(cluster, format!("{}-g{group}", cluster.name)),
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
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(selector.clone()),
                    ..ObjectMeta::default()
                }),
                spec: Some(PodSpec {
                    affinity: pod::spread(&selector, cluster.anti_affinity),
                    automount_service_account_token: Some(false),
                    enable_service_links: Some(false),
                    image_pull_secrets: pod::image_pull_secrets(cluster),
                    containers: vec![container(cluster)],
                    security_context: Some(pod::pod_security(SERVER_UID)),
                    termination_grace_period_seconds: Some(30),
                    tolerations: Some(pod::stay_on_lost_nodes()),
                    volumes: Some(volumes(cluster, group)),
                    ..PodSpec::default()
                }),
            },
            ..StatefulSetSpec::default()
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
            mount("data", "/data", false),
        ]),
        ..Container::default()
    }
}

fn volumes(cluster: &Cluster, group: GroupId) -> Vec<Volume> {
    let named = |name: &str| Volume {
        name: name.to_owned(),
        ..Volume::default()
    };
    vec![
        Volume {
            config_map: Some(ConfigMapVolumeSource {
                name: config_map_name(cluster),
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
        Volume {
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..named("data")
        },
    ]
}
