//! Servers whose process runs and is of no use are started anew.

use std::time::Duration;

use super::group;
use super::history::History;
use super::policy::{Policy, Turn};
use super::primary::{self, Primary};
use super::sight::{Action, Decision, GroupSight, Order, PodSight, Round, ServerSight};

/// Has one server of a group started anew, while the rest of it is whole: it must not be the last copy of anything.
pub(super) fn decide(group: &GroupSight, round: &Round, policy: &Policy, history: &History, decision: &mut Decision) {
    if round.turn == Turn::Standby || !group::is_free(group, round, history, decision) {
        return;
    }
    if primary::judge(group, history, policy.failure_threshold) != Primary::Leads {
        return;
    }
    // Whoever starts anew, or is about to, is the one disruption that a group may have.
    let disturbed = group
        .servers
        .iter()
        .any(|server| matches!(server.pod, PodSight::Pending | PodSight::Leaving | PodSight::Ended));
    if disturbed {
        return;
    }
    for server in group.servers.iter().skip(1).filter(|server| !server.node.is_lost()) {
        let PodSight::Running(uid) = &server.pod else { continue };
        let Some(spell) = history.uselessness(&server.server) else {
            continue;
        };
        let after = round.at.saturating_sub(spell.since);
        if after >= patience(server, policy, history) {
            let reason = match server.info() {
                Some(_) => format!("{} runs and does not follow its primary", server.server),
                None => format!("{} runs and does not answer", server.server),
            };
            decision.orders.push(restart(group, server, uid, reason, after));
            return;
        }
    }
}

/// How long a server may be of no use before it is started anew. A restart that did not help is not repeated without pause:
/// something else has to happen first.
pub(super) fn patience(server: &ServerSight, policy: &Policy, history: &History) -> Duration {
    let restarts = history.restarts(&server.server).min(6);
    policy.restart_after.saturating_mul(1 << restarts)
}

/// Has this pod of a server, which was of no use for so long, started anew.
pub(super) fn restart(group: &GroupSight, server: &ServerSight, uid: &str, reason: String, after: Duration) -> Order {
    Order {
        action: Action::RestartServer {
            group: group.record.id,
            server: server.server.clone(),
            uid: uid.to_owned(),
            epoch: group.epoch,
        },
        reason,
        after,
    }
}
