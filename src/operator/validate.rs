use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use super::customise::{check_config, check_template};
use super::dereference::Dereferenced;
use super::error::Invalid;
use super::settings::Settings;
use crate::api::{
    AntiAffinity, CodisCluster, DashboardSpec, Durability, HaMode, HaSpec, MAX_NAME, PodTemplate, ProxiesSpec,
    ResourcesSpec, SecretKeyRef, StorageSpec,
};
use crate::model::{GoDuration, GroupId, HostPort, ProductName, keyed_hash};
use crate::plan::ha::{Mode, Policy};
use crate::plan::{Desired, DesiredGroup};

/// The port of every server.
pub(super) const SERVER_PORT: u16 = 6379;
/// The port of a dashboard's API.
pub(super) const DASHBOARD_PORT: u16 = 18080;
/// The port of a proxy for clients.
pub(super) const PROXY_PORT: u16 = 19000;
/// The port of a proxy's admin API.
pub(super) const PROXY_ADMIN_PORT: u16 = 11080;

/// A cluster whose spec was found right: from here on nothing about it can be wrong.
#[derive(Clone)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID, which owns the product's prefix in the coordinator.
    pub uid: String,
    /// What its children refer to.
    pub owner: OwnerReference,
    /// Its product.
    pub product: ProductName,
    /// Its coordinator.
    pub coordinator: Coordinator,
    /// Its groups' numbers, ascending.
    pub groups: Vec<GroupId>,
    /// Servers in each group.
    pub replicas_per_group: u16,
    /// The servers' image.
    pub server_image: String,
    /// `maxmemory` of each server in bytes; `None`: no limit.
    pub max_memory: Option<u64>,
    /// Whether servers of one group may share a node.
    pub anti_affinity: AntiAffinity,
    /// Resources of each server.
    pub server_resources: Option<ResourcesSpec>,
    /// Settings that people gave.
    pub server_config: BTreeMap<String, String>,
    /// Volumes for the data; `None`: it is in memory only.
    pub storage: Option<StorageSpec>,
    /// What is added to the servers' pods.
    pub server_template: PodTemplate,
    /// The proxies.
    pub proxies: ProxiesSpec,
    /// The dashboard.
    pub dashboard: DashboardSpec,
    /// What is done when something fails.
    pub ha: HaSettings,
    /// Whether nothing is to be changed.
    pub paused: bool,
    /// The generated password that is used inside the cluster.
    pub product_auth: String,
    /// The password of clients: where it is, and a digest that changes with it.
    pub session_auth: Option<(SecretKeyRef, String)>,
    /// The image of our dashboard and proxy.
    pub image: String,
    /// When that image is pulled.
    pub image_pull_policy: String,
    /// Secrets, in the cluster's namespace, to pull images with.
    pub image_pull_secrets: Vec<String>,
}

/// What is done when something fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaSettings {
    /// How faults are answered.
    pub policy: Policy,
    /// How often everything is looked at.
    pub probe_interval: Duration,
    /// What a primary does that hears of no replica any more.
    pub durability: Durability,
}

impl Default for HaSettings {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            probe_interval: Duration::from_millis(500),
            durability: Durability::default(),
        }
    }
}

impl HaSettings {
    /// Reads `spec.ha`.
    pub(super) fn of(spec: &HaSpec) -> Result<Self, Invalid> {
        let duration = |field: &'static str, text: &str, least: u64, most: u64| {
            let (least, most) = (Duration::from_millis(least), Duration::from_millis(most));
            let parsed = text.parse::<GoDuration>().map(|parsed| parsed.0);
            parsed
                .ok()
                .filter(|time| (least..=most).contains(time))
                .ok_or_else(|| Invalid {
                    field,
                    message: format!("{text:?} is not a duration from {least:?} to {most:?}; write it as 500ms or 30s"),
                })
        };
        let threshold = u32::try_from(spec.failure_threshold)
            .ok()
            .filter(|n| (1..=100).contains(n))
            .ok_or_else(|| Invalid {
                field: "spec.ha.failureThreshold",
                message: format!("{} is not in 1..=100", spec.failure_threshold),
            })?;
        let probe_interval = duration("spec.ha.probeInterval", &spec.probe_interval, 100, 60_000)?;
        Ok(Self {
            policy: Policy {
                mode: match spec.mode {
                    HaMode::Automatic => Mode::Automatic,
                    HaMode::Aggressive => Mode::Aggressive,
                    HaMode::ReportOnly => Mode::ReportOnly,
                },
                failure_threshold: threshold,
                silence: probe_interval * threshold,
                restart_after: duration("spec.ha.restartAfter", &spec.restart_after, 1_000, 86_400_000)?,
                force_delete_after: spec
                    .force_delete_after
                    .as_deref()
                    .map(|text| duration("spec.ha.forceDeleteAfter", text, 1_000, 86_400_000))
                    .transpose()?,
                cooldown: duration("spec.ha.cooldown", &spec.cooldown, 0, 86_400_000)?,
            },
            probe_interval,
            durability: spec.durability,
        })
    }
}

