//! Promotions: whom the dashboard lets lead, and each state that it records on the way.

use super::dashboard::{Asking, Dashboard, instant};
use super::events::{DASHBOARD, PROXIES, Tick};
use super::world::{World, name, place};
use crate::dashboard::promotion::judge::{Asked, Way, judge};
use crate::dashboard::promotion::quiet::is_certain;
use crate::model::{Failover, HostPort, PromoteState, Promoting};
use crate::plan::ha::Action;

/// How long the candidate may take to get what its primary has.
const CATCH_UP: Tick = 5;
/// How long is waited for that.
const STOP_PATIENCE: Tick = 60;

impl Dashboard {
    fn set_promoting(&mut self, state: PromoteState, now: Tick) {
        self.record.promoting.state = state;
        (self.since, self.epoch) = (now, self.epoch + 1);
    }
}

impl World {
    /// One tick of what is under way.
    pub(super) fn promote(&mut self) {
        match self.dashboard.record.promoting.state {
            PromoteState::Nothing => {}
            PromoteState::Preparing => self.lock(),
            PromoteState::Prepared => self.lead_candidate(),
            PromoteState::Finished => self.unlock(),
        }
    }

    pub(super) fn asked(&mut self) -> Vec<Asked> {
        let order: Vec<usize> = self.dashboard.record.servers.iter().map(|s| place(&s.server)).collect();
        let ask = |server: usize| Asked {
            server: name(server).clone(),
            answer: match self.hears(DASHBOARD, server) {
                true => self.info(server).map(|(info, _)| info.clone()),
                false => None,
            }
            .ok_or_else(|| "no answer".to_owned()),
        };
        order.into_iter().map(ask).collect()
    }

    fn judge(&mut self, promoting: &Promoting) -> Result<Way, String> {
        let index = promoting.index as usize;
        let mut asked = self.asked();
        let broken = self.broken;
        let mut group = self.dashboard.record.clone();
        group.promoting = promoting.clone();
        if broken.in_sync {
            group.in_sync = group.servers.iter().map(|known| known.server.clone()).collect();
        }
        if broken.freshest {
            for (place, other) in asked.iter_mut().enumerate() {
                if place != index && place != 0 {
                    other.answer = Err("not asked".to_owned());
                }
            }
        }
        if broken.run_id {
            // What is there now counts as what was given the role, and as a copy of the group's.
            if let Ok(info) = &asked[index].answer {
                group.servers[index].admitted_run_id = Some(info.run_id().to_owned());
                group.begin_lineage(info.history(), 0);
            }
        }
        judge(&group, index, &asked).map_err(|refusal| refusal.to_string())
    }

    /// An operator asks for a promotion. The answer, where it is known at once.
    pub(super) fn wish(&mut self, action: &Action, asking: Asking) -> Option<Result<(), String>> {
        let (from, to, epoch, forced, planned) = match action {
            Action::Promote {
                from, to, epoch, force, ..
            } => (from, to, epoch, *force, false),
            Action::HandOver { from, to, epoch, .. } => (from, to, epoch, false, true),
            _ => return None,
        };
        let dashboard = &self.dashboard;
        let Some(index) = dashboard.record.servers.iter().position(|known| known.server == *to) else {
            return Some(Err("no such server".to_owned()));
        };
        if !dashboard.record.promoting.state.is_nothing() {
            return Some(Err("it is promoting".to_owned()));
        }
        if *epoch != dashboard.epoch {
            if !self.broken.epoch {
                return Some(Err("the group was changed".to_owned()));
            }
            if *from != dashboard.record.servers[0].server && index > 0 {
                self.fail("a wish comes true that was about another primary");
            }
        }
        if index == 0 {
            return Some(Err("it leads".to_owned()));
        }
        let promoting = Promoting {
            index: index as i64,
            state: PromoteState::Nothing,
            forced,
            planned,
            ..Promoting::default()
        };
        if let Err(reason) = self.judge(&promoting) {
            return Some(Err(reason));
        }
        let clock = self.dashboard_clock();
        self.dashboard.record.promoting = promoting;
        self.dashboard.set_promoting(PromoteState::Preparing, clock);
        self.dashboard.map += 1;
        self.dashboard.asking = Some(asking);
        None
    }

    fn lock(&mut self) {
        for number in 0..PROXIES {
            if self.tell(number) || self.dashboard.shut_off[number] || self.broken.shut_off {
                continue;
            }
            if self.dashboard.record.promoting.planned {
                return self.give_up("a proxy does not lock the slots".to_owned());
            }
            self.shut_off(number);
        }
        let clock = self.dashboard_clock();
        self.dashboard.set_promoting(PromoteState::Prepared, clock);
    }

    /// No server lets this proxy in any more.
    pub(super) fn shut_off(&mut self, number: usize) {
        self.dashboard.shut_off[number] = true;
        self.dashboard
            .record
            .servers
            .iter_mut()
            .for_each(|known| known.leaky = true);
        self.dashboard.epoch += 1;
        self.tell_servers();
    }

    /// The same for the sake of another group of the cluster.
    pub(super) fn shut_off_elsewhere(&mut self, number: usize) {
        if self.broken.elsewhere {
            self.dashboard.shut_off[number] = true;
            return;
        }
        self.shut_off(number);
    }

