//! Reads the topology from the dashboard, has the next steps planned and asks for them. The operator never commands a
//! server: the dashboard does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};

use super::controller::Context;
use super::error::Error;
use super::events;
use super::labels::{self, ACTIVE, Component, DASHBOARD_ROLE_LABEL, MANAGER};
use super::mirror::{self, Restored};
use super::validate::{Cluster, PROXY_ADMIN_PORT};
use crate::api::CodisCluster;
use crate::client::{ClientError, DashboardClient};
use crate::model::{Overview, SLOT_COUNT, Stats};
use crate::plan::{Observed, Plan, Problem, ProblemReason, ProxyPod, Step, plan_topology};

/// The pods of a cluster, as they are now.
#[derive(Debug, Default)]
pub(super) struct Pods {
    /// Servers', by name.
    pub(super) servers: BTreeMap<String, Pod>,
    /// Dashboards'.
    pub(super) dashboards: Vec<Pod>,
    /// Proxies'.
    pub(super) proxies: Vec<Pod>,
}

/// What was found and done.
#[derive(Debug)]
pub(super) struct Topology {
    /// What the active dashboard says; why there is none otherwise.
    pub(super) stats: Result<Box<Stats>, String>,
    /// The pod of the active dashboard.
    pub(super) active: Option<String>,
    /// The plan that was made of it.
    pub(super) plan: Plan,
    /// Steps that were taken.
    pub(super) taken: Vec<Step>,
    /// Steps that failed, each with the dashboard's words.
    pub(super) failed: Vec<(Step, ClientError)>,
}

/// Reads the cluster's pods from the API server.
async fn read_pods(client: &Client, cluster: &Cluster) -> Result<Pods, Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &cluster.namespace);
    let selector = labels::as_selector(&labels::of_cluster(&cluster.name));
    let list = api
        .list(&ListParams::default().labels(&selector))
        .await
        .map_err(Error::kube("listing Pods"))?;
    let mut pods = Pods::default();
    for pod in list {
        match Component::of(&pod) {
            Some(Component::Server) => drop(pods.servers.insert(pod.name_any(), pod)),
            Some(Component::Dashboard) => pods.dashboards.push(pod),
            Some(Component::Proxy) => pods.proxies.push(pod),
            None => {}
        }
    }
    Ok(pods)
}

/// One round: read, plan, ask. Pods are read after the dashboard: one that registered in between is then not taken for
/// one that is gone.
pub(super) async fn drive(
    context: &Context,
    object: &CodisCluster,
    cluster: &Cluster,
) -> Result<(Topology, Pods), Error> {
    let client = &context.client;
    let dashboard = DashboardClient::new(context.http.clone(), cluster.dashboard_addrs(), cluster.product.clone());
    let overview = dashboard.overview().await;
    let pods = read_pods(client, cluster).await?;
    let overview = match overview {
        Ok(overview) => overview,
        Err(error) => {
            let cause = error.cause().map_or_else(|| error.to_string(), str::to_owned);
            return Ok((Topology::without_dashboard(cause), pods));
        }
    };
    if overview.model.product_name != cluster.product.as_str() {
        let other = &overview.model.product_name;
        let cause = format!("the dashboard serves product {other}, not {}", cluster.product);
        return Ok((Topology::without_dashboard(cause), pods));
    }
    let active = active_dashboard(&pods, &overview);
    if !cluster.paused {
        label_active(client, cluster, &pods, active.as_deref()).await?;
    }
    let stats = overview.stats;
    let observed = Observed {
        stats: &stats,
        bootstrapped: object.status.as_ref().is_some_and(|status| status.bootstrapped),
        running: running_servers(cluster, &pods),
        renewed: renewed_servers(cluster, &pods, Timestamp::now()),
        proxies: pods.proxies.iter().map(proxy_pod).collect(),
    };
    let mut plan = plan_topology(&cluster.desired_topology(), &observed);
    let is_empty = stats.group.models.is_empty() && stats.slots.iter().all(|slot| slot.group_id == 0);
    // Volumes may hold the data of an earlier cluster of this name, and the copy tells who has the newest.
    if is_empty && !cluster.paused && (observed.bootstrapped || cluster.storage.is_some()) {
        match mirror::restore(client, cluster, &dashboard).await? {
            Restored::Done => {
                let cause = "the coordinator had lost the slot map; it was restored from its copy".to_owned();
                let event = events::warning("TopologyRestored", cause.clone());
                events::publish(&context.recorder, object, event).await;
                return Ok((Topology::without_dashboard(cause), pods));
            }
            Restored::Refused(message) => {
                let reason = ProblemReason::StoreLost;
                plan = Plan {
                    problems: vec![Problem { reason, message }],
                    ..Plan::default()
                };
            }
            Restored::Nothing => {}
        }
    }
    if plan.steps.iter().any(|step| matches!(step, Step::AssignSlots(_))) && served_before(client, cluster).await? {
        plan.steps.retain(|step| !matches!(step, Step::AssignSlots(_)));
    }
    if cluster.paused {
        plan.steps.clear();
    }
    let (taken, failed) = ask(&dashboard, &plan.steps).await;
    let whole = stats.slots.iter().filter(|slot| slot.group_id != 0).count() == SLOT_COUNT;
    if whole && !cluster.paused {
        mirror::keep(client, &context.mirrors, cluster, &dashboard).await?;
    }
    Ok((
        Topology {
            stats: Ok(Box::new(stats)),
            active,
            plan,
            taken,
            failed,
        },
        pods,
    ))
}

