use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::{HostPort, Info, ProxyStatsEntry, ProxyToken, RedisStats};

/// A server as the last poll of this term found it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// When the poll began.
    pub(crate) at: Instant,
    /// When it ended.
    pub(crate) ended: Instant,
    /// What it said, or why it said nothing.
    pub(crate) answer: Result<Info, String>,
    /// How far its data was at the poll before, if that was answered by the same process.
    pub(crate) offset_before: Option<i64>,
    /// When it last answered.
    pub(crate) answered_at: Option<Instant>,
    /// When it had heard of a primary at the latest, by our clock: its own may jump.
    pub(crate) heard_at: Option<Instant>,
}

impl Seen {
    /// What a poll found that began and ended at these moments, after the one before.
    pub(crate) fn after(before: Option<&Self>, (at, ended): (Instant, Instant), answer: Result<Info, String>) -> Self {
        let run_id = answer.as_ref().ok().map(Info::run_id);
        let same = before.filter(|before| {
            let answered = before.answer.as_ref().ok().map(Info::run_id);
            answered.is_some() && answered == run_id
        });
        let silence = answer.as_ref().ok().and_then(|info| u64::try_from(info.silence()).ok());
        let heard_at = silence.and_then(|silence| ended.checked_sub(Duration::from_secs(silence)));
        Self {
            at,
            ended,
            offset_before: same.and_then(|before| before.answer.as_ref().ok()).map(Info::offset),
            answered_at: match answer {
                Ok(_) => Some(at),
                Err(_) => before.and_then(|before| before.answered_at),
            },
            heard_at: heard_at.max(before.and_then(|before| before.heard_at)),
            answer,
        }
    }

    /// What it said, if that was within this time.
    pub(crate) fn info(&self, now: Instant, within: Duration) -> Option<&Info> {
        let fresh = now.saturating_duration_since(self.at) <= within;
        self.answer.as_ref().ok().filter(|_| fresh)
    }
}

/// What the last polls found, and why servers were not given their role.
#[derive(Default)]
pub(crate) struct Observations {
    servers: Mutex<HashMap<HostPort, RedisStats>>,
    seen: Mutex<HashMap<HostPort, Seen>>,
    proxies: Mutex<HashMap<ProxyToken, ProxyStatsEntry>>,
    admissions: Mutex<HashMap<HostPort, String>>,
    sentinels: Mutex<BTreeMap<String, RedisStats>>,
}

impl Observations {
    /// Notes a poll of a server.
    pub(crate) fn note_server(&self, server: &HostPort, stats: RedisStats) {
        guard(&self.servers).insert(server.clone(), stats);
    }

    /// Notes what a poll of a server found that began and ended at these moments.
    pub(crate) fn note_seen(&self, server: &HostPort, at: Instant, ended: Instant, answer: Result<Info, String>) {
        let mut seen = guard(&self.seen);
        let now = Seen::after(seen.get(server), (at, ended), answer);
        seen.insert(server.clone(), now);
    }

    /// What the last polls of this term found of each server; those not polled yet are missing.
    pub(crate) fn seen(&self) -> HashMap<HostPort, Seen> {
        guard(&self.seen).clone()
    }

    /// Whether a poll of this server ended in this term.
    pub(crate) fn was_asked(&self, server: &HostPort) -> bool {
        guard(&self.seen).contains_key(server)
    }

    /// Notes a poll of a proxy.
    pub(crate) fn note_proxy(&self, token: &ProxyToken, stats: ProxyStatsEntry) {
        guard(&self.proxies).insert(token.clone(), stats);
    }

    /// Notes a poll of a Sentinel.
    pub(crate) fn note_sentinel(&self, sentinel: &str, stats: RedisStats) {
        guard(&self.sentinels).insert(sentinel.to_owned(), stats);
    }

    /// Notes why a server was not given its role, or that it was. `true` when that is news.
    pub(crate) fn note_admission(&self, server: &HostPort, reason: Option<&str>) -> bool {
        let mut admissions = guard(&self.admissions);
        let news = admissions.get(server).map(String::as_str) != reason;
        match reason {
            Some(reason) => drop(admissions.insert(server.clone(), reason.to_owned())),
            None => drop(admissions.remove(server)),
        }
        news
    }

    /// Forgets those that are not among these any more.
    pub(crate) fn retain(&self, servers: impl Fn(&HostPort) -> bool, proxies: impl Fn(&ProxyToken) -> bool) {
        guard(&self.servers).retain(|server, _| servers(server));
        guard(&self.seen).retain(|server, _| servers(server));
        guard(&self.admissions).retain(|server, _| servers(server));
        guard(&self.proxies).retain(|token, _| proxies(token));
    }

    /// Forgets Sentinels that are not among these any more.
    pub(crate) fn retain_sentinels(&self, sentinels: impl Fn(&String) -> bool) {
        guard(&self.sentinels).retain(|sentinel, _| sentinels(sentinel));
    }

    /// The last poll of each Sentinel.
    pub(crate) fn sentinels(&self) -> BTreeMap<String, RedisStats> {
        guard(&self.sentinels).clone()
    }

    /// The last poll of each server, with `admission` where a role was not given.
    pub(crate) fn servers(&self) -> BTreeMap<String, RedisStats> {
        let admissions = guard(&self.admissions).clone();
        let mut servers: BTreeMap<String, RedisStats> = guard(&self.servers)
            .iter()
            .map(|(server, stats)| (server.to_string(), stats.clone()))
            .collect();
        for (server, reason) in admissions {
            if let Some(stats) = servers.get_mut(server.as_str()) {
                stats.stats.insert("admission".to_owned(), reason);
            }
        }
        servers
    }

    /// The last poll of each proxy.
    pub(crate) fn proxies(&self) -> BTreeMap<String, ProxyStatsEntry> {
        guard(&self.proxies)
            .iter()
            .map(|(token, stats)| (token.to_string(), stats.clone()))
            .collect()
    }
}

/// Seconds since 1970.
pub(crate) fn unixtime() -> i64 {
    unixtime_ms() / 1000
}

/// Milliseconds since 1970.
pub(crate) fn unixtime_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
