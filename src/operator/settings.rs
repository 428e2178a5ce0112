use std::net::SocketAddr;

/// What an operator is told at its start. The binary fills it from flags and environment.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The image that holds our dashboard and proxy.
    pub image: String,
    /// When that image is pulled: `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// Secrets, in each cluster's namespace, to pull images with.
    pub image_pull_secrets: Vec<String>,
    /// Endpoints of the etcd of clusters that name none, `http://host:port`. Empty: each cluster must name its own.
    pub coordinator: Vec<String>,
    /// The namespace of the operator: its Lease and its notes lie there.
    pub namespace: String,
    /// This instance's name, which is its pod's.
    pub identity: String,
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub listen: SocketAddr,
}
