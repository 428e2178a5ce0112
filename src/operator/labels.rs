use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

/// The part of a cluster that an object belongs to: one of [`Component`].
const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Our field manager, and the value of `app.kubernetes.io/managed-by`.
pub(super) const MANAGER: &str = "codis-operator";
/// The group of a server's pod.
pub(super) const GROUP_LABEL: &str = "codis.dev/group";
/// `active` on the pod of the dashboard that holds the lock.
pub(super) const DASHBOARD_ROLE_LABEL: &str = "codis.dev/dashboard-role";
/// The value of [`DASHBOARD_ROLE_LABEL`].
pub(super) const ACTIVE: &str = "active";

/// A part of a cluster, as the label `app.kubernetes.io/component` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Component {
    Server,
    Dashboard,
    Proxy,
}

impl Component {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Dashboard => "dashboard",
            Self::Proxy => "proxy",
        }
    }

    /// The part that a pod of a cluster runs.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let named = pod.labels().get(COMPONENT_LABEL)?;
        [Self::Server, Self::Dashboard, Self::Proxy]
            .into_iter()
            .find(|component| component.as_str() == named)
    }
}

/// What pods are selected by. Never changes for an object that exists.
pub(super) fn selector(cluster: &str, component: Component) -> BTreeMap<String, String> {
    let mut labels = of_cluster(cluster);
    labels.insert(COMPONENT_LABEL.to_owned(), component.as_str().to_owned());
    labels
}

/// What every child of a cluster carries.
pub(super) fn of_cluster(cluster: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "codis".to_owned()),
        ("app.kubernetes.io/instance".to_owned(), cluster.to_owned()),
        ("app.kubernetes.io/managed-by".to_owned(), MANAGER.to_owned()),
    ])
}

/// Labels as the API server's list calls take them.
pub(super) fn as_selector(labels: &BTreeMap<String, String>) -> String {
    labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}
