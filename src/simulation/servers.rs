//! Servers: processes that hold everything in memory, and some of it on a volume.

use std::fmt::Write;

use super::events::{PROXIES, SERVERS, Tick};
use super::world::World;
use crate::model::Info;

/// How long a primary goes on without word of a replica at most: 2 s of lag, counted in whole seconds.
const FENCE: Tick = 30;
/// How long a copy takes.
const COPY: Tick = 5;
/// How long reading a volume takes.
const LOAD: Tick = 4;
/// How often a log is certainly on its disk, and how often everything is dumped.
const SYNC: Tick = 10;
const DUMP: Tick = 60;
/// How long a connection carries what one end sends although no word of the other arrives: then it waits for that.
const WINDOW: Tick = 10;

/// What servers write down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Volume {
    /// Nothing.
    None,
    /// All that they do (an append-only file): whoever reads it begins a new history.
    Log,
    /// All that they have, from time to time and when they are told to end, with its history.
    Dump,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It is told to, and has the time for it.
    Told,
    /// At once.
    Killed,
    /// With its node.
    Dark,
}

/// What is on a volume.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Disk {
    pub(super) data: u128,
    pub(super) history: u32,
    pub(super) offset: i64,
}

/// A server's place in the world.
#[derive(Default)]
pub(super) struct Server {
    pub(super) process: Option<Process>,
    /// When the next process starts, where there is none.
    pub(super) starts: Tick,
    /// When its node has power again.
    pub(super) dark: Tick,
    /// When its node lost its power.
    pub(super) dark_since: Tick,
    /// Whether its pod is another one than before and does not run yet.
    pub(super) pending: bool,
    pub(super) uid: u32,
    /// Whether its pod is made as was wanted before.
    pub(super) outdated: bool,
    /// When its pod, which is told to end, is gone.
    pub(super) leaves: Option<Tick>,
    /// Until when it copies nothing.
    pub(super) lags: Tick,
    /// What the next process reads, if there is a volume.
    pub(super) disk: Option<Disk>,
    /// What of a log is certain to be there when the power goes.
    pub(super) synced: u128,
    pub(super) said: Said,
}

impl Server {
    fn log(&mut self, process: &Process) {
        self.disk.iter_mut().for_each(|disk| disk.data = process.data);
    }

    fn dump(&mut self, process: &Process) {
        self.disk = Some(Disk {
            data: process.data,
            history: process.history,
            offset: process.offset,
        });
    }
}

/// What a server said last.
#[derive(Default)]
pub(super) struct Said {
    text: String,
    spare: String,
    info: Info,
    version: u32,
}

/// A process.
#[derive(Debug, Clone, Default)]
pub(super) struct Process {
    pub(super) run: u32,
    pub(super) primary: bool,
    pub(super) admitted: bool,
    pub(super) follows: Option<usize>,
    pub(super) history: u32,
    pub(super) former: Option<(u32, i64)>,
    pub(super) offset: i64,
    /// The writes that it holds.
    pub(super) data: u128,
    pub(super) fence: bool,
    pub(super) paused: Tick,
    pub(super) keeps_out: [bool; PROXIES],
    pub(super) began: Tick,
    /// When it has read its volume.
    pub(super) loads: Tick,
    /// From where on it can tell others what they lack.
    pub(super) backlog: i64,
    /// When its copy is complete.
    pub(super) copied: Option<Tick>,
    pub(super) linked: bool,
    /// The process that it is linked to.
    pub(super) source: u32,
    pub(super) heard: Tick,
    /// When what both ends of its link sent arrived.
    pub(super) both: Tick,
    /// By how much its clock jumped since it heard of its primary.
    pub(super) leap: i64,
    /// When it last heard of each of its replicas.
    pub(super) heard_of: [Tick; SERVERS],
    /// By how much its clock jumped since.
    pub(super) leap_of: [i64; SERVERS],
}

impl Process {
    /// Whether it stopped taking writes by itself.
    pub(super) fn is_stopped(&self, now: Tick) -> bool {
        let alone = (0..SERVERS).all(|place| self.lag(place, now) > i64::from(FENCE));
        (self.fence && alone) || self.paused > now
    }

    /// How long it has not heard of a replica, by its clock.
    fn lag(&self, place: usize, now: Tick) -> i64 {
        i64::from(now) - i64::from(self.heard_of[place]) + self.leap_of[place]
    }

    pub(super) fn is_loading(&self, now: Tick) -> bool {
        self.loads > now
    }

