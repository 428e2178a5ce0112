//! Plays a history: a product at work, any steps, and the end, when nothing fails any more.

use super::known::{USED, used};
use super::outside::Push;
use super::steps::{GOOD, Step};
use super::work::{Coming, Online, Op, Tighten};
use super::world::{Broken, HOSTS, World};
use crate::dashboard::in_sync::Findings;
use crate::dashboard::polls;
use crate::dashboard::rules::promotion::Wish;
use crate::dashboard::rules::proxies::Registration;
use crate::dashboard::rules::rebalance::Wanted;
use crate::dashboard::rules::{
    Ruling, actions, groups, mirror, proxies, rebalance, replica_groups, replication, sentinels, slot_actions, slots,
};
use crate::dashboard::topology::{Change, Topology};
use crate::dashboard::view;
use crate::model::{ActionState, GroupId, HostPort, Slot, SlotActionState, SlotId, SlotMapping};

/// How often everything that was left undone is looked for at the end.
const ROUNDS: usize = 12;
/// How many pieces of work that may take each time.
const PIECES: usize = 400;

/// Plays the steps. What went wrong, if anything.
pub(super) fn play(broken: Broken, steps: &[Step]) -> Result<(), String> {
    let mut world = at_work(broken)?;
    for step in steps {
        world.take(step);
        world.check()?;
    }
    settle(&mut world)
}

/// Group 1 with a, b, c, group 2 with d, e, group 3 with f; slots 0 to 3 are of group 1, 4 to 6 of group 2; three proxies.
fn at_work(broken: Broken) -> Result<World, String> {
    let mut world = World::empty(Broken {
        unfinished: false,
        ..broken
    });
    for (group, servers) in [(1, 0..3), (2, 3..5), (3, 5..6)] {
        world.take(&Step::CreateGroup(group));
        for server in servers {
            world.take(&Step::AddServer(group, server));
            world.take(&Step::AskRole(server));
            world.take(&Step::Look);
            world.work_off();
        }
    }
    world.take(&Step::Assign(0, 4, 1));
    world.take(&Step::Assign(4, 3, 2));
    for proxy in 0..3 {
        world.take(&Step::Online(proxy));
    }
    world.work_off();
    (1..=2).for_each(|group| world.take(&Step::Keep(group)));
    world.check()?;
    let all_at_work = world.hosts[..3].iter().all(|host| host.process.online);
    assert!(all_at_work && world.owned() == 7 && world.dashboards[0].ops.is_empty());
    world.broken = broken;
    Ok(world)
}

/// Groups 1 to 4, whichever number was drawn.
fn group_id(number: u8) -> GroupId {
    GroupId::new(1 + (i64::from(number) + 3) % 4).unwrap()
}

fn slot_numbers(first: u8, count: u8) -> impl Iterator<Item = SlotId> {
    let first = usize::from(first) % USED;
    used().skip(first).take(usize::from(count))
}

/// Those moves of a rebalance that are of slots that are used.
fn rebalance_used(topology: &Topology) -> Ruling {
    let mut changes = rebalance::confirm(topology, &Wanted::equal(true))?;
    changes.retain(|change| matches!(change, Change::PutSlot(slot) if slot.id.index() < USED));
    Ok(changes)
}

impl World {
    fn server_name(&self, number: u8) -> HostPort {
        self.servers[usize::from(number) % self.servers.len()].name.clone()
    }

    /// A call of the API that is one change.
    fn call(&mut self, rule: impl Fn(&Topology) -> Ruling) -> bool {
        self.change(self.active(), rule).is_ok()
    }

    fn begin(&mut self, op: Op) {
        let active = self.active();
        if self.dashboards[active].ops.len() < 8 {
            self.dashboards[active].ops.push(op);
        }
    }

    /// Does what is under way at the active dashboard to the end, if it comes to one.
    fn work_off(&mut self) {
        for piece in 0..PIECES {
            let active = self.active();
            if self.dashboards[active].ops.is_empty() {
                return;
            }
            self.work(active, piece, &GOOD, true);
        }
    }

