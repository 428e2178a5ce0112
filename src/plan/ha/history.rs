use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::copies::Copies;
use super::policy::Policy;
use super::primary::{self, Primary};
use super::rolling;
use super::sight::{Action, GroupSight, Mark, PodSight, Probe, Round, ServerSight};
use crate::model::{GroupId, HostPort, Info, ProxyToken};

/// How soon something that failed is asked for again; each further time twice as late.
const RETRY: Duration = Duration::from_millis(500);
/// The longest such wait.
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// What something is done to: one thing at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A group.
    Group(GroupId),
    /// A proxy.
    Proxy(ProxyToken),
    /// A mark for a group.
    Mark(GroupId, Mark),
    /// A replica's copy.
    Copy(HostPort),
    /// A pod without data, by its UID.
    Pod(String),
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undone {
    /// What it rested on had changed by then: what is to be done now, the next round tells.
    #[error("it came too late: {0}")]
    Late(String),
    /// It is tried again, after a while that grows.
    #[error("{0}")]
    Failed(String),
}

impl Subject {
    /// What this is done to.
    pub fn of(action: &Action) -> Self {
        match action {
            Action::Promote { group, .. }
            | Action::HandOver { group, .. }
            | Action::ReplaceServer { group, .. }
            | Action::RestartServer { group, .. }
            | Action::ForceDeleteServer { group, .. }
            | Action::GiveUpVolume { group, .. } => Self::Group(*group),
            Action::ForceDeletePod { uid, .. } => Self::Pod(uid.clone()),
            Action::SetAside { server, .. } => Self::Copy(server.clone()),
            Action::DropProxy { token, .. } => Self::Proxy(token.clone()),
            Action::ClearMark { group, mark, .. } => Self::Mark(*group, *mark),
        }
    }
}

/// What is kept from round to round.
#[derive(Debug, Clone, Default)]
pub struct History {
    silent: BTreeMap<HostPort, Spell>,
    useless: BTreeMap<HostPort, Spell>,
    unsound: BTreeMap<HostPort, Spell>,
    disks: BTreeSet<HostPort>,
    aside: BTreeMap<HostPort, String>,
    restarts: BTreeMap<HostPort, u32>,
    down: BTreeMap<GroupId, Duration>,
    lost: BTreeMap<HostPort, Spell>,
    mute: BTreeMap<ProxyToken, Spell>,
    unheard: BTreeMap<String, Spell>,
    failovers: BTreeMap<GroupId, Vec<Duration>>,
    failed: BTreeMap<Subject, Failed>,
    under_way: BTreeSet<Subject>,
    ended: BTreeMap<Subject, Duration>,
    copies: Copies,
}

/// Rounds in a row in which something held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spell {
    pub(super) since: Duration,
    pub(super) rounds: u32,
}

#[derive(Debug, Clone)]
struct Failed {
    times: u32,
    at: Duration,
    why: String,
}

impl History {
    /// Takes a round in, before anything is decided on it.
    pub fn note(&mut self, round: &Round) {
        let all = || round.groups.iter().flat_map(|group| &group.servers);
        lengthen(&mut self.silent, round.at, all().map(|s| (&s.server, is_silent(s))));
        lengthen(&mut self.lost, round.at, all().map(|s| (&s.server, s.node.is_lost())));
        let stateless = round.stateless.iter();
        let unheard = stateless.map(|pod| (&pod.uid, pod.node.is_lost() && !pod.answered));
        lengthen(&mut self.unheard, round.at, unheard);
        // Without a dashboard nobody gives roles, and what it last said of the proxies is old.
        let useless = |group: &GroupSight, server: &ServerSight| round.dashboard && is_useless(group, server);
        let servers = || {
            let of = |group| move |server| (group, server);
            round
                .groups
                .iter()
                .flat_map(move |group| group.servers.iter().map(of(group)))
        };
        lengthen(
            &mut self.useless,
            round.at,
            servers().map(|(group, server)| (&server.server, useless(group, server))),
        );
        lengthen(
            &mut self.unsound,
            round.at,
            servers().map(|(group, server)| (&server.server, !rolling::is_whole(group, server))),
        );
        for (group, server) in servers() {
            if server.info().is_some_and(Info::disk_fails) {
                self.disks.insert(server.server.clone());
            } else if rolling::is_whole(group, server) {
                self.disks.remove(&server.server);
            }
        }
        // Who got well begins anew.
        let unsound = &self.unsound;
        self.restarts.retain(|server, _| unsound.contains_key(server));
        let mute = round
            .proxies
            .iter()
            .map(|p| (&p.token, round.dashboard && !p.answered && !p.polled));
        lengthen(&mut self.mute, round.at, mute);
        self.copies.note(round);
        let mut down = BTreeMap::new();
        for group in &round.groups {
            if !matches!(primary::judge(group, self, u32::MAX), Primary::Leads) {
                let since = self.down.get(&group.record.id).copied().unwrap_or(round.at);
                down.insert(group.record.id, since);
            }
        }
        self.down = down;
        for failovers in self.failovers.values_mut() {
            failovers.retain(|at| round.at.saturating_sub(*at) < Policy::FLAPPING);
        }
        self.failed
            .retain(|_, failed| round.at.saturating_sub(failed.at) < LONGEST_RETRY * 2);
        self.ended.retain(|_, ended| *ended >= round.at);
    }

    /// Something was begun.
    pub fn begun(&mut self, action: &Action) {
        self.under_way.insert(Subject::of(action));
    }

