//! Asks every server twice and every proxy once a second how it is, each in a task of its own: one that hangs delays nobody.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::observations::unixtime;
use super::proxies;
use super::rules::proxies::Registration;
use super::server::{Server, ServerError};
use super::term::Term;
use super::users;
use crate::client::ProxyClient;
use crate::model::{
    HostPort, Info, Proxy, ProxyStatsBody, ProxyStatsEntry, ProxyToken, RedisStats, RemoteError, ServerUserKind,
};

/// How often each server is asked.
const SERVER_PERIOD: Duration = Duration::from_millis(500);
/// How often each proxy is asked.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);
/// How long it may take to answer.
pub(crate) const BUDGET: Duration = Duration::from_secs(1);
/// How often the list of those to be asked is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(200);

/// Polls until it is dropped.
pub(crate) async fn run(term: Arc<Term>) {
    let (mut servers, mut proxies) = (Tasks::default(), Tasks::default());
    loop {
        let topology = term.topology();
        let members = topology.groups().flat_map(|group| &group.servers);
        let members: HashSet<&HostPort> = members.map(|server| &server.server).collect();
        let sentinels = &topology.sentinel().servers;
        let sentinels: Vec<HostPort> = sentinels.iter().filter_map(|addr| addr.parse().ok()).collect();
        let registered: HashSet<&ProxyToken> = topology.proxies().map(|proxy| &proxy.token).collect();
        servers.keep(&members, |server| tokio::spawn(poll_server(Arc::clone(&term), server)));
        proxies.keep(&registered, |token| tokio::spawn(poll_proxy(Arc::clone(&term), token)));
        term.observations
            .retain(|server| members.contains(server), |token| registered.contains(token));
        term.links.retain(|token| registered.contains(token));
        term.means
            .servers
            .retain(&members.iter().copied().chain(&sentinels).map(HostPort::host).collect());
        tokio::time::sleep(LOOK).await;
    }
}

/// One task for each of those that are polled. All end with this.
pub(crate) struct Tasks<K>(HashMap<K, JoinHandle<()>>);

impl<K> Default for Tasks<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash + Clone> Tasks<K> {
    /// Ends the tasks of those that are not among these any more, and begins those of new ones.
    pub(crate) fn keep(&mut self, keys: &HashSet<&K>, begin: impl Fn(K) -> JoinHandle<()>) {
        self.0.retain(|key, task| {
            let keep = keys.contains(key) && !task.is_finished();
            if !keep {
                task.abort();
            }
            keep
        });
        for key in keys {
            if !self.0.contains_key(*key) {
                self.0.insert((*key).clone(), begin((*key).clone()));
            }
        }
    }
}

impl<K> Drop for Tasks<K> {
    fn drop(&mut self) {
        self.0.values().for_each(JoinHandle::abort);
    }
}

