//! From what a cluster should be and what its dashboard says it is: the next steps.
//!
//! Bring-up: groups, the primary of each group first, replicas, a role for each server, and when all hold theirs, all
//! slots in one call. Afterwards: servers that were restarted get their role anew, proxies that are gone are forgotten.

use std::collections::{BTreeMap, BTreeSet};

use super::server_state::ServerState;
use super::slots::even_owner;
use crate::model::{ActionState, Group, GroupId, HostPort, ProxyToken, RedisStats, SLOT_COUNT, SlotMapping, Stats};

/// What a cluster should be.
#[derive(Debug, Clone)]
pub struct Desired {
    /// Its groups, ascending.
    pub groups: Vec<DesiredGroup>,
    /// What the host names of its proxies begin with. Proxies with other names are somebody else's and left alone.
    pub proxy_prefix: String,
}

/// A group as it should be.
#[derive(Debug, Clone)]
pub struct DesiredGroup {
    /// Its number.
    pub id: GroupId,
    /// Its servers; the first one leads at the beginning.
    pub servers: Vec<HostPort>,
}

/// What is.
#[derive(Debug, Clone)]
pub struct Observed<'a> {
    /// What the active dashboard says.
    pub stats: &'a Stats,
    /// Whether the slots were assigned once.
    pub bootstrapped: bool,
    /// Servers whose container runs.
    pub running: BTreeSet<HostPort>,
    /// Servers whose pod is about to end because somebody asked for it, or was made anew a moment ago.
    pub renewed: BTreeSet<HostPort>,
    /// Pods of proxies that exist.
    pub proxies: Vec<ProxyPod>,
}

/// A proxy's pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyPod {
    /// Its name, which is the proxy's host name.
    pub name: String,
    /// Where its admin API is, `ip:port`, once it has an IP.
    pub admin_addr: Option<String>,
    /// Whether its container runs and is not about to end.
    pub running: bool,
}

/// Something to ask the dashboard for. Every step is harmless when repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Create this group.
    CreateGroup(GroupId),
    /// Append this server to this group.
    AddServer(GroupId, HostPort),
    /// Give this server of this group the role that its place says.
    GiveRole(GroupId, HostPort),
    /// The same once more, of a server that was refused it: what spoke against it may be over.
    AskAgain(GroupId, HostPort),
    /// Assign these slots.
    AssignSlots(Vec<SlotMapping>),
    /// Register the proxy of this pod, at this admin address.
    BringProxyOnline(String, String),
    /// Forget this proxy, whose pod (named here) is gone.
    ForgetProxy(String, ProxyToken),
}

/// Something that is wrong and that no step mends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// In one word, for conditions and Events.
    pub reason: ProblemReason,
    /// For people: what is wrong, and the remedy.
    pub message: String,
}

/// In one word, what is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemReason {
    /// The slot map is gone although the cluster has data.
    StoreLost,
    /// A server was refused the role that its place says, because it would cost data.
    RoleRefused,
    /// A server that had its role can't be reached.
    ServerLost,
}

impl ProblemReason {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StoreLost => "StoreLost",
            Self::RoleRefused => "RoleRefused",
            Self::ServerLost => "ServerLost",
        }
    }
}

/// What to do next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to ask for, in this order.
    pub steps: Vec<Step>,
    /// What is being waited for, for people.
    pub waiting: Vec<String>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// The next steps from `observed` towards `desired`.
pub fn plan_topology(desired: &Desired, observed: &Observed<'_>) -> Plan {
    let mut plan = Plan::default();
    let owned = observed.stats.slots.iter().filter(|slot| slot.group_id != 0).count();
    if observed.bootstrapped && owned < SLOT_COUNT {
        // An empty store never means an empty cluster: assigning afresh would hide the data that the servers hold.
        plan.problems.push(Problem {
            reason: ProblemReason::StoreLost,
            message: format!(
                "the coordinator knows the owners of only {owned} of {SLOT_COUNT} slots although all were assigned before; \
                 nothing is assigned afresh: restore the coordinator's data from a backup"
            ),
        });
        return plan;
    }
    if owned == 0
        && let Some(holder) = first_with_keys(observed.stats)
    {
        plan.problems.push(Problem {
            reason: ProblemReason::StoreLost,
            message: format!(
                "the coordinator knows no owner of any slot and {holder} holds keys: these servers have served before; \
                 nothing is assigned afresh: restore the coordinator's data from a backup, or restart the servers empty"
            ),
        });
        return plan;
    }
    let groups: BTreeMap<GroupId, &Group> = observed
        .stats
        .group
        .models
        .iter()
        .map(|group| (group.id, group))
        .collect();
    let mut whole = true;
    for wanted in &desired.groups {
        whole &= plan_group(wanted, groups.get(&wanted.id).copied(), observed, &mut plan);
    }
    plan_proxies(desired, observed, &mut plan);
    if owned < SLOT_COUNT && whole {
        let ids: Vec<GroupId> = desired.groups.iter().map(|group| group.id).collect();
        let offline = observed.stats.slots.iter().filter(|slot| slot.group_id == 0);
        let assigned = offline
            .filter_map(|slot| {
                even_owner(slot.id, &ids).map(|id| SlotMapping {
                    group_id: id.into(),
                    ..*slot
                })
            })
            .collect();
        plan.steps.push(Step::AssignSlots(assigned));
    }
    plan
}