/// Whether the cluster's slots were assigned once, or it is gone, as the API server knows it now: what this
/// reconciliation began with may be old, and assigning once too often would hide data.
async fn served_before(client: &Client, cluster: &Cluster) -> Result<bool, Error> {
    let api: Api<CodisCluster> = Api::namespaced(client.clone(), &cluster.namespace);
    let now = api
        .get(&cluster.name)
        .await
        .map_err(Error::kube(format!("reading CodisCluster {}", cluster.name)))?;
    let same = now.metadata.uid.as_ref() == Some(&cluster.uid) && now.metadata.deletion_timestamp.is_none();
    Ok(!same || now.status.is_some_and(|status| status.bootstrapped))
}

impl Topology {
    fn without_dashboard(cause: String) -> Self {
        Self {
            stats: Err(cause),
            active: None,
            plan: Plan::default(),
            taken: Vec::new(),
            failed: Vec::new(),
        }
    }
}

/// Asks for each step. What a failed step was about is left alone until the next round; other groups go on.
async fn ask(dashboard: &DashboardClient, steps: &[Step]) -> (Vec<Step>, Vec<(Step, ClientError)>) {
    let (mut taken, mut failed) = (Vec::new(), Vec::new());
    let mut stopped = BTreeSet::new();
    for step in steps {
        let group = match step {
            Step::CreateGroup(group)
            | Step::AddServer(group, _)
            | Step::GiveRole(group, _)
            | Step::AskAgain(group, _) => Some(*group),
            _ => None,
        };
        if group.is_some_and(|group| stopped.contains(&group)) {
            continue;
        }
        let asked = match step {
            Step::CreateGroup(group) => dashboard.create_group(*group).await,
            Step::AddServer(group, server) => dashboard.add_server(*group, server, "").await,
            Step::GiveRole(_, server) | Step::AskAgain(_, server) => dashboard.create_sync_action(server).await,
            Step::AssignSlots(slots) => dashboard.assign_slots(slots).await,
            Step::BringProxyOnline(_, admin_addr) => dashboard.online_proxy(admin_addr).await,
            // Its pod is gone: there is nobody left who could be asked to end.
            Step::ForgetProxy(_, token) => dashboard.remove_proxy(token, true).await,
        };
        match asked {
            Ok(()) => taken.push(step.clone()),
            Err(error) => {
                stopped.extend(group);
                failed.push((step.clone(), error));
            }
        }
    }
    (taken, failed)
}

/// The pod of the active dashboard.
fn active_dashboard(pods: &Pods, overview: &Overview) -> Option<String> {
    let host = overview.model.admin_addr.split(['.', ':']).next().unwrap_or_default();
    let mut names = pods.dashboards.iter().map(ResourceExt::name_any);
    names.find(|name| name == host)
}

