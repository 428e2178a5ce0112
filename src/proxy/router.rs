//! Where slots are, as one worker sees it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::backend::{Admit, Backend, Replication, by_server};
use super::private::Waiting;
use super::resp::Protocol;
use super::session::Client;
use super::slots::SlotCounts;
use super::worker::Worker;
use crate::model::{HostPort, SLOT_COUNT, ServerWitness, Slot, SlotId};

/// A server that slots are routed to, with its connections.
#[derive(Debug)]
pub(super) struct Server {
    addr: HostPort,
    /// To database 0, in the protocol that every client speaks: always there.
    first: Rc<Backend>,
    /// Each is opened when the first client asks: by database, in RESP2 and RESP3.
    others: Box<[[OnceCell<Rc<Backend>>; 2]]>,
    /// What any of them was told of it as a replica.
    replication: Rc<Replication>,
}

/// Where a request for a slot goes now.
#[derive(Debug)]
pub(super) enum Route {
    /// To this server.
    Open(Rc<Server>),
    /// Nowhere yet: the slot is locked, or what was sent by its former routing is not answered.
    Held,
    /// Nowhere: it has no server.
    Offline,
}

#[derive(Debug, Default)]
struct SlotRoute {
    server: Option<Rc<Server>>,
    /// Those that may be read from, the nearest first.
    replicas: Vec<Rc<Server>>,
    group: i64,
    /// Where what is under way may have been sent by former routings.
    former: Vec<HostPort>,
}

impl SlotRoute {
    /// Remembers that what is under way may be where it goes now. While the slot waits for it nothing more is sent, so
    /// that a push repeated meanwhile adds nothing.
    fn remember(&mut self) {
        for server in self.server.iter().chain(&self.replicas) {
            if !self.former.contains(&server.addr) {
                self.former.push(server.addr.clone());
            }
        }
    }
}

/// What every request asks of its slot. Eight bytes, so that those of all slots stay in the first-level cache.
#[derive(Debug)]
struct SlotState {
    /// Requests that its servers did not answer yet.
    under_way: Cell<u32>,
    /// Which of [`Router::serving`] it is routed to, or [`NOWHERE`].
    place: Cell<u16>,
    locked: Cell<bool>,
    former: Cell<Former>,
}

/// What is known of a slot's former routings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Former {
    /// Nothing is under way by them.
    Over,
    /// [`SlotRoute::former`] tells where something may be.
    Noted,
    /// Besides, a change of the map waits for that.
    Awaited,
}

const NOWHERE: u16 = u16::MAX;

impl Default for SlotState {
    fn default() -> Self {
        Self {
            under_way: Cell::new(0),
            place: Cell::new(NOWHERE),
            locked: Cell::new(false),
            former: Cell::new(Former::Over),
        }
    }
}

/// A server that slots are routed to, whether they are locked or not.
#[derive(Debug)]
pub(super) struct Primary {
    /// Its group.
    pub(super) group: i64,
    pub(super) server: Rc<Server>,
    /// Its slots.
    pub(super) slots: Vec<SlotId>,
}

/// The routes of all slots.
#[derive(Debug)]
pub(super) struct Router {
    states: Vec<SlotState>,
    /// The servers that slots are routed to now.
    serving: RefCell<Vec<Rc<Server>>>,
    routes: RefCell<Vec<SlotRoute>>,
    servers: RefCell<HashMap<HostPort, Rc<Server>>>,
    /// All connections to servers, those included that end when what is under way was answered.
    backends: RefCell<Vec<Rc<Backend>>>,
    /// How often each slot was given another server.
    moves: Vec<Cell<u32>>,
    /// What is under way on clients' own connections.
    pub(super) waiting: Waiting,
    /// Clients whose next request waits for a slot.
    parked: RefCell<Vec<Rc<Client>>>,
    fills: RefCell<Vec<Fill>>,
}

/// A push that waits for its slots to be empty of what was sent by their former routing.
#[derive(Debug)]
struct Fill {
    waits_for: Vec<SlotId>,
    /// When what is still under way is failed, if it is.
    drop_at: Option<Instant>,
    done: oneshot::Sender<()>,
}

