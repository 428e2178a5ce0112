//! Whether a group's primary leads.

use super::history::History;
use super::sight::{GroupSight, PodSight, Probe, ServerSight};
use crate::model::{GroupServer, Info};

/// How long a replica has not heard of its primary when it is a witness against it, in seconds.
const UNHEARD: i64 = 3;

/// What is to be thought of a primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Primary {
    /// It leads.
    Leads,
    /// It is about to lead, or nothing can be said yet; what is waited for.
    Unclear(String),
    /// Only the operator finds it gone.
    OneWitness(String),
    /// It is gone; why that is certain.
    Gone(String),
}

/// Whether a server that says this of itself holds the primary's role, which this record says that it was given.
pub fn leads(record: &GroupServer, info: &Info) -> bool {
    let admitted = record.admitted_run_id.as_deref();
    info.is_primary() && admitted.is_none_or(|run_id| run_id == info.run_id())
}

/// Judges the primary of a group. A server counts as hung after `threshold` silent rounds.
pub(super) fn judge(group: &GroupSight, history: &History, threshold: u32) -> Primary {
    let (Some(record), Some(sight)) = (group.record.primary(), group.servers.first()) else {
        return Primary::Unclear("the group has no server".to_owned());
    };
    let name = &record.server;
    match (&sight.probe, &sight.pod) {
        // One that never was given its role may be a Codis server, which needs none.
        (Probe::Answered(info), _) if leads(record, info) => Primary::Leads,
        (Probe::Answered(info), _) => match record.admitted_run_id.as_deref() {
            None => Primary::Unclear(format!("{name} has not been given its role yet")),
            Some(admitted) if admitted != info.run_id() => {
                Primary::Gone(format!("{name} was restarted and holds no role"))
            }
            Some(_) => Primary::Unclear(format!("{name} was told by somebody else to follow")),
        },
        (Probe::Refused, _) => Primary::Gone(format!("nobody listens at {name} any more")),
        (_, PodSight::Absent) => Primary::Gone(format!("the pod of {name} is gone")),
        (_, PodSight::Ended) => Primary::Gone(format!("the container of {name} ended")),
        (_, PodSight::Pending) => Primary::Gone(format!("the pod of {name} is a new one and does not run yet")),
        (Probe::Silent(why), _) => silent(group, sight, history, threshold, why),
        (Probe::Nowhere, _) => silent(group, sight, history, threshold, "it has no address"),
    }
}

fn silent(group: &GroupSight, sight: &ServerSight, history: &History, threshold: u32, why: &str) -> Primary {
    let name = &sight.server;
    let rounds = history.silence(name).map_or(0, |spell| spell.rounds);
    if rounds < threshold {
        return Primary::Unclear(format!("{name} does not answer: {why}"));
    }
    match witness(group, sight) {
        Some(witness) => Primary::Gone(format!("{name} does not answer ({why}), and {witness}")),
        None => Primary::OneWitness(format!(
            "{name} does not answer the operator ({why}), but neither its replicas nor the dashboard nor the proxies miss it: \
             it is left alone"
        )),
    }
}

/// Who besides the operator finds a primary gone.
fn witness(group: &GroupSight, sight: &ServerSight) -> Option<String> {
    let misses = |replica: &&ServerSight| {
        let Some(info) = replica.info() else { return false };
        let follows = !info.is_primary() && group.record.in_sync.contains(&replica.server);
        follows && !info.is_loading() && (info.silence() >= UNHEARD || !info.is_linked())
    };
    if let Some(replica) = group.servers.iter().skip(1).find(misses) {
        return Some(format!("its replica {} hears nothing of it", replica.server));
    }
    if sight.polled == Some(false) {
        return Some("the dashboard can't reach it either".to_owned());
    }
    if sight.node.is_lost() {
        return Some("its node is lost".to_owned());
    }
    (sight.proxies_without > 0 && sight.proxies_without * 2 > sight.proxies_asked).then(|| {
        format!(
            "{} of {} proxies can't use it",
            sight.proxies_without, sight.proxies_asked
        )
    })
}
