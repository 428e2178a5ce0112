use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Lifecycle, LifecycleHandler, PodSpec, PodTemplateSpec, SleepAction,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

use super::{auth_secret_name, child_meta, pod};
use crate::api::AntiAffinity;
use crate::operator::dereference::PRODUCT_AUTH;
use crate::operator::labels::{self, Component};
use crate::operator::validate::{Cluster, PROXY_ADMIN_PORT, PROXY_PORT};

/// Changes with the clients' password, so that the proxies are rolled when it does.
const AUTH_DIGEST: &str = "codis.dev/session-auth-digest";

/// The proxies. Each registers itself at the dashboard and is ready once it is online with a complete map; on its way
/// out it leaves the dashboard and finishes what is under way.
pub(super) fn deployment(cluster: &Cluster) -> Deployment {
    let selector = labels::selector(&cluster.name, Component::Proxy);
    let annotations = cluster
        .session_auth
        .as_ref()
        .map(|(_, digest)| BTreeMap::from([(AUTH_DIGEST.to_owned(), digest.clone())]));
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
            // The proxy itself is done within its shutdown_timeout of 20 s.
            termination_grace_period_seconds: Some(30),
            tolerations: Some(pod::leave_lost_nodes()),
            ..PodSpec::default()
        }),
    };
    pod::customise(&mut template, &cluster.proxies.pod_template);
    Deployment {
        metadata: child_meta(cluster, cluster.proxy_name()),
        spec: Some(DeploymentSpec {
            replicas: Some(cluster.proxies.replicas),
            selector: LabelSelector {
                match_labels: Some(selector.clone()),
                ..LabelSelector::default()
            },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn container(cluster: &Cluster) -> Container {
    let args = [
        format!("--product_name={}", cluster.product),
        format!("--dashboard={}", cluster.dashboard_addrs().join(",")),
        format!("--host-admin=$(POD_IP):{PROXY_ADMIN_PORT}"),
        format!("--host-proxy=$(POD_IP):{PROXY_PORT}"),
    ];
    let mut environment = vec![
        pod::env_field("POD_IP", "status.podIP"),
        pod::env_secret("CODIS_PRODUCT_AUTH", &auth_secret_name(&cluster.name), PRODUCT_AUTH),
    ];
    if let Some((secret, _)) = &cluster.session_auth {
        environment.push(pod::env_secret("CODIS_SESSION_AUTH", &secret.name, &secret.key));
    }
    let port = |name: &str, port: u16| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port.into(),
        ..ContainerPort::default()
    };
    Container {
        name: "proxy".to_owned(),
        image: Some(cluster.image.clone()),
        image_pull_policy: Some(cluster.image_pull_policy.clone()),
        command: Some(vec!["codis-proxy".to_owned()]),
        args: Some(args.into()),
        env: Some(environment),
        ports: Some(vec![port("redis", PROXY_PORT), port("admin", PROXY_ADMIN_PORT)]),
        // Until the Service has forgotten the pod everywhere, new clients still come.
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: 2 }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        liveness_probe: Some(pod::http_probe("/healthz", PROXY_ADMIN_PORT, 5, 3)),
        readiness_probe: Some(pod::http_probe("/readyz", PROXY_ADMIN_PORT, 1, 2)),
        resources: pod::resources(cluster.proxies.resources.as_ref()),
        security_context: Some(pod::container_security()),
        ..Container::default()
    }
}
