use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::guesses::Guesses;
use super::peers::Peers;
use crate::model::ServerUserKind;
use crate::proxy::backend::{Addresses, Login, PreparedServers};
use crate::proxy::command::Optional;
use crate::proxy::config::Config;
use crate::proxy::scripts::Scripts;
use crate::proxy::slots::SharedMap;
use crate::proxy::tls::Tls;

/// What [`Settings::stream_window`] is, unless clients may have less waiting.
const STREAM_WINDOW: usize = 1 << 20;

/// What one worker may have waiting when nothing says how much all may.
const MEMORY_OF_EACH: usize = 128 << 20;

/// What workers need of the configuration, and what they tell the rest of the process at once.
pub(in crate::proxy) struct Settings {
    pub(in crate::proxy) product_name: String,
    pub(in crate::proxy) login: Login,
    session_auth: Option<[u8; 32]>,
    pub(in crate::proxy) backend_ping_period: Option<Duration>,
    pub(in crate::proxy) backend_ping_timeout: Option<Duration>,
    pub(in crate::proxy) backend_recv_timeout: Duration,
    pub(in crate::proxy) backend_send_timeout: Duration,
    pub(in crate::proxy) backend_max_pipeline: usize,
    pub(in crate::proxy) backend_keepalive: Option<Duration>,
    pub(in crate::proxy) backend_primary_only: bool,
    pub(in crate::proxy) backend_replica_max_lag: Duration,
    pub(in crate::proxy) session_replica_reads: bool,
    /// How many each server has for clients.
    pub(in crate::proxy) databases: u16,
    pub(in crate::proxy) hold_timeout: Duration,
    pub(in crate::proxy) hold_max_requests: usize,
    pub(in crate::proxy) hold_max_bytes: usize,
    pub(in crate::proxy) repeat_timeout: Duration,
    pub(in crate::proxy) session_max_pipeline: usize,
    pub(in crate::proxy) session_recv_timeout: Option<Duration>,
    pub(in crate::proxy) session_send_timeout: Option<Duration>,
    pub(in crate::proxy) session_keepalive: Option<Duration>,
    pub(in crate::proxy) session_break_on_failure: bool,
    /// How long a turn waits for more to do; zero: never.
    pub(in crate::proxy) nap: Duration,
    /// How many bytes may wait in one worker.
    pub(in crate::proxy) max_memory: usize,
    pub(in crate::proxy) session_max_output: usize,
    pub(in crate::proxy) session_max_request: usize,
    /// Bytes that transactions of one worker's clients may hold together.
    pub(in crate::proxy) session_max_queued: usize,
    /// Requests and replies of more bytes are passed on before their end came.
    pub(in crate::proxy) stream_threshold: usize,
    /// How many bytes of a reply that is passed on so wait for a client before its server is read on.
    pub(in crate::proxy) stream_window: usize,
    /// What took so long is in the slow log.
    pub(in crate::proxy) slow: Option<Duration>,
    pub(in crate::proxy) slowlog_max_len: usize,
    pub(in crate::proxy) hot_keys_sample: u32,
    pub(in crate::proxy) max_clients: u32,
    pub(in crate::proxy) guesses: Guesses,
    pub(in crate::proxy) peers: Peers,
    pub(in crate::proxy) next_slow_id: AtomicU64,
    pub(in crate::proxy) started: Instant,
    pub(in crate::proxy) workers: usize,
    pub(in crate::proxy) sessions: SessionCount,
    pub(in crate::proxy) prepared_servers: PreparedServers,
    pub(in crate::proxy) addresses: Addresses,
    pub(in crate::proxy) optional: Optional,
    pub(in crate::proxy) scripts: Scripts,
    pub(in crate::proxy) map: SharedMap,
    pub(in crate::proxy) tls: Tls,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("product_name", &self.product_name)
            .finish_non_exhaustive()
    }
}

/// Clients of the whole process. Touched when one comes or goes.
#[derive(Debug, Default)]
pub(in crate::proxy) struct SessionCount {
    total: AtomicI64,
    alive: AtomicI64,
}