    fn map_slots(&mut self, wanted: &[SlotMapping], rule: fn(&Topology, &[SlotMapping]) -> Ruling) {
        match self.change(self.active(), |topology| rule(topology, wanted)) {
            Ok(changes) => {
                let groups = changes.into_iter().filter_map(|change| match change {
                    Change::PutGroup(group) => Some(group.id),
                    _ => None,
                });
                self.begin(Op::Tell {
                    slots: wanted.iter().map(|slot| slot.id).collect(),
                    groups: groups.collect(),
                });
            }
            Err(_) => {
                let active = &self.dashboards[self.active()];
                active.term.links.forget_all();
                if active.unsure {
                    // A part of it may be made, and told to proxies.
                    self.known.reassigned.extend(wanted.iter().map(|slot| slot.id));
                }
            }
        }
    }

    /// Takes one step. Steps that make no sense do nothing.
    fn take(&mut self, step: &Step) {
        let active = self.active();
        match *step {
            Step::CreateGroup(g) => drop(self.call(|t| groups::create(t, group_id(g)))),
            Step::RemoveGroup(g) => drop(self.call(|t| groups::remove(t, group_id(g)))),
            Step::AddServer(g, s) => {
                let name = self.server_name(s);
                self.call(|t| groups::add_server(t, group_id(g), &name, "", None));
            }
            Step::RemoveServer(g, s) => {
                let name = self.server_name(s);
                self.call(|t| groups::remove_server(t, group_id(g), &name));
            }
            Step::ReplicaGroup(g, s, on) => {
                let name = self.server_name(s);
                self.call(|t| replica_groups::set(t, group_id(g), &name, on));
            }
            Step::AllReplicaGroups(on) => drop(self.call(|t| replica_groups::set_all(t, on))),
            Step::AskRole(s) => {
                let name = self.server_name(s);
                self.call(|t| actions::create(t, &name));
            }
            Step::ForgetRole(s) => {
                let name = self.server_name(s);
                self.call(|t| actions::remove(t, &name));
            }
            Step::Assign(first, count, group) => {
                let group_id = i64::from(group_id(group));
                let wanted: Vec<_> = slot_numbers(first, count)
                    .map(|id| SlotMapping {
                        group_id,
                        ..SlotMapping::offline(id)
                    })
                    .collect();
                self.map_slots(&wanted, slots::assign);
            }
            Step::Offline(first, count) => {
                let wanted: Vec<_> = slot_numbers(first, count).map(SlotMapping::offline).collect();
                self.known.offline.extend(wanted.iter().map(|slot| slot.id));
                self.map_slots(&wanted, slots::offline);
            }
            Step::Move(first, count, group) => {
                let ids: Vec<i64> = slot_numbers(first, count).map(i64::from).collect();
                let group = i64::from(group_id(group));
                if let (Some(first), Some(last)) = (ids.first(), ids.last()) {
                    self.call(|t| slot_actions::create_range(t, *first, *last, group));
                }
            }
            Step::MoveSome(from, to, count) => {
                let (from, to) = (i64::from(group_id(from)), i64::from(group_id(to)));
                self.call(|t| slot_actions::create_some(t, from, to, usize::from(count % 4)));
            }
            Step::ForgetMove(slot) => drop(self.call(|t| slot_actions::remove(t, i64::from(slot) % USED as i64))),
            Step::Rebalance => drop(self.call(rebalance_used)),
            Step::Promote {
                group,
                place,
                forced,
                shut_off,
            } => self.ask_promotion(group, place, forced, shut_off),
            Step::Online(p) => self.begin(Op::Online(Online {
                host: usize::from(p) % HOSTS,
                at: Coming::Register(Registration::NewOrKnown),
            })),
            Step::RemoveProxy(p, force) => self.remove_proxy(usize::from(p) % HOSTS, force),
            Step::ShutOff(p) => {
                let token = self.hosts[usize::from(p) % HOSTS].token.clone();
                if self.call(|t| proxies::shut_off(t, &token)) {
                    self.begin(Op::Tighten(Tighten::Begin));
                }
            }
            Step::Resync(g) => {
                let group = group_id(g);
                let slots = slots::of_group(&self.topology(active), group);
                self.begin(Op::Tell {
                    slots,
                    groups: vec![group],
                });
            }
            Step::ResyncAll => {
                let groups = self.groups();
                self.begin(Op::Tell {
                    slots: SlotId::all().collect(),
                    groups,
                });
            }
            Step::AddSentinel(s) => {
                let name = self.server_name(s);
                self.call(|t| sentinels::add(t, &name));
            }
            Step::RemoveSentinel(s) => {
                let name = self.server_name(s);
                self.call(|t| sentinels::begin_removal(t, name.as_str()));
                self.call(|t| sentinels::remove(t, name.as_str()));
            }
            Step::Reload => {
                let term = std::sync::Arc::clone(&self.dashboards[active].term);
                self.dashboards[active].unsure &= super::world::now(term.reload()).is_err();
            }
            Step::Export => self.exported = Some(mirror::export(&self.topology(active))),
            Step::Import => self.import(),
            Step::Work {
                asleep: false,
                op,
                ref fates,
                insist,
            } => self.work(active, op.into(), fates, insist),
            Step::Work {
                asleep: true,
                op,
                ref fates,
                insist,
            } => {
                if active > 0 {
                    self.work(usize::from(op) % active, op.into(), fates, insist);
                }
            }
            Step::Look => self.look(active),
            Step::PollProxy(p) => self.poll_proxy(usize::from(p) % HOSTS),
            Step::PollServer(s) => self.poll_server(active, &self.server_name(s)),
            Step::Keep(g) => self.keep(group_id(g)),
            Step::StoreFails(before, answer) => self.store.nth(before.into(), answer),
            Step::StoreLate => self.store.deliver_late(),
            Step::CatchUp => drop(self.catch_up(active)),
            Step::Die => {
                self.take_over();
                self.dashboards.remove(active);
            }
            Step::Sleep => {
                self.take_over();
                if self.dashboards.len() > 3 {
                    self.dashboards.remove(0);
                }
            }
            Step::Arrive(number) => {
                if !self.late.is_empty() {
                    let push = self.late.remove(usize::from(number) % self.late.len());
                    self.arrive_late(push);
                }
            }
            Step::RestartProxy(p) => self.hosts[usize::from(p) % HOSTS].restart(self.broken.map),
            Step::FreezeProxy(p) => self.hosts[usize::from(p) % HOSTS].process.frozen = true,
            Step::ThawProxy(p) => self.hosts[usize::from(p) % HOSTS].process.frozen = false,
            Step::ServerHangs(s) => self.on_server(s, |server| server.hangs = true),
            Step::ServerWakes(s) => self.wake(usize::from(s) % self.servers.len()),
            Step::RestartServer(s) => self.on_server(s, super::outside::Server::restart),
            Step::Silence(s) => self.on_server(s, |server| server.stopped |= server.hangs && server.fence),
            Step::Keys(slot, full) => {
                let id = slot_numbers(slot, 1).next();
                id.map(|id| {
                    if full {
                        self.full.insert(id)
                    } else {
                        self.full.remove(&id)
                    }
                });
            }
        }
    }

