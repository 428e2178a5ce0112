//! The dashboard's figures, for Prometheus.

use std::collections::HashSet;
use std::future::Future;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::term::Term;
use crate::model::{ProxyStatsEntry, ProxyToken, RedisStats};

const PREFIX: &str = "codis_dashboard";

type Counters<L> = Family<L, Counter<u64, AtomicU64>>;
type Times<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProxyLabel {
    proxy: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PollLabels {
    what: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupLabel {
    group: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabels {
    group: i64,
    server: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProxyLabels {
    proxy: String,
    admin_addr: String,
}

/// What is counted while the process lives. What can be looked up is looked up when it is asked for.
pub(crate) struct Metrics {
    registry: Registry,
    push_times: Times<ProxyLabel>,
    push_failures: Counters<ProxyLabel>,
    /// The proxies that there are series of.
    pushed: Mutex<HashSet<ProxyToken>>,
    polls: Counters<PollLabels>,
    store_times: Times<OperationLabel>,
    store_failures: Counters<OperationLabel>,
    terms: Counter<u64, AtomicU64>,
    requests: Counters<RequestLabels>,
}

impl Metrics {
    /// Nothing is counted yet.
    pub(crate) fn new() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            push_times: Family::new_with_constructor(times),
            push_failures: Family::default(),
            pushed: Mutex::default(),
            polls: Family::default(),
            store_times: Family::new_with_constructor(times),
            store_failures: Family::default(),
            terms: Counter::default(),
            requests: Family::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register(
            "push_seconds",
            "Time until a proxy answered to a push of slots",
            self.push_times.clone(),
        );
        registry.register(
            "push_failures",
            "Pushes of slots that a proxy did not acknowledge",
            self.push_failures.clone(),
        );
        registry.register("polls", "Polls of servers and proxies, by outcome", self.polls.clone());
        registry.register(
            "store_seconds",
            "Time that calls to the store took, by operation",
            self.store_times.clone(),
        );
        registry.register(
            "store_failures",
            "Calls to the store that failed, by operation",
            self.store_failures.clone(),
        );
        registry.register(
            "terms",
            "How often this instance became the active one",
            self.terms.clone(),
        );
        registry.register("http_requests", "Requests that were answered", self.requests.clone());
        self
    }

    /// Measures a push to a proxy.
    pub(crate) async fn push<T, E>(
        &self,
        proxy: &ProxyToken,
        push: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let began = Instant::now();
        let result = push.await;
        self.pushed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(proxy.clone());
        let label = ProxyLabel {
            proxy: proxy.to_string(),
        };
        self.push_times
            .get_or_create(&label)
            .observe(began.elapsed().as_secs_f64());
        self.push_failures.get_or_create(&label).inc_by(result.is_err().into());
        result
    }

    /// Counts a poll of a server.
    pub(crate) fn server_polled(&self, poll: &RedisStats) {
        self.polled("server", outcome(poll.error.is_some(), poll.timeout));
    }

    /// Counts a poll of a proxy.
    pub(crate) fn proxy_polled(&self, poll: &ProxyStatsEntry) {
        self.polled("proxy", outcome(poll.error.is_some(), poll.timeout));
    }

    fn polled(&self, what: &'static str, outcome: &'static str) {
        self.polls.get_or_create(&PollLabels { what, outcome }).inc();
    }

    /// Counts a call to the store, and how long it took where that says something.
    pub(crate) fn store_called(&self, operation: &'static str, took: Option<std::time::Duration>, failed: bool) {
        let label = OperationLabel { operation };
        if let Some(took) = took {
            self.store_times.get_or_create(&label).observe(took.as_secs_f64());
        }
        self.store_failures.get_or_create(&label).inc_by(failed.into());
    }

    /// Counts a term that begins.
    pub(crate) fn term_began(&self) {
        self.terms.inc();
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, method: &'static str, route: String, status: u16) {
        self.requests
            .get_or_create(&RequestLabels { method, route, status })
            .inc();
    }

    /// All figures as text. `term`: the one that this dashboard acts in.
    pub(crate) fn text(&self, term: Option<&Term>) -> String {
        self.forget_proxies(term);
        let mut text = String::new();
        // Writing into a String can't fail.
        let _ = encode_registry(&mut text, &self.registry);
        let _ = encode_registry(&mut text, &present(term));
        let _ = encode_eof(&mut text);
        text
    }

    fn forget_proxies(&self, term: Option<&Term>) {
        let topology = term.map(Term::topology);
        let registered = |token: &ProxyToken| {
            topology
                .as_ref()
                .is_some_and(|topology| topology.proxy(token).is_some())
        };
        let mut pushed = self.pushed.lock().unwrap_or_else(PoisonError::into_inner);
        pushed.retain(|token| {
            let keep = registered(token);
            if !keep {
                let label = ProxyLabel {
                    proxy: token.to_string(),
                };
                self.push_times.remove(&label);
                self.push_failures.remove(&label);
            }
            keep
        });
    }
}

/// What is so right now. An instance that is not active knows only that.
fn present(term: Option<&Term>) -> Registry {
    let mut registry = Registry::with_prefix(PREFIX);
    let mut figure = |name: &str, help: &str, value: i64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    figure(
        "lock_held",
        "Whether this instance is the active one",
        term.is_some().into(),
    );
    figure(
        "lock_revision",
        "The store's revision that names the holding of the lock, 0 without it",
        term.map_or(0, Term::revision),
    );
    let Some(term) = term else { return registry };
    let topology = term.topology();
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let moving = topology.slots().filter(|slot| !slot.action.state.is_nothing()).count();
    let offline = topology.slots().filter(|slot| slot.group_id == 0).count();
    let servers = topology.groups().map(|group| group.servers.len()).sum();
    figure("slots_offline", "Slots without a group, of 1024", count(offline));
    figure(
        "slots_with_action",
        "Slots that are to move or are moving",
        count(moving),
    );
    figure("groups", "Groups", count(topology.groups().count()));
    figure("servers", "Servers of all groups", count(servers));
    figure(
        "proxies",
        "Proxies that are registered",
        count(topology.proxies().count()),
    );

    let slots = Family::<GroupLabel, Gauge<i64>>::default();
    let servers_up = Family::<ServerLabels, Gauge<i64>>::default();
    let proxies_up = Family::<ProxyLabels, Gauge<i64>>::default();
    for group in topology.groups() {
        let group = i64::from(group.id);
        slots.get_or_create(&GroupLabel { group }).set(0);
    }
    for slot in topology.slots().filter(|slot| slot.group_id != 0) {
        slots.get_or_create(&GroupLabel { group: slot.group_id }).inc();
    }
    // Who was not polled yet has no series: nobody knows.
    for (server, poll) in term.observations.servers() {
        let group = server
            .parse()
            .ok()
            .and_then(|server| topology.group_of(&server).map(|(group, _)| group.id));
        if let Some(group) = group {
            let labels = ServerLabels {
                group: group.into(),
                server,
            };
            servers_up
                .get_or_create(&labels)
                .set((poll.error.is_none() && !poll.timeout).into());
        }
    }
    for (token, poll) in term.observations.proxies() {
        if let Some(proxy) = topology.proxy(&ProxyToken::from(token.as_str())) {
            let labels = ProxyLabels {
                proxy: token,
                admin_addr: proxy.admin_addr.clone(),
            };
            proxies_up
                .get_or_create(&labels)
                .set((poll.error.is_none() && !poll.timeout).into());
        }
    }
    registry.register("slots", "Slots of the group, of 1024", slots);
    registry.register("server_up", "Whether the server answered to its last poll", servers_up);
    registry.register("proxy_up", "Whether the proxy answered to its last poll", proxies_up);
    registry
}

fn outcome(error: bool, timeout: bool) -> &'static str {
    match (error, timeout) {
        (_, true) => "timeout",
        (true, false) => "error",
        (false, false) => "ok",
    }
}

fn times() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 12))
}
