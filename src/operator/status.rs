//! What is told about a cluster. Computed as a value from what was found; written only when it differs from what stands
//! there, conditions compared without their times.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};

use super::apply::Rollouts;
use super::error::Error;
use super::ha::Report;
use super::labels::{self, Component, MANAGER};
use super::rollout;
use super::topology::{Pods, Topology};
use super::validate::Cluster;
use crate::api::{
    CodisCluster, CodisClusterStatus, ConditionType, DashboardStatus, DataLossStatus, FailoverStatus, GroupStatus,
    Phase, ProxiesStatus, ServerRole, ServerStatus,
};
use crate::model::{Failover, GroupId, HostPort, SLOT_COUNT, Stats};
use crate::plan::ha::Notice;
use crate::plan::{ServerState, Step};

/// What a condition says.
struct Verdict {
    type_: ConditionType,
    holds: bool,
    reason: &'static str,
    message: String,
}

/// The status of a cluster whose spec is right.
pub(super) fn of_cluster(
    object: &CodisCluster,
    cluster: &Cluster,
    topology: &Topology,
    rollouts: Rollouts,
    pods: &Pods,
    report: &Report,
    now: Timestamp,
) -> CodisClusterStatus {
    let previous = object.status.clone().unwrap_or_default();
    let mut status = CodisClusterStatus {
        observed_generation: object.meta().generation,
        ..previous.clone()
    };
    status.product = Some(cluster.product.to_string());
    status.servers.selector = labels::as_selector(&labels::selector(&cluster.name, Component::Server));
    status.servers.total = (cluster.groups.len() * usize::from(cluster.replicas_per_group)) as i32;
    status.proxies = ProxiesStatus {
        ready: rollouts.proxies.ready.min(cluster.proxies.replicas),
        total: cluster.proxies.replicas,
    };
    if object.spec.coordinator.is_none() {
        status.coordinator = cluster.coordinator.endpoints.clone();
    }
    status.dashboard = DashboardStatus {
        active: topology.active.clone(),
    };
    status.servers.updated = updated(cluster, &rollouts, pods);
    match &topology.stats {
        Ok(stats) => fill_topology(&mut status, cluster, stats, pods),
        // Without a dashboard nobody knows who holds a role; the slots are where they were.
        Err(_) => status
            .groups
            .iter_mut()
            .for_each(|group| group.servers.iter_mut().for_each(|s| s.in_sync = false)),
    }
    if topology.stats.is_err() {
        status.servers.ready = 0;
    }
    tell_failovers(&mut status, &previous, topology);
    tell_losses(&mut status, &previous, report);
    let mut verdicts: Vec<Verdict> = judge(&status, topology, &rollouts, &report.notices).into();
    let was_paused = previous
        .conditions
        .iter()
        .any(|c| c.type_ == ConditionType::Paused.as_str());
    if cluster.paused || was_paused {
        verdicts.push(paused(cluster.paused));
    }
    status.phase = Some(phase(&status, &verdicts));
    status.conditions = conditions(&previous.conditions, &verdicts, object.meta().generation, now);
    status
}

/// The status of a cluster whose spec can't be carried out: somebody refused it. What is known of its parts stays.
pub(super) fn of_refused(
    object: &CodisCluster,
    reason: &'static str,
    message: &str,
    now: Timestamp,
) -> CodisClusterStatus {
    let previous = object.status.clone().unwrap_or_default();
    let verdicts = [
        Verdict {
            type_: ConditionType::Ready,
            holds: false,
            reason,
            message: shorten(message.to_owned()),
        },
        Verdict {
            type_: ConditionType::Progressing,
            holds: false,
            reason,
            message: "waiting for a change".to_owned(),
        },
    ];
    CodisClusterStatus {
        phase: Some(Phase::Invalid),
        observed_generation: object.meta().generation,
        conditions: conditions(&previous.conditions, &verdicts, object.meta().generation, now),
        ..previous
    }
}

/// The last failover of each group, as its record has it, whoever asked for it; what was told before where it has none, as with a
/// dashboard that keeps no such record.
fn tell_failovers(status: &mut CodisClusterStatus, previous: &CodisClusterStatus, topology: &Topology) {
    let records = topology.stats.as_ref().map_or(&[][..], |stats| &stats.group.models);
    for group in &mut status.groups {
        let record = records.iter().find(|record| i32::from(record.id.get()) == group.id);
        let before = previous.groups.iter().find(|before| before.id == group.id);
        group.last_failover = record
            .and_then(|record| record.last_failover.as_deref())
            .map(failover)
            .or_else(|| before?.last_failover.clone());
    }
}

