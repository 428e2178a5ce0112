//! The cluster, tick by tick.

use std::sync::LazyLock;

use super::Broken;
use super::dashboard::Dashboard;
use super::events::{DASHBOARD, Event, Fault, NODES, OPERATOR, PROXIES, PROXY, Random, SERVERS, Tick};
use super::operators::Operator;
use super::rules::Ledger;
use super::servers::{Disk, End as Ends, Process, Server, Volume};
use crate::model::HostPort;

/// How long the group may take to be whole again once nothing fails any more.
const BOUND: Tick = 300;
/// How much longer a rollout may take.
const ROLLOUT: Tick = 300;
/// How long everything has to be well before the end.
const CALM: Tick = 6;
/// How often each proxy writes.
const WRITES: Tick = 8;

static NAMES: LazyLock<[HostPort; SERVERS]> = LazyLock::new(|| ["a:1", "b:1", "c:1"].map(|name| name.parse().unwrap()));

/// A server's name.
pub(super) fn name(place: usize) -> &'static HostPort {
    &NAMES[place]
}

/// Which server has this name.
pub(super) fn place(name: &HostPort) -> usize {
    usize::from(name.as_str().as_bytes()[0] - b'a')
}

/// A proxy and its map.
#[derive(Clone, Copy)]
pub(super) struct Proxy {
    pub(super) running: bool,
    pub(super) starts: Tick,
    pub(super) epoch: i64,
    pub(super) primary: usize,
    pub(super) locked: bool,
}

pub(super) struct World {
    pub(super) broken: Broken,
    pub(super) now: Tick,
    pub(super) size: usize,
    pub(super) volume: Volume,
    pub(super) servers: Vec<Server>,
    pub(super) proxies: [Proxy; PROXIES],
    pub(super) dashboard: Dashboard,
    pub(super) operators: [Operator; 2],
    pub(super) leader: usize,
    pub(super) ledger: Ledger,
    pub(super) wrong: Option<String>,
    /// How far everybody's wall clock is off, in tenths of a second.
    pub(super) date: i64,
    /// Until when what the first sends does not reach the second.
    cut: [[Tick; NODES]; NODES],
    frozen: [Tick; NODES],
    ids: u32,
}

/// As long as nobody does something about it.
const FOR_EVER: Tick = Tick::MAX;

impl World {
    /// A group at work, all in sync.
    fn new(broken: Broken, seed: u64) -> Self {
        let mut random = Random(seed);
        let volume = [Volume::None, Volume::None, Volume::Log, Volume::Log, Volume::Dump][random.below(5)];
        let size = match volume {
            Volume::None => 2 + random.below(2),
            _ => 1 + random.below(3),
        };
        let servers = (0..size).map(|place| Server {
            process: Some(Process {
                run: 1 + place as u32,
                primary: place == 0,
                admitted: true,
                follows: (place > 0).then_some(0),
                history: 10,
                offset: 1,
                data: 1,
                fence: place == 0 && !broken.fence,
                linked: place > 0,
                source: 1,
                ..Process::default()
            }),
            disk: (volume != Volume::None).then_some(Disk {
                data: 1,
                history: 10,
                offset: 1,
            }),
            ..Server::default()
        });
        Self {
            broken,
            now: 1,
            size,
            volume,
            date: 0,
            servers: servers.collect(),
            proxies: [Proxy {
                running: true,
                starts: 0,
                epoch: 1,
                primary: 0,
                locked: false,
            }; PROXIES],
            dashboard: Dashboard::new(size),
            operators: [Operator::new(broken), Operator::new(broken)],
            leader: 0,
            ledger: Ledger {
                next: 1,
                acknowledged: 1,
                ..Ledger::default()
            },
            wrong: None,
            cut: [[0; NODES]; NODES],
            frozen: [0; NODES],
            ids: 20,
        }
    }

    /// A number that nothing had before.
    pub(super) fn fresh(&mut self) -> u32 {
        self.ids += 1;
        self.ids
    }

    /// Whether what one sends reaches the other.
    pub(super) fn carries(&self, from: usize, to: usize) -> bool {
        self.cut[from][to] <= self.now
    }

    /// Whether one can ask the other, and hears the answer.
    pub(super) fn reach(&self, one: usize, other: usize) -> bool {
        self.carries(one, other) && self.carries(other, one)
    }

    pub(super) fn awake(&self, node: usize) -> bool {
        self.frozen[node] <= self.now
    }

    pub(super) fn thaw(&mut self, node: usize) {
        self.frozen[node] = 0;
        for other in 0..NODES {
            (self.cut[node][other], self.cut[other][node]) = (0, 0);
        }
    }

    /// Whether it does nothing until somebody ends it.
    pub(super) fn hangs(&self, node: usize) -> bool {
        self.frozen[node] == FOR_EVER
    }

    fn hush(&mut self, from: usize, to: usize, until: Tick) {
        if from != to {
            let cut = &mut self.cut[from][to];
            *cut = (*cut).max(until);
        }
    }

    fn sever(&mut self, one: usize, other: usize, until: Tick) {
        self.hush(one, other, until);
        self.hush(other, one, until);
    }

    fn freeze(&mut self, node: usize, until: Tick) {
        self.frozen[node] = self.frozen[node].max(until);
    }