impl Default for Router {
    fn default() -> Self {
        Self {
            states: (0..SLOT_COUNT).map(|_| SlotState::default()).collect(),
            serving: RefCell::default(),
            routes: RefCell::new((0..SLOT_COUNT).map(|_| SlotRoute::default()).collect()),
            servers: RefCell::default(),
            backends: RefCell::default(),
            moves: vec![Cell::new(0); SLOT_COUNT],
            waiting: Waiting::default(),
            parked: RefCell::default(),
            fills: RefCell::default(),
        }
    }
}

impl Server {
    fn new(worker: &Rc<Worker>, addr: HostPort) -> Rc<Self> {
        let replication = Rc::new(Replication::default());
        let first = Backend::open(worker, addr.clone(), Protocol::Resp2, 0, replication.clone());
        let others = (0..worker.settings.databases).map(|_| Default::default());
        Rc::new(Self {
            addr,
            first,
            others: others.collect(),
            replication,
        })
    }

    /// The connection to `database` for clients that speak `protocol`. Settings say how many databases there are.
    pub(super) fn backend(&self, worker: &Rc<Worker>, protocol: Protocol, database: u16) -> &Rc<Backend> {
        let place = match (database, protocol) {
            (0, Protocol::Resp2) => return &self.first,
            (_, Protocol::Resp2) => 0,
            (_, Protocol::Resp3) => 1,
        };
        self.others[usize::from(database)][place]
            .get_or_init(|| Backend::open(worker, self.addr.clone(), protocol, database, self.replication.clone()))
    }

    /// Whether it is a replica that may be read from.
    fn is_close_replica(&self, now: Instant) -> bool {
        self.first.is_open() && self.replication.is_close(now)
    }

    /// Where it is.
    pub(super) fn addr(&self) -> &HostPort {
        &self.addr
    }

    fn backends(&self) -> impl Iterator<Item = &Rc<Backend>> {
        let others = self.others.iter().flatten().filter_map(OnceCell::get);
        std::iter::once(&self.first).chain(others)
    }
}

/// The servers that a slot may be read from, but for its primary: groups in their order; in each of them every slot begins
/// with another one, so that all get their share.
fn replicas(slot: &Slot) -> impl Iterator<Item = &HostPort> {
    let in_turn = |group: &'_ Vec<HostPort>| -> usize { slot.id.index() % group.len().max(1) };
    let groups = slot.replica_groups.iter();
    groups
        .flat_map(move |group| group[in_turn(group)..].iter().chain(&group[..in_turn(group)]))
        .filter(|addr| slot.backend_addr.as_ref() != Some(addr))
}

impl Router {
    /// Where a request for `slot` goes.
    pub(super) fn route(&self, slot: SlotId) -> Route {
        let state = &self.states[slot.index()];
        if state.locked.get() || state.former.get() == Former::Awaited {
            return Route::Held;
        }
        let serving = self.serving.borrow();
        let server = serving.get(usize::from(state.place.get()));
        server.cloned().map_or(Route::Offline, Route::Open)
    }

    /// The server that `slot` is routed to, whether it is locked or not.
    pub(super) fn primary(&self, slot: SlotId) -> Option<Rc<Server>> {
        self.routes.borrow()[slot.index()].server.clone()
    }

    /// All servers that slots are routed to, by group.
    pub(super) fn primaries(&self) -> Vec<Primary> {
        let mut primaries: Vec<Primary> = Vec::new();
        let mut places = HashMap::new();
        for (slot, route) in SlotId::all().zip(self.routes.borrow().iter()) {
            let Some(server) = &route.server else { continue };
            let place = *places.entry(Rc::as_ptr(server)).or_insert_with(|| {
                primaries.push(Primary {
                    group: route.group,
                    server: server.clone(),
                    slots: Vec::new(),
                });
                primaries.len() - 1
            });
            primaries[place].slots.push(slot);
        }
        primaries.sort_by_cached_key(|primary| (primary.group, primary.server.addr().to_string()));
        primaries
    }

    /// The nearest server but the primary that `slot` may be read from now.
    pub(super) fn replica(
        &self,
        worker: &Rc<Worker>,
        slot: SlotId,
        protocol: Protocol,
        database: u16,
    ) -> Option<Rc<Server>> {
        let now = worker.now();
        let routes = self.routes.borrow();
        let usable = |server: &&Rc<Server>| {
            server.is_close_replica(now) && server.backend(worker, protocol, database).admit(now) == Admit::Yes
        };
        routes[slot.index()].replicas.iter().find(usable).cloned()
    }

