//! Replicas that do not get in sync: a person has to know, since nothing that could be done to them would help.

use std::collections::BTreeMap;
use std::time::Duration;

use super::history::History;
use super::rolling::{is_copying, is_whole};
use super::sight::{Decision, GroupSight, Notice, NoticeReason, Round, ServerSight};
use crate::model::HostPort;

/// How long a replica may be out of sync before that is told. A large data set takes minutes to copy.
const LONG: Duration = Duration::from_secs(300);
/// With so many copies begun in vain, the next one is not likely to succeed.
const MANY: u32 = 3;
/// How far a replica may be behind its primary, in time, before that is told.
const LAG: Duration = Duration::from_secs(10);
/// Bytes of the replication stream that are no lag worth telling.
const FEW: i64 = 64 << 10;

/// What is kept of servers that may be behind.
#[derive(Debug, Clone, Default)]
pub(super) struct Behind {
    copies: BTreeMap<HostPort, Copies>,
    goals: BTreeMap<HostPort, Goal>,
}

/// How often a server began to copy or to load its data since it was last whole.
#[derive(Debug, Clone, Copy, Default)]
struct Copies {
    begun: u32,
    under_way: bool,
}

/// What a replica's primary had when the replica had all that it had before.
#[derive(Debug, Clone)]
struct Goal {
    at: Duration,
    history: String,
    offset: i64,
}

impl Behind {
    /// Takes a round in.
    pub(super) fn note(&mut self, round: &Round) {
        let groups = || round.groups.iter();
        let known = |server: &HostPort| groups().any(|group| group.servers.iter().any(|s| s.server == *server));
        self.copies.retain(|server, _| known(server));
        self.goals.retain(|server, _| known(server));
        for group in groups() {
            for server in &group.servers {
                self.note_copy(group, server);
            }
            if let Some((primary, replicas)) = group.servers.split_first() {
                for replica in replicas {
                    self.note_offset(round.at, primary, replica);
                }
            }
        }
    }

    fn note_copy(&mut self, group: &GroupSight, server: &ServerSight) {
        if is_whole(group, server) {
            self.copies.remove(&server.server);
        } else if server.info().is_some() {
            let copies = self.copies.entry(server.server.clone()).or_default();
            let copying = is_copying(server);
            copies.begun += u32::from(copying && !copies.under_way);
            copies.under_way = copying;
        }
    }

    fn note_offset(&mut self, at: Duration, primary: &ServerSight, replica: &ServerSight) {
        let (Some(leads), Some(follows)) = (primary.info(), replica.info()) else {
            self.goals.remove(&replica.server);
            return;
        };
        let short = follows.is_linked()
            && self
                .goals
                .get(&replica.server)
                .is_some_and(|goal| goal.history == follows.history() && follows.offset() + FEW < goal.offset);
        if !short {
            let goal = Goal {
                at,
                history: leads.history().to_owned(),
                offset: leads.offset(),
            };
            self.goals.insert(replica.server.clone(), goal);
        }
    }

    fn copies_begun(&self, server: &HostPort) -> u32 {
        self.copies.get(server).map_or(0, |copies| copies.begun)
    }

    /// For how long a replica has lacked much of what its primary had before.
    fn lag(&self, server: &HostPort, now: Duration) -> Duration {
        self.goals
            .get(server)
            .map_or(Duration::ZERO, |goal| now.saturating_sub(goal.at))
    }
}

/// Tells of a group's replicas that do not get in sync.
pub(super) fn tell(group: &GroupSight, round: &Round, history: &History, decision: &mut Decision) {
    for server in group.servers.iter().skip(1).filter(|server| !server.node.is_lost()) {
        let (id, name, behind) = (group.record.id, &server.server, history.behind());
        let begun = behind.copies_begun(name);
        let after = history.unsoundness(name).map(|since| round.at.saturating_sub(since));
        let lag = behind.lag(name, round.at);
        let message = if begun >= MANY {
            format!(
                "group {id}: {name} began to copy its primary's data {begun} times and never got in sync: mostly what is written \
                 meanwhile is more than the primary keeps for it (servers.config: client-output-buffer-limit, repl-backlog-size, \
                 repl-timeout), or the replica has too little memory or disk; its log tells"
            )
        } else if let Some(after) = after.filter(|after| *after >= LONG) {
            let state = state(server);
            format!(
                "group {id}: {name} has not been in sync for {} minutes: {state}",
                after.as_secs() / 60
            )
        } else if lag >= LAG {
            format!(
                "group {id}: {name} is {} s behind its primary: as much of what was acknowledged would be lost if that ended now",
                lag.as_secs()
            )
        } else {
            continue;
        };
        decision.notices.push(Notice {
            reason: NoticeReason::ReplicaBehind,
            message,
        });
    }
}

fn state(server: &ServerSight) -> String {
    match server.info() {
        Some(info) if info.is_loading() => "it loads its data".to_owned(),
        Some(info) if info.is_copying() => "it copies its primary's data".to_owned(),
        Some(info) if info.is_primary() => "it follows nobody".to_owned(),
        Some(info) if !info.is_linked() => "it has no link to its primary".to_owned(),
        Some(_) => "it lags behind its primary".to_owned(),
        None if server.trouble.is_empty() => "it does not answer".to_owned(),
        None => format!("it does not answer ({})", server.trouble),
    }
}