/// Where a cluster's slot map lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinator {
    /// `http://host:port` of each member.
    pub endpoints: Vec<String>,
    /// The Secret with `username` and `password`, and what they say.
    pub login: Option<(String, EtcdLogin)>,
}

/// A login at an etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdLogin {
    /// Its user.
    pub username: String,
    /// Its password.
    pub password: String,
}

impl EtcdLogin {
    /// Changes with the login.
    pub(super) fn digest(&self, key: &str) -> String {
        keyed_digest(key, &format!("{}:{}", self.username, self.password))
    }
}

impl std::fmt::Debug for EtcdLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdLogin")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// The host of a dashboard in this pod.
fn dashboard_host(namespace: &str, cluster: &str, pod: &str) -> String {
    format!("{pod}.{cluster}-dashboards.{namespace}.svc")
}

/// The addresses of the APIs of all dashboards of a cluster.
pub(super) fn dashboard_addrs(namespace: &str, cluster: &str, instances: i32) -> Vec<String> {
    let host = |i| dashboard_host(namespace, cluster, &format!("{cluster}-dashboard-{i}"));
    (0..instances)
        .map(|i| format!("{}:{DASHBOARD_PORT}", host(i)))
        .collect()
}

impl Cluster {
    /// The pod of a server.
    pub fn server_pod(&self, group: GroupId, ordinal: u16) -> String {
        format!("{}-{ordinal}", self.servers_name(group))
    }

    /// The name of the StatefulSet of a group's servers.
    pub fn servers_name(&self, group: GroupId) -> String {
        format!("{}-g{group}", self.name)
    }

    /// The headless Service that gives servers their names.
    pub fn servers_service(&self) -> String {
        format!("{}-servers", self.name)
    }

    /// The pods of a group's servers.
    pub fn server_pods(&self, group: GroupId) -> impl Iterator<Item = String> {
        (0..self.replicas_per_group).map(move |ordinal| self.server_pod(group, ordinal))
    }

    /// The address of the server in this pod; its identity for ever.
    pub fn server_addr(&self, pod: &str) -> Option<HostPort> {
        HostPort::new(
            &format!("{pod}.{}.{}.svc", self.servers_service(), self.namespace),
            SERVER_PORT,
        )
        .ok()
    }

    /// The headless Service that gives dashboards their names.
    pub fn dashboards_service(&self) -> String {
        format!("{}-dashboards", self.name)
    }

    /// The host of the dashboard in this pod.
    pub fn dashboard_host(&self, pod: &str) -> String {
        dashboard_host(&self.namespace, &self.name, pod)
    }

    /// The name of the dashboards' StatefulSet, and of the Service of the active one.
    pub fn dashboard_name(&self) -> String {
        format!("{}-dashboard", self.name)
    }

    /// The addresses of all dashboards' APIs.
    pub fn dashboard_addrs(&self) -> Vec<String> {
        dashboard_addrs(&self.namespace, &self.name, self.dashboard.replicas)
    }

    /// The name of the proxies' Deployment and Service.
    pub fn proxy_name(&self) -> String {
        format!("{}-proxy", self.name)
    }

    /// What the dashboard is brought to.
    pub fn desired_topology(&self) -> Desired {
        let group = |id: GroupId| DesiredGroup {
            id,
            servers: self.server_pods(id).filter_map(|pod| self.server_addr(&pod)).collect(),
        };
        Desired {
            groups: self.groups.iter().copied().map(group).collect(),
            proxy_prefix: format!("{}-", self.proxy_name()),
        }
    }
}

