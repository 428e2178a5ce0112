use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{ServerError, Standing};
use crate::client;
use crate::model::HostPort;

/// How long an answer is used without asking again. After that it still serves while it is asked for anew, unless there was
/// nobody at the address.
const FRESH: Duration = Duration::from_secs(5);
/// How long an answer serves at once. After that it serves only when the name service says nothing. Logins are made for one
/// pod, so an address that meanwhile belongs to another one does no harm.
const STALE: Duration = Duration::from_secs(60);
/// How long a caller waits for an answer.
const PATIENCE: Duration = Duration::from_millis(800);
/// The same where there is an older answer. A promotion gives its candidate 500 ms in all.
const WITH_ANOTHER: Duration = Duration::from_millis(200);
/// The same once the name service has been silent for that long: otherwise every call to a server that was lost once would
/// take most of its time here.
const BRIEF: Duration = Duration::from_millis(50);
/// How many names that are in no group are asked for at once. The system's resolver can't be interrupted, and whoever may
/// call the API may name what he likes.
const STRANGERS: usize = 8;

/// Turns a host's name into addresses.
pub trait Lookup: Send + Sync + 'static {
    /// The addresses, the preferred one first. May take as long as it likes.
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { client::lookup(&host).await })
    }
}

type Answer = Result<IpAddr, String>;

#[derive(Default)]
struct Entry {
    known: Option<(IpAddr, Instant)>,
    /// Nobody was found there.
    doubted: bool,
    asking: Option<Shared<BoxFuture<'static, Answer>>>,
    /// When it was first asked for since the last good answer.
    unanswered: Option<Instant>,
}

impl Entry {
    /// How long an answer is worth waiting for.
    fn patience(&self, now: Instant) -> Duration {
        let silent = self.unanswered.map_or(Duration::ZERO, |since| now - since);
        match self.known {
            Some(_) => WITH_ANOTHER.saturating_sub(silent).max(BRIEF),
            None => PATIENCE,
        }
    }
}

/// Remembers addresses, and asks for each name once at a time however many want it: with the name service dead there is
/// one call under way per name, not one per poll.
#[derive(Clone)]
pub(crate) struct Resolver {
    lookup: Arc<dyn Lookup>,
    hosts: Arc<Mutex<HashMap<String, Entry>>>,
    strangers: Arc<Semaphore>,
}

