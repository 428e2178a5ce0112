//! Dashboards, their store, and all that they talk to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;

use super::known::{Ear, Known, used};
use super::outside::{Host, Push, Server};
use super::steps::Fate;
use super::work::Op;
use crate::client::Http;
use crate::dashboard::config::Secret;
use crate::dashboard::error::Error;
use crate::dashboard::fences::Durability;
use crate::dashboard::metrics::Metrics;
use crate::dashboard::rules::Ruling;
use crate::dashboard::server::{Resolver, Servers, SystemLookup};
use crate::dashboard::store::fake::FakeStore;
use crate::dashboard::store::{Snapshot, Store};
use crate::dashboard::term::{Means, Term};
use crate::dashboard::topology::{Change, Topology};
use crate::dashboard::view;
use crate::model::{Export, GroupId, HostPort, ProductName, Proxy, ServerUserKind, Slot, SlotId};

/// How many hosts run a proxy.
pub(super) const HOSTS: usize = 4;
/// Of each change only so many records are written at once.
const MAX_WRITES: usize = 4;

/// Rules that are left out, to see that it is noticed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Broken {
    /// A lock is complete whoever acknowledged it.
    pub(super) voters: bool,
    /// Proxies take every push.
    pub(super) map: bool,
    /// A proxy is let in whatever it acknowledged.
    pub(super) let_in: bool,
    /// Nobody goes on with a promotion that was left undone.
    pub(super) resume: bool,
    /// A shut-off proxy is counted as shut off where no server heard of it.
    pub(super) leaks: bool,
    /// Nobody finishes a change of many records.
    pub(super) unfinished: bool,
    /// That servers were told is recorded by what was known before they were.
    pub(super) notes: bool,
    /// It is looked whether a slot is empty before everybody holds it locked.
    pub(super) looks: bool,
    /// Slots move without being locked first.
    pub(super) lock: bool,
}

/// A dashboard that has, or had, the lock.
pub(super) struct Dashboard {
    pub(super) term: Arc<Term>,
    /// Whether a change got no answer since the records were read.
    pub(super) unsure: bool,
    pub(super) ops: Vec<Op>,
    /// Which proxies its pollers told servers to let in.
    pub(super) told: HashMap<HostPort, (String, Vec<ServerUserKind>)>,
    /// Which proxies each server lets in, as it was told last.
    pub(super) let_in: HashMap<HostPort, Vec<ServerUserKind>>,
}

/// Everything.
pub(super) struct World {
    pub(super) broken: Broken,
    pub(super) store: Arc<FakeStore>,
    /// The last one is the active one; the others think that they are.
    pub(super) dashboards: Vec<Dashboard>,
    pub(super) hosts: Vec<Host>,
    pub(super) servers: Vec<Server>,
    /// Pushes that were given up and may still arrive.
    pub(super) late: Vec<Push>,
    pub(super) full: BTreeSet<SlotId>,
    pub(super) exported: Option<Export>,
    pub(super) known: Known,
    /// The slots that were seen to be empty last, and whether somebody could write to them since.
    pub(super) seen_empty: BTreeMap<SlotId, bool>,
    /// What went wrong, if it was noticed before the step ended.
    pub(super) wrong: Option<String>,
    seen_revision: i64,
}

pub(super) fn product() -> ProductName {
    "demo".parse().unwrap()
}

/// What comes of this, which never has to wait.
pub(super) fn now<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never().expect("it waits for something")
}

fn means(store: Arc<FakeStore>) -> Means {
    static HTTP: OnceLock<(Http, Arc<Metrics>)> = OnceLock::new();
    let (http, metrics) = HTTP
        .get_or_init(|| (Http::new(Duration::from_secs(1)).unwrap(), Arc::new(Metrics::new())))
        .clone();
    Means {
        product: product(),
        product_auth: Secret::default(),
        forward_method: 0,
        durability: Durability::default(),
        store,
        servers: Servers::new(Secret::default(), Resolver::new(Arc::new(SystemLookup))),
        http,
        metrics,
    }
}