/// The coordinator of a cluster, as far as it can be told without the rest of the spec being right.
pub(super) fn coordinator(
    cluster: &CodisCluster,
    refs: &Dereferenced,
    settings: &Settings,
) -> Result<Coordinator, Invalid> {
    let Some(spec) = &cluster.spec.coordinator else {
        // The default of the day when the cluster began: its slot map lies there, whatever the default is now.
        let begun = cluster
            .status
            .as_ref()
            .map(|status| status.coordinator.clone())
            .unwrap_or_default();
        if !begun.is_empty() {
            return Ok(Coordinator {
                endpoints: begun,
                login: None,
            });
        }
        if settings.coordinator.is_empty() {
            return Err(Invalid {
                field: "spec.coordinator",
                message:
                    "it is absent and the operator was installed without a default; name the endpoints of an etcd in \
                          spec.coordinator.etcd.endpoints, or install the chart with etcd.enabled=true"
                        .to_owned(),
            });
        }
        return Ok(Coordinator {
            endpoints: settings.coordinator.clone(),
            login: None,
        });
    };
    let login = match &spec.etcd.secret_ref {
        None => None,
        Some(secret) => {
            let field = "spec.coordinator.etcd.secretRef";
            let data = refs
                .coordinator
                .as_ref()
                .ok_or_else(|| missing_secret(field, &secret.name))?;
            let text = |key: &'static str| secret_text(field, &secret.name, key, data.get(key));
            Some((
                secret.name.clone(),
                EtcdLogin {
                    username: text("username")?,
                    password: text("password")?,
                },
            ))
        }
    };
    Ok(Coordinator {
        endpoints: spec.etcd.endpoints.clone(),
        login,
    })
}

/// The product's name: the one given, or `namespace.name`.
pub(super) fn product(cluster: &CodisCluster) -> Result<ProductName, Invalid> {
    let default = || format!("{}.{}", cluster.namespace().unwrap_or_default(), cluster.name_any());
    let name = cluster.spec.product.clone().unwrap_or_else(default);
    name.parse().map_err(|error: crate::model::ProductNameError| Invalid {
        field: "spec.product",
        message: error.to_string(),
    })
}

/// Turns a spec, and what it refers to, into a type that can't be wrong. The API server checked the same by the rules
/// of the CRD where one object is enough to tell; it is checked here again because objects may be older than the rules.
///
/// # Errors
/// [`Invalid`] names the field and the remedy.
pub fn validate(cluster: &CodisCluster, refs: &Dereferenced, settings: &Settings) -> Result<Cluster, Invalid> {
    let spec = &cluster.spec;
    let name = cluster.name_any();
    if name.len() > MAX_NAME || !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.contains('.') {
        let message = format!("{name:?} must have at most {MAX_NAME} characters, begin with a letter and hold no dots");
        return Err(Invalid {
            field: "metadata.name",
            message,
        });
    }
    let (Some(uid), Some(owner)) = (cluster.uid(), cluster.controller_owner_ref(&())) else {
        return Err(Invalid {
            field: "metadata.uid",
            message: "it is absent; only objects of an API server can be run".to_owned(),
        });
    };
    let in_range = |field, value: i32, min: i32, max: i32| {
        if (min..=max).contains(&value) {
            Ok(value)
        } else {
            Err(Invalid {
                field,
                message: format!("{value} is not in {min}..={max}"),
            })
        }
    };
    let groups = in_range("spec.servers.groups", spec.servers.groups, 1, 1024)?;
    let replicas = in_range("spec.servers.replicasPerGroup", spec.servers.replicas_per_group, 1, 16)?;
    in_range("spec.proxies.replicas", spec.proxies.replicas, 0, 1000)?;
    in_range("spec.dashboard.replicas", spec.dashboard.replicas, 1, 3)?;
    check_config(&spec.servers.config)?;
    for (field, container, template) in [
        ("spec.servers.podTemplate", "server", &spec.servers.pod_template),
        ("spec.proxies.podTemplate", "proxy", &spec.proxies.pod_template),
        ("spec.dashboard.podTemplate", "dashboard", &spec.dashboard.pod_template),
    ] {
        check_template(field, container, template)?;
    }
    if let Some(storage) = &spec.servers.storage {
        quantity_bytes("spec.servers.storage.size", &Quantity(storage.size.clone()))?;
    }
    let product_auth = refs.product_auth.clone().ok_or_else(|| Invalid {
        field: "metadata.name",
        message: format!("the Secret {name}-auth with the cluster's own password is absent"),
    })?;
    Ok(Cluster {
        namespace: cluster.namespace().unwrap_or_default(),
        uid,
        owner,
        product: product(cluster)?,
        coordinator: coordinator(cluster, refs, settings)?,
        groups: (1..=groups).filter_map(|id| GroupId::new(id.into()).ok()).collect(),
        replicas_per_group: replicas as u16,
        server_image: spec.servers.image.clone(),
        max_memory: max_memory(&spec.servers.max_memory, spec.servers.resources.as_ref())?,
        anti_affinity: spec.servers.anti_affinity,
        server_resources: spec.servers.resources.clone(),
        server_config: spec.servers.config.clone(),
        storage: spec.servers.storage.clone(),
        server_template: spec.servers.pod_template.clone(),
        proxies: spec.proxies.clone(),
        dashboard: spec.dashboard.clone(),
        ha: HaSettings::of(&spec.ha)?,
        paused: spec.paused,
        session_auth: session_auth(cluster, refs, &product_auth)?,
        product_auth,
        image: settings.image.clone(),
        image_pull_policy: settings.image_pull_policy.clone(),
        image_pull_secrets: settings.image_pull_secrets.clone(),
        name,
    })
}

