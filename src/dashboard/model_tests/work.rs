//! What dashboards do in several pieces, as `promotion`, `moves`, `proxies`, `users` and `roles` do it: between any two
//! pieces anything else may happen, and a dashboard that dies or sleeps leaves the rest undone.

use super::known::used;
use super::steps::{Fate, Fates};
use super::world::World;
use crate::dashboard::error::Error;
use crate::dashboard::rules::actions::{self, Outcome};
use crate::dashboard::rules::promotion::{self, Acknowledged, Leader, Wish};
use crate::dashboard::rules::proxies::{self, Registration};
use crate::dashboard::rules::{groups, slot_moves, slots};
use crate::dashboard::topology::Change;
use crate::model::{
    Group, GroupId, HostPort, PromoteState, Proxy, ProxyToken, ServerUserKind, SlotActionState, SlotId,
};

/// Something under way.
#[derive(Debug)]
pub(super) enum Op {
    Promote(Promote),
    Moves(Moves),
    Online(Online),
    Tell { slots: Vec<SlotId>, groups: Vec<GroupId> },
    Tighten(Tighten),
    Role(Role),
}

#[derive(Debug)]
pub(super) struct Promote {
    pub(super) group: GroupId,
    pub(super) shut_off: bool,
    pub(super) at: Promotion,
}

#[derive(Debug)]
pub(super) enum Promotion {
    Look,
    Locked {
        acknowledged: Vec<Acknowledged>,
        missing: Vec<ProxyToken>,
    },
    Led(Leader),
    Unlocked {
        known: bool,
    },
    GiveUp,
    TellLast,
}

#[derive(Debug)]
pub(super) struct Moves {
    chosen: Vec<SlotId>,
    at: Move,
}

#[derive(Debug)]
enum Move {
    Begin,
    Lock,
    Locked(Vec<Acknowledged>),
    Looked {
        acknowledged: Vec<Acknowledged>,
        empty: Vec<SlotId>,
    },
    Undo,
    TellLast,
}

#[derive(Debug)]
pub(super) struct Online {
    pub(super) host: usize,
    pub(super) at: Coming,
}

#[derive(Debug)]
pub(super) enum Coming {
    Register(Registration),
    Push {
        proxy: Box<Proxy>,
        tries: u8,
    },
    Pushed {
        proxy: Box<Proxy>,
        epochs: Vec<i64>,
        tries: u8,
    },
    LetIn(Box<Proxy>),
    Start(Box<Proxy>),
}

#[derive(Debug)]
pub(super) enum Tighten {
    Begin,
    Tell {
        proxies: Vec<ServerUserKind>,
    },
    Note {
        proxies: Vec<ServerUserKind>,
        told: Vec<HostPort>,
    },
}

#[derive(Debug)]
pub(super) struct Role {
    pub(super) group: GroupId,
    server: HostPort,
    at: Giving,
}

#[derive(Debug)]
enum Giving {
    Begin,
    Command { run_id: String, lead: bool },
    End(Outcome),
}

/// What becomes of an operation after a piece of it.
enum Next {
    On(Op),
    Done,
}

/// A piece that failed so that the rest is left to whoever comes next.
type Piece = Result<Next, Error>;

impl Moves {
    fn new(chosen: Vec<SlotId>) -> Self {
        Self {
            chosen,
            at: Move::Begin,
        }
    }
}

impl World {
    /// Goes on with one operation of a dashboard.
    pub(super) fn work(&mut self, d: usize, number: usize, fates: &Fates, insist: bool) {
        let ops = &mut self.dashboards[d].ops;
        if ops.is_empty() {
            return;
        }
        let number = number % ops.len();
        let next = match ops.remove(number) {
            Op::Promote(op) => self.promote(d, op, fates, insist),
            Op::Moves(op) => self.move_slots(d, op, fates, insist),
            Op::Online(op) => self.online(d, op, fates),
            Op::Tell { slots, groups } => self.tell(d, &slots, &groups, fates),
            Op::Tighten(op) => self.tighten(d, op),
            Op::Role(op) => self.give_role(d, op),
        };
        if let Ok(Next::On(op)) = next {
            self.dashboards[d].ops.insert(number, op);
        }
    }