fn failover(record: &Failover) -> FailoverStatus {
    let pod = |server: &HostPort| server.pod().unwrap_or(server.as_str()).to_owned();
    let number = |figure: u64| i64::try_from(figure).unwrap_or(i64::MAX);
    // In seconds, as the API server keeps it: otherwise it would differ each time.
    let at = Timestamp::from_second(record.at_ms / 1000).unwrap_or(Timestamp::UNIX_EPOCH);
    FailoverStatus {
        at: Time(at),
        from: pod(&record.from),
        to: pod(&record.to),
        reason: match record.reason.as_str() {
            "" => "it was asked for at the dashboard".to_owned(),
            reason => reason.to_owned(),
        },
        detect_ms: record.detect_ms.map_or(0, number),
        promote_ms: record.promote_ms.map_or(0, number),
        write_ms: record.write_ms.map_or(0, number),
        lost_bytes: record.lost_bytes.map(number),
    }
}

/// The last time that each group lost its data, in the same way.
fn tell_losses(status: &mut CodisClusterStatus, previous: &CodisClusterStatus, report: &Report) {
    for group in &mut status.groups {
        let before = previous.groups.iter().find(|before| before.id == group.id);
        group.last_data_loss = before.and_then(|before| before.last_data_loss.clone());
        let newest = report.losses.iter().find(|(id, _)| i32::from(id.get()) == group.id);
        let Some((_, record)) = newest else { continue };
        let at = Timestamp::from_second(record.at.as_second()).unwrap_or(record.at);
        if group.last_data_loss.as_ref().is_none_or(|told| told.at.0 < at) {
            group.last_data_loss = Some(DataLossStatus {
                at: Time(at),
                keys: i64::try_from(record.keys).unwrap_or(i64::MAX),
            });
        }
    }
}

fn paused(holds: bool) -> Verdict {
    Verdict {
        type_: ConditionType::Paused,
        holds,
        reason: if holds { "Paused" } else { "NotPaused" },
        message: if holds {
            "spec.paused is true: nothing is applied, and nothing is done when something fails".to_owned()
        } else {
            "the cluster is looked after".to_owned()
        },
    }
}

/// How many servers' pods are made with what the spec says now.
fn updated(cluster: &Cluster, rollouts: &Rollouts, pods: &Pods) -> i32 {
    let is_updated = |group: &GroupId, pod: &String| {
        let set = rollouts.servers.get(&cluster.servers_name(*group));
        set.zip(pods.servers.get(pod))
            .is_some_and(|(set, pod)| !rollout::is_outdated(pod, set))
    };
    let groups = cluster.groups.iter();
    let updated = groups.map(|group| cluster.server_pods(*group).filter(|pod| is_updated(group, pod)).count());
    updated.sum::<usize>() as i32
}

fn fill_topology(status: &mut CodisClusterStatus, cluster: &Cluster, stats: &Stats, pods: &Pods) {
    status.slots = stats.slots.iter().filter(|slot| slot.group_id != 0).count() as i32;
    status.bootstrapped |= status.slots as usize == SLOT_COUNT;
    status.groups.clear();
    let mut ready = 0;
    for id in &cluster.groups {
        let group = stats.group.models.iter().find(|group| group.id == *id);
        let state_of = |pod: &str| -> ServerState {
            let (Some(group), Some(addr)) = (group, cluster.server_addr(pod)) else {
                return ServerState::Unknown;
            };
            let index = group.servers.iter().position(|server| server.server == addr);
            index.map_or(ServerState::Unknown, |i| {
                ServerState::of(group, i, stats.group.stats.get(addr.as_str()))
            })
        };
        let servers: Vec<ServerStatus> = cluster
            .server_pods(*id)
            .map(|pod| {
                let state = state_of(&pod);
                ready += i32::from(state.is_whole());
                ServerStatus {
                    node: pods
                        .servers
                        .get(&pod)
                        .and_then(|pod| pod.spec.as_ref()?.node_name.clone()),
                    role: match state {
                        ServerState::Primary => ServerRole::Primary,
                        ServerState::InSync | ServerState::Syncing => ServerRole::Replica,
                        ServerState::Unknown | ServerState::Unassigned => ServerRole::None,
                    },
                    in_sync: state.is_whole(),
                    pod,
                }
            })
            .collect();
        status.groups.push(GroupStatus {
            id: id.get().into(),
            slots: stats
                .slots
                .iter()
                .filter(|slot| slot.group_id == i64::from(*id))
                .count() as i32,
            primary: group.and_then(|g| g.primary()?.server.pod().map(str::to_owned)),
            last_failover: None,
            last_data_loss: None,
            servers,
        });
    }
    status.servers.ready = ready;
    status.servers.groups = stats.group.models.len() as i32;
}

