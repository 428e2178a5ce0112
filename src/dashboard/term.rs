use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::aside::Aside;
use super::error::Error;
use super::fault;
use super::fences::Durability;
use super::links::Links;
use super::metrics::Metrics;
use super::observations::Observations;
use super::rules::Refusal;
use super::server::{ReplicationSource, Server, ServerError, Servers, Standing};
use super::slot_action::SlotActionControl;
use super::store::{Lock, Store, StoreError, unfinished};
use super::topology::{Change, Topology};
use super::users::Told;
use crate::client::Http;
use crate::model::{GroupId, HostPort, Info, Leaving, ProductName};

/// How long a change waits for those before it. All of them wait for the same store.
const TURN: Duration = Duration::from_secs(3);

/// How often the lock is renewed.
const RENEWAL: Duration = Duration::from_millis(700);

/// How soon a renewal that failed is tried again. It goes to the next endpoint, so there is nothing to wait for, but one
/// that refuses at once should not be asked without pause.
const RENEWAL_RETRY: Duration = Duration::from_millis(50);

/// How long the first polls of a term are waited for.
const SWEEP: Duration = Duration::from_millis(1500);
/// How often it is looked whether they ended.
const SWEEP_LOOK: Duration = Duration::from_millis(5);

/// What a term works with, whoever holds the lock.
#[derive(Clone)]
pub(crate) struct Means {
    /// The product.
    pub(crate) product: ProductName,
    /// The product's secret.
    pub(crate) product_auth: super::config::Secret,
    /// `forward_method` of slots.
    pub(crate) forward_method: i64,
    /// When primaries stop by themselves.
    pub(crate) durability: Durability,
    /// Where the records are.
    pub(crate) store: Arc<dyn Store>,
    /// The way to servers.
    pub(crate) servers: Servers,
    /// The way to proxies.
    pub(crate) http: Http,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
}

/// One holding of the lock: from taking it to losing it or giving it up. All that is known is known for this term only,
/// and read anew in the next.
pub(crate) struct Term {
    /// What it works with.
    pub(crate) means: Means,
    /// The last polls.
    pub(crate) observations: Observations,
    /// What each proxy acknowledged.
    pub(crate) links: Links,
    /// The switches of the mover of slots.
    pub(crate) slot_actions: SlotActionControl,
    /// Wakes the executor of sync-actions.
    pub(crate) actions_asked: Notify,
    /// One promotion of a group at a time.
    pub(crate) promotions: Turns<GroupId>,
    /// Each server is told by one at a time which proxies to let in.
    pub(crate) users: Turns<HostPort>,
    /// Which proxies each server was told to let in.
    pub(crate) told: Told,
    /// Replicas that are about to end.
    pub(crate) aside: Aside,
    /// The way to servers, as the user of this lock.
    servers: Servers,
    lock: Lock,
    valid_until: Mutex<Instant>,
    ended: watch::Sender<Option<String>>,
    topology: RwLock<Arc<Topology>>,
    /// Changes are made one after the other, because the rules look at more records than they write. The guard is held
    /// across the store's transaction and nothing else: whoever waits for it would wait for the store anyway.
    turn: tokio::sync::Mutex<Turn>,
}

/// One turn at a time for each of many.
pub(crate) struct Turns<K>(Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>);

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: std::hash::Hash + Eq + Clone> Turns<K> {
    /// The lock that is held during a turn.
    pub(crate) fn of(&self, key: &K) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(key.clone()).or_default())
    }
}

/// What the next change needs to know of those before it.
struct Turn {
    /// What every change names, so that none is made after the records were read again.
    fence: i64,
    /// A change got no answer, so the records have to be read again first.
    must_read: bool,
}

impl Term {
    /// Begins a term: reads everything.
    ///
    /// # Errors
    /// When the records can't be read.
    pub(crate) async fn begin(means: Means, lock: Lock) -> Result<Self, StoreError> {
        let snapshot = unfinished::load(&*means.store, &means.product, lock, lock.revision).await?;
        let topology = Topology::read(&means.product, &snapshot)?;
        let servers = means.servers.under_lock(topology.as_epoch(lock.revision));
        Ok(Self {
            promotions: Turns::default(),
            users: Turns::default(),
            told: Told::default(),
            aside: Aside::default(),
            servers,
            observations: Observations::default(),
            links: Links::default(),
            slot_actions: SlotActionControl::default(),
            actions_asked: Notify::new(),
            lock,
            valid_until: Mutex::new(lock.valid_until),
            ended: watch::Sender::new(None),
            topology: RwLock::new(Arc::new(topology)),
            turn: tokio::sync::Mutex::new(Turn {
                fence: lock.revision,
                must_read: false,
            }),
            means,
        })
    }

