//! Servers that were made with what the spec said before are replaced: one at a time in the whole cluster, replicas first,
//! each in sync before the next; then the primary hands over and is replaced as well.

use std::time::Duration;

use super::group;
use super::history::{History, Subject};
use super::policy::{Policy, Turn};
use super::primary::{self, Primary};
use super::sight::{Action, Decision, GroupSight, Notice, NoticeReason, Order, PodSight, Round, ServerSight};

/// Decides for all groups, after everything else was decided.
pub(super) fn decide(round: &Round, policy: &Policy, history: &History, decision: &mut Decision) {
    let all = || {
        round
            .groups
            .iter()
            .flat_map(|group| group.servers.iter().map(move |server| (group, server)))
    };
    if round.turn == Turn::Standby || !all().any(|(_, server)| server.outdated) {
        return;
    }
    for group in &round.groups {
        replace_broken(group, round, policy, history, decision);
    }
    if let Some((group, server)) = all().find(|(group, server)| !server.outdated && !is_whole(group, server)) {
        tell_of_stop(group, server, round, policy, history, decision);
        return;
    }
    let Some(group) = round
        .groups
        .iter()
        .find(|group| group.servers.iter().any(|s| s.outdated))
    else {
        return;
    };
    if !group::is_free(group, round, history, decision) || !leads(group, policy, history) {
        return;
    }
    if let Some(server) = group.servers.iter().find(|server| !is_whole(group, server)) {
        tell_of_stop(group, server, round, policy, history, decision);
        return;
    }
    roll(group, round, history, decision);
}

/// Takes the next step in a group that is whole.
fn roll(group: &GroupSight, round: &Round, history: &History, decision: &mut Decision) {
    let id = group.record.id;
    let Some((primary, replicas)) = group.servers.split_first() else {
        return;
    };
    if let Some(replica) = replicas.iter().rev().find(|replica| replica.outdated) {
        decision.orders.extend(replace(group, replica, "the spec was changed"));
        return;
    }
    if let Some(next) = group::best(group, replicas.iter()) {
        if !history.is_free(&Subject::HandOver(id), round.at) {
            return;
        }
        decision.orders.push(Order {
            action: Action::HandOver {
                group: id,
                from: primary.server.clone(),
                to: next.server.clone(),
                epoch: group.epoch,
            },
            reason: format!("{} is to be replaced, because the spec was changed", primary.server),
            after: Duration::ZERO,
        });
    } else if group.persistent || group.accepted_loss.as_ref() == Some(&primary.server) {
        decision.orders.extend(replace(
            group,
            primary,
            "the spec was changed, and its group has no other server",
        ));
    } else {
        let pod = primary.server.pod().unwrap_or_default();
        let message = format!(
            "group {id}: {} is to be replaced, because the spec was changed, and has the only copy of its data, in memory; it is \
             left as it is: take the data elsewhere, or accept its loss: kubectl annotate codis … \
             codis.dev/accept-data-loss=g{id}={pod}",
            primary.server
        );
        decision.notices.push(Notice {
            reason: NoticeReason::RolloutStopped,
            message,
        });
    }
}

/// A server that is outdated and does not work either is replaced at once: what was changed may be the remedy.
fn replace_broken(group: &GroupSight, round: &Round, policy: &Policy, history: &History, decision: &mut Decision) {
    if !group::is_free(group, round, history, decision) {
        return;
    }
    // Another one on its way is the one disruption that a group may have.
    if group.servers.iter().any(|server| server.pod == PodSight::Leaving) {
        return;
    }
    let down = history
        .down_since(group.record.id)
        .map(|since| round.at.saturating_sub(since));
    let broken = |index: usize, server: &ServerSight| match &server.pod {
        // Nothing ran in it yet.
        PodSight::Pending => true,
        // What was in its memory is gone; but its primary may be on its way back, or about to be replaced.
        PodSight::Ended => index > 0 || down.is_some_and(|down| down >= policy.restart_after),
        PodSight::Running(_) => {
            index > 0 && !is_whole(group, server) && !is_copying(server) && leads(group, policy, history)
        }
        PodSight::Absent | PodSight::Leaving => false,
    };
    let mut servers = group.servers.iter().enumerate().filter(|(_, server)| server.outdated);
    if let Some((_, server)) = servers.find(|(index, server)| broken(*index, server)) {
        decision.orders.extend(replace(
            group,
            server,
            "the spec was changed, and it does not work as it is",
        ));
    }
}

fn replace(group: &GroupSight, server: &ServerSight, why: &str) -> Option<Order> {
    Some(Order {
        action: Action::ReplaceServer {
            group: group.record.id,
            server: server.server.clone(),
            uid: server.uid.clone()?,
            epoch: group.epoch,
        },
        reason: format!("{}: {why}", server.server),
        after: Duration::ZERO,
    })
}

/// A rollout goes on only while everything that was replaced is well.
fn tell_of_stop(
    group: &GroupSight,
    server: &ServerSight,
    round: &Round,
    policy: &Policy,
    history: &History,
    decision: &mut Decision,
) {
    let since = history.unsoundness(&server.server).unwrap_or(round.at);
    let after = round.at.saturating_sub(since);
    if after < policy.restart_after || is_copying(server) {
        return;
    }
    let what = if server.outdated {
        ""
    } else {
        ", which has what the spec says now,"
    };
    let trouble = if server.trouble.is_empty() {
        String::new()
    } else {
        format!(" ({})", server.trouble)
    };
    let message = format!(
        "group {}: {}{what} has not been in sync for more than {:?}{trouble}: no further server is replaced; correct spec.servers, or \
         put it back as it was",
        group.record.id, server.server, policy.restart_after
    );
    decision.notices.push(Notice {
        reason: NoticeReason::RolloutStopped,
        message,
    });
}

fn leads(group: &GroupSight, policy: &Policy, history: &History) -> bool {
    primary::judge(group, history, policy.failure_threshold) == Primary::Leads
}

/// Whether a server runs, holds its role, and, as a replica, its group's data.
pub(super) fn is_whole(group: &GroupSight, server: &ServerSight) -> bool {
    let Some(info) = server.info() else { return false };
    let leads = group
        .record
        .primary()
        .is_some_and(|primary| primary.server == server.server);
    let holds = if leads {
        info.is_primary()
    } else {
        !info.is_primary() && info.is_linked() && group.record.in_sync.contains(&server.server)
    };
    holds && !info.is_loading() && matches!(server.pod, PodSight::Running(_))
}

/// Whether a server copies or loads what it is to hold.
pub(super) fn is_copying(server: &ServerSight) -> bool {
    server.info().is_some_and(|info| info.is_loading() || info.is_copying())
}
