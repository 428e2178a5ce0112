//! What must hold, and what has to be known for that.

use std::mem::{Discriminant, discriminant};

use super::events::{DASHBOARD, OPERATOR, PROXIES, PROXY, Tick};
use super::servers::{Process, Server, Volume};
use super::world::{World, place};
use crate::plan::ha::Action;

/// How long everything but an operator has to be well for a promotion to be that operator's mistake.
const WELL: Tick = 60;
/// How long after its replicas were heard of for the last time a fenced primary has stopped.
const STOPPED: Tick = 40;
/// How often the same may be asked for within [`OFTEN`].
const TIMES: usize = 8;
const OFTEN: Tick = 100;

/// The writes, by number, as sets.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) next: u32,
    /// Those that a client was told are done.
    pub(super) acknowledged: u128,
    /// Those that may be lost: nobody who was to be asked had them any more.
    pub(super) excused: u128,
    /// Those that a primary took long after it heard of a replica in sync for the last time.
    pub(super) alone: u128,
    /// The newest map that was written by, and where to.
    pub(super) newest: (i64, usize),
    /// Since when the primary has been well, for all but operators.
    pub(super) well: Option<Tick>,
    pub(super) asked: [Vec<(Tick, Discriminant<Action>)>; 2],
    /// How many there were.
    pub(super) failovers: usize,
    /// When each operator came to know of one.
    pub(super) known_failovers: [Vec<Tick>; 2],
}

fn held(servers: &[Server]) -> u128 {
    let processes = servers.iter().filter_map(|server| server.process.as_ref());
    processes.fold(0, |all, process| all | process.data)
}

impl World {
    /// A process with these writes is gone. What the volume of a replica has counts for nobody: who reads it can't tell how old
    /// it is.
    pub(super) fn forgotten(&mut self, data: u128) {
        let primary = &self.servers[place(&self.dashboard.record.servers[0].server)];
        let written = primary.disk.filter(|_| primary.process.is_none());
        let left = held(&self.servers) | written.map_or(0, |disk| disk.data);
        self.ledger.excused |= data & !left;
    }

    /// A primary is given its role. One that read a log has the newest copy of all that can't tell how old theirs are, and of
    /// those that it went on without.
    pub(super) fn check_read(&mut self, server: usize) {
        let record = &self.dashboard.record;
        let Some(process) = &self.servers[server].process else {
            return;
        };
        let run_id = format!("r{}", process.run);
        let again = record.servers[0].admitted_run_id.as_deref() == Some(run_id.as_str());
        if again || process.data == 0 || self.volume != Volume::Log {
            return;
        }
        let in_sync = record.servers.iter().filter(|known| {
            let process = self.servers[place(&known.server)].process.as_ref();
            let run_id = process.map(|process| format!("r{}", process.run));
            record.in_sync.contains(&known.server) && known.admitted_run_id == run_id
        });
        let vouched = in_sync.filter_map(|known| self.servers[place(&known.server)].process.as_ref());
        let vouched = vouched.fold(0, |all, process| all | process.data);
        self.ledger.excused |= self.ledger.acknowledged & !process.data & !vouched;
    }

    pub(super) fn fail(&mut self, what: impl Into<String>) {
        self.wrong.get_or_insert_with(|| what.into());
    }

    /// A proxy that knows this map was told that a write is done.
    pub(super) fn acknowledged(&mut self, epoch: i64, server: usize, bit: u128) {
        let record = &self.dashboard.record;
        let (now, ledger) = (self.now, &mut self.ledger);
        ledger.acknowledged |= bit;
        let process = self.servers[server].process.as_ref();
        let heard = process.map_or(0, |process| *process.heard_of.iter().max().unwrap());
        if !record.in_sync.is_empty() && place(&record.servers[0].server) == server && heard + STOPPED < now {
            ledger.alone |= bit;
        }
        let (newest, at) = ledger.newest;
        if epoch > newest {
            ledger.newest = (epoch, server);
        } else if at != server {
            self.fail(format!(
                "server {server} is written to by map {epoch} after server {at} was by map {newest}"
            ));
        }
    }

    /// A copy was replaced, and had these writes, which the new one has not.
    pub(super) fn wiped(&mut self, server: usize, lost: u128) {
        let left = held(&self.servers) | self.ledger.excused;
        if lost & self.ledger.acknowledged & !left != 0 {
            self.fail(format!("the last copy of a write is wiped at server {server}"));
        }
    }