    /// Grows whenever `slot` is given another server.
    pub(super) fn moves(&self, slot: SlotId) -> u32 {
        self.moves[slot.index()].get()
    }

    /// A request for `slot` was given to its server's connection.
    pub(super) fn begun(&self, slot: SlotId) {
        let under_way = &self.states[slot.index()].under_way;
        under_way.set(under_way.get() + 1);
    }

    /// A request for `slot` was answered.
    pub(super) fn ended(&self, slot: SlotId) {
        let SlotState { under_way, former, .. } = &self.states[slot.index()];
        debug_assert!(under_way.get() > 0, "{slot}: more requests ended than began");
        under_way.set(under_way.get().saturating_sub(1));
        if under_way.get() == 0 && former.get() != Former::Over {
            let was = former.replace(Former::Over);
            self.routes.borrow_mut()[slot.index()].former = Vec::new();
            if was == Former::Awaited {
                self.emptied();
            }
        }
    }

    /// Whether a change of the map waits for what is under way to `slot`.
    pub(super) fn is_emptying(&self, slot: SlotId) -> bool {
        self.states[slot.index()].former.get() == Former::Awaited
    }

    /// Has the client go on when any slot's routing changes.
    pub(super) fn park(&self, client: &Rc<Client>) {
        self.parked.borrow_mut().push(client.clone());
    }

    /// Takes a push over.
    pub(super) fn fill(
        &self,
        worker: &Rc<Worker>,
        slots: &[Slot],
        drop_at: Option<Instant>,
        done: oneshot::Sender<()>,
    ) {
        {
            let mut routes = self.routes.borrow_mut();
            let mut servers = self.servers.borrow_mut();
            let mut any_moved = false;
            for slot in slots {
                let route = &mut routes[slot.id.index()];
                let state = &self.states[slot.id.index()];
                let under_way = state.under_way.get() > 0;
                if under_way && state.former.get() != Former::Awaited {
                    route.remember();
                    state.former.set(Former::Noted);
                }
                let mut server_at = |addr: &HostPort| {
                    let server = servers.entry(addr.clone());
                    server.or_insert_with(|| Server::new(worker, addr.clone())).clone()
                };
                let moved = route.server.as_ref().map(|server| &server.addr) != slot.backend_addr.as_ref();
                any_moved |= moved;
                if moved {
                    let moves = &self.moves[slot.id.index()];
                    moves.set(moves.get().wrapping_add(1));
                    route.server = slot.backend_addr.as_ref().map(&mut server_at);
                }
                if !worker.settings.backend_primary_only {
                    route.replicas = replicas(slot).map(server_at).collect();
                    route.replicas.iter().for_each(|server| server.replication.watch());
                }
                state.locked.set(slot.locked);
                route.group = slot.backend_addr_group_id;
                if moved || slot.locked {
                    self.waiting.want_back(worker, slot.id);
                }
                if (moved || slot.locked) && under_way {
                    state.former.set(Former::Awaited);
                }
            }
            if any_moved {
                self.number_serving(&routes);
            }
            servers.retain(|_, server| {
                let routed = Rc::strong_count(server) > 1;
                if !routed {
                    server.backends().for_each(|backend| backend.retire());
                }
                routed
            });
        }
        worker.pubsub.reroute(worker);
        let waits_for = slots.iter().map(|slot| slot.id).collect();
        self.fills.borrow_mut().push(Fill {
            waits_for,
            drop_at,
            done,
        });
        self.emptied();
    }

    /// Has each slot's state say where it is routed to.
    fn number_serving(&self, routes: &[SlotRoute]) {
        let mut serving = self.serving.borrow_mut();
        serving.clear();
        let mut places = HashMap::new();
        for (route, state) in routes.iter().zip(&self.states) {
            let place = route.server.as_ref().map_or(NOWHERE, |server| {
                *places.entry(Rc::as_ptr(server)).or_insert_with(|| {
                    serving.push(server.clone());
                    // There are no more servers than slots.
                    (serving.len() - 1) as u16
                })
            });
            state.place.set(place);
        }
    }