    pub(super) fn lead(&mut self, history: u32) {
        if !self.primary {
            self.former = Some((self.history, self.offset));
            self.history = history;
            (self.heard_of, self.leap_of) = ([0; SERVERS], [0; SERVERS]);
        }
        (self.primary, self.follows, self.copied) = (true, None, None);
        (self.admitted, self.fence, self.paused) = (true, false, 0);
    }

    pub(super) fn follow(&mut self, primary: usize, now: Tick) {
        if self.primary || self.follows != Some(primary) {
            (self.linked, self.copied, self.heard, self.leap) = (false, None, now, 0);
        }
        (self.primary, self.follows, self.admitted) = (false, Some(primary), true);
        (self.fence, self.paused) = (false, 0);
    }

    fn goes_on_from(&self, primary: &Self) -> bool {
        let same = self.history == primary.history && self.offset <= primary.offset;
        let before = primary
            .former
            .is_some_and(|(id, end)| id == self.history && self.offset <= end);
        (same || before) && self.offset >= primary.backlog
    }

    fn describe(&self, text: &mut String, now: Tick) {
        let loads = self.is_loading(now);
        let keys = if loads { 0 } else { self.data.count_ones() };
        let role = if self.primary { "master" } else { "slave" };
        let _ = writeln!(
            text,
            "run_id:r{}\nrole:{role}\nmaster_replid:h{}\nmaster_repl_offset:{}\ndb0:keys={keys}",
            self.run, self.history, self.offset
        );
        if let Some((id, end)) = self.former {
            let _ = writeln!(text, "master_replid2:h{id}\nsecond_repl_offset:{}", end + 1);
        }
        if self.primary {
            for place in (0..SERVERS).filter(|place| self.heard_of[*place] > 0) {
                let lag = self.lag(place, now).div_euclid(10);
                let _ = writeln!(
                    text,
                    "slave{place}:ip=10.0.0.{place},port=1,state=online,offset=0,lag={lag}"
                );
            }
        } else {
            let silence = (i64::from(now) - i64::from(self.heard) + self.leap).div_euclid(10);
            let copying = u8::from(self.copied.is_some());
            let _ = if self.linked {
                writeln!(text, "master_link_status:up\nmaster_last_io_seconds_ago:{silence}")
            } else {
                writeln!(
                    text,
                    "master_link_status:down\nmaster_link_down_since_seconds:{silence}"
                )
            };
            let _ = writeln!(text, "master_sync_in_progress:{copying}\nloading:{}", u8::from(loads));
            if !self.linked || silence < 0 {
                let _ = writeln!(text, "uptime_in_seconds:{}", (now - self.began) / 10);
            }
        }
    }
}

impl World {
    /// What a server says, and which of its answers that is: the same number for the same words. `None`: it is not there,
    /// whoever asks.
    pub(super) fn info(&mut self, place: usize) -> Option<(&Info, u32)> {
        let (now, awake) = (self.now, self.awake(place));
        let server = &mut self.servers[place];
        let process = server.process.as_ref().filter(|_| awake && server.dark <= now)?;
        let said = &mut server.said;
        said.spare.clear();
        process.describe(&mut said.spare, now);
        if said.spare != said.text {
            std::mem::swap(&mut said.spare, &mut said.text);
            said.info = Info::parse(&said.text);
            said.version += 1;
        }
        Some((&said.info, said.version))
    }

    /// Whether a server's process works.
    pub(super) fn is_up(&self, place: usize) -> bool {
        let server = &self.servers[place];
        server.process.is_some() && server.dark <= self.now && self.awake(place)
    }

    /// Whether a server can be asked by another one.
    pub(super) fn hears(&self, node: usize, place: usize) -> bool {
        self.is_up(place) && self.reach(node, place)
    }

    /// A process ends, and all that it held with it that is not on its volume.
    pub(super) fn end_process(&mut self, place: usize, how: End, starts: Tick) {
        let (now, volume) = (self.now, self.volume);
        let server = &mut self.servers[place];
        if let Some(process) = server.process.take() {
            match (volume, how) {
                // What was read is there still.
                _ if process.is_loading(now) => {}
                (Volume::Dump, End::Told) => server.dump(&process),
                (Volume::Log, End::Dark) => {
                    let synced = server.synced;
                    server.disk.iter_mut().for_each(|disk| disk.data = synced);
                }
                _ => {}
            }
            self.forgotten(process.data);
        }
        self.servers[place].starts = self.servers[place].starts.max(starts);
    }

