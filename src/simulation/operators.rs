//! Instances of the operator: what each sees, and what it asks for.

use std::time::Duration;

use super::Broken;
use super::dashboard::Asking;
use super::events::{DASHBOARD, PROXIES, PROXY, Tick};
use super::rules::node;
use super::servers::{End, Volume};
use super::world::{World, place};
use crate::model::ProxyToken;
use crate::plan::ha::{
    Action, GroupSight, History, NodeSight, PodSight, Policy, Probe, ProxySight, Round, ServerSight, Turn, Undone,
    decide, leads,
};

/// How often an operator looks.
const ROUND: Tick = 5;
/// How long it waits for an answer.
const PATIENCE: Tick = 100;
/// How long what is late takes.
const LATE: Tick = 60;
/// How long a pod takes to end when it is not hurried.
const GRACE: Tick = 10;
/// How long a pod takes to be there again.
const POD: Tick = 20;
/// How long a node is silent before Kubernetes says so.
const NODE_LOST: Tick = 40;
/// No process has this version of its answers.
const UNKNOWN: u32 = u32::MAX;

/// Something that was asked for.
pub(super) struct Asked {
    number: u32,
    action: Action,
    since: Tick,
    answer: Option<Result<(), String>>,
}

/// Something on its way to the dashboard, or to Kubernetes.
struct OnItsWay {
    number: u32,
    action: Action,
    at: Tick,
}

pub(super) struct Operator {
    policy: Policy,
    history: History,
    pub(super) round: Round,
    seen: Vec<u32>,
    pub(super) asked: Vec<Asked>,
    sent: Vec<OnItsWay>,
    numbers: u32,
    pub(super) late: Tick,
    pub(super) deaf: Tick,
    pub(super) twice: Tick,
    /// How long its clock stood still.
    pub(super) stood: Tick,
}

impl Operator {
    pub(super) fn new(broken: Broken) -> Self {
        let mut policy = Policy {
            restart_after: Duration::from_secs(4),
            ..Policy::default()
        };
        if broken.cooldown {
            policy.cooldown = Duration::ZERO;
        }
        let proxies = (0..PROXIES).map(|number| ProxySight {
            token: ProxyToken::from(format!("p{number}").as_str()),
            pod: format!("p{number}"),
            uid: format!("p{number}"),
            pod_stays: true,
            answered: true,
            polled: Some(true),
            epoch: 0,
            node: NodeSight::Well,
        });
        Self {
            policy,
            history: History::default(),
            round: Round {
                proxies: proxies.collect(),
                ..Round::default()
            },
            seen: Vec::new(),
            asked: Vec::new(),
            sent: Vec::new(),
            numbers: 0,
            late: 0,
            deaf: 0,
            twice: 0,
            stood: 0,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.sent.is_empty()
    }
}

fn time(tick: Tick) -> Duration {
    Duration::from_millis(u64::from(tick) * 100)
}

impl World {
    /// The dashboard answers an operator, if that can be.
    pub(super) fn answer(&mut self, asking: Asking, result: Result<(), String>) {
        let deaf = self.operators[asking.operator].deaf > self.now;
        if deaf || !self.carries(DASHBOARD, node(asking.operator)) {
            return;
        }
        let asked = &mut self.operators[asking.operator].asked;
        if let Some(asked) = asked.iter_mut().find(|asked| asked.number == asking.number) {
            asked.answer.get_or_insert(result);
        }
    }

    /// What its clock says.
    fn operator_clock(&self, number: usize) -> Duration {
        let clock = match self.broken.clock {
            true => u32::try_from(i64::from(self.now) + self.date).unwrap_or(0),
            false => self.now - self.operators[number].stood,
        };
        time(clock)
    }

    pub(super) fn operator_tick(&mut self, number: usize) {
        self.arrive(number);
        if !self.awake(node(number)) || !(self.now + 2 * number as Tick).is_multiple_of(ROUND) {
            return;
        }
        self.take_answers(number);
        self.see(number);
        let operator = &mut self.operators[number];
        operator.history.note(&operator.round);
        let mut decision = decide(&operator.policy, &operator.history, &operator.round);
        self.spoil(number, &mut decision.orders);
        for order in decision.orders {
            self.check_order(number, &order.action);
            let operator = &mut self.operators[number];
            operator.history.begun(&order.action);
            operator.numbers += 1;
            let late = if operator.late > self.now { LATE } else { 1 };
            let again = (operator.twice > self.now).then_some(late + LATE);
            let number = operator.numbers;
            operator
                .sent
                .extend([Some(late), again].into_iter().flatten().map(|takes| OnItsWay {
                    number,
                    action: order.action.clone(),
                    at: self.now + takes,
                }));
            operator.asked.push(Asked {
                number,
                action: order.action,
                since: self.now,
                answer: None,
            });
        }
    }

