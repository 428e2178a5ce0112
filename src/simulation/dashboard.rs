//! The dashboard: its real decisions, and what it does about them as far as that matters.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::events::{DASHBOARD, PROXIES, PROXY, SERVERS, Tick};
use super::world::{World, name, place};
use crate::dashboard::admission::{self, Decision, Other};
use crate::dashboard::in_sync::{self, Findings};
use crate::dashboard::observations::Seen;
use crate::model::{Group, GroupId, GroupServer, HostPort, PromoteState};

/// How often servers and proxies are asked.
const POLL: Tick = 5;

static BEGIN: LazyLock<Instant> = LazyLock::new(|| Instant::now() + Duration::from_secs(7200));

pub(super) fn instant(tick: Tick) -> Instant {
    *BEGIN + Duration::from_millis(u64::from(tick) * 100)
}

/// What the primary was told of its fence.
struct Told {
    run_id: String,
    history: String,
    wanted: bool,
    at: Tick,
}

/// A promotion that somebody waits for.
#[derive(Clone, Copy)]
pub(super) struct Asking {
    pub(super) operator: usize,
    pub(super) number: u32,
}

pub(super) struct Dashboard {
    pub(super) record: Group,
    /// Counts the changes of the record.
    pub(super) epoch: i64,
    /// Counts the maps that proxies were told.
    pub(super) map: i64,
    pub(super) shut_off: [bool; PROXIES],
    pub(super) polled: [Option<bool>; SERVERS],
    pub(super) proxy_polled: [bool; PROXIES],
    pub(super) asking: Option<Asking>,
    /// Which processes are about to end.
    aside: [Option<String>; SERVERS],
    pub(super) seen: HashMap<HostPort, Seen>,
    told: Option<Told>,
    /// When the state of the promotion began.
    pub(super) since: Tick,
    /// How long its clock stood still.
    pub(super) stood: Tick,
    dead: Tick,
}

impl Dashboard {
    pub(super) fn new(size: usize) -> Self {
        let mut record = Group::new(GroupId::new(1).unwrap());
        for server in 0..size {
            let mut known = GroupServer::new(name(server).clone(), "");
            (known.admitted_run_id, known.prepared) = (Some(format!("r{}", 1 + server)), true);
            record.servers.push(known);
        }
        record.in_sync = (1..size).map(|server| name(server).clone()).collect();
        (record.bootstrapped, record.fenced) = (true, true);
        record.begin_lineage("h10", 0);
        Self {
            record,
            epoch: 1,
            map: 1,
            shut_off: [false; PROXIES],
            polled: [None; SERVERS],
            proxy_polled: [true; PROXIES],
            asking: None,
            aside: Default::default(),
            seen: HashMap::new(),
            told: None,
            since: 0,
            stood: 0,
            dead: 0,
        }
    }

    /// Another one goes on with nothing but the records.
    pub(super) fn dies(&mut self, until: Tick) {
        self.dead = self.dead.max(until);
        self.polled = [None; SERVERS];
        (self.asking, self.told) = (None, None);
        self.aside = Default::default();
        self.seen.clear();
    }
}

impl World {
    pub(super) fn dashboard_works(&self) -> bool {
        self.dashboard.dead <= self.now && self.awake(DASHBOARD)
    }

    /// What its clock says.
    pub(super) fn dashboard_clock(&self) -> Tick {
        self.now - self.dashboard.stood
    }

    pub(super) fn dashboard_tick(&mut self) {
        if !self.dashboard_works() {
            return;
        }
        self.promote();
        self.poll_servers();
        if self.now.is_multiple_of(POLL) {
            self.poll_proxies();
            self.give_roles();
            self.keep_fence();
        }
    }