    fn on_server(&mut self, number: u8, change: impl FnOnce(&mut super::outside::Server)) {
        let number = usize::from(number) % self.servers.len();
        change(&mut self.servers[number]);
    }

    /// One whose fence closed opens it when its replicas come back: they do, unless they follow another one, or are about
    /// to.
    fn wake(&mut self, number: usize) {
        let name = self.servers[number].name.clone();
        let leads = self.known.sure.group_of(&name).filter(|(_, place)| *place == 0);
        let leads = leads.is_some_and(|(group, _)| group.promoting.state.is_nothing());
        let server = &mut self.servers[number];
        (server.hangs, server.stopped) = (false, server.stopped && !leads);
    }

    fn arrive_late(&mut self, push: Push) {
        let frozen = self
            .hosts
            .iter()
            .any(|host| host.token == push.token && host.process.frozen);
        if frozen {
            self.late.push(push);
        } else {
            self.arrive(&push);
        }
    }

    /// Whoever watches the servers asks for the roles of those that were restarted.
    fn ask_roles(&mut self) {
        let topology = self.topology(self.active());
        for (_, record) in topology.servers() {
            let server = self.servers.iter().find(|server| server.name == record.server);
            let run_id = server.map(|server| server.run_id());
            if record.action.state != ActionState::Pending && record.admitted_run_id != run_id {
                self.call(|t| actions::create(t, &record.server));
            }
        }
    }