    fn take_answers(&mut self, number: usize) {
        let (now, clock) = (self.now, self.operator_clock(number));
        let operator = &mut self.operators[number];
        operator.asked.retain_mut(|asked| {
            let late = (asked.since + PATIENCE <= now).then(|| Err("no answer".to_owned()));
            let Some(result) = asked.answer.take().or(late) else {
                return true;
            };
            operator
                .history
                .ended(&asked.action, clock, result.map_err(Undone::Failed));
            false
        });
    }

    /// What an operator asked for arrives.
    fn arrive(&mut self, number: usize) {
        let now = self.now;
        let operator = &mut self.operators[number];
        let Some(first) = operator.sent.iter().position(|sent| sent.at <= now) else {
            return;
        };
        let sent = operator.sent.remove(first);
        let action = sent.action;
        let asking = Asking {
            operator: number,
            number: sent.number,
        };
        let result = match &action {
            Action::RestartServer { server, uid, epoch, .. } if self.leader == number => {
                Some(self.delete(number, (place(server), uid), *epoch, 0))
            }
            Action::ReplaceServer { server, uid, epoch, .. } if self.leader == number => {
                Some(self.delete(number, (place(server), uid), *epoch, GRACE))
            }
            Action::RestartServer { .. } | Action::ReplaceServer { .. } => {
                Some(Err("another instance leads".to_owned()))
            }
            _ if !self.dashboard_works() || !self.carries(node(number), DASHBOARD) => return,
            Action::Promote { .. } | Action::HandOver { .. } => self.wish(&action, asking),
            Action::SetAside { server, epoch, .. } => Some(self.set_aside(place(server), *epoch)),
            Action::DropProxy { token, .. } if self.leader == number => {
                self.drop_proxy(usize::from(token.to_string().ends_with('1')));
                Some(Ok(()))
            }
            _ => Some(Err("another instance leads".to_owned())),
        };
        if let Some(result) = result {
            self.answer(asking, result);
        }
    }

    /// A pod is told to end, if it is still the one that is meant, and the last copy of nothing.
    fn delete(&mut self, number: usize, (server, uid): (usize, &str), epoch: i64, grace: Tick) -> Result<(), String> {
        if self.servers[server].uid.to_string() != uid {
            return Ok(());
        }
        let spoilt = self.broken.live || self.broken.restart || self.broken.rolling;
        if !spoilt && !self.is_spare(number, server, epoch, grace)? {
            return Ok(());
        }
        self.check_deletion(server);
        let leaves = &mut self.servers[server].leaves;
        *leaves = Some(leaves.unwrap_or(Tick::MAX).min(self.now + grace));
        Ok(())
    }

    /// Whether a server may end just now, as an operator finds it that asks once more before it deletes its pod: not when the
    /// record is another one than was decided on.
    fn is_spare(&mut self, number: usize, server: usize, epoch: i64, grace: Tick) -> Result<bool, String> {
        let me = node(number);
        if !self.dashboard_works() || !self.reach(DASHBOARD, me) {
            return Err("no dashboard answers".to_owned());
        }
        let record = &self.dashboard.record;
        if epoch != self.dashboard.epoch || !record.promoting.state.is_nothing() {
            return Ok(false);
        }
        let known = record.servers[0].clone();
        let primary = place(&known.server);
        let running = self.servers[server].process.is_some();
        if server == primary && grace == 0 {
            return Ok(self.volume != Volume::None && !self.hears(me, primary));
        }
        if server == primary || !running {
            return Ok(true);
        }
        let led = self.hears(me, primary) && self.info(primary).is_some_and(|(info, _)| leads(&known, info));
        led.then_some(true).ok_or_else(|| "the group is not led".to_owned())
    }

    /// A pod is gone, and another one takes its place.
    pub(super) fn renew(&mut self, server: usize) {
        // One that does not answer is not told, it is killed.
        let how = if self.is_up(server) { End::Told } else { End::Killed };
        self.end_process(server, how, self.now + POD);
        let uid = self.fresh();
        self.thaw(server);
        let server = &mut self.servers[server];
        (server.uid, server.pending, server.outdated, server.leaves) = (uid, true, false, None);
    }

    fn drop_proxy(&mut self, number: usize) {
        self.shut_off(number);
        self.thaw(PROXY + number);
        (self.proxies[number].running, self.proxies[number].starts) = (false, self.now + POD);
    }