    /// Looks for what was left undone.
    pub(super) fn look(&mut self, d: usize) {
        let topology = self.topology(d);
        for group in topology.groups() {
            let ops = &self.dashboards[d].ops;
            let promotes = ops
                .iter()
                .any(|op| matches!(op, Op::Promote(op) if op.group == group.id));
            let gives = ops.iter().any(|op| matches!(op, Op::Role(op) if op.group == group.id));
            if !group.promoting.state.is_nothing() && !promotes && !self.broken.resume {
                self.dashboards[d].ops.push(Op::Promote(Promote {
                    group: group.id,
                    shut_off: false,
                    at: Promotion::Look,
                }));
            }
            let waiting = actions::waiting(group);
            if let Some(server) = waiting.into_iter().find(|name| self.server(d, name).is_some())
                && !gives
            {
                self.dashboards[d].ops.push(Op::Role(Role {
                    group: group.id,
                    server,
                    at: Giving::Begin,
                }));
            }
        }
        let moves = self.dashboards[d].ops.iter().any(|op| matches!(op, Op::Moves(_)));
        let waiting = slot_moves::waiting(&topology);
        let chosen: Vec<SlotId> = waiting
            .iter()
            .filter(|slot| slot.action.state == SlotActionState::Preparing || !self.full.contains(&slot.id))
            .map(|slot| slot.id)
            .collect();
        let left = waiting
            .iter()
            .any(|slot| slot.action.state == SlotActionState::Preparing);
        let links = &self.dashboards[d].term.links;
        let silent = topology
            .proxies()
            .any(|proxy| !proxy.shut_off && !links.of(&proxy.token).is_complete());
        if !moves && !chosen.is_empty() && (left || !silent) {
            self.dashboards[d].ops.push(Op::Moves(Moves::new(chosen)));
        }
    }

    /// Tells all proxies. Who acknowledged, and who did not.
    fn tell_all(&mut self, d: usize, slots: &[SlotId], fates: &Fates) -> (Vec<Acknowledged>, Vec<Proxy>) {
        let (mut acknowledged, mut missing) = (Vec::new(), Vec::new());
        let topology = self.topology(d);
        let kept_out = topology.servers().all(|(_, server)| server.prepared);
        for proxy in topology.proxies().filter(|proxy| !(proxy.shut_off && kept_out)) {
            let host = self.hosts.iter().position(|host| host.token == proxy.token);
            let fate = host.map_or(Fate::Lost, |host| fates[host]);
            match self.push(d, proxy, slots, fate) {
                Some(_) => acknowledged.push((proxy.token.clone(), proxy.incarnation.clone())),
                None => missing.push(proxy.clone()),
            }
        }
        (acknowledged, missing)
    }

    fn everybody(&self, d: usize) -> Vec<Acknowledged> {
        let topology = self.topology(d);
        let proxies = topology.proxies();
        proxies
            .map(|proxy| (proxy.token.clone(), proxy.incarnation.clone()))
            .collect()
    }

    /// Begins a promotion, unless it can't come true.
    pub(super) fn wish(&mut self, d: usize, wish: &Wish, shut_off: bool) -> Option<()> {
        let ops = &self.dashboards[d].ops;
        if ops
            .iter()
            .any(|op| matches!(op, Op::Promote(op) if op.group == wish.group))
        {
            return None;
        }
        self.server(d, &wish.server)?;
        self.change(d, |topology| promotion::begin(topology, wish)).ok()?;
        self.dashboards[d].ops.push(Op::Promote(Promote {
            group: wish.group,
            shut_off,
            at: Promotion::Look,
        }));
        Some(())
    }