fn judge(status: &CodisClusterStatus, topology: &Topology, rollouts: &Rollouts, notices: &[Notice]) -> [Verdict; 4] {
    let mut problems: Vec<(&'static str, String)> = match &topology.stats {
        Err(cause) if status.bootstrapped => vec![("DashboardUnavailable", format!("no dashboard is active: {cause}"))],
        _ => topology
            .plan
            .problems
            .iter()
            .map(|problem| (problem.reason.as_str(), problem.message.clone()))
            .collect(),
    };
    problems.extend(
        notices
            .iter()
            .map(|notice| (notice.reason.as_str(), notice.message.clone())),
    );
    let waiting = waiting(status, topology, rollouts);
    let join = |texts: Vec<String>| shorten(texts.join("; "));
    let problem_text = join(problems.iter().map(|(_, message)| message.clone()).collect());
    let problem_reason = problems.first().map_or("AsExpected", |(reason, _)| reason);
    let waiting_text = join(waiting.clone());
    let all_slots = status.slots as usize == SLOT_COUNT;
    let whole = problems.is_empty() && waiting.is_empty() && topology.plan.steps.is_empty() && all_slots;
    let (ready_reason, ready_message) = match (whole, problems.is_empty()) {
        (true, _) => (
            "AllServed",
            "every slot is served and everything is as the spec says".to_owned(),
        ),
        (false, false) => (problem_reason, problem_text.clone()),
        (false, true) => ("Waiting", waiting_text.clone()),
    };
    let progressing = !waiting.is_empty() || !topology.plan.steps.is_empty();
    let progress = match (progressing, is_rolling(status)) {
        (true, true) => "RollingOut",
        (true, false) => "Working",
        (false, _) => "Done",
    };
    [
        Verdict {
            type_: ConditionType::Ready,
            holds: whole,
            reason: ready_reason,
            message: ready_message,
        },
        Verdict {
            type_: ConditionType::Progressing,
            holds: progressing,
            reason: progress,
            message: if progressing {
                waiting_text
            } else {
                "nothing is under way".to_owned()
            },
        },
        Verdict {
            type_: ConditionType::Degraded,
            holds: !problems.is_empty(),
            reason: problem_reason,
            message: if problems.is_empty() {
                "nothing is missing or broken".to_owned()
            } else {
                problem_text
            },
        },
        Verdict {
            type_: ConditionType::SlotsAssigned,
            holds: all_slots,
            reason: if all_slots { "AllAssigned" } else { "NotAssigned" },
            message: format!("{} of {SLOT_COUNT} slots have a group", status.slots),
        },
    ]
}

/// Whether servers are to be replaced because a person changed what they are made with.
fn is_rolling(status: &CodisClusterStatus) -> bool {
    status.servers.updated < status.servers.total && status.bootstrapped
}

fn waiting(status: &CodisClusterStatus, topology: &Topology, rollouts: &Rollouts) -> Vec<String> {
    let mut waiting = topology.plan.waiting.clone();
    if let (Err(cause), false) = (&topology.stats, status.bootstrapped) {
        waiting.push(format!("waiting for an active dashboard: {cause}"));
    }
    waiting.extend(topology.failed.iter().map(|(step, error)| {
        let cause = error.cause().map_or_else(|| error.to_string(), str::to_owned);
        match step {
            Step::CreateGroup(group) => format!("group {group} can't be created yet: {cause}"),
            Step::AddServer(_, server) => format!("{server} can't be added yet: {cause}"),
            Step::GiveRole(_, server) | Step::AskAgain(_, server) => {
                format!("{server} can't be given its role yet: {cause}")
            }
            Step::AssignSlots(_) => format!("slots can't be assigned yet: {cause}"),
            Step::BringProxyOnline(pod, _) => format!("proxy {pod} can't be brought online yet: {cause}"),
            Step::ForgetProxy(pod, _) => format!("proxy {pod} can't be forgotten yet: {cause}"),
        }
    }));
    if is_rolling(status) {
        waiting.push(format!(
            "{} of {} servers are made with what the spec says now; the others are replaced one after the other",
            status.servers.updated, status.servers.total
        ));
    }
    if status.proxies.ready != status.proxies.total {
        waiting.push(format!(
            "{} of {} proxies are ready",
            status.proxies.ready, status.proxies.total
        ));
    } else if !rollouts.proxies.done {
        waiting.push("proxies are being replaced".to_owned());
    }
    if !rollouts.dashboards.done && topology.stats.is_ok() {
        waiting.push(format!(
            "{} dashboards are ready, not all that should be, or some are being replaced",
            rollouts.dashboards.ready
        ));
    }
    waiting
}

