use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{Container, ContainerPort, EnvVar, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ObjectMeta;

use super::{auth_secret_name, child_meta, pod};
use crate::api::AntiAffinity;
use crate::operator::dereference::PRODUCT_AUTH;
use crate::operator::labels::{self, Component};
use crate::operator::validate::{Cluster, DASHBOARD_PORT};

/// Changes with the login at the coordinator, so that the dashboards are rolled when it does.
const AUTH_DIGEST: &str = "codis.dev/coordinator-auth-digest";

/// The dashboards: one is active, the others stand by.
pub(super) fn stateful_set(cluster: &Cluster) -> StatefulSet {
    let selector = labels::selector(&cluster.name, Component::Dashboard);
    let annotations = cluster
        .coordinator
        .login
        .as_ref()
        .map(|(_, login)| BTreeMap::from([(AUTH_DIGEST.to_owned(), login.digest(&cluster.product_auth))]));
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(selector.clone()),
            annotations,
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            affinity: pod::spread(&selector, AntiAffinity::Preferred),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            image_pull_secrets: pod::image_pull_secrets(cluster),
            containers: vec![container(cluster)],
            security_context: Some(pod::pod_security(pod::OUR_UID)),
            termination_grace_period_seconds: Some(10),
            tolerations: Some(pod::leave_lost_nodes()),
            ..PodSpec::default()
        }),
    };
    pod::customise(&mut template, &cluster.dashboard.pod_template);
    StatefulSet {
        metadata: child_meta(cluster, cluster.dashboard_name()),
        spec: Some(StatefulSetSpec {
            service_name: Some(cluster.dashboards_service()),
            replicas: Some(cluster.dashboard.replicas),
            pod_management_policy: Some("Parallel".to_owned()),
            selector: LabelSelector {
                match_labels: Some(selector.clone()),
                ..LabelSelector::default()
            },
            template,
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn container(cluster: &Cluster) -> Container {
    let host = cluster.dashboard_host("$(POD_NAME)");
    let args = [
        format!("--product_name={}", cluster.product),
        format!("--etcd={}", cluster.coordinator.endpoints.join(",")),
        format!("--host-admin={host}:{DASHBOARD_PORT}"),
        format!("--owner-id={}", cluster.uid),
        format!("--durability={}", cluster.ha.durability.as_setting()),
    ];
    Container {
        name: "dashboard".to_owned(),
        image: Some(cluster.image.clone()),
        image_pull_policy: Some(cluster.image_pull_policy.clone()),
        command: Some(vec!["codis-dashboard".to_owned()]),
        args: Some(args.into()),
        env: Some(environment(cluster)),
        ports: Some(vec![ContainerPort {
            name: Some("http".to_owned()),
            container_port: DASHBOARD_PORT.into(),
            ..ContainerPort::default()
        }]),
        liveness_probe: Some(pod::http_probe("/healthz", DASHBOARD_PORT, 5, 3)),
        readiness_probe: Some(pod::http_probe("/readyz", DASHBOARD_PORT, 1, 2)),
        resources: pod::resources(cluster.dashboard.resources.as_ref()),
        security_context: Some(pod::container_security()),
        ..Container::default()
    }
}

fn environment(cluster: &Cluster) -> Vec<EnvVar> {
    let mut environment = vec![
        pod::env_field("POD_NAME", "metadata.name"),
        pod::env_secret("CODIS_PRODUCT_AUTH", &auth_secret_name(&cluster.name), PRODUCT_AUTH),
    ];
    if let Some((secret, _)) = &cluster.coordinator.login {
        environment.extend([
            pod::env_secret("COORDINATOR_USERNAME", secret, "username"),
            pod::env_secret("COORDINATOR_PASSWORD", secret, "password"),
            pod::env(
                "CODIS_COORDINATOR_AUTH",
                "$(COORDINATOR_USERNAME):$(COORDINATOR_PASSWORD)",
            ),
        ]);
    }
    environment
}