    /// Servers write down what they have.
    pub(super) fn write_down(&mut self) {
        let (now, volume) = (self.now, self.volume);
        if volume == Volume::None {
            return;
        }
        for place in 0..self.size {
            let works = self.is_up(place);
            let server = &mut self.servers[place];
            let Some(process) = server.process.take_if(|process| works && !process.is_loading(now)) else {
                continue;
            };
            match volume {
                Volume::Log => {
                    server.log(&process);
                    if now.is_multiple_of(SYNC) {
                        server.synced = process.data;
                    }
                }
                Volume::Dump if now.is_multiple_of(DUMP) => server.dump(&process),
                Volume::Dump | Volume::None => {}
            }
            server.process = Some(process);
        }
    }

    /// A server's wall clock jumps.
    pub(super) fn turn_clock(&mut self, place: usize, jump: i64) {
        if let Some(process) = self.servers[place].process.as_mut() {
            process.leap += jump;
            // Nothing helps against a primary whose clock is put back while nobody reaches it: it stops that much later.
            let jump = jump.max(0);
            for other in (0..SERVERS).filter(|other| process.heard_of[*other] > 0) {
                process.leap_of[other] += jump;
            }
        }
    }

    pub(super) fn start_processes(&mut self) {
        for place in 0..self.size {
            if self.servers[place].leaves.is_some_and(|at| at <= self.now) {
                self.renew(place);
            }
            let server = &self.servers[place];
            if server.process.is_none() && server.starts <= self.now && server.dark <= self.now {
                let (run, history) = (self.fresh(), self.fresh());
                let volume = self.volume;
                let server = &mut self.servers[place];
                let read = server.disk.unwrap_or_default();
                server.pending = false;
                server.synced = read.data;
                let (history, offset) = match volume {
                    Volume::Dump if read.history > 0 => (read.history, read.offset),
                    _ => (history, 0),
                };
                server.process = Some(Process {
                    run,
                    history,
                    offset,
                    backlog: offset,
                    data: read.data,
                    loads: if read.data == 0 { 0 } else { self.now + LOAD },
                    primary: false,
                    began: self.now,
                    heard: self.now,
                    ..Process::default()
                });
            }
        }
    }

    /// One tick of a replica.
    pub(super) fn replicate(&mut self, place: usize) {
        let now = self.now;
        let awake = self.awake(place) && self.servers[place].dark <= now;
        let follows = self.servers[place].process.as_ref().and_then(|process| process.follows);
        let Some(source) = follows.filter(|source| awake && *source != place) else {
            return;
        };
        let (asks, hears) = (self.carries(place, source), self.carries(source, place));
        let refused = self.servers[source].process.is_none() && self.servers[source].dark <= now && hears;
        let up = self.is_up(source);
        let heard = up && asks && hears;
        let lags = self.servers[place].lags > now;
        let Ok([server, primary]) = self.servers.get_disjoint_mut([place, source]) else {
            return;
        };
        let Some(process) = server.process.as_mut() else { return };
        let primary = match primary.process.as_mut() {
            Some(primary) if up && (asks || hears) && primary.primary && primary.admitted => primary,
            _ if refused || heard => {
                (process.linked, process.copied) = (false, None);
                return;
            }
            _ => return,
        };
        if process.linked && process.source == primary.run && process.history == primary.history {
            if heard {
                process.both = now;
            }
            let flows = process.both + WINDOW >= now;
            if hears && flows {
                (process.heard, process.leap) = (now, 0);
                if !lags {
                    (process.data, process.offset) = (primary.data, primary.offset);
                }
            }
            if asks && flows {
                (primary.heard_of[place], primary.leap_of[place]) = (now, 0);
            }
        } else if heard && process.copied.is_none() && process.goes_on_from(primary) {
            (process.linked, process.source) = (true, primary.run);
            (process.heard, process.leap, process.both) = (now, 0, now);
            (process.history, process.former) = (primary.history, primary.former);
        } else if heard {
            process.linked = false;
            (process.heard, process.leap) = (now, 0);
            let ready = *process.copied.get_or_insert(now + COPY);
            if ready <= now {
                let lost = process.data & !primary.data;
                (process.data, process.offset) = (primary.data, primary.offset);
                (process.history, process.former) = (primary.history, primary.former);
                (process.linked, process.source, process.copied) = (true, primary.run, None);
                (process.both, process.backlog) = (now, primary.offset);
                if let Some(disk) = server.disk.as_mut() {
                    (disk.data, disk.history, disk.offset) = (process.data, process.history, process.offset);
                }
                self.wiped(place, lost);
            }
        }
    }
}