    fn ask_promotion(&mut self, group: u8, place: u8, forced: bool, shut_off: bool) {
        let (active, id) = (self.active(), group_id(group));
        let topology = self.topology(active);
        let Some(group) = topology.group(id).filter(|group| !group.servers.is_empty()) else {
            return;
        };
        let place = usize::from(place) % group.servers.len();
        let wish = Wish {
            group: id,
            server: group.servers[place].server.clone(),
            epoch: (place % 2 == 0).then(|| topology.group_epoch(id)),
            forced,
            planned: false,
            at_ms: 0,
            cause: Default::default(),
        };
        self.wish(active, &wish, shut_off);
    }

    fn remove_proxy(&mut self, host: usize, force: bool) {
        let host = &mut self.hosts[host];
        let token = host.token.clone();
        let lost = host.process.frozen;
        if self.topology(self.active()).proxy(&token).is_none() || (lost && !force) {
            return;
        }
        let host = self.hosts.iter_mut().find(|host| host.token == token).unwrap();
        host.process.closed |= !lost;
        if self.call(|t| proxies::remove(t, &token)) {
            self.begin(Op::Tighten(Tighten::Begin));
        }
    }

    fn import(&mut self) {
        let Some(mut exported) = self.exported.clone() else {
            return;
        };
        exported.force = true;
        let epochs = self
            .hosts
            .iter()
            .flat_map(|host| host.process.slots())
            .map(|slot| slot.epoch);
        let known = epochs.max().unwrap_or_default();
        match self.change(self.active(), |t| mirror::import(t, &exported, known)) {
            Ok(_) => {
                self.known.imported = true;
                let active = self.active();
                self.dashboards[active].term.end("a slot map was imported");
                self.take(&Step::Die);
            }
            Err(_) => self.known.imported |= self.dashboards[self.active()].unsure,
        }
    }

    fn poll_proxy(&mut self, number: usize) {
        let (active, host) = (self.active(), &self.hosts[number]);
        let topology = self.topology(active);
        let Some(record) = topology.proxy(&host.token).filter(|_| host.process.answers()) else {
            return;
        };
        let stats = crate::model::ProxyStatsBody {
            online: host.process.online,
            closed: host.process.closed,
            ..Default::default()
        };
        let complete = self.dashboards[active].term.links.of(&host.token).is_complete();
        let busy = self.dashboards[active]
            .ops
            .iter()
            .any(|op| matches!(op, Op::Online(op) if op.host == number));
        if polls::needs_online(record, &host.model(), &stats, complete).is_some() && !busy {
            self.begin(Op::Online(Online {
                host: number,
                at: Coming::Register(Registration::Known),
            }));
        }
    }

