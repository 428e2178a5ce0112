//! Who is to lead a group.

use std::time::Duration;

use super::alone;
use super::history::{History, Subject};
use super::policy::{Mode, Policy, Turn};
use super::primary::{self, Primary};
use super::sight::{
    Action, Decision, GroupSight, Mark, Notice, NoticeReason, Order, PodSight, Probe, Round, ServerSight,
};
use crate::model::Info;

/// How long nobody may lead a group before that is told, whatever is waited for.
const LONG: Duration = Duration::from_secs(10);

/// Decides for one group.
pub(super) fn decide(group: &GroupSight, round: &Round, policy: &Policy, history: &History, decision: &mut Decision) {
    let id = group.record.id;
    for why in Subject::all_of(id)
        .iter()
        .filter_map(|subject| history.failure(subject))
    {
        notice(decision, NoticeReason::NotDone, format!("group {id}: {why}"));
    }
    tell_of_disks(group, history, decision);
    // The dashboard goes on with it by itself.
    if group.servers.is_empty() || !group.record.promoting.state.is_nothing() {
        return;
    }
    let primary = primary::judge(group, history, policy.failure_threshold);
    let subject = match primary {
        Primary::Leads => Subject::HandOver(id),
        _ => Subject::Promotion(id),
    };
    if !history.is_free(&subject, round.at) {
        return;
    }
    match primary {
        Primary::Leads => {
            clear_marks(group, round, history, decision);
            plan_hand_over(group, round, decision);
        }
        Primary::Unclear(what) => {
            let since = history.down_since(id).unwrap_or(round.at);
            if group.record.bootstrapped && round.at.saturating_sub(since) >= LONG {
                notice(decision, NoticeReason::OneWitness, format!("group {id}: {what}"));
            }
        }
        Primary::OneWitness(what) => notice(decision, NoticeReason::OneWitness, format!("group {id}: {what}")),
        Primary::Gone(why) => replace(group, &why, round, policy, history, decision),
    }
}

fn notice(decision: &mut Decision, reason: NoticeReason, message: String) {
    decision.notices.push(Notice { reason, message });
}

/// A primary is gone.
fn replace(group: &GroupSight, why: &str, round: &Round, policy: &Policy, history: &History, decision: &mut Decision) {
    let (id, from) = (group.record.id, &group.servers[0].server);
    // What nobody ever wrote to needs no successor: whoever is restarted is given its role again.
    if !group.record.bootstrapped {
        return;
    }
    let since = history.down_since(id).unwrap_or(round.at);
    let down = round.at.saturating_sub(since);
    // One that is silent takes the leader some rounds to be certain of.
    let leaders_turn = match group.servers[0].probe {
        Probe::Silent(_) | Probe::Nowhere => Policy::STANDBY_LAG + policy.silence,
        _ => Policy::STANDBY_LAG,
    };
    if round.turn == Turn::Standby && down < leaders_turn {
        return;
    }
    let wait = cooldown(policy, history, group, round.at);
    if wait > Duration::ZERO {
        let message = format!(
            "group {id}: {why}; its primary was replaced {} times in the last {} minutes: the next time waits longer (ha.cooldown)",
            history.failovers(id).len(),
            Policy::FLAPPING.as_secs() / 60,
        );
        return notice(decision, NoticeReason::Flapping, message);
    }
    let primary = &group.servers[0];
    let promote = |to: &ServerSight, force: bool, reason: String| Order {
        action: Action::Promote {
            group: id,
            from: from.clone(),
            to: to.server.clone(),
            epoch: group.epoch,
            force,
            behind: to.info().and_then(|info| history.copies().behind(id, info)),
        },
        reason,
        after: down,
    };
    if let Some(next) = freshest_in_sync(group) {
        if !one_in_sync_may_wake(group, policy, history) && !alone::is_due(group, round, policy, history) {
            let reason = format!("{why}; {} holds its data", next.server);
            decision.orders.push(promote(next, false, reason));
        }
        return;
    }
    // It may yet come back with its data, or be given its role again because nobody has more.
    let accepted = group.accepted_loss.as_ref();
    let kept = accepted == Some(from);
    let mut able = group.servers.iter().skip(1).filter(|s| is_able(s));
    let accepted = accepted.and_then(|wanted| able.find(|s| s.server == *wanted));
    let impatient = policy.mode == Mode::Aggressive && down >= policy.restart_after;
    let has_data = is_able(primary) && primary.info().is_some_and(|info| info.keys() > 0);
    if let Some(server) = accepted {
        let reason = format!("{why}; a person accepted what {} may lack", server.server);
        decision.orders.push(promote(server, true, reason));
    } else if impatient
        && !kept
        && let Some(next) = freshest(group)
        && may_be_passed_over(group, primary, next)
    {
        let reason = format!(
            "{why}, and did not come back within {:?}; {} has the newest copy that can be had (ha.mode is Aggressive)",
            policy.restart_after, next.server
        );
        decision.orders.push(promote(next, true, reason));
    } else if has_data && (kept || impatient) {
        let by = if kept {
            "a person accepted what it may lack"
        } else {
            "ha.mode is Aggressive"
        };
        if history.is_free(&Subject::Lead(id), round.at) {
            keep_primary(group, format!("{why}; it has data ({by})"), down, decision);
        }
    } else if group.servers.len() > 1 {
        let (remedy, pod) = match from.pod().filter(|_| has_data) {
            Some(pod) => ("it has data of its own and waits for its role: to go on with that", pod),
            None => ("bring the primary back, or accept the loss", "POD"),
        };
        let message = format!(
            "group {id}: {why}, and no replica is known to hold all of its data: nobody is promoted; {remedy}: kubectl annotate \
             codis … codis.dev/accept-data-loss=g{id}={pod}"
        );
        notice(decision, NoticeReason::NoCopy, message);
    }
}

