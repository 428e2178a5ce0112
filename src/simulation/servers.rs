//! Servers: processes that hold everything in memory.

use std::fmt::Write;

use super::events::{PROXIES, SERVERS, Tick};
use super::world::World;
use crate::model::Info;

/// How long a primary goes on without word of a replica at most: 2 s of lag, counted in whole seconds.
const FENCE: Tick = 30;
/// How long a copy takes.
const COPY: Tick = 5;

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
    pub(super) said: Said,
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
    /// When its copy is complete.
    pub(super) copied: Option<Tick>,
    pub(super) linked: bool,
    /// The process that it is linked to.
    pub(super) source: u32,
    pub(super) heard: Tick,
    /// When it last heard of each of its replicas.
    pub(super) heard_of: [Tick; SERVERS],
}

impl Process {
    /// Whether it stopped taking writes by itself.
    pub(super) fn is_stopped(&self, now: Tick) -> bool {
        let alone = self.heard_of.iter().all(|heard| heard + FENCE < now);
        (self.fence && alone) || self.paused > now
    }

    pub(super) fn lead(&mut self, history: u32) {
        if !self.primary {
            self.former = Some((self.history, self.offset));
            self.history = history;
            self.heard_of = [0; SERVERS];
        }
        (self.primary, self.follows, self.copied) = (true, None, None);
        (self.admitted, self.fence, self.paused) = (true, false, 0);
    }

    pub(super) fn follow(&mut self, primary: usize, now: Tick) {
        if self.primary || self.follows != Some(primary) {
            (self.linked, self.copied, self.heard) = (false, None, now);
        }
        (self.primary, self.follows, self.admitted) = (false, Some(primary), true);
        (self.fence, self.paused) = (false, 0);
    }

    fn goes_on_from(&self, primary: &Self) -> bool {
        let same = self.history == primary.history && self.offset <= primary.offset;
        let before = primary
            .former
            .is_some_and(|(id, end)| id == self.history && self.offset <= end);
        same || before
    }

    fn describe(&self, text: &mut String, now: Tick) {
        let keys = self.data.count_ones();
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
            for (place, heard) in self.heard_of.iter().enumerate().filter(|(_, heard)| **heard > 0) {
                let lag = (now - heard) / 10;
                let _ = writeln!(
                    text,
                    "slave{place}:ip=10.0.0.{place},port=1,state=online,offset=0,lag={lag}"
                );
            }
        } else {
            let silence = now.saturating_sub(self.heard) / 10;
            let copying = u8::from(self.copied.is_some());
            let _ = if self.linked {
                writeln!(text, "master_link_status:up\nmaster_last_io_seconds_ago:{silence}")
            } else {
                writeln!(
                    text,
                    "master_link_status:down\nmaster_link_down_since_seconds:{silence}"
                )
            };
            let _ = writeln!(text, "master_sync_in_progress:{copying}");
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

    /// Whether a server can be asked by another one.
    pub(super) fn hears(&self, node: usize, place: usize) -> bool {
        let server = &self.servers[place];
        server.process.is_some() && server.dark <= self.now && self.awake(place) && self.reach(node, place)
    }

    /// A process ends, and all that it held with it.
    pub(super) fn end_process(&mut self, place: usize, starts: Tick) {
        if let Some(process) = self.servers[place].process.take() {
            self.ledger.forgotten(&self.servers, process.data);
        }
        self.servers[place].starts = self.servers[place].starts.max(starts);
    }

    pub(super) fn start_processes(&mut self) {
        for place in 0..self.size {
            if self.servers[place].leaves.is_some_and(|at| at <= self.now) {
                self.renew(place);
            }
            let server = &self.servers[place];
            if server.process.is_none() && server.starts <= self.now && server.dark <= self.now {
                let (run, history) = (self.fresh(), self.fresh());
                self.servers[place].pending = false;
                self.servers[place].process = Some(Process {
                    run,
                    history,
                    primary: false,
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
        let refused = self.servers[source].process.is_none() && self.servers[source].dark <= now;
        let heard = self.hears(place, source);
        let lags = self.servers[place].lags > now;
        let Ok([server, primary]) = self.servers.get_disjoint_mut([place, source]) else {
            return;
        };
        let Some(process) = server.process.as_mut() else { return };
        let primary = match primary.process.as_mut() {
            Some(primary) if heard && primary.primary && primary.admitted => primary,
            _ if refused || heard => {
                (process.linked, process.copied) = (false, None);
                return;
            }
            _ => return,
        };
        if process.linked && process.source == primary.run && process.history == primary.history {
            (process.heard, primary.heard_of[place]) = (now, now);
            if !lags {
                (process.data, process.offset) = (primary.data, primary.offset);
            }
        } else if process.copied.is_none() && process.goes_on_from(primary) {
            (process.linked, process.source, process.heard) = (true, primary.run, now);
            (process.history, process.former) = (primary.history, primary.former);
        } else {
            process.linked = false;
            process.heard = now;
            let ready = *process.copied.get_or_insert(now + COPY);
            if ready <= now {
                let lost = process.data & !primary.data;
                (process.data, process.offset) = (primary.data, primary.offset);
                (process.history, process.former) = (primary.history, primary.former);
                (process.linked, process.source, process.copied) = (true, primary.run, None);
                self.wiped(place, lost);
            }
        }
    }
}