impl World {
    /// With nothing stored yet.
    pub(super) fn empty(broken: Broken) -> Self {
        let servers = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let mut world = Self {
            broken,
            store: Arc::new(FakeStore::with_max_writes(MAX_WRITES)),
            dashboards: Vec::new(),
            hosts: (0..HOSTS).map(|number| Host::new(number, broken.map)).collect(),
            servers: servers
                .iter()
                // The last ones know no users.
                .map(|name| Server::new(format!("{name}:1").parse().unwrap(), !["g", "h"].contains(name)))
                .collect(),
            late: Vec::new(),
            full: BTreeSet::new(),
            exported: None,
            known: Known::new(),
            seen_empty: BTreeMap::new(),
            wrong: None,
            seen_revision: -1,
        };
        world.take_over();
        world
    }

    /// The active dashboard.
    pub(super) fn active(&self) -> usize {
        self.dashboards.len() - 1
    }

    /// The records as this dashboard knows them.
    pub(super) fn topology(&self, d: usize) -> Arc<Topology> {
        self.dashboards[d].term.topology()
    }

    /// Another dashboard takes the lock, reads everything, and asks every server once.
    pub(super) fn take_over(&mut self) {
        if self.broken.unfinished {
            self.store.forget(&crate::model::store_paths::unfinished(&product()));
        }
        let lock = self.store.take_lock();
        let term = (0..3).find_map(|_| now(Term::begin(means(Arc::clone(&self.store)), lock)).ok());
        let term = Arc::new(term.expect("the records can be read"));
        let epoch = term.epoch();
        for server in &mut self.servers {
            server.hears(epoch);
        }
        self.dashboards.push(Dashboard {
            term,
            unsure: false,
            ops: Vec::new(),
            told: HashMap::new(),
            let_in: HashMap::new(),
        });
    }

    /// Has a dashboard make a change.
    pub(super) fn change(&mut self, d: usize, rule: impl Fn(&Topology) -> Ruling) -> Result<Vec<Change>, Error> {
        let (ear, term) = (Ear::default(), Arc::clone(&self.dashboards[d].term));
        let result = now(term.change(|topology| ear.hear(topology, rule(topology))));
        let made = match &result {
            Ok(_) => Some(true),
            Err(Error::Store(error)) if error.is_unknown_outcome() => None,
            Err(_) => Some(false),
        };
        if d == self.active() {
            self.known.changed(ear, made);
        }
        self.dashboards[d].unsure = match &result {
            Ok(_) | Err(Error::Refused(_)) => false,
            Err(Error::Store(_)) => true,
            Err(_) => self.dashboards[d].unsure,
        };
        result
    }

    /// Has a dashboard read the records again, if it has to.
    pub(super) fn catch_up(&mut self, d: usize) -> Result<(), Error> {
        let term = Arc::clone(&self.dashboards[d].term);
        now(term.catch_up()).inspect(|()| self.dashboards[d].unsure = false)
    }

    /// The host of a proxy.
    pub(super) fn host(&mut self, proxy: &Proxy) -> Option<&mut Host> {
        self.hosts.iter_mut().find(|host| host.token == proxy.token)
    }

    /// A server that hears this dashboard.
    pub(super) fn server(&mut self, d: usize, name: &HostPort) -> Option<&mut Server> {
        let epoch = self.dashboards[d].term.epoch();
        self.servers
            .iter_mut()
            .find(|server| server.name == *name)
            .and_then(|server| server.hears(epoch).then_some(server))
    }

    /// Tells one proxy these slots. What it was told, when it acknowledged.
    pub(super) fn push(&mut self, d: usize, proxy: &Proxy, ids: &[SlotId], fate: Fate) -> Option<Vec<Slot>> {
        let term = Arc::clone(&self.dashboards[d].term);
        let link = term.links.of(&proxy.token);
        term.check().ok()?;
        let doubts = link.doubts();
        let mut slots = view::slots(&term.topology(), ids.iter().copied(), 0);
        if self.broken.lock {
            slots.iter_mut().for_each(|slot| slot.locked = false);
        }
        let push = Push {
            token: proxy.token.clone(),
            incarnation: proxy.incarnation.clone(),
            slots,
        };
        let frozen = self.host(proxy).is_some_and(|host| host.process.frozen);
        // A process that is frozen reads it when it goes on.
        let fate = if frozen && fate != Fate::Lost { Fate::Late } else { fate };
        let taken = matches!(fate, Fate::Arrives | Fate::Unheard) && self.arrive(&push);
        if fate == Fate::Late {
            self.late.push(push);
            link.doubt();
            return None;
        }
        if !taken || fate != Fate::Arrives {
            link.doubt();
            return None;
        }
        if ids.len() == crate::model::SLOT_COUNT {
            link.settle(doubts);
        }
        Some(push.slots)
    }