    fn promote(&mut self, d: usize, mut op: Promote, fates: &Fates, insist: bool) -> Piece {
        let id = op.group;
        let ops = &self.dashboards[d].ops;
        let role = |op: &Op| matches!(op, Op::Role(op) if op.group == id && !matches!(op.at, Giving::Begin));
        if matches!(op.at, Promotion::Look) && ops.iter().any(role) {
            return Ok(Next::On(Op::Promote(op)));
        }
        op.at = match op.at {
            Promotion::Look => {
                self.catch_up(d)?;
                let topology = self.topology(d);
                let Some(group) = topology.group(id) else {
                    return Ok(Next::Done);
                };
                let slots = slots::of_group(&topology, id);
                match group.promoting.state {
                    PromoteState::Nothing => return Ok(Next::Done),
                    PromoteState::Preparing => {
                        let (acknowledged, missing) = self.tell_all(d, &slots, fates);
                        let missing = missing.into_iter().filter(|proxy| promotion::has_vote(proxy, group));
                        Promotion::Locked {
                            acknowledged,
                            missing: missing.map(|proxy| proxy.token).collect(),
                        }
                    }
                    PromoteState::Prepared => match self.lead(d, group)? {
                        Some(leader) => Promotion::Led(leader),
                        None => Promotion::GiveUp,
                    },
                    PromoteState::Finished => {
                        let (_, missing) = self.tell_all(d, &slots, fates);
                        Promotion::Unlocked {
                            known: missing.is_empty(),
                        }
                    }
                }
            }
            Promotion::Locked {
                mut acknowledged,
                missing,
            } => {
                if self.broken.voters {
                    acknowledged = self.everybody(d);
                }
                match self.change(d, |topology| promotion::prepared(topology, id, &acknowledged)) {
                    Ok(_) => Promotion::Look,
                    Err(Error::Refused(_)) if op.shut_off && !missing.is_empty() => {
                        for token in &missing {
                            match self.change(d, |topology| proxies::shut_off(topology, token)) {
                                Ok(_) => self.dashboards[d].ops.push(Op::Tighten(Tighten::Begin)),
                                Err(Error::Refused(_)) => {}
                                Err(error) => return Err(error),
                            }
                        }
                        Promotion::Look
                    }
                    Err(Error::Refused(_)) if insist => Promotion::Look,
                    Err(Error::Refused(_)) => Promotion::GiveUp,
                    Err(error) => return Err(error),
                }
            }
            Promotion::Led(leader) => match self.change(d, |topology| {
                promotion::finished(topology, id, &leader, promotion::Turnover::default())
            }) {
                Ok(_) => Promotion::Look,
                Err(Error::Refused(_)) => Promotion::GiveUp,
                Err(error) => return Err(error),
            },
            Promotion::Unlocked { known } => {
                self.change(d, |topology| promotion::done(topology, id, known, 0))?;
                Promotion::TellLast
            }
            Promotion::GiveUp => {
                self.change(d, |topology| promotion::undo(topology, id))?;
                Promotion::TellLast
            }
            Promotion::TellLast => {
                let slots = slots::of_group(&self.topology(d), id);
                self.tell_all(d, &slots, fates);
                return Ok(Next::Done);
            }
        };
        Ok(Next::On(Op::Promote(op)))
    }

    /// Makes the candidate the primary, if that can be.
    fn lead(&mut self, d: usize, group: &Group) -> Result<Option<Leader>, Error> {
        let place = usize::try_from(group.promoting.index).unwrap_or(usize::MAX);
        let former = &group.servers[0];
        let Some(candidate) = group.servers.get(place).map(|record| &record.server) else {
            return Ok(None);
        };
        if self.server(d, candidate).is_none() {
            return Ok(None);
        }
        let run_id = self.server(d, &former.server).map(|server| server.run_id());
        match run_id.filter(|_| former.admitted_run_id.is_some()) {
            Some(run_id) if former.admitted_run_id.as_ref() == Some(&run_id) => {
                let history = format!("h-{run_id}");
                self.change(d, |topology| promotion::going_on_from(topology, group.id, &history, 1))?;
                self.let_in(d, &former.server);
            }
            // One that was started anew lets nobody in.
            Some(_) => {}
            None if former.leaky && !group.promoting.forced && !self.broken.leaks => {
                let stopped = self
                    .servers
                    .iter()
                    .any(|server| server.name == former.server && server.stopped);
                if !(group.fenced && stopped) {
                    return Ok(None);
                }
            }
            None => {}
        }
        self.let_in(d, candidate);
        Ok(self.server(d, candidate).map(|server| {
            (server.fence, server.stopped) = (false, false);
            Leader {
                run_id: server.run_id(),
                prepared: server.prepared,
                history: format!("h-{}", server.run_id()),
                offset: 1,
                fenced: false,
            }
        }))
    }

