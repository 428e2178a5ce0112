//! Replicas whose pods are about to end: their primary goes on without them.

use std::time::Duration;

use super::history::{History, Subject};
use super::policy::{Policy, Turn};
use super::primary::{self, Primary};
use super::sight::{Action, Decision, GroupSight, Order, PodSight, Round};

/// Has the dashboard told of each replica that leaves, once. Where nobody leads, or the primary leaves too, the copy may be
/// needed yet.
pub(super) fn decide(group: &GroupSight, round: &Round, policy: &Policy, history: &History, decision: &mut Decision) {
    let asked = decision
        .orders
        .iter()
        .any(|order| order.action.group() == Some(group.record.id));
    let ends = group
        .servers
        .first()
        .is_none_or(|primary| primary.pod == PodSight::Leaving);
    if round.turn == Turn::Standby
        || asked
        || ends
        || primary::judge(group, history, policy.failure_threshold) != Primary::Leads
    {
        return;
    }
    let leaves = group
        .servers
        .iter()
        .skip(1)
        .filter(|server| server.pod == PodSight::Leaving);
    for server in leaves {
        let Some(uid) = &server.uid else { continue };
        let follows = server.info().is_some_and(|info| !info.is_primary());
        let free = history.is_free(&Subject::Copy(server.server.clone()), round.at);
        if follows && free && !history.is_aside(&server.server, uid) {
            decision.orders.push(Order {
                action: Action::SetAside {
                    group: group.record.id,
                    server: server.server.clone(),
                    uid: uid.clone(),
                    epoch: group.epoch,
                },
                reason: format!("the pod of {} is about to end", server.server),
                after: Duration::ZERO,
            });
        }
    }
}