    /// A server is about to lead. `forced`: a person allowed the loss.
    pub(super) fn check_leader(&mut self, server: usize, by: &str) {
        let Some(next) = self.servers[server].process.clone() else {
            return;
        };
        let record = &self.dashboard.record;
        let lineage = record.lineage.last().map(|newest| newest.id.as_str());
        let (mut reachable, mut vouched) = (0, false);
        let mut older = None;
        for other in record.servers.iter().map(|known| (known, place(&known.server))) {
            let (known, number) = other;
            if !self.hears(DASHBOARD, number) {
                continue;
            }
            let Some(process) = &self.servers[number].process else {
                continue;
            };
            let admitted = known.admitted_run_id.as_deref() == Some(format!("r{}", process.run).as_str());
            if admitted && record.in_sync.contains(&known.server) {
                reachable |= process.data;
                vouched = true;
            }
            let same = lineage == Some(format!("h{}", process.history).as_str());
            // One that loads does not know yet what it has.
            let tells = same && !process.is_loading(self.now);
            if tells && process.history == next.history && process.offset > next.offset {
                older = Some(number);
            }
        }
        let lost = self.ledger.acknowledged & !self.ledger.excused & !next.data;
        if let Some(other) = older {
            self.fail(format!(
                "server {server} is promoted, an older copy than server {other} ({by})"
            ));
        } else if lost & reachable != 0 {
            self.fail(format!(
                "server {server} is promoted without a write that one in sync has ({by})"
            ));
        } else if lost != 0 && !vouched {
            self.fail(format!(
                "server {server} is promoted, lacks writes, and nobody in sync answers ({by})"
            ));
        } else if lost & self.ledger.alone != 0 {
            self.fail("a write is lost that was taken long after anybody heard of the primary");
        } else if lost != 0 && by == "hand-over" {
            self.fail(format!("server {server} lacks a write after a hand-over"));
        } else if !next.admitted && self.volume != Volume::Dump {
            // One that reads its history may lead if it is ahead of one in sync.
            self.fail(format!("server {server} is promoted, which holds no role"));
        }
        self.ledger.excused |= lost;
    }

    /// Looks at everything once each tick.
    pub(super) fn look(&mut self) {
        let well = self.all_but_operators_are_well();
        let now = self.now;
        self.ledger.well = well.then(|| self.ledger.well.unwrap_or(now));
    }

    fn all_but_operators_are_well(&self) -> bool {
        let record = &self.dashboard.record;
        let primary = place(&record.servers[0].server);
        let hears = |node: usize| self.awake(node) && self.hears(node, primary);
        let proxies = (PROXY..PROXY + PROXIES).all(hears);
        let follows = |process: &Process| process.linked && process.heard + 10 > self.now;
        let replicas = record.servers.iter().skip(1).all(|known| {
            let number = place(&known.server);
            self.hears(DASHBOARD, number) && self.servers[number].process.as_ref().is_some_and(follows)
        });
        let node = self.servers[primary].dark <= self.now;
        proxies && replicas && node && hears(DASHBOARD) && self.leads(primary) && self.dashboard_works()
    }

    /// Whether the primary of the record has its role.
    pub(super) fn leads(&self, primary: usize) -> bool {
        let admitted = self.dashboard.record.servers[0].admitted_run_id.as_deref();
        let process = self.servers[primary].process.as_ref();
        process.is_some_and(|p| p.primary && p.admitted && admitted == Some(format!("r{}", p.run).as_str()))
    }

    /// An operator is about to ask for something.
    pub(super) fn check_order(&mut self, operator: usize, action: &Action) {
        let now = self.now;
        if matches!(action, Action::Promote { force: false, .. })
            && self.ledger.well.is_some_and(|since| since + WELL < now)
        {
            self.fail(format!("operator {operator} promotes, and only it misses the primary"));
        }
        let kind = discriminant(action);
        let asked = &mut self.ledger.asked[operator];
        asked.retain(|(at, _)| at + OFTEN > now);
        asked.push((now, kind));
        if asked.iter().filter(|(_, other)| *other == kind).count() > TIMES {
            self.fail(format!(
                "operator {operator} asks for the same again and again: {action:?}"
            ));
        }
        if matches!(action, Action::Promote { .. }) {
            let done = &self.ledger.known_failovers[operator];
            let third = done.len() >= 2 && done.last().is_some_and(|last| last + 98 > now);
            if third {
                self.fail(format!(
                    "operator {operator} promotes for the third time without a pause"
                ));
            }
        }
    }

    /// An operator learns from the record that there was a failover, whoever asked for it.
    pub(super) fn learns_of_failover(&mut self, operator: usize) {
        self.ledger.known_failovers[operator].push(self.now);
    }