    /// The fence goes up before the record says so, and comes down after.
    fn keep(&mut self, id: GroupId) {
        let active = self.active();
        let topology = self.topology(active);
        let Some(group) = topology.group(id).filter(|group| group.promoting.state.is_nothing()) else {
            return;
        };
        let Some(record) = group.primary() else { return };
        let mut admitted = |record: &crate::model::GroupServer| {
            let run_id = self.server(active, &record.server).map(|server| server.run_id());
            run_id.filter(|run_id| record.admitted_run_id.as_ref() == Some(run_id))
        };
        let Some(run_id) = admitted(record) else { return };
        let in_sync: Vec<HostPort> = group.servers[1..]
            .iter()
            .filter(|record| admitted(record).is_some())
            .map(|record| record.server.clone())
            .collect();
        let wanted = !in_sync.is_empty();
        let found = Findings {
            at: std::time::Instant::now(),
            history: format!("h-{run_id}"),
            run_id,
            offset: 1,
            lineage: group.lineage_epoch(),
            in_sync,
        };
        if wanted && let Some(server) = self.server(active, &record.server) {
            server.fence = true;
        }
        let fenced = wanted || group.fenced;
        let noted = self.call(|t| replication::note(t, id, &record.server, &found, fenced));
        if noted
            && !wanted
            && let Some(server) = self.server(active, &record.server)
        {
            (server.fence, server.stopped) = (false, false);
            self.call(|t| replication::note(t, id, &record.server, &found, false));
        }
    }
}

/// Nothing fails any more, and who slept wakes: everything gets done.
fn settle(world: &mut World) -> Result<(), String> {
    world.store.nth(0, Default::default());
    for d in 0..world.active() {
        for _ in 0..20 {
            world.work(d, 0, &GOOD, true);
            world.check()?;
        }
    }
    (0..world.servers.len()).for_each(|number| world.wake(number));
    for host in &mut world.hosts {
        host.process.frozen = false;
        if host.process.closed {
            host.restart(world.broken.map);
        }
    }
    for round in 0..ROUNDS {
        let active = world.active();
        let _ = world.catch_up(active);
        let servers: Vec<HostPort> = world.servers.iter().map(|server| server.name.clone()).collect();
        servers.iter().for_each(|name| world.poll_server(active, name));
        (0..HOSTS).for_each(|host| world.poll_proxy(host));
        world.ask_roles();
        world.look(active);
        if round == 1 {
            world.take(&Step::ResyncAll);
        }
        world.work_off();
        world.check()?;
        if round > 2 && settled(world).is_ok() {
            break;
        }
    }
    settled(world)?;
    for push in std::mem::take(&mut world.late) {
        world.arrive(&push);
        world.check()?;
    }
    settled(world)
}

/// What must hold in the end.
fn settled(world: &World) -> Result<(), String> {
    let topology = world.topology(world.active());
    for group in topology.groups() {
        if !group.promoting.state.is_nothing() {
            return Err(format!(
                "group {} is stuck in its promotion: {:?}",
                group.id, group.promoting
            ));
        }
        if let Some(server) = group.servers.iter().find(|server| server.leaky) {
            return Err(format!(
                "{} may let in proxies that were shut off, for ever",
                server.server
            ));
        }
    }
    for slot in topology.slots() {
        let waits = slot.action.state == SlotActionState::Pending && world.full.contains(&slot.id);
        if !slot.action.state.is_nothing() && !waits {
            return Err(format!("slot {} is stuck in its move: {:?}", slot.id, slot.action));
        }
    }
    for proxy in topology.proxies() {
        let Some(host) = world.hosts.iter().find(|host| host.token == proxy.token) else {
            continue;
        };
        if proxy.shut_off || !host.process.online {
            return Err(format!("proxy {} is not at work again", proxy.token));
        }
        for (id, held) in SlotId::all().zip(host.process.slots()) {
            let wanted = view::slot(&topology, id, 0);
            let current = Slot {
                epoch: wanted.epoch,
                prepared: wanted.prepared.clone(),
                ..held.clone()
            };
            if current != wanted || held.locked {
                return Err(format!("proxy {} holds {held:?} instead of {wanted:?}", proxy.token));
            }
        }
    }
    Ok(())
}