/// The primary is to lead again, unless that is asked for already.
fn keep_primary(group: &GroupSight, reason: String, after: Duration, decision: &mut Decision) {
    if group.record.primary().is_some_and(|primary| primary.action.forced) {
        return;
    }
    decision.orders.push(Order {
        action: Action::KeepPrimary {
            group: group.record.id,
            server: group.servers[0].server.clone(),
            epoch: group.epoch,
        },
        reason,
        after,
    });
}

/// Whether a replica in sync is silent, but not for long: it may hold more than those that answer, and would be wiped by them.
fn one_in_sync_may_wake(group: &GroupSight, policy: &Policy, history: &History) -> bool {
    group.servers.iter().skip(1).any(|server| {
        let runs = matches!(server.pod, PodSight::Running(_)) && !server.node.is_lost();
        let silence = history.silence(&server.server);
        let briefly = silence.is_none_or(|spell| spell.rounds < policy.failure_threshold);
        let silent = matches!(server.probe, Probe::Silent(_)) && briefly;
        runs && silent && group.record.in_sync.contains(&server.server)
    })
}

/// How much longer a group that flaps has to wait.
fn cooldown(policy: &Policy, history: &History, group: &GroupSight, now: Duration) -> Duration {
    let failovers = history.failovers(group.record.id);
    let (Some(last), Some(surplus)) = (failovers.last(), failovers.len().checked_sub(2)) else {
        return Duration::ZERO;
    };
    let wait = policy.cooldown.saturating_mul(1 << surplus.min(10));
    wait.min(Policy::LONGEST_COOLDOWN)
        .saturating_sub(now.saturating_sub(*last))
}

/// Whether nothing is asked for, or under way, in a group, so that one of its pods may go.
pub(super) fn is_free(group: &GroupSight, round: &Round, history: &History, decision: &Decision) -> bool {
    let id = group.record.id;
    let asked = decision.orders.iter().any(|order| order.action.group() == Some(id));
    !asked && group.record.promoting.state.is_nothing() && history.is_free(&Subject::Servers(id), round.at)
}

/// Whether a server can be asked to lead at all.
fn is_able(server: &ServerSight) -> bool {
    server.info().is_some_and(|info| !info.is_loading()) && server.pod != PodSight::Leaving
}

/// The replica that got furthest, if one in sync answers; of several the first one in the record. One that is ahead of one in
/// sync holds all that it has to hold, although that is not recorded yet, or it was restarted since and read it from its volume.
pub(super) fn freshest_in_sync(group: &GroupSight) -> Option<&ServerSight> {
    let admitted = |server: &ServerSight| {
        let record = group
            .record
            .servers
            .iter()
            .find(|record| record.server == server.server);
        let run_id = record.and_then(|record| record.admitted_run_id.as_deref());
        run_id.is_none_or(|run_id| server.info().is_some_and(|info| info.run_id() == run_id))
    };
    let able = || group.servers.iter().skip(1).filter(|s| is_able(s));
    let in_sync = able().filter(|s| admitted(s) && group.record.in_sync.contains(&s.server));
    let in_sync = best(group, in_sync)?;
    let known = rank(group, in_sync).is_some();
    let ahead = able().filter(|s| known && rank(group, s) > rank(group, in_sync));
    best(group, ahead).or(Some(in_sync))
}

/// The reachable copy that got furthest, wherever it is from.
fn freshest(group: &GroupSight) -> Option<&ServerSight> {
    best(group, group.servers.iter().skip(1).filter(|s| is_able(s)))
}

/// Whether a copy may lead by force although the primary is there: where that has nothing, a copy of the group's history;
/// where it has data, or loads them, only one that certainly is fresher.
fn may_be_passed_over(group: &GroupSight, primary: &ServerSight, next: &ServerSight) -> bool {
    match primary.info() {
        None => true,
        Some(info) if info.keys() == 0 && !info.is_loading() => rank(group, next).is_some(),
        Some(_) => rank(group, primary).is_some_and(|mine| rank(group, next) > Some(mine)),
    }
}

