//! The proxy as the admin API and the dashboard see it.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use subtle::ConstantTimeEq;
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use super::backend::by_server;
use super::config::Config;
use super::host::UsageMeter;
use super::logging::LogControl;
use super::metrics::{self, Scene};
use super::slots::PushError;
use super::worker::{Control, Readings, Settings, Totals, Worker, WorkerHandle};
use crate::model::{
    Ops, OpsRedis, Proxy as Record, ProxyBackend, ProxyOverview, ProxySentinels, ProxyStatsBody, SLOT_COUNT,
    ServerWitness, Sessions, Slot,
};

/// How long a push waits for what is under way by the former routing of its slots. Dashboards wait longer, so that
/// they read the answer.
const FILL_PATIENCE: Duration = Duration::from_millis(800);

/// Why slots were not filled, or not yet as a whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum FillError {
    /// Nothing was taken.
    #[error(transparent)]
    Refused(#[from] PushError),
    /// The new routing holds.
    #[error(
        "requests sent by the former routing are still under way after {FILL_PATIENCE:?}; the pushed state is in force and holds back new ones, push it again to wait for it"
    )]
    UnderWay,
}

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Serving, or waiting to be brought online.
    Serving,
    /// Nothing new begins.
    Draining,
    /// The last client left.
    Drained,
}

/// What of the figures is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StatsParts {
    /// Each command's.
    pub(super) commands: bool,
    /// The raw figures of the kernel.
    pub(super) raw: bool,
}

/// The whole process.
#[derive(Debug)]
pub(super) struct Proxy {
    config: Config,
    settings: Arc<Settings>,
    workers: Vec<WorkerHandle>,
    record: Record,
    xauth: String,
    online: watch::Sender<bool>,
    closed: AtomicBool,
    phase: watch::Sender<Phase>,
    sentinels: Mutex<Vec<String>>,
    usage: Mutex<UsageMeter>,
    qps: AtomicI64,
    log: LogControl,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    pub(super) fn new(
        config: Config,
        settings: Arc<Settings>,
        workers: Vec<WorkerHandle>,
        record: Record,
        log: LogControl,
    ) -> Self {
        settings.peers.introduce(&workers);
        let xauth = config.product_name.proxy_xauth(&config.product_auth, &record.token);
        Self {
            config,
            settings,
            workers,
            record,
            xauth,
            online: watch::channel(false).0,
            closed: AtomicBool::new(false),
            phase: watch::channel(Phase::Serving).0,
            sentinels: Mutex::default(),
            usage: Mutex::default(),
            qps: AtomicI64::new(0),
            log,
        }
    }

    /// What it tells a dashboard of itself.
    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// The settings that clients' connections need.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The settings.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// The worker for client `id`.
    pub(super) fn worker_for(&self, id: u64) -> &WorkerHandle {
        &self.workers[id as usize % self.workers.len()]
    }

    /// Changes the log level.
    pub(super) fn log(&self) -> &LogControl {
        &self.log
    }

    /// Whether the caller knows product, password and token, in a time that does not depend on how much of it is right.
    pub(super) fn is_xauth(&self, given: &str) -> bool {
        self.xauth.as_bytes().ct_eq(given.as_bytes()).into()
    }

    /// Whether clients are served.
    pub(super) fn is_online(&self) -> bool {
        *self.online.borrow()
    }

    /// Returns when clients are served.
    pub(super) async fn went_online(&self) {
        // It fails only when the sender is gone, which is here.
        let _ = self.online.subscribe().wait_for(|online| *online).await;
    }

    /// Whether the process is about to end.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Follows the process' life.
    pub(super) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Why it should get no clients now, if so.
    pub(super) fn unready(&self) -> Option<String> {
        match (self.is_closed(), self.is_online(), self.settings.map.lock().missing()) {
            (true, ..) => Some("the proxy is shutting down".to_owned()),
            (_, _, missing @ 1..) => Some(format!("{missing} slots were not filled yet")),
            (_, false, _) => Some("the proxy is not online".to_owned()),
            _ => None,
        }
    }

    /// The slot map in force.
    pub(super) fn slots(&self) -> Vec<Slot> {
        self.settings.map.lock().slots().to_vec()
    }

    /// Takes a push. Acknowledged when nothing is under way any more by the former routing of its slots. What is not
    /// answered within `drop_after`, if that is given, is failed, together with the connections it went over: whoever
    /// sent it hears of no success any more.
    ///
    /// # Errors
    /// When it is refused, or that takes too long.
    pub(super) async fn fill(&self, slots: Vec<Slot>, drop_after: Option<Duration>) -> Result<(), FillError> {
        let mut waits = Vec::with_capacity(self.workers.len());
        {
            // Under the lock, so that all workers get all pushes in one order.
            let mut map = self.settings.map.lock();
            map.push(&slots)?;
            let prepared = slots.iter().flat_map(|slot| &slot.prepared);
            self.settings.prepared_servers.learn(prepared);
            let slots = Arc::new(slots);
            let drop_at = drop_after.map(|after| std::time::Instant::now() + after);
            for worker in &self.workers {
                let (done, wait) = oneshot::channel();
                worker.send(Control::Fill {
                    slots: slots.clone(),
                    drop_at,
                    done,
                });
                waits.push(wait);
            }
        }
        let all = tokio::time::timeout(FILL_PATIENCE, join_all(waits))
            .await
            .map_err(|_| FillError::UnderWay)?;
        if all.iter().all(Result::is_ok) {
            Ok(())
        } else {
            Err(FillError::UnderWay)
        }
    }