async fn poll_server(term: Arc<Term>, server: HostPort) {
    let mut ticks = tokio::time::interval(SERVER_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut poll = ServerPoll::new(server.clone());
    loop {
        ticks.tick().await;
        // Connections last; where a new one would lead has to be known when the name service is dead.
        term.means.servers.keep_fresh(&server);
        let (unixtime, began) = (unixtime(), std::time::Instant::now());
        let asked = tokio::time::timeout(BUDGET, poll.ask(&term)).await;
        let (stats, answer) = match asked {
            Ok(Ok((stats, info))) => (
                RedisStats {
                    stats,
                    ..RedisStats::default()
                },
                Ok(info),
            ),
            Ok(Err(error)) => {
                poll.connection = None;
                let reason = error.to_string();
                (
                    RedisStats {
                        error: Some(RemoteError::new(reason.clone())),
                        ..RedisStats::default()
                    },
                    Err(reason),
                )
            }
            Err(_) => {
                poll.connection = None;
                term.means.servers.forget(&server);
                (
                    RedisStats {
                        timeout: true,
                        ..RedisStats::default()
                    },
                    Err(format!("no answer within {BUDGET:?}")),
                )
            }
        };
        term.means.metrics.server_polled(&stats);
        term.observations.note_server(&server, RedisStats { unixtime, ..stats });
        term.observations
            .note_seen(&server, began, std::time::Instant::now(), answer);
        poll.open_to_proxies(&term).await;
    }
}

/// What a server's poller keeps between two polls.
struct ServerPoll {
    name: HostPort,
    connection: Option<Server>,
    /// The process that was last told which proxies to let in, and which.
    told: Option<(String, Vec<ServerUserKind>)>,
}

impl ServerPoll {
    fn new(name: HostPort) -> Self {
        Self {
            name,
            connection: None,
            told: None,
        }
    }

    async fn ask(&mut self, term: &Term) -> Result<(BTreeMap<String, String>, Info), ServerError> {
        if let Some(server) = &mut self.connection {
            match read_fields(term, &self.name, server).await {
                // A connection may end for many reasons; only a server that can't be reached anew is worth a word.
                Err(error) if error.is_transient() => self.connection = None,
                answer => return answer,
            }
        }
        let server = self.connection.insert(term.connect(&self.name).await?);
        read_fields(term, &self.name, server).await
    }

    /// Has a server that holds its role let in the proxies that may come, and no others. Failures are made good at the
    /// next poll.
    async fn open_to_proxies(&mut self, term: &Term) {
        let topology = term.topology();
        let Some((group, place)) = topology.group_of(&self.name) else {
            return;
        };
        let record = &group.servers[place];
        let (Some(server), Some(run_id)) = (self.connection.as_mut(), record.admitted_run_id.as_ref()) else {
            self.told = None;
            return;
        };
        let is_told = self.told.as_ref() == Some(&(run_id.clone(), topology.admitted_proxies()));
        if server.run_id() != Some(run_id.as_str()) || (is_told && !record.leaky) {
            return;
        }
        self.told = None;
        match tokio::time::timeout(BUDGET, users::let_in(term, &self.name, server)).await {
            Ok(Ok(proxies)) => {
                if record.leaky {
                    users::note_tight(term, std::slice::from_ref(&self.name)).await;
                }
                self.told = Some((run_id.clone(), proxies));
            }
            Ok(Err(error)) => {
                tracing::warn!(server = %self.name, %error, "the server can't be told which proxies to let in yet");
                self.connection = None;
            }
            Err(_) => self.connection = None,
        }
    }
}

async fn read_fields(
    term: &Term,
    name: &HostPort,
    server: &mut Server,
) -> Result<(BTreeMap<String, String>, Info), ServerError> {
    let info = server.info().await?;
    let max_memory = server.max_memory().await?;
    let followed = info.followed();
    let master_server = followed
        .as_ref()
        .and_then(|followed| group_server_at(term, name, followed));
    let mut fields = info.clone().into_fields();
    let ours = [
        ("maxmemory", max_memory),
        ("master_addr", followed),
        ("master_server", master_server),
    ];
    fields.extend(
        ours.into_iter()
            .filter_map(|(field, value)| Some((field.to_owned(), value?))),
    );
    Ok((fields, info))
}

/// Which other server of the group is at this address, which a replica was told to follow.
fn group_server_at(term: &Term, replica: &HostPort, followed: &str) -> Option<String> {
    let topology = term.topology();
    let (group, _) = topology.group_of(replica)?;
    let is_at = |server: &HostPort| {
        server.as_str() == followed
            || term
                .means
                .servers
                .known(server)
                .is_some_and(|addr| addr.to_string() == followed)
    };
    let mut others = group
        .servers
        .iter()
        .map(|server| &server.server)
        .filter(|server| *server != replica);
    others.find(|server| is_at(server)).map(HostPort::to_string)
}

async fn poll_proxy(term: Arc<Term>, token: ProxyToken) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed_at: Option<Instant> = None;
    let mut told = Told::default();
    loop {
        ticks.tick().await;
        let Some(record) = term.topology().proxy(&token).cloned() else {
            return;
        };
        let unixtime = unixtime();
        let entry = match tokio::time::timeout(BUDGET, ask_proxy(&term, &record)).await {
            Ok(Ok((model, stats))) => {
                let wanting = needs_online(&record, &model, &stats, term.links.of(&token).is_complete());
                if let Some(reason) = wanting
                    && failed_at.is_none_or(|at| at.elapsed() >= PERIOD)
                {
                    failed_at = bring_online(&term, &record, reason).await;
                }
                told.tell(&term, &model).await;
                ProxyStatsEntry {
                    stats: Some(stats),
                    unixtime,
                    ..ProxyStatsEntry::default()
                }
            }
            Ok(Err(reason)) => ProxyStatsEntry {
                error: Some(RemoteError::new(reason)),
                unixtime,
                ..ProxyStatsEntry::default()
            },
            Err(_) => ProxyStatsEntry {
                timeout: true,
                unixtime,
                ..ProxyStatsEntry::default()
            },
        };
        term.means.metrics.proxy_polled(&entry);
        term.observations.note_proxy(&token, entry);
    }
}