    /// Fails what pushes waited for long enough: a server that does not answer holds up no change of the map.
    fn drop_overdue(&self, now: Instant) {
        for fill in self.fills.borrow_mut().iter_mut() {
            if fill.drop_at.is_none_or(|at| now < at) {
                continue;
            }
            fill.drop_at = None;
            self.waiting.cut(&fill.waits_for);
            let routes = self.routes.borrow();
            let slots = fill.waits_for.iter().map(|slot| &routes[slot.index()]);
            let former: HashSet<&HostPort> = slots.flat_map(|route| &route.former).collect();
            for backend in self.backends.borrow().iter() {
                if former.contains(backend.addr()) {
                    backend.give_up("a change of the slot map does not wait for its replies");
                }
            }
        }
    }

    /// Acknowledges pushes whose slots are empty, and has clients look again.
    fn emptied(&self) {
        let mut fills = self.fills.borrow_mut();
        for fill in fills.iter_mut() {
            fill.waits_for.retain(|slot| self.is_emptying(*slot));
        }
        for fill in fills.extract_if(.., |fill| fill.waits_for.is_empty()) {
            let _ = fill.done.send(());
        }
        self.wake_parked();
    }

    fn wake_parked(&self) {
        for client in self.parked.borrow_mut().drain(..) {
            client.wake();
        }
        self.waiting.routes_changed();
    }

    /// Takes a connection into the care of [`Router::tick`], until it is closed.
    pub(super) fn watch(&self, backend: &Rc<Backend>) {
        self.backends.borrow_mut().push(backend.clone());
    }

    /// What is seen of the servers that slots are routed to.
    pub(super) fn servers_seen(&self, now: Instant) -> Vec<ServerWitness> {
        let backends = self.backends.borrow();
        let routed = backends.iter().filter(|backend| !backend.is_retired());
        by_server(routed.map(|backend| backend.seen(now)))
    }

    /// How many slots are how.
    pub(super) fn slot_counts(&self) -> SlotCounts {
        let states = self.states.iter();
        SlotCounts::of(states.map(|state| (state.place.get() != NOWHERE, state.locked.get())))
    }

    /// Shows all connections to servers.
    pub(super) fn each_backend(&self, mut show: impl FnMut(&Backend)) {
        self.backends.borrow().iter().for_each(|backend| show(backend));
    }

    /// Looks for time-outs of servers' connections.
    pub(super) fn tick(&self, worker: &Worker, now: Instant) {
        self.backends.borrow_mut().retain(|backend| !backend.is_closed());
        for backend in self.backends.borrow().iter() {
            backend.tick(worker, now);
        }
        self.drop_overdue(now);
        // Nothing that a client had is kept for a slot that stays locked.
        self.parked.borrow_mut().retain(|client| !client.is_gone());
        // Whoever asked for the push gave up long ago.
        self.fills.borrow_mut().retain(|fill| !fill.done.is_closed());
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;
    use crate::proxy::config::Config;
    use crate::proxy::session::tests::worker_of;

    fn slot_at(server: &str, epoch: i64) -> Slot {
        Slot {
            backend_addr: Some(server.parse().unwrap()),
            epoch,
            ..Slot::offline(SlotId::of_key(b"a"))
        }
    }

    fn fill(worker: &Rc<Worker>, slot: Slot) -> oneshot::Receiver<()> {
        let (done, is_done) = oneshot::channel();
        worker.router.fill(worker, &[slot], None, done);
        is_done
    }

    #[tokio::test]
    async fn former_servers_of_a_slot_are_forgotten_once_nothing_is_under_way() {
        let in_one_thread = async {
            let worker = worker_of(&Config::default());
            let (router, slot) = (&worker.router, SlotId::of_key(b"a"));
            let former = || router.routes.borrow()[slot.index()].former.len();
            assert!(fill(&worker, slot_at("127.0.0.1:1", 1)).try_recv().is_ok());
            router.begun(slot);
            router.begun(slot);
            // It changes nothing of where the slot is, so that nothing waits for it.
            assert!(fill(&worker, slot_at("127.0.0.1:1", 2)).try_recv().is_ok());
            router.ended(slot);
            assert_eq!(former(), 1);
            router.ended(slot);
            assert_eq!(former(), 0);
            router.begun(slot);
            let mut moved = fill(&worker, slot_at("127.0.0.1:2", 3));
            assert!(moved.try_recv().is_err() && router.is_emptying(slot));
            router.ended(slot);
            assert!(moved.try_recv().is_ok() && !router.is_emptying(slot));
            assert_eq!((former(), size_of::<SlotState>()), (0, 8));
        };
        LocalSet::new().run_until(in_one_thread).await;
    }
}