    fn lead_candidate(&mut self) {
        let promoting = self.dashboard.record.promoting.clone();
        let (index, forced, now) = (promoting.index as usize, promoting.forced, self.now);
        let way = match self.judge(&promoting) {
            Ok(way) => way,
            Err(reason) => return self.give_up(reason),
        };
        let waited = self.dashboard_clock() - self.dashboard.since;
        let former = place(&self.dashboard.record.servers[0].server);
        let candidate = place(&self.dashboard.record.servers[index].server);
        match way {
            Way::HandOver => {
                let offset = |server: usize| {
                    self.servers[server]
                        .process
                        .as_ref()
                        .map_or(0, |process| process.offset)
                };
                let (wanted, have) = (offset(former), offset(candidate));
                if have < wanted {
                    if let Some(process) = self.servers[former].process.as_mut() {
                        process.paused = now + 30;
                    }
                    if waited > CATCH_UP {
                        self.give_up("it lacks what its primary has".to_owned());
                    }
                    return;
                }
                let begun = self.servers[former]
                    .process
                    .as_ref()
                    .map_or(0, |process| process.history);
                self.dashboard.record.begin_lineage(&format!("h{begun}"), wanted);
                self.check_leader(candidate, "hand-over");
            }
            Way::FailOver => {
                if !self.has_stopped(former, index) && !forced && !self.broken.shut_off {
                    if waited > STOP_PATIENCE || !self.dashboard.record.fenced {
                        self.give_up("the primary may let in a proxy that was shut off".to_owned());
                    }
                    return;
                }
                for server in (0..self.size).filter(|server| *server != former && *server != candidate) {
                    if self.hears(DASHBOARD, server)
                        && let Some(process) = self.servers[server].process.as_mut().filter(|p| p.admitted)
                    {
                        process.follow(candidate, now);
                    }
                }
                if !forced {
                    self.check_leader(candidate, "failover");
                }
            }
            Way::Recorded => {}
        }
        let history = self.fresh();
        let shut_off = self.dashboard.shut_off;
        let Some(process) = self.servers[candidate].process.as_mut() else {
            return;
        };
        process.lead(history);
        process.keeps_out = shut_off;
        let (run_id, history, offset) = (
            format!("r{}", process.run),
            format!("h{}", process.history),
            process.offset,
        );
        if way == Way::HandOver
            && let Some(process) = self.servers[former].process.as_mut()
        {
            process.follow(candidate, now);
        }
        self.record_leader(index, (run_id, history, offset));
    }

    /// Whether the former primary takes no writes of a proxy that was shut off.
    fn has_stopped(&mut self, former: usize, index: usize) -> bool {
        let record = &self.dashboard.record.servers[0];
        let (leaky, admitted) = (record.leaky, record.admitted_run_id.clone());
        let same = match self.hears(DASHBOARD, former) {
            true => self
                .info(former)
                .is_some_and(|(info, _)| Some(info.run_id()) == admitted.as_deref()),
            false => true,
        };
        if !leaky || !same {
            return true;
        }
        let asked = self.asked();
        let now = instant(self.dashboard_clock());
        let seen = &self.dashboard.seen;
        let heard_at = |server: &HostPort| seen.get(server).and_then(|seen| seen.heard_at);
        let silent = |other: &Asked| match &other.answer {
            Ok(info) => is_certain(info, heard_at(&other.server), now),
            Err(_) => false,
        };
        self.dashboard.record.fenced && asked.get(index).is_some() && asked.iter().skip(1).all(silent)
    }

    fn record_leader(&mut self, index: usize, (run_id, history, offset): (String, String, i64)) {
        let (clock, date) = (self.dashboard_clock(), self.date);
        let record = &mut self.dashboard.record;
        let mut candidate = record.servers.remove(index);
        candidate.admitted_run_id = Some(run_id);
        let former = record.servers.remove(0);
        if !record.promoting.planned {
            record.last_failover = Some(Box::new(Failover {
                from: former.server.clone(),
                to: candidate.server.clone(),
                at_ms: (i64::from(self.now) + date) * 100,
                epoch: record.lineage_epoch(),
                reason: String::new(),
                forced: record.promoting.forced,
                detect_ms: None,
                promote_ms: None,
                write_ms: None,
                lost_bytes: None,
            }));
            self.ledger.failovers += 1;
        }
        record.servers.push(former);
        record.servers.insert(0, candidate);
        record.in_sync.clear();
        record.fenced = false;
        record.begin_lineage(&history, offset);
        record.promoting = Promoting::default();
        self.dashboard.set_promoting(PromoteState::Finished, clock);
    }

    fn unlock(&mut self) {
        self.dashboard.map += 1;
        self.tell_all();
        self.end(Ok(()));
    }

    fn give_up(&mut self, reason: String) {
        self.dashboard.record.promoting = Promoting::default();
        self.dashboard.map += 1;
        self.tell_all();
        self.end(Err(reason));
    }

    fn end(&mut self, result: Result<(), String>) {
        self.dashboard.record.promoting = Promoting::default();
        self.dashboard.epoch += 1;
        if let Some(asking) = self.dashboard.asking.take() {
            self.answer(asking, result);
        }
    }
}