    /// Each in its own turn: what one says may be older than what another one does.
    fn poll_servers(&mut self) {
        let at = instant(self.dashboard_clock());
        for server in 0..self.size {
            if !(self.now as usize + server).is_multiple_of(POLL as usize) {
                continue;
            }
            let answer = match self.hears(DASHBOARD, server) {
                true => self.info(server).map(|(info, _)| info.clone()),
                false => None,
            };
            let dashboard = &mut self.dashboard;
            dashboard.polled[server] = Some(answer.is_some());
            let before = dashboard.seen.get(name(server));
            let seen = Seen::after(before, (at, at), answer.ok_or_else(|| "no answer".to_owned()));
            dashboard.seen.insert(name(server).clone(), seen);
        }
    }

    fn poll_proxies(&mut self) {
        for number in 0..PROXIES {
            let told = self.tell(number);
            self.dashboard.proxy_polled[number] = told;
            let idle = self.dashboard.record.promoting.state.is_nothing();
            if told && idle {
                self.dashboard.shut_off[number] = false;
            }
        }
        self.tell_servers();
    }

    /// Servers hear who is shut off.
    pub(super) fn tell_servers(&mut self) {
        for server in 0..self.size {
            if !self.is_up(server) || !self.carries(DASHBOARD, server) {
                continue;
            }
            let (shut_off, heard) = (self.dashboard.shut_off, self.carries(server, DASHBOARD));
            let Some(process) = self.servers[server].process.as_mut().filter(|process| process.admitted) else {
                continue;
            };
            process.keeps_out = shut_off;
            for known in &mut self.dashboard.record.servers {
                if place(&known.server) == server && known.leaky && heard {
                    known.leaky = false;
                    self.dashboard.epoch += 1;
                }
            }
        }
    }

    /// A proxy is told the map; whether it heard.
    pub(super) fn tell(&mut self, number: usize) -> bool {
        let node = PROXY + number;
        if !self.proxies[number].running || !self.awake(node) {
            return false;
        }
        if !self.carries(DASHBOARD, node) {
            return self.broken.heard && self.carries(node, DASHBOARD);
        }
        let record = &self.dashboard.record;
        let locked = matches!(record.promoting.state, PromoteState::Preparing | PromoteState::Prepared);
        let proxy = &mut self.proxies[number];
        (proxy.epoch, proxy.primary, proxy.locked) = (self.dashboard.map, place(&record.servers[0].server), locked);
        self.carries(node, DASHBOARD)
    }

    pub(super) fn tell_all(&mut self) {
        for number in 0..PROXIES {
            self.tell(number);
        }
    }

    fn give_roles(&mut self) {
        for index in 0..self.dashboard.record.servers.len() {
            let record = &self.dashboard.record;
            let server = place(&record.servers[index].server);
            let primary = place(&record.servers[0].server);
            let waits = self.servers[server].process.as_ref().is_some_and(|process| {
                let known =
                    record.servers[index].admitted_run_id.as_deref() == Some(format!("r{}", process.run).as_str());
                let role = if index == 0 {
                    process.primary
                } else {
                    process.follows == Some(primary)
                };
                !(known && role && process.admitted)
            });
            if record.promoting.state.is_nothing() && waits && self.hears(DASHBOARD, server) {
                self.give_role(index, server, primary);
            }
        }
    }

