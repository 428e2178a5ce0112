use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::behind::Behind;
use super::copies::Copies;
use super::losses::{DataLoss, Losses};
use super::policy::Policy;
use super::primary::{self, Primary};
use super::rolling;
use super::sight::{Action, GroupSight, Mark, PodSight, Probe, Round, ServerSight};
use crate::model::{Failover, Group, GroupId, HostPort, Info, ProxyToken};

/// How soon something that failed is asked for again; each further time twice as late.
const RETRY: Duration = Duration::from_millis(500);
/// The longest such wait.
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// How many rounds may be missed before what was seen earlier no longer counts.
const MISSED: u32 = 5;
/// The shortest time for which that is so.
const LEAST_GAP: Duration = Duration::from_secs(5);

/// What something is done to: one thing at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A group whose primary is gone.
    Promotion(GroupId),
    /// A group whose primary is to lead again with what it has.
    Lead(GroupId),
    /// A group whose primary hands over.
    HandOver(GroupId),
    /// The pods of a group's servers.
    Servers(GroupId),
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
            Action::Promote { group, .. } => Self::Promotion(*group),
            Action::KeepPrimary { group, .. } => Self::Lead(*group),
            Action::HandOver { group, .. } => Self::HandOver(*group),
            Action::ReplaceServer { group, .. }
            | Action::RestartServer { group, .. }
            | Action::ForceDeleteServer { group, .. }
            | Action::GiveUpVolume { group, .. } => Self::Servers(*group),
            Action::ForceDeletePod { uid, .. } => Self::Pod(uid.clone()),
            Action::SetAside { server, .. } => Self::Copy(server.clone()),
            Action::DropProxy { token, .. } => Self::Proxy(token.clone()),
            Action::ClearMark { group, mark, .. } => Self::Mark(*group, *mark),
        }
    }

    /// All that a group can be disturbed by.
    pub(super) fn all_of(group: GroupId) -> [Self; 4] {
        [
            Self::Promotion(group),
            Self::Lead(group),
            Self::HandOver(group),
            Self::Servers(group),
        ]
    }

    /// What must not be under way when this begins: a group has one disruption at a time. A group without a primary is
    /// disturbed already, and waits for nobody: the dashboard takes one wish for a group after the other and compares its
    /// epoch, and whoever deletes a pod reads the record anew right before.
    fn waits_for(&self) -> Vec<Self> {
        match self {
            Self::HandOver(group) | Self::Servers(group) => Self::all_of(*group).into(),
            Self::Promotion(group) | Self::Lead(group) => vec![Self::Promotion(*group), Self::Lead(*group)],
            _ => vec![self.clone()],
        }
    }

    /// What the end of this may have mended.
    fn mended_by(&self) -> Vec<Self> {
        match self {
            Self::Promotion(group) => vec![Self::Promotion(*group), Self::Lead(*group), Self::HandOver(*group)],
            _ => self.waits_for(),
        }
    }
}

/// What is kept from round to round.
#[derive(Debug, Clone, Default)]
pub struct History {
    last: Option<Looked>,
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
    losses: Losses,
    failovers: BTreeMap<GroupId, Failovers>,
    failed: BTreeMap<Subject, Failed>,
    under_way: BTreeSet<Subject>,
    ended: BTreeMap<Subject, Duration>,
    copies: Copies,
    behind: Behind,
}

/// Rounds in a row in which something held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spell {
    pub(super) since: Duration,
    pub(super) rounds: u32,
}

/// What a group's record told of its failovers, whoever asked for them.
#[derive(Debug, Clone, Default)]
struct Failovers {
    /// The last one, if there ever was one.
    last: Option<Failover>,
    /// When each was seen that came after the first look.
    seen: Vec<Duration>,
    /// When one was done that this instance asked for, until the record tells of it.
    done: Option<Duration>,
}

/// The round before.
#[derive(Debug, Clone, Copy)]
struct Looked {
    at: Duration,
    paused: bool,
}

#[derive(Debug, Clone)]
struct Failed {
    times: u32,
    at: Duration,
    /// `None`: it was asked for, and did not help yet.
    why: Option<String>,
}

impl History {
    /// Takes a round in, before anything is decided on it.
    pub fn note(&mut self, round: &Round) {
        self.losses.note(round);
        if self.last.is_some_and(|last| begins_anew(last, round)) {
            self.forget_spells();
        }
        self.last = Some(Looked {
            at: round.at,
            paused: round.paused,
        });
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
            .map(|p| (&p.token, round.dashboard && !p.answered && p.polled == Some(false)));
        lengthen(&mut self.mute, round.at, mute);
        self.copies.note(round);
        self.behind.note(round);
        let mut down = BTreeMap::new();
        for group in &round.groups {
            if !matches!(primary::judge(group, self, u32::MAX), Primary::Leads) {
                let since = self.down.get(&group.record.id).copied().unwrap_or(round.at);
                down.insert(group.record.id, since);
            }
        }
        self.down = down;
        for group in &round.groups {
            self.note_failover(&group.record, round.at);
        }
        for failovers in self.failovers.values_mut() {
            let counts = |at: &Duration| round.at.saturating_sub(*at) < Policy::FLAPPING;
            failovers.seen.retain(counts);
        }
        let (down, under_way) = (&self.down, &self.under_way);
        self.failed.retain(|subject, failed| match subject {
            // Whoever was to lead does.
            Subject::Lead(group) if !down.contains_key(group) => false,
            _ => under_way.contains(subject) || round.at.saturating_sub(failed.at) < LONGEST_RETRY * 2,
        });
        self.ended.retain(|_, ended| *ended >= round.at);
    }