fn session_auth(
    cluster: &CodisCluster,
    refs: &Dereferenced,
    key: &str,
) -> Result<Option<(SecretKeyRef, String)>, Invalid> {
    let Some(auth) = &cluster.spec.auth else {
        return Ok(None);
    };
    let (field, secret) = ("spec.auth.secretRef", &auth.secret_ref);
    let data = refs
        .session_auth
        .as_ref()
        .ok_or_else(|| missing_secret(field, &secret.name))?;
    let password = secret_text(field, &secret.name, &secret.key, data.get(&secret.key))?;
    Ok(Some((secret.clone(), keyed_digest(key, &password))))
}

/// Changes with `text`, and tells nothing of it to who does not know the cluster's own password.
fn keyed_digest(key: &str, text: &str) -> String {
    keyed_hash(key, text)[..16].to_owned()
}

fn missing_secret(field: &'static str, name: &str) -> Invalid {
    Invalid {
        field,
        message: format!("there is no Secret {name:?} in the cluster's namespace; create it"),
    }
}

fn secret_text(field: &'static str, name: &str, key: &str, value: Option<&Vec<u8>>) -> Result<String, Invalid> {
    let value = value.ok_or_else(|| Invalid {
        field,
        message: format!("the Secret {name:?} has no key {key:?}; add it"),
    })?;
    match std::str::from_utf8(value) {
        Ok(text) if !text.is_empty() && !text.contains(|c: char| c.is_control()) => Ok(text.to_owned()),
        Ok(_) => Err(Invalid {
            field,
            message: format!(
                "the key {key:?} of the Secret {name:?} is empty or holds control characters (a line break at its end?)"
            ),
        }),
        Err(_) => Err(Invalid {
            field,
            message: format!("the key {key:?} of the Secret {name:?} is not UTF-8 text"),
        }),
    }
}

/// `maxmemory` in bytes: a share of the memory limit, or a quantity.
fn max_memory(text: &str, resources: Option<&ResourcesSpec>) -> Result<Option<u64>, Invalid> {
    let limit = resources.and_then(|resources| resources.limits.get("memory"));
    let limit_bytes = limit
        .map(|limit| quantity_bytes("spec.servers.resources.limits.memory", limit))
        .transpose()?;
    let field = "spec.servers.maxMemory";
    if let Some(percent) = text.strip_suffix('%') {
        return match percent.parse::<u64>() {
            Ok(percent @ 1..=100) => {
                Ok(limit_bytes.map(|bytes| (u128::from(bytes) * u128::from(percent) / 100) as u64))
            }
            _ => Err(Invalid {
                field,
                message: format!("{text:?} is not a share from 1% to 100%"),
            }),
        };
    }
    let bytes = quantity_bytes(field, &Quantity(text.to_owned()))?;
    match limit_bytes {
        Some(limit) if bytes > limit => Err(Invalid {
            field,
            message: format!(
                "{text} is above spec.servers.resources.limits.memory; the server would be killed before it refuses writes"
            ),
        }),
        _ => Ok(Some(bytes)),
    }
}

fn quantity_bytes(field: &'static str, quantity: &Quantity) -> Result<u64, Invalid> {
    let text = quantity.0.as_str();
    let fail = || Invalid {
        field,
        message: format!("{text:?} is not a quantity of bytes; write it as 512Mi or 2Gi"),
    };
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: f64 = match unit {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        _ => return Err(fail()),
    };
    let bytes = number.parse::<f64>().map_err(|_| fail())? * factor;
    // Below this no server can start; and a typing error (70 for 70%) is not to be taken for a limit.
    if bytes < 1_048_576.0 {
        return Err(Invalid {
            field,
            message: format!("{text:?} is below 1Mi; write a share as 70%, a quantity as 512Mi or 2Gi"),
        });
    }
    if bytes < 1e18 { Ok(bytes as u64) } else { Err(fail()) }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