impl Resolver {
    /// A resolver that asks this one.
    pub(crate) fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self {
            lookup,
            hosts: Arc::default(),
            strangers: Arc::new(Semaphore::new(STRANGERS)),
        }
    }

    /// The address to connect to.
    ///
    /// # Errors
    /// [`ServerError::Lookup`] when there is none, or no answer in time and no recent one.
    pub(crate) async fn resolve(&self, addr: &HostPort, standing: Standing) -> Result<SocketAddr, ServerError> {
        self.find(addr, standing, STALE).await
    }

    /// The address as the name service tells it now.
    ///
    /// # Errors
    /// [`ServerError::Lookup`] when there is none, or no answer in time.
    pub(crate) async fn resolve_anew(&self, addr: &HostPort, standing: Standing) -> Result<SocketAddr, ServerError> {
        self.forget(addr);
        self.find(addr, standing, Duration::ZERO).await
    }

    async fn find(&self, addr: &HostPort, standing: Standing, stale: Duration) -> Result<SocketAddr, ServerError> {
        if let Ok(ip) = addr.host().parse::<IpAddr>() {
            return Ok(SocketAddr::new(ip, addr.port()));
        }
        let ip = self.resolve_name(addr.host(), standing, stale).await;
        ip.map(|ip| SocketAddr::new(ip, addr.port()))
            .map_err(|reason| ServerError::Lookup {
                addr: addr.clone(),
                reason,
            })
    }

    /// Forgets hosts that are not among these; those that are being asked for later.
    pub(crate) fn retain(&self, known: &HashSet<&str>) {
        self.hosts()
            .retain(|host, entry| known.contains(host.as_str()) || entry.asking.is_some());
    }

    /// The address that was found last, however old. Asks nobody.
    pub(crate) fn known(&self, addr: &HostPort) -> Option<SocketAddr> {
        let ip = match addr.host().parse::<IpAddr>() {
            Ok(ip) => ip,
            Err(_) => self.hosts().get(addr.host())?.known?.0,
        };
        Some(SocketAddr::new(ip, addr.port()))
    }

    /// Asks for these anew where the last answer is getting old, and waits for nothing: should the name service die, there is one
    /// that serves at once.
    pub(crate) fn refresh<'a>(&self, addrs: impl IntoIterator<Item = &'a HostPort>) {
        for addr in addrs.into_iter().filter(|addr| addr.host().parse::<IpAddr>().is_err()) {
            let mut hosts = self.hosts();
            let entry = hosts.entry(addr.host().to_owned()).or_default();
            let is_new = entry.known.is_some_and(|(_, at)| at.elapsed() < STALE / 2);
            if !is_new && entry.asking.is_none() {
                entry.asking = Some(self.ask(addr.host(), None));
                entry.unanswered.get_or_insert_with(Instant::now);
            }
        }
    }

    /// The address may have changed: the next call asks again.
    pub(crate) fn forget(&self, addr: &HostPort) {
        if let Some(entry) = self.hosts().get_mut(addr.host()) {
            entry.doubted = true;
        }
    }

    async fn resolve_name(&self, host: &str, standing: Standing, stale: Duration) -> Answer {
        let (known, asking, patience) = {
            let mut hosts = self.hosts();
            let entry = hosts.get(host);
            let known = entry.and_then(|entry| entry.known);
            let trusted = known.filter(|_| entry.is_some_and(|entry| !entry.doubted));
            if let Some((ip, at)) = trusted
                && at.elapsed() < FRESH
            {
                return Ok(ip);
            }
            let asking = match entry.and_then(|entry| entry.asking.clone()) {
                Some(asking) => asking,
                None => self.ask(host, self.place(standing)?),
            };
            let now = Instant::now();
            let entry = hosts.entry(host.to_owned()).or_default();
            entry.asking = Some(asking.clone());
            entry.unanswered.get_or_insert(now);
            if let Some((ip, at)) = trusted
                && at.elapsed() < stale
            {
                return Ok(ip);
            }
            // Who wants no older answer waits for a new one.
            let patience = if stale.is_zero() { PATIENCE } else { entry.patience(now) };
            (known, asking, patience)
        };
        let answer = match tokio::time::timeout(patience, asking).await {
            Ok(answer) => answer,
            Err(_) => Err("the name service does not answer".to_owned()),
        };
        match (answer, known) {
            // However old: it is all there is.
            (Err(_), Some((ip, _))) if !stale.is_zero() => Ok(ip),
            (answer, _) => answer,
        }
    }

    /// A place for one more question. Members of groups always get one.
    fn place(&self, standing: Standing) -> Result<Option<OwnedSemaphorePermit>, String> {
        if standing != Standing::Stranger {
            return Ok(None);
        }
        let place = Arc::clone(&self.strangers).try_acquire_owned();
        place.map(Some).map_err(|_| {
            format!("{STRANGERS} names of servers in no group are being looked up already; try again later")
        })
    }

    /// Asks in a task of its own: it goes on, and fills the memory, when no caller waits any more.
    fn ask(&self, host: &str, place: Option<OwnedSemaphorePermit>) -> Shared<BoxFuture<'static, Answer>> {
        let (hosts, host, lookup) = (
            Arc::clone(&self.hosts),
            host.to_owned(),
            self.lookup.lookup(host.to_owned()),
        );
        let task = tokio::spawn(async move {
            let answer = lookup.await;
            let mut hosts = hosts.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = hosts.get_mut(&host);
            let deserted = entry
                .as_ref()
                .filter(|entry| entry.doubted)
                .and_then(|entry| entry.known);
            let answer = match answer {
                Ok(ips) => best(&ips, deserted.map(|(ip, _)| ip)).ok_or_else(|| "no such host".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            if let Some(entry) = entry {
                entry.asking = None;
                if let Ok(ip) = &answer {
                    (entry.known, entry.doubted) = (Some((*ip, Instant::now())), false);
                    entry.unanswered = None;
                }
            }
            drop(hosts);
            drop(place);
            answer
        });
        async move { task.await.unwrap_or_else(|error| Err(error.to_string())) }
            .boxed()
            .shared()
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first of a host's addresses, but not the one where nobody was found if there is another.
fn best(ips: &[IpAddr], deserted: Option<IpAddr>) -> Option<IpAddr> {
    let mut others = ips.iter().filter(|ip| Some(**ip) != deserted);
    others.next().or(ips.first()).copied()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Answers 10.0.0.n at the n-th call; never answers when `silent`.
    #[derive(Default)]
    struct Counting {
        calls: Arc<AtomicUsize>,
        silent: bool,
        /// Answers so many calls only.
        silent_after: Option<usize>,
    }

    impl Lookup for Counting {
        fn lookup(&self, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
            if self.silent || self.silent_after.is_some_and(|answered| call > answered) {
                return Box::pin(std::future::pending());
            }
            Box::pin(async move { Ok(vec![IpAddr::from([10, 0, 0, call as u8])]) })
        }
    }

    impl Resolver {
        /// Its answer for this one becomes so much older.
        fn age(&self, addr: &HostPort, by: Duration) {
            let mut hosts = self.hosts();
            let (_, at) = hosts.get_mut(addr.host()).unwrap().known.as_mut().unwrap();
            *at = at.checked_sub(by).unwrap();
        }
    }

    fn addr() -> HostPort {
        "a.b.svc:6379".parse().unwrap()
    }

    #[tokio::test]
    async fn an_answer_is_remembered_until_it_is_forgotten() {
        let resolver = Resolver::new(Arc::new(Counting::default()));
        for _ in 0..2 {
            assert_eq!(
                resolver.resolve(&addr(), Standing::Member).await.unwrap().to_string(),
                "10.0.0.1:6379"
            );
        }
        resolver.forget(&addr());
        assert_eq!(
            resolver.resolve(&addr(), Standing::Member).await.unwrap().to_string(),
            "10.0.0.2:6379"
        );
    }

    #[tokio::test]
    async fn an_old_answer_serves_at_once_and_is_asked_for_anew_meanwhile() {
        let resolver = Resolver::new(Arc::new(Counting::default()));
        resolver.resolve(&addr(), Standing::Member).await.unwrap();
        resolver.age(&addr(), FRESH * 2);
        let first = resolver.resolve(&addr(), Standing::Member).await.unwrap();
        assert_eq!(first.to_string(), "10.0.0.1:6379");
        while resolver.known(&addr()).unwrap().to_string() != "10.0.0.2:6379" {
            tokio::task::yield_now().await;
        }
        // One that is too old to be believed is waited for.
        resolver.age(&addr(), STALE * 2);
        let next = resolver.resolve(&addr(), Standing::Member).await.unwrap();
        assert_eq!(next.to_string(), "10.0.0.3:6379");
    }

    #[tokio::test]
    async fn a_dead_name_service_is_asked_once_and_waited_for_briefly() {
        let lookup = Counting {
            silent: true,
            ..Counting::default()
        };
        let calls = Arc::clone(&lookup.calls);
        let resolver = Resolver::new(Arc::new(lookup));
        let began = Instant::now();
        let addr = addr();
        let answers = futures::future::join_all((0..5).map(|_| resolver.resolve(&addr, Standing::Member))).await;
        assert!(answers.iter().all(Result::is_err) && began.elapsed() < PATIENCE * 2);
        assert!(resolver.resolve(&addr, Standing::Member).await.is_err());
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn what_is_kept_fresh_is_asked_for_once_and_serves_when_the_name_service_dies() {
        let lookup = Counting::default();
        let calls = Arc::clone(&lookup.calls);
        let resolver = Resolver::new(Arc::new(lookup));
        for _ in 0..3 {
            resolver.refresh([&addr(), &"127.0.0.1:1".parse().unwrap()]);
        }
        while resolver.known(&addr()).is_none() {
            tokio::task::yield_now().await;
        }
        resolver.refresh([&addr()]);
        assert_eq!((calls.load(Ordering::SeqCst), resolver.hosts().len()), (1, 1));
    }

    #[tokio::test]
    async fn a_server_that_was_connected_to_long_ago_is_found_at_once_when_the_name_service_is_dead() {
        let resolver = Resolver::new(Arc::new(Counting {
            silent_after: Some(1),
            ..Counting::default()
        }));
        let addr = addr();
        let known = resolver.resolve(&addr, Standing::Member).await.unwrap();
        resolver.age(&addr, STALE * 2);
        let found = resolver.resolve(&addr, Standing::Member);
        let found = tokio::time::timeout(Duration::from_millis(400), found).await;
        assert_eq!(found.unwrap().unwrap(), known);
    }

    #[tokio::test]
    async fn a_lost_server_costs_no_time_here_once_the_name_service_was_found_dead() {
        let lookup = Counting {
            silent_after: Some(1),
            ..Counting::default()
        };
        let resolver = Resolver::new(Arc::new(lookup));
        let known = resolver.resolve(&addr(), Standing::Member).await.unwrap();
        resolver.forget(&addr());
        for patience in [PATIENCE * 2, PATIENCE / 2, PATIENCE / 2] {
            let found = tokio::time::timeout(patience, resolver.resolve(&addr(), Standing::Member)).await;
            assert_eq!(found.unwrap().unwrap(), known);
            resolver.forget(&addr());
        }
        assert!(resolver.resolve_anew(&addr(), Standing::Member).await.is_err());
    }

    #[test]
    fn an_address_where_nobody_was_found_is_not_taken_again_if_there_is_another() {
        let [one, two] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        assert_eq!(best(&[one, two], None), Some(one));
        assert_eq!(best(&[one, two], Some(one)), Some(two));
        assert_eq!(best(&[one], Some(one)), Some(one));
        assert_eq!(best(&[], Some(one)), None);
    }

    #[tokio::test]
    async fn ips_are_not_looked_up() {
        let resolver = Resolver::new(Arc::new(Counting {
            silent: true,
            ..Counting::default()
        }));
        assert_eq!(
            resolver
                .resolve(&"[::1]:5".parse().unwrap(), Standing::Member)
                .await
                .unwrap()
                .to_string(),
            "[::1]:5"
        );
    }

    #[tokio::test]
    async fn an_address_that_must_be_true_now_is_asked_for_now() {
        let resolver = Resolver::new(Arc::new(Counting::default()));
        resolver.resolve(&addr(), Standing::Member).await.unwrap();
        let now = resolver.resolve_anew(&addr(), Standing::Member).await.unwrap();
        assert_eq!(now.to_string(), "10.0.0.2:6379");
    }

    #[tokio::test]
    async fn strangers_do_not_pile_up_and_hold_up_no_member() {
        let silent = true;
        let resolver = Resolver::new(Arc::new(Counting {
            silent,
            ..Counting::default()
        }));
        let named = |n: usize| format!("host-{n}.svc:1").parse::<HostPort>().unwrap();
        let names: Vec<_> = (0..3 * STRANGERS).map(named).collect();
        let asked = names.iter().map(|name| resolver.resolve(name, Standing::Stranger));
        let answers = futures::future::join_all(asked).await;
        assert!(answers.iter().all(Result::is_err));
        assert_eq!(resolver.hosts().len(), STRANGERS);
        let error = resolver.resolve(&addr(), Standing::Member).await.unwrap_err();
        assert!(error.to_string().contains("does not answer"), "{error}");
    }

    #[tokio::test]
    async fn hosts_in_no_group_are_forgotten() {
        let resolver = Resolver::new(Arc::new(Counting::default()));
        resolver.resolve(&addr(), Standing::Stranger).await.unwrap();
        resolver.retain(&HashSet::from([addr().host()]));
        assert!(resolver.known(&addr()).is_some());
        resolver.retain(&HashSet::new());
        assert!(resolver.known(&addr()).is_none() && resolver.hosts().is_empty());
    }
}