    /// Begins to serve clients.
    ///
    /// # Errors
    /// When slots are missing, or the process is about to end.
    pub(super) fn start(&self) -> Result<(), String> {
        if self.is_closed() {
            return Err("the proxy is shutting down".to_owned());
        }
        let missing = self.settings.map.lock().missing();
        if missing > 0 {
            return Err(format!(
                "{missing} slots were not filled yet; fill all of them before start"
            ));
        }
        if !self.online.send_replace(true) {
            info!("online");
        }
        Ok(())
    }

    /// Begins nothing new, and returns when that is certain.
    pub(super) async fn begin_drain(self: &Arc<Self>) {
        if self.closed.swap(true, Ordering::AcqRel) {
            let _ = self.phases().wait_for(|phase| *phase != Phase::Serving).await;
            return;
        }
        info!("closing: no new clients and requests, what is under way is finished");
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        for worker in &self.workers {
            let ((tell_begun, hear_begun), (tell_ended, hear_ended)) = (oneshot::channel(), oneshot::channel());
            worker.send(Control::Drain {
                begun: tell_begun,
                ended: tell_ended,
            });
            begun.push(hear_begun);
            ended.push(hear_ended);
        }
        let proxy = self.clone();
        tokio::spawn(async move {
            join_all(begun).await;
            proxy.phase.send_replace(Phase::Draining);
            join_all(ended).await;
            proxy.phase.send_replace(Phase::Drained);
        });
        let _ = self.phases().wait_for(|phase| *phase != Phase::Serving).await;
    }

    /// Remembers the sentinels. Following them comes later.
    pub(super) fn set_sentinels(&self, servers: Vec<String>) {
        if !servers.is_empty() {
            warn!(
                ?servers,
                "sentinels are remembered, but this codis-proxy does not follow them yet"
            );
        }
        *locked(&self.sentinels) = servers;
    }

    /// The sum over all workers; those that do not answer in time are missing.
    async fn totals(&self, by_command: bool) -> Totals {
        let mut sum = Totals::default();
        let totals = move |worker: &Worker| worker.figures.totals(by_command);
        for totals in self.settings.peers.ask(totals).await {
            sum.add(totals);
        }
        sum
    }

    /// What is seen of servers by all workers; those that do not answer in time are missing.
    async fn servers_seen(&self) -> Vec<ServerWitness> {
        let seen = |worker: &Worker| worker.router.servers_seen(worker.refresh_now());
        by_server(self.settings.peers.ask(seen).await.into_iter().flatten())
    }

    /// All figures, for Prometheus.
    pub(super) async fn metrics(&self) -> String {
        let mut readings = Readings::default();
        for more in self.settings.peers.ask(Readings::of).await {
            readings.add(more);
        }
        let (slots, missing) = {
            let map = self.settings.map.lock();
            (map.counts(), map.missing())
        };
        metrics::text(&Scene {
            readings,
            accepted: self.settings.sessions.get().0,
            online: self.is_online(),
            ready: self.unready().is_none(),
            filled: SLOT_COUNT - missing,
            slots,
            wrong_passwords: self.settings.guesses.counts(),
            tls: self.settings.tls.figures(),
        })
    }

    /// What it counted.
    pub(super) async fn stats(&self, parts: StatsParts) -> ProxyStatsBody {
        let (totals, servers) = tokio::join!(self.totals(parts.commands), self.servers_seen());
        let (total, alive) = self.settings.sessions.get();
        let mut rusage = locked(&self.usage).usage();
        if !parts.raw {
            rusage.raw = None;
        }
        ProxyStatsBody {
            online: self.is_online(),
            closed: self.is_closed(),
            sentinels: ProxySentinels {
                servers: locked(&self.sentinels).clone(),
                ..ProxySentinels::default()
            },
            ops: Ops {
                total: totals.total,
                fails: totals.fails,
                redis: OpsRedis {
                    errors: totals.server_errors,
                },
                qps: self.qps.load(Ordering::Relaxed),
                cmd: totals.commands,
            },
            sessions: Sessions { total, alive },
            rusage,
            backend: ProxyBackend {
                primary_only: self.settings.backend_primary_only,
            },
            servers,
            runtime: None,
        }
    }

    /// Everything.
    pub(super) async fn overview(&self) -> ProxyOverview {
        ProxyOverview {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            compile: format!("rustc, {}", if cfg!(debug_assertions) { "debug" } else { "release" }),
            config: Some(self.config.shown()),
            model: Some(self.record.clone()),
            stats: Some(
                self.stats(StatsParts {
                    commands: true,
                    raw: true,
                })
                .await,
            ),
            slots: self.slots(),
        }
    }

    /// Begins the figures anew.
    pub(super) async fn reset_stats(&self) {
        let reset = |worker: &Worker| {
            worker.figures.reset();
            worker.observers.reset();
        };
        self.settings.peers.ask(reset).await;
    }

    /// Looks once a second at what the process uses and does, for ever.
    pub(super) async fn sample(self: Arc<Self>) {
        let mut last = 0;
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            locked(&self.usage).sample();
            let total = self.totals(false).await.total;
            self.qps.store((total - last).max(0), Ordering::Relaxed);
            last = total;
        }
    }
}