/// Which process of a proxy was told where which servers are. It needs that when it can't resolve their names.
#[derive(Default)]
struct Told(Option<(String, BTreeMap<String, IpAddr>)>);

impl Told {
    async fn tell(&mut self, term: &Term, proxy: &Proxy) {
        // Codis' proxies have no incarnation, and no ear for this.
        if proxy.incarnation.is_empty() {
            return;
        }
        let topology = term.topology();
        let servers = topology.servers().map(|(_, record)| &record.server);
        let known = servers.filter(|server| server.host().parse::<IpAddr>().is_err());
        let known = known.filter_map(|server| Some((server.host().to_owned(), term.means.servers.known(server)?.ip())));
        let told = (proxy.incarnation.clone(), known.collect());
        if self.0.as_ref() == Some(&told) {
            return;
        }
        let client = proxies::client(term, &proxy.admin_addr, proxy);
        match client.set_addresses(&told.1).await {
            Ok(()) => self.0 = Some(told),
            Err(error) => tracing::debug!(proxy = %proxy.token, %error, "the proxy was not told where servers are"),
        }
    }
}

async fn ask_proxy(term: &Term, record: &Proxy) -> Result<(Proxy, ProxyStatsBody), String> {
    let client = proxies::client(term, &record.admin_addr, record);
    let (model, stats) = tokio::join!(ProxyClient::model(&term.means.http, &record.admin_addr), client.stats());
    let model = model.map_err(|error| error.to_string())?;
    if model.token != record.token {
        return Err(format!(
            "another proxy answers at {}: proxy-[{}]",
            record.admin_addr, model.token
        ));
    }
    Ok((model, stats.map_err(|error| error.to_string())?))
}

/// Why a registered proxy has to be told everything again, if it has to.
pub(super) fn needs_online(
    record: &Proxy,
    model: &Proxy,
    stats: &ProxyStatsBody,
    complete: bool,
) -> Option<&'static str> {
    if stats.closed {
        None
    } else if (&model.incarnation, &model.start_time) != (&record.incarnation, &record.start_time) {
        Some("it was restarted")
    } else if !stats.online {
        Some("it is not online")
    } else if record.shut_off {
        Some("it was shut off, and answers")
    } else if !complete {
        Some("it has not acknowledged everything")
    } else {
        None
    }
}

/// Returns when it failed.
async fn bring_online(term: &Term, record: &Proxy, reason: &str) -> Option<Instant> {
    let token = &record.token;
    match proxies::online(term, &record.admin_addr, Registration::Known).await {
        Ok(()) => {
            tracing::info!(proxy = %token, reason, "the proxy was brought online");
            None
        }
        Err(error) => {
            tracing::warn!(proxy = %token, reason, %error, "the proxy can't be brought online yet");
            Some(Instant::now())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(incarnation: &str) -> Proxy {
        let json = format!(
            r#"{{"token":"t","start_time":"s","admin_addr":"h:1","proto_type":"tcp4","proxy_addr":"h:2",
                "product_name":"demo","pid":1,"pwd":"/","sys":"","incarnation":"{incarnation}"}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn stats(online: bool, closed: bool) -> ProxyStatsBody {
        ProxyStatsBody {
            online,
            closed,
            ..ProxyStatsBody::default()
        }
    }

    #[test]
    fn a_proxy_is_told_everything_again_unless_it_is_complete_online_or_on_its_way_out() {
        let record = proxy("1");
        let needs = |incarnation, online, closed, complete| {
            needs_online(&record, &proxy(incarnation), &stats(online, closed), complete).is_some()
        };
        assert!(!needs("1", true, false, true));
        assert!(needs("1", false, false, true));
        assert!(needs("2", true, false, true));
        assert!(needs("1", true, false, false));
        assert!(!needs("2", false, true, false));
    }
}