    fn give_role(&mut self, index: usize, server: usize, primary: usize) {
        let asked = self.asked();
        let others: Vec<Other> = asked
            .into_iter()
            .filter(|other| other.server != *name(server))
            .map(|other| Other {
                server: other.server,
                prepared: true,
                answer: other.answer,
            })
            .collect();
        let Some(info) = self.info(server).map(|(info, _)| info.clone()) else {
            return;
        };
        let mut decision = admission::decide(&self.dashboard.record, index, &info, &others);
        let reads = self.broken.file && info.keys() > 0;
        if (self.broken.admission || reads) && index == 0 {
            decision = Decision::Lead;
        }
        if decision == Decision::Lead {
            self.check_read(server);
        }
        let (history, now, shut_off) = (self.fresh(), self.now, self.dashboard.shut_off);
        let Some(process) = self.servers[server].process.as_mut() else {
            return;
        };
        let dashboard = &mut self.dashboard;
        let known = &mut dashboard.record.servers[index];
        let is_new = known.admitted_run_id.as_deref() != Some(info.run_id());
        match decision {
            Decision::Lead => {
                let fence = process.fence && !is_new;
                process.lead(history);
                process.fence = fence;
                if is_new {
                    dashboard.record.in_sync.clear();
                    dashboard.record.fenced = false;
                }
                let stretches = dashboard.record.lineage_epoch();
                dashboard
                    .record
                    .begin_lineage(&format!("h{}", process.history), process.offset);
                if stretches != dashboard.record.lineage_epoch() {
                    dashboard.record.in_sync.clear();
                }
            }
            Decision::Follow(_) => process.follow(primary, now),
            Decision::Refuse(_) | Decision::Wait(_) => return,
        }
        process.keeps_out = shut_off;
        dashboard.record.servers[index].admitted_run_id = Some(info.run_id().to_owned());
        dashboard.epoch += 1;
    }

    /// The fence goes up before the record says that somebody is in sync, and comes down only after it says that nobody is.
    fn keep_fence(&mut self) {
        let (clock, dashboard) = (self.dashboard_clock(), &self.dashboard);
        let address = |server: &HostPort| format!("10.0.0.{}:1", place(server)).parse().ok();
        let Some(mut found) = in_sync::judge(&dashboard.record, &dashboard.seen, address, instant(clock)) else {
            return;
        };
        found.in_sync.retain(|replica| !self.is_aside(replica));
        let wanted = !found.in_sync.is_empty();
        let told = dashboard.told.as_ref();
        let told = told.filter(|told| told.run_id == found.run_id && told.history == found.history);
        match told {
            Some(told) if told.wanted == wanted && wanted && found.at < instant(told.at) => {}
            Some(told) if told.wanted == wanted => self.note(found, wanted),
            _ => {
                let primary = place(&dashboard.record.servers[0].server);
                let told = Told {
                    run_id: found.run_id.clone(),
                    history: found.history.clone(),
                    wanted,
                    at: clock,
                };
                if !wanted {
                    self.note(found, false);
                }
                if let Some(process) = self.servers[primary].process.as_mut() {
                    process.fence = wanted && !self.broken.fence;
                }
                self.dashboard.told = Some(told);
            }
        }
    }

    /// A replica is about to end: it is no copy to count on.
    pub(super) fn set_aside(&mut self, server: usize, epoch: i64) -> Result<(), String> {
        if epoch != self.dashboard.epoch && !self.broken.epoch {
            return Err("the group was changed".to_owned());
        }
        let mut replicas = self.dashboard.record.servers.iter().skip(1);
        let Some(known) = replicas.find(|known| known.server == *name(server)) else {
            return Err("it leads".to_owned());
        };
        self.dashboard.aside[server] = known.admitted_run_id.clone();
        Ok(())
    }

    fn is_aside(&self, replica: &HostPort) -> bool {
        let mut servers = self.dashboard.record.servers.iter();
        let run_id = servers.find_map(|known| (known.server == *replica).then_some(known.admitted_run_id.as_ref())?);
        run_id.is_some() && run_id == self.dashboard.aside[place(replica)].as_ref()
    }

    fn note(&mut self, found: Findings, fenced: bool) {
        let record = &mut self.dashboard.record;
        let before = (record.lineage_epoch(), record.fenced);
        let same = record.in_sync == found.in_sync;
        if !found.in_sync.is_empty() {
            record.begin_lineage(&found.history, found.offset);
        }
        (record.in_sync, record.fenced) = (found.in_sync, fenced);
        if !same || before != (record.lineage_epoch(), fenced) {
            self.dashboard.epoch += 1;
        }
    }
}