/// Plans for one group; says whether all of its servers that run hold their roles.
fn plan_group(wanted: &DesiredGroup, group: Option<&Group>, observed: &Observed<'_>, plan: &mut Plan) -> bool {
    let id = wanted.id;
    if group.is_none() {
        plan.steps.push(Step::CreateGroup(id));
    }
    let known = |server: &HostPort| group.and_then(|group| group.servers.iter().position(|s| s.server == *server));
    let mut has_primary = group.is_some_and(|group| !group.servers.is_empty());
    let mut whole = true;
    for server in &wanted.servers {
        let running = observed.running.contains(server);
        match (group, known(server)) {
            (Some(group), Some(index)) => whole &= plan_known_server(group, index, running, observed, plan),
            _ if running && (has_primary || wanted.servers.first() == Some(server)) => {
                // Its role follows when it was polled once: what it holds decides.
                plan.steps.push(Step::AddServer(id, server.clone()));
                has_primary = true;
                whole = false;
            }
            _ => {
                plan.waiting
                    .push(format!("group {id}: waiting for the container of {server} to run"));
                // A replica without a node must not keep the cluster from serving; a primary must be there.
                whole &= has_primary;
            }
        }
    }
    whole && has_primary
}

fn plan_known_server(group: &Group, index: usize, running: bool, observed: &Observed<'_>, plan: &mut Plan) -> bool {
    let Some(server) = group.servers.get(index) else {
        return false;
    };
    let (id, addr) = (group.id, &server.server);
    let stats = observed.stats.group.stats.get(addr.as_str());
    let state = ServerState::of(group, index, stats);
    let was_admitted = server.admitted_run_id.is_some();
    match state {
        ServerState::Primary | ServerState::InSync => return true,
        ServerState::Syncing => plan
            .waiting
            .push(format!("group {id}: {addr} is copying from its primary")),
        // Not polled yet, as after a change of the active dashboard.
        ServerState::Unknown if stats.is_none() => plan.waiting.push(format!("group {id}: {addr} was not polled yet")),
        // Its group goes on without it meanwhile; one that leads would be missed.
        ServerState::Unknown if was_admitted && index > 0 && observed.renewed.contains(addr) => {
            plan.waiting.push(format!("group {id}: {addr} is being replaced"));
        }
        ServerState::Unknown if was_admitted => plan.problems.push(Problem {
            reason: ProblemReason::ServerLost,
            message: format!("group {id}: {addr} can't be reached{}", why(stats)),
        }),
        ServerState::Unknown => plan.waiting.push(format!(
            "group {id}: waiting for the first answer of {addr}{}",
            why(stats)
        )),
        ServerState::Unassigned => {
            let said = stats
                .and_then(|stats| stats.stats.get("admission"))
                .map_or("", String::as_str);
            match server.action.state {
                ActionState::Pending | ActionState::Syncing => {
                    let colon = if said.is_empty() { "" } else { ": " };
                    plan.waiting
                        .push(format!("group {id}: {addr} is being given its role{colon}{said}"));
                }
                ActionState::SyncedFailed => {
                    plan.problems.push(Problem {
                        reason: ProblemReason::RoleRefused,
                        message: format!("group {id}: {addr} is not given its role: {said}"),
                    });
                    plan.steps.push(Step::AskAgain(id, addr.clone()));
                }
                ActionState::Nothing | ActionState::Synced => plan.steps.push(Step::GiveRole(id, addr.clone())),
            }
        }
    }
    // What can't run yet (no node for it) does not hold the others up, unless it leads.
    !running && index != 0
}

/// A server that holds keys, if any was found to.
fn first_with_keys(stats: &Stats) -> Option<&str> {
    let is_database = |field: &str| {
        field
            .strip_prefix("db")
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let holds = |polled: &RedisStats| polled.stats.keys().any(|field| is_database(field));
    stats
        .group
        .stats
        .iter()
        .find(|(_, polled)| holds(polled))
        .map(|(addr, _)| addr.as_str())
}

fn why(stats: Option<&RedisStats>) -> String {
    match stats {
        Some(RedisStats { error: Some(error), .. }) => format!(": {error}"),
        Some(RedisStats { timeout: true, .. }) => ": no answer within the time-out".to_owned(),
        _ => String::new(),
    }
}

fn plan_proxies(desired: &Desired, observed: &Observed<'_>, plan: &mut Plan) {
    let records = &observed.stats.proxy.models;
    for record in records
        .iter()
        .filter(|record| record.hostname.starts_with(&desired.proxy_prefix))
    {
        // A pod without an address may be the very one, seen before it got it.
        let is_it = |pod: &ProxyPod| match &pod.admin_addr {
            Some(addr) => *addr == record.admin_addr,
            None => true,
        };
        let alive = observed
            .proxies
            .iter()
            .any(|pod| pod.name == record.hostname && is_it(pod));
        if !alive {
            plan.steps
                .push(Step::ForgetProxy(record.hostname.clone(), record.token.clone()));
        }
    }
    for pod in observed.proxies.iter().filter(|pod| pod.running) {
        let Some(admin_addr) = &pod.admin_addr else { continue };
        let registered = records
            .iter()
            .any(|r| r.admin_addr == *admin_addr && r.hostname == pod.name);
        if !registered {
            plan.steps
                .push(Step::BringProxyOnline(pod.name.clone(), admin_addr.clone()));
        }
    }
}

#[cfg(test)]
#[path = "topology_tests.rs"]
mod tests;