    fn move_slots(&mut self, d: usize, mut op: Moves, fates: &Fates, insist: bool) -> Piece {
        let chosen = &op.chosen;
        op.at = match op.at {
            Move::Begin => match self.change(d, |topology| slot_moves::begin(topology, chosen)) {
                Ok(_) => Move::Lock,
                Err(_) => Move::Undo,
            },
            Move::Lock => {
                let (acknowledged, _) = self.tell_all(d, chosen, fates);
                Move::Locked(acknowledged)
            }
            Move::Locked(mut acknowledged) => {
                if self.broken.voters {
                    acknowledged = self.everybody(d);
                }
                let locked = slot_moves::locked(&self.topology(d), chosen, &acknowledged);
                match locked {
                    Err(_) if !self.broken.looks && insist => Move::Lock,
                    Err(_) if !self.broken.looks => Move::Undo,
                    _ => {
                        let empty: Vec<_> = chosen.iter().filter(|id| !self.full.contains(id)).copied().collect();
                        self.seen_empty.extend(empty.iter().map(|id| (*id, false)));
                        Move::Looked { acknowledged, empty }
                    }
                }
            }
            Move::Looked { acknowledged, empty } => {
                let full: Vec<_> = chosen.iter().filter(|id| !empty.contains(id)).copied().collect();
                let undone = self.change(d, |topology| slot_moves::undo(topology, &full));
                match undone.and_then(|_| self.change(d, |t| slot_moves::finish(t, &empty, &acknowledged))) {
                    Ok(changes) => {
                        self.note_moved(&changes);
                        Move::TellLast
                    }
                    Err(Error::Refused(_)) if insist => Move::Lock,
                    Err(_) => Move::Undo,
                }
            }
            Move::Undo => {
                self.change(d, |topology| slot_moves::undo(topology, chosen))?;
                Move::TellLast
            }
            Move::TellLast => {
                self.tell_all(d, chosen, fates);
                return Ok(Next::Done);
            }
        };
        Ok(Next::On(Op::Moves(op)))
    }

    /// A slot that was given away must have stayed as empty as it was seen to be.
    fn note_moved(&mut self, changes: &[Change]) {
        let moved = changes.iter().filter_map(|change| match change {
            Change::PutSlot(slot) => Some(slot.id),
            _ => None,
        });
        for id in moved {
            if self.seen_empty.remove(&id) == Some(true) {
                self.wrong = Some(format!(
                    "slot {id} moved, and was written to after it was seen to be empty"
                ));
            }
        }
    }

    fn online(&mut self, d: usize, mut op: Online, fates: &Fates) -> Piece {
        let fate = fates[op.host];
        let answers = self.hosts[op.host].process.answers();
        op.at = match op.at {
            Coming::Register(how) => {
                let model = self.hosts[op.host].model();
                if !answers {
                    return Ok(Next::Done);
                }
                self.change(d, |topology| proxies::register(topology, &model, how))?;
                match self.topology(d).proxy(&model.token) {
                    Some(proxy) => Coming::Push {
                        proxy: Box::new(proxy.clone()),
                        tries: 3,
                    },
                    None => return Ok(Next::Done),
                }
            }
            Coming::Push { proxy, tries } => {
                let all: Vec<SlotId> = SlotId::all().collect();
                match self.push(d, &proxy, &all, fate) {
                    Some(pushed) => Coming::Pushed {
                        proxy,
                        epochs: pushed.iter().map(|slot| slot.epoch).collect(),
                        tries: tries - 1,
                    },
                    None => return Ok(Next::Done),
                }
            }
            Coming::Pushed {
                proxy,
                mut epochs,
                tries,
            } => {
                if self.broken.let_in {
                    let topology = self.topology(d);
                    epochs = SlotId::all().map(|id| topology.epoch(id)).collect();
                }
                match self.change(d, |topology| proxies::let_in(topology, &proxy, &epochs)) {
                    Ok(changes) if changes.is_empty() => Coming::Start(proxy),
                    Ok(_) => Coming::LetIn(proxy),
                    Err(Error::Refused(_)) if tries > 0 => Coming::Push { proxy, tries },
                    Err(error) => return Err(error),
                }
            }
            Coming::LetIn(proxy) => {
                self.tell_servers(d);
                Coming::Start(proxy)
            }
            Coming::Start(proxy) => {
                let process = &mut self.hosts[op.host].process;
                let hears = fate != Fate::Lost && process.incarnation == proxy.incarnation;
                if !(hears && process.start() && fate == Fate::Arrives) {
                    self.dashboards[d].term.links.of(&proxy.token).doubt();
                }
                return Ok(Next::Done);
            }
        };
        Ok(Next::On(Op::Online(op)))
    }

    fn tell(&mut self, d: usize, slots: &[SlotId], groups: &[GroupId], fates: &Fates) -> Piece {
        let (_, missing) = self.tell_all(d, slots, fates);
        if missing.iter().all(|proxy| proxy.shut_off) {
            self.change(d, |topology| groups::in_sync(topology, groups))?;
        }
        Ok(Next::Done)
    }

