//! The `CodisCluster` resource: what a user declares and what the operator reports. No I/O.

mod crd;
mod ha;
mod pod_template;
mod spec;
mod status;
mod storage;

pub use crd::{crd, crd_yaml};
pub use ha::{Durability, HaMode, HaSpec};
pub use pod_template::PodTemplate;
pub use spec::{
    AntiAffinity, AuthSpec, CodisCluster, CodisClusterSpec, CoordinatorSpec, DashboardSpec, Engine, EtcdSpec,
    ProxiesSpec, ResourcesSpec, SecretKeyRef, SecretRef, ServersSpec, ServiceSpec, ServiceType,
};
pub use status::{
    CodisClusterStatus, ConditionType, DashboardStatus, DataLossStatus, FailoverStatus, GroupStatus, Phase,
    ProxiesStatus, ServerRole, ServerStatus, ServersStatus,
};
pub use storage::{Retention, StorageSpec};

/// The API group of everything here, and the prefix of our labels and annotations.
pub const GROUP: &str = "codis.dev";
/// The longest name of a cluster: `{name}-dashboard` plus the hash that Kubernetes appends must fit a label (63).
pub const MAX_NAME: usize = 42;