    /// What names this holding of the lock.
    pub(crate) fn revision(&self) -> i64 {
        self.lock.revision
    }

    /// The records as they were a moment ago.
    pub(crate) fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.topology.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The lock's revision as an epoch: larger than that of all earlier terms.
    pub(crate) fn epoch(&self) -> i64 {
        self.topology().as_epoch(self.lock.revision)
    }

    /// Whether this dashboard may still act. To be asked before everything that somebody else may see.
    ///
    /// # Errors
    /// [`Error::NotActive`] once the term ended, or may have.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if let Some(reason) = self.ended.borrow().as_ref() {
            return Err(Error::NotActive(reason.clone()));
        }
        if Instant::now() < *self.valid_until() {
            return Ok(());
        }
        self.end("the lock could not be renewed in time");
        Err(Error::NotActive("the lock could not be renewed in time".to_owned()))
    }

    /// Does something at a server or proxy while this dashboard may act, and drops it half way when it may not any more.
    ///
    /// # Errors
    /// [`Error::NotActive`] once the term ended, or may have.
    pub(crate) async fn while_active<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        let mut work = std::pin::pin!(work);
        loop {
            self.check()?;
            // It may be renewed meanwhile.
            let until = *self.valid_until();
            if let Ok(done) = tokio::time::timeout_at(until.into(), &mut work).await {
                return Ok(done);
            }
        }
    }

    /// A connection to this server, see [`Servers::connect`].
    ///
    /// # Errors
    /// See [`ServerError`].
    pub(crate) async fn connect(&self, addr: &HostPort) -> Result<Server, ServerError> {
        self.servers.connect(addr, self.standing(addr)).await
    }

    /// A connection to a server that left its group.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub(crate) async fn connect_left(&self, left: &Leaving) -> Result<Server, ServerError> {
        let standing = if left.prepared {
            Standing::Prepared
        } else {
            Standing::Member
        };
        self.servers.connect(&left.server, standing).await
    }

    /// `INFO` of this server over a connection of its own.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub(crate) async fn ask(&self, addr: &HostPort) -> Result<(Info, ReplicationSource), ServerError> {
        self.servers.ask(addr, self.standing(addr)).await
    }

    /// Returns when every server was asked once in this term, or will not answer: by then the users of earlier locks are
    /// deleted where that can be.
    pub(crate) async fn wait_swept(&self) {
        let asked = async {
            while self
                .topology()
                .servers()
                .any(|(_, s)| !self.observations.was_asked(&s.server))
            {
                tokio::time::sleep(SWEEP_LOOK).await;
            }
        };
        // Each poll is bounded in time; a server that was just added is none of a former term's.
        let _ = tokio::time::timeout(SWEEP, asked).await;
    }

    fn standing(&self, addr: &HostPort) -> Standing {
        match self.topology().group_of(addr) {
            None => Standing::Stranger,
            Some((group, place)) if group.servers[place].prepared => Standing::Prepared,
            Some(_) => Standing::Member,
        }
    }

    /// Ends the term for good.
    pub(crate) fn end(&self, reason: &str) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert_with(|| reason.to_owned());
            first
        });
    }

    /// Returns, with the reason, when the term has ended.
    pub(crate) async fn wait_ended(&self) -> String {
        let mut ended = self.ended.subscribe();
        let reason = ended
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| reason.clone());
        reason.unwrap_or_default()
    }

    /// Renews the lock until the term ends.
    pub(crate) async fn keep_lock(&self) {
        let mut failed = false;
        loop {
            let due = *self.valid_until();
            let renewal = async {
                if failed {
                    tokio::time::sleep(RENEWAL_RETRY).await;
                } else {
                    // Whoever takes the lock away by hand is noticed at once.
                    let watched = self.means.store.wait_changed(None);
                    if let Ok(Err(_)) = tokio::time::timeout(RENEWAL, watched).await {
                        tokio::time::sleep(RENEWAL / 4).await;
                    }
                }
                self.means.store.renew(self.lock).await
            };
            // A call that gets no answer is given up when the time is over: then others may take the lock.
            let renewed = tokio::time::timeout_at(due.into(), renewal).await;
            failed = !matches!(renewed, Ok(Ok(_)));
            match renewed {
                Ok(Ok(until)) => *self.valid_until() = until,
                Ok(Err(StoreError::LockLost)) => self.end("the lock was lost"),
                Ok(Err(error)) => tracing::warn!(%error, "the lock was not renewed, trying again"),
                Err(_) => {}
            }
            if self.check().is_err() {
                return;
            }
        }
    }

    /// Makes a change: `rule` says which records are to become what, the store makes it so, and only then the memory.
    /// Where the store was changed by somebody else, the records are read again and the rule asked once more. Returns
    /// what was changed.
    ///
    /// Must not be dropped half way (spawn it): the outcome would be unknown.
    ///
    /// # Errors
    /// What the rule refuses, and what the store says. Changes of many records may be made in part; the memory always
    /// holds what was made.
    pub(crate) async fn change<F>(&self, rule: F) -> Result<Vec<Change>, Error>
    where
        F: Fn(&Topology) -> Result<Vec<Change>, Refusal>,
    {
        let mut turn = tokio::time::timeout(TURN, self.turn.lock()).await.map_err(|_| {
            Error::TimedOut("the store is too slow: earlier changes are still waiting for it".to_owned())
        })?;
        for last_try in [false, true] {
            if turn.must_read {
                self.read_again(&mut turn).await?;
            }
            self.check()?;
            let changes = rule(&self.topology())?;
            match self.commit(turn.fence, &changes).await {
                Ok(()) => return Ok(changes),
                Err(StoreError::Conflict) if !last_try => turn.must_read = true,
                Err(error) => {
                    turn.must_read = error.is_unknown_outcome() || error == StoreError::Conflict;
                    return Err(self.failed(error));
                }
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Reads everything again: somebody wrote into the store by hand.
    ///
    /// # Errors
    /// When the store does not answer, or a record can't be read.
    pub(crate) async fn reload(&self) -> Result<(), Error> {
        self.read_again(&mut *self.turn.lock().await).await
    }

    /// Reads everything again if a change got no answer since the last reading.
    ///
    /// # Errors
    /// As [`Self::reload`].
    pub(crate) async fn catch_up(&self) -> Result<(), Error> {
        let mut turn = self.turn.lock().await;
        if turn.must_read {
            self.read_again(&mut turn).await
        } else {
            Ok(())
        }
    }

    async fn read_again(&self, turn: &mut Turn) -> Result<(), Error> {
        self.check()?;
        // A change that got no answer may still be under way. After this it is made no more, so what is read stays true.
        let raised = self.means.store.fence(self.lock).await;
        turn.fence = raised.map_err(|error| self.failed(error))?;
        let (store, product) = (&*self.means.store, &self.means.product);
        let snapshot = unfinished::load(store, product, self.lock, turn.fence).await?;
        self.check()?;
        let topology = Topology::read(&self.means.product, &snapshot)?;
        *self.topology.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(topology);
        // What proxies were told may not be what is stored.
        self.links.forget_all();
        turn.must_read = false;
        Ok(())
    }

    fn failed(&self, error: StoreError) -> Error {
        if error != StoreError::LockLost {
            return error.into();
        }
        self.end("the lock was lost");
        Error::NotActive("the lock was lost".to_owned())
    }

    async fn commit(&self, fence: i64, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let (store, product) = (&self.means.store, &self.means.product);
        let topology = self.topology();
        let writes = changes.iter().map(|change| topology.write(product, change));
        let writes = writes.collect::<Result<Vec<_>, _>>()?;
        let mut parts = unfinished::transactions(product, writes, store.max_writes().max(2))?;
        let (last, several) = (parts.len() - 1, parts.len() > 1);
        let (mut begun, mut made) = (0, 0);
        for (number, part) in parts.iter_mut().enumerate() {
            if self.check().is_err() {
                return Err(StoreError::LockLost);
            }
            if several && number == last {
                part.push(unfinished::end(product, begun));
            }
            let revision = store.commit(self.lock, fence, part).await?;
            if several {
                fault::point("commit.part");
            }
            begun = if number == 0 { revision } else { begun };
            // What is written besides the changes themselves stands at both ends.
            let extra = usize::from(several && number == 0) + usize::from(several && number == last);
            let count = part.len() - extra;
            let mut topology = self.topology.write().unwrap_or_else(PoisonError::into_inner);
            Arc::make_mut(&mut topology).apply(&changes[made..made + count], revision);
            made += count;
        }
        Ok(())
    }

    fn valid_until(&self) -> MutexGuard<'_, Instant> {
        self.valid_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::config::Secret;
    use crate::dashboard::rules::groups;
    use crate::dashboard::server::{Resolver, SystemLookup};
    use crate::dashboard::store::fake::{Answer, FakeStore};

    async fn term() -> (Arc<FakeStore>, Term) {
        let store = Arc::new(FakeStore::default());
        let secret = Secret::default();
        let means = Means {
            product: "demo".parse().unwrap(),
            product_auth: secret.clone(),
            forward_method: 0,
            durability: Durability::default(),
            store: Arc::clone(&store) as Arc<dyn Store>,
            servers: Servers::new(secret, Resolver::new(Arc::new(SystemLookup))),
            http: Http::new(Duration::from_secs(1)).unwrap(),
            metrics: Arc::new(Metrics::new()),
        };
        let lock = store.lock();
        let term = Term::begin(means, lock).await.unwrap();
        (store, term)
    }

    async fn create(term: &Term, id: i64) -> Result<Vec<Change>, Error> {
        term.change(|topology| groups::create(topology, GroupId::new(id).unwrap()))
            .await
    }

    async fn stored(store: &FakeStore) -> Topology {
        Topology::read(&"demo".parse().unwrap(), &store.load().await.unwrap()).unwrap()
    }

    fn ids(topology: &Topology) -> Vec<i64> {
        topology.groups().map(|group| i64::from(group.id)).collect()
    }

    #[tokio::test]
    async fn a_change_that_was_made_without_an_answer_is_known_afterwards() {
        let (store, term) = term().await;
        store.next(Answer::MadeButLost);
        assert!(matches!(create(&term, 1).await, Err(Error::Store(_))));
        term.catch_up().await.unwrap();
        assert_eq!(ids(&term.topology()), [1]);
        create(&term, 2).await.unwrap();
        assert_eq!(ids(&stored(&store).await), [1, 2]);
    }

    #[tokio::test]
    async fn a_change_that_got_no_answer_is_not_made_after_the_records_were_read_again() {
        let (store, term) = term().await;
        store.next(Answer::Late);
        assert!(matches!(create(&term, 1).await, Err(Error::Store(_))));
        term.catch_up().await.unwrap();
        store.deliver_late();
        assert_eq!((ids(&term.topology()), ids(&stored(&store).await)), (vec![], vec![]));
        create(&term, 2).await.unwrap();
        assert_eq!((ids(&term.topology()), ids(&stored(&store).await)), (vec![2], vec![2]));
    }

    #[tokio::test]
    async fn a_change_that_arrives_before_the_records_are_read_again_is_known() {
        let (store, term) = term().await;
        store.next(Answer::Late);
        assert!(create(&term, 1).await.is_err());
        store.deliver_late();
        create(&term, 2).await.unwrap();
        assert_eq!(
            (ids(&term.topology()), ids(&stored(&store).await)),
            (vec![1, 2], vec![1, 2])
        );
    }

    #[tokio::test]
    async fn work_is_dropped_when_the_lock_may_be_lost_and_not_when_it_was_renewed() {
        let (_, term) = term().await;
        let in_a_moment = || Instant::now() + Duration::from_millis(50);
        *term.valid_until() = in_a_moment();
        let renewed = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            *term.valid_until() = Instant::now() + Duration::from_secs(60);
            tokio::time::sleep(Duration::from_millis(60)).await;
        };
        assert_eq!(term.while_active(renewed).await, Ok(()));
        *term.valid_until() = in_a_moment();
        let dropped = term.while_active(std::future::pending::<()>()).await;
        assert!(matches!(dropped, Err(Error::NotActive(_))));
    }

    #[tokio::test]
    async fn a_lock_that_somebody_touched_costs_one_more_reading() {
        let (store, term) = term().await;
        store.fence(store.lock()).await.unwrap();
        create(&term, 1).await.unwrap();
        assert_eq!(ids(&stored(&store).await), [1]);
    }
}
