//! A primary that runs and does not answer, while nobody can lead in its place, or whoever could is refused.

use std::time::Duration;

use super::group;
use super::history::{History, Subject};
use super::pods;
use super::policy::{Policy, Turn};
use super::primary::{self, Primary};
use super::sight::{Decision, GroupSight, Notice, NoticeReason, PodSight, Round, ServerSight};

/// Has it started anew where its data is on its volume, since that is how it gets its data back. What is only in its memory would
/// be lost: it may wake up, and people are told.
pub(super) fn decide(group: &GroupSight, round: &Round, policy: &Policy, history: &History, decision: &mut Decision) {
    let Some((server, uid, after)) = hung(group, round, policy, history) else {
        return;
    };
    let patience = pods::patience(server, policy, history);
    if !group.persistent || after < patience {
        tell(group, server, patience, decision);
    } else if round.turn == Turn::Leader && group::is_free(group, round, history, decision) {
        let reason = format!(
            "{} runs and does not answer, nobody leads in its place, and its data is on its volume",
            server.server
        );
        decision.orders.push(pods::restart(group, server, uid, reason, after));
    }
}

/// Whether the primary is to be started anew now, as far as its own group goes. Then nobody is asked to lead who was refused
/// before: the dashboard refuses him as long as the primary may wake up and let in a proxy that was shut off, say.
pub(super) fn is_due(group: &GroupSight, round: &Round, policy: &Policy, history: &History) -> bool {
    let free = round.turn == Turn::Leader && history.is_free(&Subject::Servers(group.record.id), round.at);
    let lasts = |(server, _, after)| after >= pods::patience(server, policy, history);
    free && group.persistent && hung(group, round, policy, history).is_some_and(lasts)
}

/// A primary that hangs, its pod, and for how long it has, as the operator and the dashboard find it, while nobody can lead in its
/// place.
fn hung<'a>(
    group: &'a GroupSight,
    round: &Round,
    policy: &Policy,
    history: &History,
) -> Option<(&'a ServerSight, &'a str, Duration)> {
    let server = group.servers.first()?;
    let PodSight::Running(uid) = &server.pod else {
        return None;
    };
    let spell = history.uselessness(&server.server)?;
    let hangs = server.info().is_none() && !server.node.is_lost() && !is_used(server);
    let refused = || history.failure(&Subject::Promotion(group.record.id)).is_some();
    let alone = group.record.bootstrapped && (group::freshest_in_sync(group).is_none() || refused());
    let gone = || primary::judge(group, history, policy.failure_threshold);
    let is_hung = hangs && alone && matches!(gone(), Primary::Gone(_));
    is_hung.then(|| (server, uid.as_str(), round.at.saturating_sub(spell.since)))
}

/// Whether most proxies that answer use it: then it is not the one that hangs.
fn is_used(server: &ServerSight) -> bool {
    server.proxies_asked > 0 && server.proxies_without * 2 <= server.proxies_asked
}

/// Where there are replicas, it is told that none of them can lead.
fn tell(group: &GroupSight, server: &ServerSight, patience: Duration, decision: &mut Decision) {
    if group.servers.len() > 1 {
        return;
    }
    let (id, name) = (group.record.id, &server.server);
    let remedy = if group.persistent {
        format!("its pod is restarted when that lasts for {patience:?}, and goes on with what is on its volume")
    } else {
        format!(
            "its data is in its memory only, so that it is left alone: see what holds it up (its log, its node), or begin without \
             its data (kubectl delete pod {}); two servers in each group (spec.servers.replicasPerGroup), or volumes \
             (spec.servers.storage), would let the group go on",
            name.pod().unwrap_or_default()
        )
    };
    decision.notices.push(Notice {
        reason: NoticeReason::PrimaryHung,
        message: format!("group {id}: {name} runs and does not answer, and its group has no other server; {remedy}"),
    });
}
