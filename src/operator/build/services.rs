use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::child_meta;
use crate::api::ServiceType;
use crate::operator::labels::{self, ACTIVE, Component, DASHBOARD_ROLE_LABEL};
use crate::operator::validate::{Cluster, DASHBOARD_PORT, PROXY_PORT, SERVER_PORT};

/// The port that clients connect to.
const CLIENT_PORT: u16 = 6379;

pub(super) fn all(cluster: &Cluster) -> Vec<Service> {
    vec![
        headless(
            cluster,
            cluster.servers_service(),
            Component::Server,
            port("redis", SERVER_PORT, SERVER_PORT),
        ),
        headless(
            cluster,
            cluster.dashboards_service(),
            Component::Dashboard,
            port("http", DASHBOARD_PORT, DASHBOARD_PORT),
        ),
        active_dashboard(cluster),
        clients(cluster),
    ]
}

fn port(name: &str, port: u16, target: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: port.into(),
        target_port: Some(IntOrString::Int(target.into())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}

/// Gives pods their names, whether they are ready or not: a server is not ready before the dashboard, which connects by
/// name, gave it a role.
fn headless(cluster: &Cluster, name: String, component: Component, port: ServicePort) -> Service {
    Service {
        metadata: child_meta(cluster, name),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(labels::selector(&cluster.name, component)),
            ports: Some(vec![port]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The active dashboard, for codis-fe, codis-admin and people. Our own parts know all instances by name.
fn active_dashboard(cluster: &Cluster) -> Service {
    let mut selector = labels::selector(&cluster.name, Component::Dashboard);
    selector.insert(DASHBOARD_ROLE_LABEL.to_owned(), ACTIVE.to_owned());
    Service {
        metadata: child_meta(cluster, cluster.dashboard_name()),
        spec: Some(ServiceSpec {
            selector: Some(selector),
            ports: Some(vec![port("http", DASHBOARD_PORT, DASHBOARD_PORT)]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// What clients connect to.
fn clients(cluster: &Cluster) -> Service {
    let spec = &cluster.proxies.service;
    let type_ = match spec.type_ {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    let mut metadata = child_meta(cluster, cluster.proxy_name());
    metadata.annotations = (!spec.annotations.is_empty()).then(|| spec.annotations.clone());
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(type_.to_owned()),
            selector: Some(labels::selector(&cluster.name, Component::Proxy)),
            ports: Some(vec![port("redis", CLIENT_PORT, PROXY_PORT)]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