/// Puts the label that the Service of the active dashboard selects onto that pod, and takes it from the others.
async fn label_active(client: &Client, cluster: &Cluster, pods: &Pods, active: Option<&str>) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &cluster.namespace);
    for pod in &pods.dashboards {
        let name = pod.name_any();
        let has = pod
            .labels()
            .get(DASHBOARD_ROLE_LABEL)
            .is_some_and(|role| role == ACTIVE);
        let should = Some(name.as_str()) == active;
        if has != should {
            let role = should.then_some(ACTIVE);
            let patch = serde_json::json!({"metadata": {"labels": {DASHBOARD_ROLE_LABEL: role}}});
            let params = PatchParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PatchParams::default()
            };
            match api.patch_metadata(&name, &params, &Patch::Merge(patch)).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(Error::kube(format!("labelling Pod {name}"))(error)),
            }
        }
    }
    Ok(())
}

fn running_servers(cluster: &Cluster, pods: &Pods) -> BTreeSet<crate::model::HostPort> {
    pods.servers
        .iter()
        .filter(|(_, pod)| runs(pod))
        .filter_map(|(name, _)| cluster.server_addr(name))
        .collect()
}

/// Servers whose pod is about to end because somebody asked for it, or was made anew a moment ago, as in a rollout.
fn renewed_servers(cluster: &Cluster, pods: &Pods, now: Timestamp) -> BTreeSet<crate::model::HostPort> {
    let all = cluster.groups.iter().flat_map(|group| cluster.server_pods(*group));
    let renewed = all.filter(|name| pods.servers.get(name).is_none_or(|pod| is_renewed(cluster, pod, now)));
    renewed.filter_map(|name| cluster.server_addr(&name)).collect()
}

/// Whether a pod has still time to end, or to come up.
fn is_renewed(cluster: &Cluster, pod: &Pod, now: Timestamp) -> bool {
    let (ends, began) = (&pod.metadata.deletion_timestamp, &pod.metadata.creation_timestamp);
    match (ends, began) {
        (Some(by), _) => now <= by.0,
        (None, Some(since)) => now.duration_since(since.0).unsigned_abs() < cluster.ha.policy.restart_after,
        (None, None) => false,
    }
}

/// Whether a pod's container runs and is not about to end.
fn runs(pod: &Pod) -> bool {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    let running = statuses.is_some_and(|list| {
        !list.is_empty()
            && list
                .iter()
                .all(|c| c.state.as_ref().is_some_and(|state| state.running.is_some()))
    });
    running && pod.metadata.deletion_timestamp.is_none()
}

/// Where a pod is reached, once it has an address.
pub(super) fn pod_ip(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()
}

fn proxy_pod(pod: &Pod) -> ProxyPod {
    ProxyPod {
        name: pod.name_any(),
        admin_addr: pod_ip(pod).map(|ip| SocketAddr::new(ip, PROXY_ADMIN_PORT).to_string()),
        running: runs(pod),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::build::fixtures::valid_shop;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    #[test]
    fn a_pod_is_renewed_while_it_has_time_to_end_or_to_come_up() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let pod = |created: i64, ends: Option<i64>| {
            let mut pod = Pod::default();
            pod.metadata.creation_timestamp = Some(Time(at(created)));
            pod.metadata.deletion_timestamp = ends.map(|ends| Time(at(ends)));
            pod
        };
        let cluster = valid_shop();
        assert!(is_renewed(&cluster, &pod(100, None), at(129)) && !is_renewed(&cluster, &pod(100, None), at(130)));
        // One that is overdue has nobody who ends it: its node is lost.
        let leaving = pod(0, Some(1000));
        assert!(is_renewed(&cluster, &leaving, at(1000)) && !is_renewed(&cluster, &leaving, at(1001)));
        let all: Vec<_> = cluster
            .groups
            .iter()
            .flat_map(|group| cluster.server_pods(*group))
            .collect();
        let pods = Pods {
            servers: all.iter().skip(1).map(|name| (name.clone(), pod(0, None))).collect(),
            ..Pods::default()
        };
        let renewed = renewed_servers(&cluster, &pods, at(100));
        assert_eq!(
            renewed.into_iter().collect::<Vec<_>>(),
            [cluster.server_addr(&all[0]).unwrap()]
        );
    }
}
