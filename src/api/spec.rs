use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{CodisClusterStatus, HaSpec, PodTemplate, StorageSpec};

/// A Codis-style cluster: server groups of Valkey or Redis behind proxies. `metadata.name` alone is a valid cluster.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "codis.dev",
    version = "v1alpha1",
    kind = "CodisCluster",
    plural = "codisclusters",
    shortname = "codis",
    category = "all",
    namespaced,
    doc = "A Codis-style cluster: server groups of Valkey or Redis behind proxies, used by any plain Redis client. metadata.name alone is a valid cluster.",
    status = "CodisClusterStatus",
    derive = "PartialEq",
    derive = "Default",
    scale(
        spec_replicas_path = ".spec.servers.groups",
        status_replicas_path = ".status.servers.groups",
        label_selector_path = ".status.servers.selector"
    ),
    printcolumn(name = "Groups", type_ = "integer", json_path = ".spec.servers.groups"),
    printcolumn(
        name = "Proxies",
        type_ = "integer",
        json_path = ".status.proxies.ready",
        description = "Proxies that serve clients"
    ),
    printcolumn(
        name = "Ready servers",
        type_ = "integer",
        json_path = ".status.servers.ready",
        description = "Servers that hold their role, replicas in sync"
    ),
    printcolumn(
        name = "Slots",
        type_ = "integer",
        json_path = ".status.slots",
        description = "Slots that have a group, of 1024"
    ),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 42 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must have at most 42 characters, begin with a letter and hold only a-z, 0-9 and -, so that the names of its pods and Services are valid")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.product) == has(oldSelf.product)")
    .message("spec.product can't be changed: it names the cluster's data in the coordinator; create another cluster instead"))]
#[x_kube(validation = Rule::new("has(self.coordinator) == has(oldSelf.coordinator)")
    .message("spec.coordinator can't be changed: the cluster's slot map lies there; create another cluster instead"))]
pub struct CodisClusterSpec {
    /// What runs in the cluster. `Native`: our dashboard and proxy in front of stock Valkey or Redis 7 or newer, with
    /// etcd (v3 API) as coordinator. Can't be changed.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.engine can't be changed; create another cluster instead"))]
    pub engine: Engine,

    /// The product's name: what the cluster is called in the coordinator. Default: `{namespace}.{name}`. Can't be
    /// changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^\w[\w.\-]*$"))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("spec.product can't be changed: it names the cluster's data in the coordinator; create another cluster instead"))]
    pub product: Option<String>,

    /// Where the slot map lies. Default: the coordinator that the operator was installed with. Can't be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("spec.coordinator can't be changed: the cluster's slot map lies there; create another cluster instead"))]
    pub coordinator: Option<CoordinatorSpec>,

    /// The server groups.
    #[serde(default)]
    pub servers: ServersSpec,

    /// The proxies, which clients talk to.
    #[serde(default)]
    pub proxies: ProxiesSpec,

    /// The dashboard, which owns the slot map and gives servers their roles.
    #[serde(default)]
    pub dashboard: DashboardSpec,

    /// What is done when something fails.
    #[serde(default)]
    pub ha: HaSpec,

    /// What clients have to give. Absent: nothing. Inside the cluster a generated password is always used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthSpec>,

    /// Whether the operator keeps its hands off: nothing is applied, and nothing is done when something fails; the status is
    /// still told, and in it what would be done. Afterwards nothing that was seen meanwhile counts as having lasted.
    #[serde(default)]
    pub paused: bool,
}

/// What runs in a cluster.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Engine {
    /// Our dashboard and proxy over stock servers.
    #[default]
    Native,
}

/// Where the slot map lies.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CoordinatorSpec {
    /// An etcd, spoken to by its v3 API.
    pub etcd: EtcdSpec,
}

/// An etcd.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdSpec {
    /// Its members, as `http://host:port`.
    #[schemars(
        length(min = 1, max = 9),
        inner(length(max = 300), regex(pattern = r"^http://[^/:]+:[0-9]+$"))
    )]
    pub endpoints: Vec<String>,
    /// A Secret in the cluster's namespace with the keys `username` and `password`. Absent: no login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// A Secret in the cluster's namespace.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct SecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// A key of a Secret in the cluster's namespace.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// The key in it.
    #[serde(default = "password_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

fn password_key() -> String {
    "password".to_owned()
}

/// What clients have to give.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthSpec {
    /// The password. When the Secret changes, the proxies are rolled.
    pub secret_ref: SecretKeyRef,
}

/// The server groups. A change of what a server is made with (image, memory, resources, configuration, pod template) is
/// rolled out: one server at a time, replicas first, each in sync before the next; then the primary hands over.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.storage) == has(oldSelf.storage) && (!has(self.storage) || (self.storage.size == oldSelf.storage.size && has(self.storage.class) == has(oldSelf.storage.class) && (!has(self.storage.class) || self.storage.class == oldSelf.storage.class)))")
    .message("spec.servers.storage of a running cluster can't be changed, but for whenDeleted and whenScaled; create another cluster instead"))]