    /// A server's pod is deleted. What ends after that, before its server does, nobody can foresee.
    pub(super) fn check_deletion(&mut self, server: usize) {
        // It is there again with its volume.
        if self.volume != Volume::None {
            return;
        }
        let Some(process) = &self.servers[server].process else {
            return;
        };
        let others = self.servers.iter().enumerate().filter(|(other, _)| *other != server);
        let left = others
            .filter_map(|(_, server)| server.process.as_ref())
            .fold(self.ledger.excused, |all, process| all | process.data);
        if process.data & self.ledger.acknowledged & !left != 0 {
            self.fail(format!("the last copy of a write is ended with server {server}"));
        }
    }

    /// Whether clients write through every proxy.
    pub(super) fn is_whole(&self) -> bool {
        let primary = place(&self.dashboard.record.servers[0].server);
        let flows = |number: usize| {
            let proxy = &self.proxies[number];
            let process = self.servers[primary].process.as_ref();
            let takes = process.is_some_and(|p| !p.is_stopped(self.now) && !p.keeps_out[number]);
            takes && proxy.running && proxy.primary == primary && !proxy.locked
        };
        self.dashboard.record.promoting.state.is_nothing() && self.leads(primary) && (0..PROXIES).all(flows)
    }

    /// Whether all servers are made as a person wants them.
    pub(super) fn is_rolled_out(&self) -> bool {
        self.servers.iter().all(|server| !server.outdated)
    }

    /// Whether a copy is left that may lead without a person's consent.
    pub(super) fn has_copy(&self) -> bool {
        let record = &self.dashboard.record;
        let same = |known: &crate::model::GroupServer| {
            let process = self.servers[place(&known.server)].process.as_ref();
            process.filter(|p| known.admitted_run_id.as_deref() == Some(format!("r{}", p.run).as_str()))
        };
        let newest = record.lineage.last().map(|stretch| stretch.id.as_str());
        let replicas = record
            .servers
            .iter()
            .filter(|known| record.in_sync.contains(&known.server) && !self.hangs(place(&known.server)));
        let mut copies = replicas.filter_map(same);
        // A primary may be back with more than they have, and one that hangs with more than that.
        let hung = || record.in_sync.iter().any(|name| self.hangs(place(name)));
        let unsure = self.volume == Volume::Dump && hung();
        same(&record.servers[0]).is_some()
            || !unsure && copies.any(|process| newest == Some(format!("h{}", process.history).as_str()))
            || held(&self.servers) == 0
            || self.has_read_everything()
    }

    /// Whether the primary of the record read from its volume all that is left, and no other server may have more as far as anybody
    /// can tell.
    fn has_read_everything(&self) -> bool {
        let record = &self.dashboard.record;
        let primary = &self.servers[place(&record.servers[0].server)];
        let Some(process) = primary.process.as_ref().filter(|process| process.data != 0) else {
            return false;
        };
        let rank = |process: &Process| record.rank(&format!("h{}", process.history), process.offset);
        let mut others = record.servers.iter().skip(1).map(|known| (known, place(&known.server)));
        self.volume != Volume::None
            && others.all(|(known, number)| {
                let Some(other) = &self.servers[number].process else {
                    return false;
                };
                let admitted = known.admitted_run_id.as_deref() == Some(format!("r{}", other.run).as_str());
                let older = match (rank(process), rank(other)) {
                    (Some(mine), theirs) => Some(mine) >= theirs,
                    (None, Some(_)) => !record.in_sync.contains(&known.server),
                    (None, None) => !admitted || other.data == 0,
                };
                !self.hangs(number) && other.data & !process.data == 0 && older
            })
    }

    /// At the end: nothing that was not to be lost is.
    pub(super) fn check_end(&mut self) {
        if !self.is_whole() {
            if self.has_copy() {
                let record = &self.dashboard.record;
                let what = format!(
                    "the group is not whole again: {:?}, {:?}",
                    record.promoting, record.in_sync
                );
                self.fail(what);
            }
            return;
        }
        let primary = place(&self.dashboard.record.servers[0].server);
        let data = self.servers[primary].process.as_ref().map_or(0, |process| process.data);
        if self.ledger.acknowledged & !self.ledger.excused & !data != 0 {
            self.fail("an acknowledged write is lost");
        }
        if !self.is_rolled_out() {
            self.fail("the rollout stands still");
        }
    }
}

/// The place of an operator among all nodes.
pub(super) fn node(operator: usize) -> usize {
    OPERATOR + operator
}