    fn see(&mut self, number: usize) {
        let (me, now) = (node(number), self.now);
        for proxy in 0..PROXIES {
            let known = &mut self.proxies[proxy];
            if !known.running && known.starts <= now {
                // Locked until it is told a map.
                (known.running, known.locked) = (true, true);
            }
        }
        let mut round = std::mem::take(&mut self.operators[number].round);
        round.at = self.operator_clock(number);
        round.turn = if self.leader == number {
            Turn::Leader
        } else {
            Turn::Standby
        };
        round.dashboard = self.dashboard_works() && self.reach(me, DASHBOARD);
        if round.dashboard
            && round
                .groups
                .first()
                .is_none_or(|group| group.epoch != self.dashboard.epoch)
        {
            let record = self.dashboard.record.clone();
            let before = round.groups.first().map(|group| &group.record.last_failover);
            if before.is_some_and(|before| *before != record.last_failover) {
                self.learns_of_failover(number);
            }
            let servers = record.servers.iter().map(|known| ServerSight {
                server: known.server.clone(),
                probe: Probe::Refused,
                pod: PodSight::Absent,
                uid: None,
                outdated: false,
                trouble: String::new(),
                node: NodeSight::Well,
                volume_lost: false,
                polled: None,
                proxies_without: 0,
                proxies_asked: 0,
            });
            round.groups = vec![GroupSight {
                servers: servers.collect(),
                record,
                epoch: self.dashboard.epoch,
                persistent: self.volume != Volume::None,
                wanted_primary: None,
                accepted_loss: None,
            }];
            self.operators[number].seen = vec![UNKNOWN; self.size];
        }
        let answers = |world: &Self, proxy: usize| {
            let node = PROXY + proxy;
            world.proxies[proxy].running && world.awake(node) && world.reach(me, node)
        };
        for proxy in 0..PROXIES {
            round.proxies[proxy].answered = answers(self, proxy);
            round.proxies[proxy].polled = Some(self.dashboard.proxy_polled[proxy]);
            round.proxies[proxy].pod_stays = self.proxies[proxy].running;
        }
        for sight in round.groups.iter_mut().flat_map(|group| &mut group.servers) {
            let server = place(&sight.server);
            let asked = (0..PROXIES).filter(|proxy| answers(self, *proxy));
            let misses = |proxy: &usize| !self.hears(PROXY + *proxy, server);
            (sight.proxies_asked, sight.proxies_without) = (asked.clone().count(), asked.filter(misses).count());
            if round.dashboard {
                sight.polled = self.dashboard.polled[server];
            }
            self.see_server(number, server, sight);
            if self.broken.witness && !matches!(sight.probe, Probe::Answered(_)) {
                sight.polled = Some(false);
            }
        }
        if self.broken.in_sync || self.broken.run_id {
            for group in &mut round.groups {
                for (known, sight) in group.record.servers.iter_mut().zip(&group.servers).skip(1) {
                    if self.broken.in_sync && !group.record.in_sync.contains(&known.server) {
                        group.record.in_sync.push(known.server.clone());
                    }
                    if let Some(info) = sight.info().filter(|_| self.broken.run_id) {
                        known.admitted_run_id = Some(info.run_id().to_owned());
                    }
                }
            }
        }
        self.operators[number].round = round;
    }

    fn see_server(&mut self, number: usize, server: usize, sight: &mut ServerSight) {
        let now = self.now;
        let known = &self.servers[server];
        let dark = known.dark > now;
        sight.node = match dark && known.dark_since + NODE_LOST < now {
            true => NodeSight::Lost,
            false => NodeSight::Well,
        };
        (sight.uid, sight.outdated) = (Some(known.uid.to_string()), known.outdated);
        sight.pod = match &known.process {
            _ if known.leaves.is_some() => PodSight::Leaving,
            // It is deleted, and nobody there says that it ended.
            _ if dark && known.pending => PodSight::Leaving,
            _ if dark => PodSight::Running(known.uid.to_string()),
            Some(_) => PodSight::Running(known.uid.to_string()),
            None if known.pending => PodSight::Pending,
            None => PodSight::Ended,
        };
        let reached = self.reach(node(number), server);
        if known.process.is_none() && !dark && reached {
            sight.probe = Probe::Refused;
        } else if !self.hears(node(number), server) {
            if !matches!(sight.probe, Probe::Silent(_)) {
                sight.probe = Probe::Silent("no answer".to_owned());
            }
        } else {
            let seen = self.operators[number].seen[server];
            let answered = matches!(sight.probe, Probe::Answered(_));
            let Some((info, version)) = self.info(server) else {
                return;
            };
            if seen != version || !answered {
                sight.probe = Probe::Answered(Box::new(info.clone()));
                self.operators[number].seen[server] = version;
            }
        }
    }
}
