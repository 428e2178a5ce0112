//! Pods on nodes that are lost: nobody there confirms that they ended, so that Kubernetes makes none in their place. And servers
//! that can start nowhere, because their volume is gone with its node.

use std::time::Duration;

use super::group;
use super::history::{History, Subject};
use super::policy::{Policy, Turn};
use super::primary::{self, Primary};
use super::sight::{
    Action, Decision, GroupSight, NodeSight, Notice, NoticeReason, Order, PodSight, Probe, Round, ServerSight,
};

/// Has pods without data deleted at once that nobody hears of, and whose node is lost: others can take their place anywhere. What
/// still runs there loses nothing and does no harm: a dashboard has its lease, a proxy is shut off by whoever drops it.
pub(super) fn stateless(round: &Round, policy: &Policy, history: &History, decision: &mut Decision) {
    if round.turn == Turn::Standby {
        return;
    }
    for pod in &round.stateless {
        let Some(spell) = history.unheard(&pod.uid) else {
            continue;
        };
        let free = history.is_free(&Subject::Pod(pod.uid.clone()), round.at);
        if spell.rounds >= policy.failure_threshold && free {
            decision.orders.push(Order {
                action: Action::ForceDeletePod {
                    pod: pod.pod.clone(),
                    uid: pod.uid.clone(),
                },
                reason: format!("{} does not answer, and its node {}", pod.pod, fate(pod.node)),
                after: round.at.saturating_sub(spell.since),
            });
        }
    }
}

/// Decides for the servers of one group, after everything else was: one at a time.
pub(super) fn servers(group: &GroupSight, round: &Round, policy: &Policy, history: &History, decision: &mut Decision) {
    if round.turn == Turn::Standby || !group::is_free(group, round, history, decision) {
        return;
    }
    let led = primary::judge(group, history, policy.failure_threshold) == Primary::Leads;
    for (place, server) in group.servers.iter().enumerate() {
        // Somebody else leads, so that nobody waits for what it has.
        let spare = led && place > 0;
        let before = decision.orders.len();
        release(group, server, spare, round, policy, history, decision);
        give_up_volume(group, server, spare, decision);
        if decision.orders.len() > before {
            return;
        }
    }
}

/// A server whose node is certainly gone is deleted, whatever its role: nothing of it is left there. One whose node is only lost
/// may still run, and is deleted when a person said after which time, and another one leads.
fn release(
    group: &GroupSight,
    server: &ServerSight,
    spare: bool,
    round: &Round,
    policy: &Policy,
    history: &History,
    decision: &mut Decision,
) {
    let Some(spell) = history
        .lost(&server.server)
        .filter(|_| is_unheard(server, policy, history))
    else {
        return;
    };
    let Some(uid) = server.uid.clone() else { return };
    let (id, after) = (group.record.id, round.at.saturating_sub(spell.since));
    let long = policy.force_delete_after.is_some_and(|most| after >= most);
    if server.node == NodeSight::Gone || (long && spare) {
        decision.orders.push(Order {
            action: Action::ForceDeleteServer {
                group: id,
                server: server.server.clone(),
                uid,
                epoch: group.epoch,
            },
            reason: format!("{} does not answer, and its node {}", server.server, fate(server.node)),
            after,
        });
    } else if after >= policy.restart_after {
        let message = format!(
            "group {id}: the node of {} has been lost for longer than {:?}; the server may still run there: no other pod takes its \
             place until the node is back, is deleted, or is declared gone (kubectl taint nodes NODE \
             node.kubernetes.io/out-of-service=nodeshutdown:NoExecute), or spec.ha.forceDeleteAfter has passed and another server \
             leads",
            server.server, policy.restart_after
        );
        let reason = NoticeReason::NodeLost;
        decision.notices.push(Notice { reason, message });
    }
}

/// A server whose volume is gone with its node begins anew with another one, if another server has the data.
fn give_up_volume(group: &GroupSight, server: &ServerSight, spare: bool, decision: &mut Decision) {
    if !server.volume_lost || server.pod != PodSight::Pending {
        return;
    }
    let (id, name) = (group.record.id, &server.server);
    let Some(uid) = server.uid.clone().filter(|_| spare) else {
        let message = format!(
            "group {id}: {name} can start nowhere: its volume is on a node that no longer exists, and no other server leads the \
             group; bring the node back, accept that the data of another server counts (annotation codis.dev/accept-data-loss), or \
             delete the claim and the pod of {name} to begin without its data"
        );
        let reason = NoticeReason::VolumeLost;
        decision.notices.push(Notice { reason, message });
        return;
    };
    decision.orders.push(Order {
        action: Action::GiveUpVolume {
            group: id,
            server: name.clone(),
            uid,
            epoch: group.epoch,
        },
        reason: format!("the volume of {name} is on a node that no longer exists"),
        after: Duration::ZERO,
    });
}

/// Whether neither operator nor dashboard hears of a server.
fn is_unheard(server: &ServerSight, policy: &Policy, history: &History) -> bool {
    let silent = history.silence(&server.server);
    let long = silent.is_some_and(|spell| spell.rounds >= policy.failure_threshold);
    (long || server.probe == Probe::Refused) && server.polled != Some(true)
}

fn fate(node: NodeSight) -> &'static str {
    match node {
        NodeSight::Gone => "is gone",
        NodeSight::Lost | NodeSight::Well => "is lost",
    }
}