pub struct ServersSpec {
    /// The image, of Valkey or Redis 7 or newer. It must hold `sh` and `valkey-server` or `redis-server`, with its
    /// command line client.
    #[serde(default = "server_image")]
    #[schemars(length(min = 1, max = 500))]
    pub image: String,

    /// How many groups share the 1024 slots.
    #[serde(default = "default_groups")]
    #[schemars(range(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.servers.groups of a running cluster can't be changed yet: slots can't be moved; create another cluster instead"))]
    pub groups: i32,

    /// Servers in each group, the primary included.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 16))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.servers.replicasPerGroup of a running cluster can't be changed yet; create another cluster instead"))]
    pub replicas_per_group: i32,

    /// How much data a server takes before it refuses writes: a share of the memory limit (`70%`), or a quantity
    /// (`2Gi`). A share without `resources.limits.memory` means no limit.
    #[serde(default = "default_max_memory")]
    #[schemars(
        length(max = 30),
        regex(pattern = r"^([1-9][0-9]?%|100%|[0-9]+([.][0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?)$")
    )]
    pub max_memory: String,

    /// Settings of the servers, as their configuration file has them: `maxmemory-policy: allkeys-lru`. Those that the
    /// operator itself needs can't be given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "settings")]
    pub config: BTreeMap<String, String>,

    /// Volumes for the data. Absent: it is kept in memory only, and a group whose servers all end at once is empty. Can't be
    /// added to or taken from a running cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,

    /// Whether servers of one group may share a node. `Preferred`: only if there is no other way. `Required`: never,
    /// a server without a node of its own stays Pending. `None`: nobody cares.
    #[serde(default)]
    pub anti_affinity: AntiAffinity,

    /// Resources of each server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesSpec>,

    /// What is added to the servers' pods.
    #[serde(default)]
    pub pod_template: PodTemplate,
}

impl Default for ServersSpec {
    fn default() -> Self {
        Self {
            image: server_image(),
            groups: default_groups(),
            replicas_per_group: default_replicas(),
            max_memory: default_max_memory(),
            config: BTreeMap::new(),
            storage: None,
            anti_affinity: AntiAffinity::default(),
            resources: None,
            pod_template: PodTemplate::default(),
        }
    }
}

fn server_image() -> String {
    "valkey/valkey:8.1".to_owned()
}

fn default_groups() -> i32 {
    3
}

fn default_replicas() -> i32 {
    2
}

fn default_max_memory() -> String {
    "70%".to_owned()
}

/// Whether servers of one group may share a node.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum AntiAffinity {
    /// Never.
    Required,
    /// Only if there is no other way.
    #[default]
    Preferred,
    /// Nobody cares.
    None,
}

/// What a container asks of its node (`requests`), and the most it may use (`limits`).
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
pub struct ResourcesSpec {
    /// What is kept free for it, by resource name (`cpu`, `memory`, …).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, Quantity>,
    /// The most it may use, by resource name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub limits: BTreeMap<String, Quantity>,
}

fn settings(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 128,
        "additionalProperties": {"type": "string", "maxLength": 1000},
    })
}

fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": true,
            "pattern": r"^(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE][-+]?[0-9]+))?$",
        },
    })
}

/// The proxies.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxiesSpec {
    /// How many.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,

    /// The Service that clients connect to: `{name}-proxy`, port 6379.
    #[serde(default)]
    pub service: ServiceSpec,

    /// Resources of each proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesSpec>,

    /// What is added to the proxies' pods.
    #[serde(default)]
    pub pod_template: PodTemplate,
}

impl Default for ProxiesSpec {
    fn default() -> Self {
        Self {
            replicas: default_replicas(),
            service: ServiceSpec::default(),
            resources: None,
            pod_template: PodTemplate::default(),
        }
    }
}

/// A Service.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct ServiceSpec {
    /// How it is reached.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// Annotations to put on it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// How a Service is reached.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum ServiceType {
    /// From inside the Kubernetes cluster.
    #[default]
    ClusterIP,
    /// By a port of every node.
    NodePort,
    /// By a load balancer of the cloud.
    LoadBalancer,
}

/// The dashboard.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DashboardSpec {
    /// How many instances: one is active, the others stand by and take over within seconds.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 3))]
    pub replicas: i32,

    /// Resources of each instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesSpec>,

    /// What is added to the dashboards' pods.
    #[serde(default)]
    pub pod_template: PodTemplate,
}

impl Default for DashboardSpec {
    fn default() -> Self {
        Self {
            replicas: default_replicas(),
            resources: None,
            pod_template: PodTemplate::default(),
        }
    }
}