    /// A push arrives. Whether it was taken.
    pub(super) fn arrive(&mut self, push: &Push) -> bool {
        let host = self.hosts.iter_mut().find(|host| host.token == push.token);
        host.is_some_and(|host| host.process.take(push))
    }

    /// What a dashboard has this server let in now, if it hears.
    pub(super) fn let_in(&mut self, d: usize, name: &HostPort) -> Option<Vec<ServerUserKind>> {
        let proxies = self.topology(d).admitted_proxies();
        let server = self.server(d, name)?;
        server.users.clone_from(&proxies);
        self.dashboards[d].let_in.insert(name.clone(), proxies.clone());
        Some(proxies)
    }

    /// What must hold after every step.
    pub(super) fn check(&mut self) -> Result<(), String> {
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong);
        }
        let active = self.active();
        if !self.dashboards[active].unsure && self.dashboards[active].term.check().is_ok() {
            let topology = self.topology(active);
            if self.store.revision() != self.seen_revision {
                self.check_stored(&topology)?;
                self.seen_revision = self.store.revision();
            }
            self.known.learn(&topology)?;
            self.note_agreement(&topology);
        }
        self.check_writers()
    }

    fn check_stored(&self, topology: &Topology) -> Result<(), String> {
        let last = SlotId::all().next_back().unwrap();
        let snapshot = Snapshot {
            // Of a slot that was never written this is the revision of the last reading.
            revision: topology.epoch(last) - topology.epochs().base,
            ..now(self.store.load()).unwrap()
        };
        match Topology::read(&product(), &snapshot) {
            Ok(stored) if stored == *topology => Ok(()),
            Ok(_) => Err("what is stored is not what the dashboard knows".to_owned()),
            Err(error) => Err(format!("what is stored can't be read: {error}")),
        }
    }

    /// The owner of a slot may be changed without a lock. From the moment that all proxies know it, only locked changes
    /// follow.
    fn note_agreement(&mut self, topology: &Topology) {
        let hosts = &self.hosts;
        self.known.reassigned.retain(|id| {
            let wanted = view::slot(topology, *id, 0);
            // What a former dashboard said may still come to who only has the same by chance.
            let agrees = |held: &Slot| held.backend_addr == wanted.backend_addr && held.epoch == wanted.epoch;
            let mut proxies = topology.proxies();
            !proxies.all(|proxy| {
                let mut its = hosts.iter().filter(|host| host.token == proxy.token);
                its.any(|host| agrees(&host.process.slots()[id.index()]))
            })
        });
    }

    fn check_writers(&mut self) -> Result<(), String> {
        if let Some(host) = self.hosts.iter().find(|host| host.process.went_back) {
            return Err(format!("proxy {} went back to an older epoch", host.token));
        }
        let known = &self.known.sure;
        for id in used() {
            let mut writers: BTreeMap<&HostPort, &Host> = BTreeMap::new();
            for host in &self.hosts {
                let Some(target) = host.process.writes_to(id) else {
                    continue;
                };
                let user = host.model().server_user();
                let record = known.proxy(&host.token);
                let registered = record.filter(|record| record.incarnation == host.process.incarnation);
                let server = self.servers.iter().find(|server| server.name == *target);
                let let_in = registered.is_some_and(|record| !record.shut_off);
                let written = server.is_some_and(|server| server.prepared && server.takes_writes_of(&user))
                    || (registered.is_some() && server.is_some_and(|server| !server.prepared));
                if written && let Some(seen) = self.seen_empty.get_mut(&id) {
                    *seen = true;
                }
                if (let_in || written) && self.known.former[&id].contains(target) {
                    return Err(format!(
                        "slot {id}: proxy {} ({}) writes to the former primary {target}",
                        host.token, host.process.incarnation
                    ));
                }
                if let_in {
                    writers.insert(target, host);
                }
            }
            if writers.len() > 1 && !self.known.reassigned.contains(&id) {
                let servers: Vec<_> = writers.keys().map(|server| server.as_str()).collect();
                return Err(format!("slot {id} is written to {}", servers.join(" and ")));
            }
        }
        Ok(())
    }

    /// The groups that exist.
    pub(super) fn groups(&self) -> Vec<GroupId> {
        self.topology(self.active()).groups().map(|group| group.id).collect()
    }
}