/// Kubernetes takes 32,768 bytes; people take less.
fn shorten(text: String) -> String {
    const LONGEST: usize = 1500;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn phase(status: &CodisClusterStatus, verdicts: &[Verdict]) -> Phase {
    let holds = |type_| verdicts.iter().any(|verdict| verdict.type_ == type_ && verdict.holds);
    if holds(ConditionType::Degraded) {
        Phase::Degraded
    } else if !status.bootstrapped {
        Phase::Creating
    } else if holds(ConditionType::Ready) {
        Phase::Ready
    } else {
        Phase::Progressing
    }
}

/// The new conditions: those judged now, and those of before that nobody spoke of. A condition keeps its time while its
/// status stays.
fn conditions(previous: &[Condition], verdicts: &[Verdict], generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let spoken = |type_: &str| verdicts.iter().any(|verdict| verdict.type_.as_str() == type_);
    let judged = verdicts.iter().map(|verdict| {
        let type_ = verdict.type_.as_str();
        let status = if verdict.holds { "True" } else { "False" };
        let before = previous
            .iter()
            .find(|condition| condition.type_ == type_ && condition.status == status);
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: verdict.reason.to_owned(),
            message: verdict.message.clone(),
            observed_generation: generation,
            last_transition_time: before.map_or(Time(now), |before| before.last_transition_time.clone()),
        }
    });
    let kept = previous.iter().filter(|condition| !spoken(&condition.type_)).cloned();
    judged.chain(kept).collect()
}

/// Writes a status, unless it says what stands there already.
pub(super) async fn write(client: &Client, object: &CodisCluster, status: CodisClusterStatus) -> Result<bool, Error> {
    if object.status.as_ref() == Some(&status) {
        return Ok(false);
    }
    let name = object.name_any();
    let api: Api<CodisCluster> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let patch = serde_json::json!({
        "apiVersion": CodisCluster::api_version(&()),
        "kind": CodisCluster::kind(&()),
        "status": status,
    });
    api.patch_status(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&patch))
        .await
        .map_err(Error::kube(format!("writing the status of CodisCluster {name}")))?;
    Ok(true)
}

/// Says that a cluster is on its way out. That it is gone already is fine.
pub(super) async fn write_deleting(client: &Client, object: &CodisCluster) -> Result<(), Error> {
    let Some(status) = &object.status else { return Ok(()) };
    let deleting = CodisClusterStatus {
        phase: Some(Phase::Deleting),
        ..status.clone()
    };
    match write(client, object, deleting).await {
        Err(Error::Kube { source, .. }) if matches!(&*source, kube::Error::Api(status) if status.code == 404) => Ok(()),
        other => other.map(drop),
    }
}

/// Says of an object that can't even be read what is wrong with it.
pub(super) async fn write_unreadable(
    client: &Client,
    namespace: &str,
    name: &str,
    message: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let api: Api<kube::api::DynamicObject> = Api::namespaced_with(
        client.clone(),
        namespace,
        &kube::api::ApiResource::erase::<CodisCluster>(&()),
    );
    let current = api
        .get(name)
        .await
        .map_err(Error::kube(format!("reading CodisCluster {name}")))?;
    let before: Vec<Condition> =
        serde_json::from_value(current.data["status"]["conditions"].clone()).unwrap_or_default();
    let verdicts = [Verdict {
        type_: ConditionType::Ready,
        holds: false,
        reason: "UnreadableSpec",
        message: shorten(message.to_owned()),
    }];
    let after = conditions(&before, &verdicts, current.metadata.generation, now);
    if after == before {
        return Ok(());
    }
    let patch = serde_json::json!({
        "apiVersion": CodisCluster::api_version(&()),
        "kind": CodisCluster::kind(&()),
        "status": {"phase": Phase::Invalid, "conditions": after},
    });
    // A merge, not an apply: what was known of the cluster's parts stays.
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map_err(Error::kube(format!("writing the status of CodisCluster {name}")))
        .map(drop)
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