    /// Tells the servers that hold their roles which proxies to let in. Those that were told.
    fn tell_servers(&mut self, d: usize) -> Vec<HostPort> {
        let topology = self.topology(d);
        let mut told = Vec::new();
        for (_, record) in topology.servers().filter(|(_, server)| server.prepared) {
            let Some(server) = self.server(d, &record.server) else {
                continue;
            };
            // One that was restarted is told when it gets its role.
            if record.admitted_run_id.as_ref() == Some(&server.run_id()) {
                self.let_in(d, &record.server);
                told.push(record.server.clone());
            }
        }
        told
    }

    fn tighten(&mut self, d: usize, op: Tighten) -> Piece {
        let next = match op {
            Tighten::Begin => Tighten::Tell {
                proxies: self.topology(d).admitted_proxies(),
            },
            Tighten::Tell { proxies } => Tighten::Note {
                proxies,
                told: self.tell_servers(d),
            },
            Tighten::Note { proxies, told } => {
                self.note_tight(d, &told, &proxies)?;
                return Ok(Next::Done);
            }
        };
        Ok(Next::On(Op::Tighten(next)))
    }

    /// Records which of these servers let in nobody who was shut off.
    fn note_tight(&mut self, d: usize, servers: &[HostPort], before: &[ServerUserKind]) -> Result<(), Error> {
        let known = &self.dashboards[d].let_in;
        let lets_in = |name: &HostPort| match self.broken.notes {
            true => Some(before.to_vec()),
            false => known.get(name).cloned(),
        };
        let told: Vec<_> = servers
            .iter()
            .filter_map(|name| Some((name.clone(), lets_in(name)?)))
            .collect();
        self.change(d, |topology| Ok(proxies::tight(topology, &told))).map(drop)
    }

    /// What the poller of a server does after each poll.
    pub(super) fn poll_server(&mut self, d: usize, name: &HostPort) {
        let topology = self.topology(d);
        let Some((group, place)) = topology.group_of(name) else {
            return;
        };
        let record = &group.servers[place];
        let run_id = self.server(d, name).map(|server| server.run_id());
        if run_id.is_none() || record.admitted_run_id != run_id {
            self.dashboards[d].told.remove(name);
            return;
        }
        let run_id = run_id.unwrap_or_default();
        let is_told = self.dashboards[d].told.get(name) == Some(&(run_id.clone(), topology.admitted_proxies()));
        if is_told && !record.leaky {
            return;
        }
        let Some(proxies) = self.let_in(d, name) else { return };
        if record.leaky {
            let _ = self.note_tight(d, std::slice::from_ref(name), &proxies);
        }
        self.dashboards[d].told.insert(name.clone(), (run_id, proxies));
    }

    fn give_role(&mut self, d: usize, mut op: Role) -> Piece {
        let (id, name) = (op.group, op.server.clone());
        op.at = match op.at {
            Giving::Begin => {
                let ops = &self.dashboards[d].ops;
                if ops.iter().any(|op| matches!(op, Op::Promote(op) if op.group == id)) {
                    return Ok(Next::On(Op::Role(op)));
                }
                let topology = self.topology(d);
                let place = topology.group_of(&name).filter(|(group, _)| group.id == id);
                let run_id = self.server(d, &name).map(|server| server.run_id());
                let (Some((_, place)), Some(run_id)) = (place, run_id) else {
                    return Ok(Next::Done);
                };
                self.change(d, |topology| actions::begin(topology, id, &name, place, &run_id))?;
                Giving::Command {
                    run_id,
                    lead: place == 0,
                }
            }
            Giving::Command { run_id, lead } => {
                let same = self
                    .server(d, &name)
                    .filter(|server| server.run_id() == run_id)
                    .is_some();
                let told = if same { self.let_in(d, &name) } else { None };
                match (told, self.server(d, &name)) {
                    (Some(_), Some(server)) => {
                        server.stopped = false;
                        Giving::End(Outcome::Admitted {
                            history: lead.then(|| (format!("h-{run_id}"), 1)),
                            run_id,
                            prepared: server.prepared,
                        })
                    }
                    _ => Giving::End(Outcome::Postponed),
                }
            }
            Giving::End(outcome) => {
                self.change(d, |topology| actions::end(topology, &name, &outcome))?;
                return Ok(Next::Done);
            }
        };
        Ok(Next::On(Op::Role(op)))
    }

    /// Whether all slots that are used have an owner.
    pub(super) fn owned(&self) -> usize {
        let topology = self.topology(self.active());
        used().filter(|id| topology.slot(*id).group_id != 0).count()
    }
}