fn rank(group: &GroupSight, server: &ServerSight) -> Option<(i64, i64)> {
    let info = server.info()?;
    group.record.rank(info.history(), info.offset())
}

/// The one of these servers that got furthest; of several the first.
pub(super) fn best<'a>(group: &GroupSight, servers: impl Iterator<Item = &'a ServerSight>) -> Option<&'a ServerSight> {
    servers.fold(None, |best: Option<&ServerSight>, next| match best {
        Some(best) if rank(group, best) >= rank(group, next) => Some(best),
        _ => Some(next),
    })
}

/// A group that is led needs no consent to a loss; and a mark that came true is done with.
fn clear_marks(group: &GroupSight, round: &Round, history: &History, decision: &mut Decision) {
    let (id, leads) = (group.record.id, &group.servers[0].server);
    let came_true = group.wanted_primary.as_ref().filter(|wanted| *wanted == leads);
    // That its only copy may go with its pod is still to come true.
    let replaced_alone = group.servers.len() == 1 && group.servers[0].outdated;
    let accepted = group.accepted_loss.as_ref().filter(|_| !replaced_alone);
    for (mark, server) in [(Mark::HandOver, came_true), (Mark::AcceptDataLoss, accepted)] {
        let Some(server) = server else { continue };
        if round.turn == Turn::Leader && history.is_free(&Subject::Mark(id, mark), round.at) {
            decision.orders.push(Order {
                action: Action::ClearMark {
                    group: id,
                    mark,
                    server: server.clone(),
                },
                reason: format!("group {id} is led by {leads}"),
                after: Duration::ZERO,
            });
        }
    }
}

/// Who can't write to its volume.
fn tell_of_disks(group: &GroupSight, history: &History, decision: &mut Decision) {
    for server in group.servers.iter().filter(|server| history.disk_fails(&server.server)) {
        let message = format!(
            "{} can't write to its volume, which may be full: a primary refuses writes then; free some of it, or give it a larger one",
            server.server
        );
        notice(decision, NoticeReason::DiskFails, message);
    }
}

fn disk_fails(server: &ServerSight) -> bool {
    server.info().is_some_and(Info::disk_fails)
}

/// A primary that leads, and is to go or refuses writes, hands over.
fn plan_hand_over(group: &GroupSight, round: &Round, decision: &mut Decision) {
    let (id, primary) = (group.record.id, &group.servers[0]);
    let leaving = primary.pod == PodSight::Leaving;
    let wanted = group
        .wanted_primary
        .as_ref()
        .filter(|wanted| **wanted != primary.server);
    let refuses_writes = disk_fails(primary);
    if round.turn == Turn::Standby || !(leaving || refuses_writes || wanted.is_some()) {
        return;
    }
    let follows = |server: &&ServerSight| {
        let linked = server.info().is_some_and(|info| !info.is_primary() && info.is_linked());
        let well = is_able(server) && !server.node.is_lost() && !disk_fails(server);
        linked && well && group.record.in_sync.contains(&server.server)
    };
    let replicas = || group.servers.iter().skip(1).filter(follows);
    let named = wanted.and_then(|wanted| replicas().find(|server| server.server == *wanted));
    // What a person wants can wait, and a primary that is to go can not.
    let next = named.or_else(|| (leaving || refuses_writes).then(|| best(group, replicas()))?);
    match (next, wanted) {
        (Some(next), _) => decision.orders.push(Order {
            action: Action::HandOver {
                group: id,
                from: primary.server.clone(),
                to: next.server.clone(),
                epoch: group.epoch,
            },
            reason: match named {
                Some(_) => "a person asked for it".to_owned(),
                None if refuses_writes => format!("{} can't write to its volume, and refuses writes", primary.server),
                None => format!("the pod of {} is about to end", primary.server),
            },
            after: Duration::ZERO,
        }),
        (None, Some(wanted)) if !leaving => {
            let message = format!("group {id}: {wanted} can't take over: it is not a replica in sync");
            notice(decision, NoticeReason::NoSuccessor, message);
        }
        // That is told already.
        (None, None) if !leaving => {}
        (None, _) if group.servers.len() > 1 => {
            let message = format!(
                "group {id}: the pod of {} is about to end, and no replica is in sync",
                primary.server
            );
            notice(decision, NoticeReason::NoSuccessor, message);
        }
        (None, _) if !group.persistent => {
            let message = format!(
                "group {id}: the pod of {} is about to end, and with it the only copy of the group's data, which is in memory: have \
                 two servers in each group (spec.servers.replicasPerGroup), or volumes (spec.servers.storage)",
                primary.server
            );
            notice(decision, NoticeReason::NoSuccessor, message);
        }
        (None, _) => {}
    }
}