    fn happen(&mut self, event: &Event) {
        let until = self.now + event.lasts;
        match event.fault {
            Fault::Restart(server) if server < self.size => self.end_process(server, Ends::Killed, until),
            Fault::Stop(server) if server < self.size => self.end_process(server, Ends::Told, until),
            Fault::PowerOff(server) if server < self.size => {
                self.end_process(server, Ends::Dark, until);
                self.servers[server].dark = until;
                self.servers[server].dark_since = self.now;
            }
            Fault::Freeze(node) => self.freeze(node, until),
            Fault::Hang(server) => match self.volume {
                Volume::None => self.freeze(server, until),
                _ => self.freeze(server, FOR_EVER),
            },
            Fault::Suspend(node) => {
                let stands = until.saturating_sub(self.frozen[node].max(self.now));
                match node {
                    DASHBOARD => self.dashboard.stood += stands,
                    _ => self.operators[node - OPERATOR].stood += stands,
                }
                self.freeze(node, until);
            }
            Fault::Clock(server, jump) if server < self.size => self.turn_clock(server, jump * 10),
            Fault::Date(jump) => self.date += jump * 10,
            Fault::Cut(one, other) => self.sever(one, other, until),
            Fault::OneWay(from, to) => self.hush(from, to, until),
            Fault::Alone(node) => (0..NODES).for_each(|other| self.sever(node, other, until)),
            Fault::Mute(node) => (0..NODES).for_each(|other| self.hush(node, other, until)),
            Fault::Unheeding(node) => (0..NODES).for_each(|other| self.hush(other, node, until)),
            Fault::MutePair(server, proxy) => {
                for other in (0..NODES).filter(|other| ![server, proxy].contains(other)) {
                    self.hush(server, other, until);
                    self.hush(proxy, other, until);
                }
            }
            Fault::Elsewhere(proxy) if self.dashboard_works() => self.shut_off_elsewhere(proxy),
            Fault::Split(server, proxy) => {
                for other in (0..NODES).filter(|other| ![server, proxy].contains(other)) {
                    self.sever(server, other, until);
                    self.sever(proxy, other, until);
                }
            }
            Fault::Die => self.dashboard.dies(until),
            Fault::Lead => self.leader = 1 - self.leader,
            Fault::Late(operator) => self.operators[operator].late = until,
            Fault::Deaf(operator) => self.operators[operator].deaf = until,
            Fault::Twice(operator) => self.operators[operator].twice = until,
            Fault::Change => self.servers.iter_mut().for_each(|server| server.outdated = true),
            Fault::Lag(server) if server < self.size => self.servers[server].lags = until,
            _ => {}
        }
    }

    fn tick(&mut self) {
        self.start_processes();
        for number in 0..PROXIES {
            self.write(number);
        }
        (0..self.size).for_each(|server| self.replicate(server));
        self.write_down();
        self.look();
        self.dashboard_tick();
        (0..2).for_each(|operator| self.operator_tick(operator));
        self.now += 1;
    }

    /// A client writes through a proxy.
    fn write(&mut self, number: usize) {
        let node = PROXY + number;
        let proxy = self.proxies[number];
        let asleep = !proxy.running || !self.awake(node);
        if !(self.now + 4 * number as Tick).is_multiple_of(WRITES) || proxy.locked || asleep || self.ledger.next >= 128
        {
            return;
        }
        if !self.is_up(proxy.primary) || !self.carries(node, proxy.primary) {
            return;
        }
        let now = self.now;
        let Some(process) = self.servers[proxy.primary].process.as_mut() else {
            return;
        };
        if !process.primary || !process.admitted || process.keeps_out[number] || process.is_stopped(now) {
            return;
        }
        let bit = 1 << self.ledger.next;
        process.data |= bit;
        process.offset += 1;
        self.ledger.next += 1;
        if self.carries(proxy.primary, node) {
            self.acknowledged(proxy.epoch, proxy.primary, bit);
        }
    }
}

/// How a history ended in which nothing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// Whether the group is led; otherwise nobody may lead it without a person's consent.
    pub(super) whole: bool,
    pub(super) failovers: usize,
}

/// Plays a history to its end.
///
/// # Errors
/// What went wrong.
pub(super) fn play(broken: Broken, seed: u64, events: &[Event]) -> Result<End, String> {
    let mut world = World::new(broken, seed);
    let over = events.iter().map(|event| event.at + event.lasts).max().unwrap_or(0) + 1;
    let changes = events.iter().any(|event| event.fault == Fault::Change);
    let end = over + BOUND + if changes { ROLLOUT } else { 0 };
    let (mut coming, mut calm) = (events.iter().peekable(), 0);
    while world.now < end {
        while let Some(event) = coming.next_if(|event| event.at < world.now) {
            world.happen(event);
        }
        world.tick();
        if let Some(wrong) = world.wrong.take() {
            return Err(wrong);
        }
        let settled = world.now > over
            && world.is_whole()
            && world.is_rolled_out()
            && world.operators.iter().all(Operator::is_idle);
        calm = if settled { calm + 1 } else { 0 };
        if calm > CALM {
            break;
        }
    }
    world.check_end();
    let end = End {
        whole: world.is_whole(),
        failovers: world.ledger.failovers,
    };
    world.wrong.map_or(Ok(end), Err)
}