    fn note_failover(&mut self, record: &Group, now: Duration) {
        let told = record.last_failover.as_deref();
        let Some(failovers) = self.failovers.get_mut(&record.id) else {
            // How long ago that was is not known.
            let first = Failovers {
                last: told.cloned(),
                ..Failovers::default()
            };
            self.failovers.insert(record.id, first);
            return;
        };
        let Some(told) = told else {
            // The round began after it was done, and there is no record of it: an older dashboard keeps none.
            failovers.seen.extend(failovers.done.take_if(|done| *done < now));
            return;
        };
        failovers.done = None;
        if !failovers.last.as_ref().is_some_and(|last| last.is_same(told)) {
            failovers.seen.push(now);
            failovers.last = Some(told.clone());
        }
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
            // That it was asked to lead is not yet that it does: the dashboard may refuse it its role, again and again.
            Ok(()) if matches!(action, Action::KeepPrimary { .. }) => self.did_not_help(subject, at, None),
            Ok(()) => {
                self.failed.remove(&subject);
                // Who leads is settled, whichever way was tried before.
                if let Action::Promote { group, .. } | Action::HandOver { group, .. } = action {
                    self.failed.remove(&Subject::Promotion(*group));
                    self.failed.remove(&Subject::HandOver(*group));
                }
            }
            Err(Undone::Late(_)) => return,
            Err(Undone::Failed(why)) => {
                self.did_not_help(subject, at, Some(why));
                return;
            }
        }
        match action {
            Action::Promote { group, .. } => self.failovers.entry(*group).or_default().done = Some(at),
            Action::RestartServer { server, .. } => *self.restarts.entry(server.clone()).or_default() += 1,
            Action::SetAside { server, uid, .. } => drop(self.aside.insert(server.clone(), uid.clone())),
            _ => {}
        }
    }

    fn did_not_help(&mut self, subject: Subject, at: Duration, why: Option<String>) {
        let times = self.failed.get(&subject).map_or(1, |failed| failed.times + 1);
        self.failed.insert(subject, Failed { times, at, why });
    }

    /// How often in a row an action of this kind was asked for in vain.
    pub fn tries(&self, action: &Action) -> u32 {
        self.failed.get(&Subject::of(action)).map_or(0, |failed| failed.times)
    }

    /// Whoever had the time to come back or to be repaired begins anew; how often something was tried stays.
    fn forget_spells(&mut self) {
        for spells in [&mut self.silent, &mut self.useless, &mut self.unsound, &mut self.lost] {
            spells.clear();
        }
        self.mute.clear();
        self.unheard.clear();
        self.down.clear();
        self.behind = Behind::default();
    }

    /// Bytes of the replication stream that a group's primary was seen to have, and no replica in sync: what its sudden end would
    /// lose. `None` while it never had a replica in sync.
    pub fn at_risk(&self, group: GroupId) -> Option<u64> {
        self.copies.at_risk(group)
    }

    /// Groups that lost their data, as the last round found: each is told once.
    pub fn data_losses(&self) -> &[DataLoss] {
        self.losses.found()
    }

    /// What a group's primary was seen to have.
    pub(super) fn copies(&self) -> &Copies {
        &self.copies
    }

    /// Which servers are behind.
    pub(super) fn behind(&self) -> &Behind {
        &self.behind
    }

    /// Whether something may be done to it: nothing that it has to wait for is under way, and its own last failure is long
    /// enough ago.
    pub(super) fn is_free(&self, subject: &Subject, now: Duration) -> bool {
        let waits = self.failed.get(subject).is_some_and(|failed| {
            let wait = RETRY.saturating_mul(1 << failed.times.saturating_sub(1).min(10));
            now.saturating_sub(failed.at) < wait.min(LONGEST_RETRY)
        });
        // What a round saw that began before the last action ended may be what that action mended.
        let is_old = |other: &Subject| self.ended.get(other).is_some_and(|ended| now < *ended);
        let under_way = |other: &Subject| self.under_way.contains(other);
        !waits && !subject.mended_by().iter().any(is_old) && !subject.waits_for().iter().any(under_way)
    }

    /// Why what was asked for last, of late, was not done.
    pub(super) fn failure(&self, subject: &Subject) -> Option<&str> {
        self.failed.get(subject)?.why.as_deref()
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

    /// When the failovers of a group were seen that count against the next one.
    pub(super) fn failovers(&self, group: GroupId) -> &[Duration] {
        self.failovers
            .get(&group)
            .map_or(&[], |failovers| failovers.seen.as_slice())
    }
}

/// Whether nobody looked for so long, or a person had the cluster to himself until now, that what was seen before may have
/// come and gone several times.
fn begins_anew(last: Looked, round: &Round) -> bool {
    let gap = round.at.saturating_sub(last.at);
    (last.paused && !round.paused) || gap > LEAST_GAP.max(round.interval.saturating_mul(MISSED))
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
                let waits = info.is_loading() || info.is_copying() || !is_led(group);
                !waits && !info.is_primary() && !info.is_linked() && !group.record.in_sync.contains(&server.server)
            }
            None => server.polled == Some(false),
        }
}

/// Whether there is a primary that others could follow.
fn is_led(group: &GroupSight) -> bool {
    group
        .servers
        .first()
        .and_then(ServerSight::info)
        .is_some_and(Info::is_primary)
}