impl SessionCount {
    /// One came: its number, which no other gets, and how many there are, it included.
    pub(in crate::proxy) fn came(&self) -> (u64, i64) {
        let number = self.total.fetch_add(1, Ordering::Relaxed) + 1;
        (number.unsigned_abs(), self.alive.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// One left.
    pub(in crate::proxy) fn left(&self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }

    /// All that ever came, and those that are here.
    pub(in crate::proxy) fn get(&self) -> (i64, i64) {
        (self.total.load(Ordering::Relaxed), self.alive.load(Ordering::Relaxed))
    }
}

impl Settings {
    /// Takes what workers need out of the configuration. `user`: who this process is at servers.
    pub(in crate::proxy) fn new(config: &Config, workers: usize, user: ServerUserKind, tls: Tls) -> Self {
        let max_output = config.session_max_output_size.0 as usize;
        let unless_zero = |duration: Duration| (!duration.is_zero()).then_some(duration);
        Self {
            product_name: config.product_name.to_string(),
            login: Login {
                user,
                product_auth: config.product_auth.clone(),
            },
            session_auth: (!config.session_auth.is_empty()).then(|| Sha256::digest(&config.session_auth).into()),
            // Codis pings once a second at most.
            backend_ping_period: unless_zero(config.backend_ping_period.0)
                .map(|period| period.max(Duration::from_secs(1))),
            backend_ping_timeout: unless_zero(config.backend_ping_timeout.0),
            backend_recv_timeout: config.backend_recv_timeout.0,
            backend_send_timeout: config.backend_send_timeout.0,
            backend_max_pipeline: config.backend_max_pipeline as usize,
            backend_keepalive: unless_zero(config.backend_keepalive_period.0),
            hold_timeout: config.hold_timeout.0,
            hold_max_requests: config.hold_max_requests as usize,
            hold_max_bytes: usize::try_from(config.hold_max_bytes.0).unwrap_or(usize::MAX),
            repeat_timeout: config.repeat_timeout.0,
            databases: u16::try_from(config.backend_number_databases).unwrap_or(u16::MAX),
            backend_primary_only: config.backend_primary_only,
            backend_replica_max_lag: config.backend_replica_max_lag.0,
            session_replica_reads: config.session_replica_reads,
            session_max_pipeline: config.session_max_pipeline as usize,
            session_recv_timeout: unless_zero(config.session_recv_timeout.0),
            session_send_timeout: unless_zero(config.session_send_timeout.0),
            session_keepalive: unless_zero(config.session_keepalive_period.0),
            session_break_on_failure: config.session_break_on_failure,
            nap: config.proxy_nap.0,
            max_memory: match config.proxy_max_memory.0 as usize {
                0 => MEMORY_OF_EACH,
                all => all / workers.max(1),
            },
            session_max_output: max_output,
            session_max_request: config.session_max_request_size.0 as usize,
            session_max_queued: config.session_max_queued_size.0 as usize,
            // Both together have to fit in what a client may have waiting.
            stream_threshold: (config.session_stream_threshold.0 as usize).min(max_output / 4),
            stream_window: STREAM_WINDOW.min(max_output / 4),
            slow: u64::try_from(config.slowlog_log_slower_than)
                .ok()
                .map(Duration::from_micros),
            slowlog_max_len: config.slowlog_max_len as usize,
            hot_keys_sample: config.hot_keys_sample,
            max_clients: config.proxy_max_clients,
            guesses: Guesses::new(config.session_auth_failures),
            peers: Peers::default(),
            next_slow_id: AtomicU64::new(0),
            started: Instant::now(),
            workers,
            sessions: SessionCount::default(),
            prepared_servers: PreparedServers::default(),
            addresses: Addresses::default(),
            optional: Optional {
                keys: config.session_allow_keys,
                flush: config.session_allow_flush,
            },
            scripts: Scripts::default(),
            map: SharedMap::default(),
            tls,
        }
    }

    /// Whether clients have to give a password.
    pub(in crate::proxy) fn wants_password(&self) -> bool {
        self.session_auth.is_some()
    }

    /// Whether this is the clients' password, in a time that does not depend on how much of it is right. Without a
    /// password each is.
    pub(in crate::proxy) fn is_password(&self, given: &[u8]) -> bool {
        self.session_auth
            .is_none_or(|digest| digest.ct_eq(Sha256::digest(given).as_slice()).into())
    }
}