    /// Something ended, well or not; then why.
    pub fn ended(&mut self, action: &Action, at: Duration, result: Result<(), Undone>) {
        let subject = Subject::of(action);
        self.under_way.remove(&subject);
        self.ended.insert(subject.clone(), at);
        match result {
            Ok(()) => drop(self.failed.remove(&subject)),
            Err(Undone::Late(_)) => return,
            Err(Undone::Failed(why)) => {
                let times = self.failed.get(&subject).map_or(1, |failed| failed.times + 1);
                self.failed.insert(subject, Failed { times, at, why });
                return;
            }
        }
        match action {
            Action::Promote { group, .. } => self.failovers.entry(*group).or_default().push(at),
            Action::RestartServer { server, .. } => *self.restarts.entry(server.clone()).or_default() += 1,
            Action::SetAside { server, uid, .. } => drop(self.aside.insert(server.clone(), uid.clone())),
            _ => {}
        }
    }

    /// Bytes of the replication stream that a group's primary was seen to have, and no replica in sync: what its sudden end would
    /// lose. `None` while it never had a replica in sync.
    pub fn at_risk(&self, group: GroupId) -> Option<u64> {
        self.copies.at_risk(group)
    }

    /// What a group's primary was seen to have.
    pub(super) fn copies(&self) -> &Copies {
        &self.copies
    }

    /// Whether nothing is being done to it, and the last failure is long enough ago.
    pub(super) fn is_free(&self, subject: &Subject, now: Duration) -> bool {
        let waits = self.failed.get(subject).is_some_and(|failed| {
            let wait = RETRY.saturating_mul(1 << failed.times.saturating_sub(1).min(10));
            now.saturating_sub(failed.at) < wait.min(LONGEST_RETRY)
        });
        // What a round saw that began before the last action ended may be what that action mended.
        let is_old = self.ended.get(subject).is_some_and(|ended| now < *ended);
        !waits && !is_old && !self.under_way.contains(subject)
    }

    /// Why what was asked for last, of late, was not done.
    pub(super) fn failure(&self, subject: &Subject) -> Option<&str> {
        self.failed.get(subject).map(|failed| failed.why.as_str())
    }

    /// Whether a server could not write to its disk, and has not been whole since. One that copies does not say so any more.
    pub(super) fn disk_fails(&self, server: &HostPort) -> bool {
        self.disks.contains(server)
    }

    /// Since when a group's primary does not lead.
    pub(super) fn down_since(&self, group: GroupId) -> Option<Duration> {
        self.down.get(&group).copied()
    }

    /// Since when, and for how many rounds, a server is silent.
    pub(super) fn silence(&self, server: &HostPort) -> Option<Spell> {
        self.silent.get(server).copied()
    }

    /// Since when a running server is of no use.
    pub(super) fn uselessness(&self, server: &HostPort) -> Option<Spell> {
        self.useless.get(server).copied()
    }

    /// How often a server was restarted since it was well.
    pub(super) fn restarts(&self, server: &HostPort) -> u32 {
        self.restarts.get(server).copied().unwrap_or_default()
    }

    /// Since when a server does not hold its role and its data.
    pub(super) fn unsoundness(&self, server: &HostPort) -> Option<Duration> {
        self.unsound.get(server).map(|spell| spell.since)
    }

    /// Whether the dashboard was told that this replica, in this pod, is about to end.
    pub(super) fn is_aside(&self, server: &HostPort, uid: &str) -> bool {
        self.aside.get(server).is_some_and(|told| told == uid)
    }

    /// Since when a server's node is lost.
    pub(super) fn lost(&self, server: &HostPort) -> Option<Spell> {
        self.lost.get(server).copied()
    }

    /// Since when nobody hears of a pod without data, whose node is lost.
    pub(super) fn unheard(&self, uid: &str) -> Option<Spell> {
        self.unheard.get(uid).copied()
    }

    /// Since when nobody hears of a proxy.
    pub(super) fn muteness(&self, token: &ProxyToken) -> Option<Spell> {
        self.mute.get(token).copied()
    }

    /// When the failovers of a group were done that count against the next one.
    pub(super) fn failovers(&self, group: GroupId) -> &[Duration] {
        self.failovers.get(&group).map_or(&[], Vec::as_slice)
    }
}

fn lengthen<'a, K: Ord + Clone + 'a>(
    spells: &mut BTreeMap<K, Spell>,
    now: Duration,
    found: impl Iterator<Item = (&'a K, bool)>,
) {
    let mut after = BTreeMap::new();
    for (key, _) in found.filter(|(_, holds)| *holds) {
        let mut spell = spells.get(key).copied().unwrap_or(Spell { since: now, rounds: 0 });
        spell.rounds += 1;
        after.insert(key.clone(), spell);
    }
    *spells = after;
}

fn is_silent(server: &ServerSight) -> bool {
    matches!(server.probe, Probe::Silent(_) | Probe::Nowhere)
}

/// Whether a server's process is there and neither leads nor follows, as more than one witness says.
fn is_useless(group: &GroupSight, server: &ServerSight) -> bool {
    matches!(server.pod, PodSight::Running(_))
        && match server.info() {
            Some(info) => {
                let waits = info.is_loading() || info.is_copying();
                !waits && !info.is_primary() && !info.is_linked() && !group.record.in_sync.contains(&server.server)
            }
            None => server.polled == Some(false),
        }
}
