//! Taking the lock, acting while it is held, standing by while it is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::error::Error;
use super::store::{Acquired, Lock, StoreError};
use super::term::{Means, Term};
use super::{fences, leaving, marks, moves, polls, promotion, roles, sentinels};
use crate::model::Topom;

/// The shortest and the longest pause after the store failed.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(500));

/// A term that lasted this long was no failure to begin with.
const SETTLED: Duration = Duration::from_secs(10);

/// What a dashboard is at the moment.
#[derive(Clone)]
pub(crate) enum State {
    /// It waits.
    Waiting {
        /// What for, for people.
        reason: String,
        /// Whether it would take over at once if the active one went away.
        ready: bool,
    },
    /// It holds the lock.
    Active(Arc<Term>),
}

/// A dashboard's part in the product: who it is, what it works with, and its state.
pub(crate) struct Candidate {
    /// Who it is.
    pub(crate) topom: Topom,
    /// The owner that the product must have.
    pub(crate) owner: Option<String>,
    /// What its terms work with.
    pub(crate) means: Means,
    /// Whether the lock is still to be taken away from whoever has it.
    remove_lock: AtomicBool,
    state: watch::Sender<State>,
}

impl Candidate {
    /// One that waits for the store. With `remove_lock` it first takes the lock away from whoever has it.
    pub(crate) fn new(topom: Topom, owner: Option<String>, means: Means, remove_lock: bool) -> Self {
        let reason = "starting".to_owned();
        Self {
            topom,
            owner,
            means,
            remove_lock: AtomicBool::new(remove_lock),
            state: watch::Sender::new(State::Waiting { reason, ready: false }),
        }
    }

    /// The term, if this dashboard may act now.
    ///
    /// # Errors
    /// [`Error::NotActive`], with the reason.
    pub(crate) fn term(&self) -> Result<Arc<Term>, Error> {
        match &*self.state.borrow() {
            State::Active(term) => term.check().map(|()| Arc::clone(term)),
            State::Waiting { reason, .. } => Err(Error::NotActive(reason.clone())),
        }
    }

    /// Whether it is of use: active, or standing by with the store in reach.
    ///
    /// # Errors
    /// Why it is not.
    pub(crate) fn ready(&self) -> Result<(), Error> {
        match &*self.state.borrow() {
            State::Active(term) => term.check(),
            State::Waiting { ready: true, .. } => Ok(()),
            State::Waiting { reason, .. } => Err(Error::NotActive(reason.clone())),
        }
    }

    /// Competes for the lock and acts while it has it, until `stop`; then gives the lock up.
    pub(crate) async fn run(&self, mut stop: watch::Receiver<bool>) {
        let mut pause = PAUSES.0;
        // A lock that we stopped acting under, and that may still lie in the store. At the end it is left to its lease.
        let mut left = None;
        while !*stop.borrow_and_update() {
            let began = Instant::now();
            let lock = tokio::select! {
                lock = self.compete(&mut left) => lock,
                _ = stop.changed() => break,
            };
            let result = match lock {
                Ok(Some(lock)) => self.act(lock, &mut left, &mut stop).await,
                Ok(None) => Ok(()),
                Err(error) => Err(error.to_string()),
            };
            if result.is_ok() || began.elapsed() > SETTLED {
                pause = PAUSES.0;
            }
            match result {
                Ok(()) => {}
                Err(reason) => {
                    self.wait(&reason, false);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSES.1),
                        _ = stop.changed() => break,
                    }
                }
            }
        }
        self.wait("stopping", false);
    }

    /// One try to get the lock; when somebody else has it, returns after that changed or a while passed.
    async fn compete(&self, left: &mut Option<Lock>) -> Result<Option<Lock>, StoreError> {
        let store = &self.means.store;
        if let Some(lock) = *left {
            store.release(lock).await?;
            *left = None;
        }
        store.claim(self.owner.as_deref()).await?;
        if self.remove_lock.load(Ordering::Relaxed) {
            store.remove_lock().await?;
            self.remove_lock.store(false, Ordering::Relaxed);
            tracing::warn!(
                "the lock was removed, as --remove-lock says; the flag is not needed: the lock of a dashboard that died frees itself"
            );
        }
        match store.acquire(&self.topom).await? {
            Acquired::Ours(lock) => Ok(Some(lock)),
            Acquired::Held { by, revision } => {
                self.wait(&format!("standing by, active is {by}"), true);
                store.wait_changed(Some(revision)).await?;
                Ok(None)
            }
        }
    }

    /// One term. The lock stays in `left` when it could not be given up.
    ///
    /// # Errors
    /// Why it ended, unless that is because of `stop`.
    async fn act(&self, lock: Lock, left: &mut Option<Lock>, stop: &mut watch::Receiver<bool>) -> Result<(), String> {
        let began = Instant::now();
        let term = match Term::begin(self.means.clone(), lock).await {
            Ok(term) => Arc::new(term),
            Err(error) => {
                *left = self.means.store.release(lock).await.is_err().then_some(lock);
                return Err(error.to_string());
            }
        };
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let term = Arc::clone(&term);
            async move { term.keep_lock().await }
        });
        tasks.spawn(polls::run(Arc::clone(&term)));
        tasks.spawn(roles::run(Arc::clone(&term)));
        tasks.spawn(sentinels::polls::run(Arc::clone(&term)));
        tasks.spawn(promotion::run(Arc::clone(&term)));
        tasks.spawn(fences::run(Arc::clone(&term)));
        tasks.spawn(marks::run(Arc::clone(&term)));
        tasks.spawn(leaving::run(Arc::clone(&term)));
        tasks.spawn(moves::run(Arc::clone(&term)));
        term.means.metrics.term_began();
        tracing::info!(revision = lock.revision, took = ?began.elapsed(), "active");
        self.state.send_replace(State::Active(Arc::clone(&term)));
        tokio::select! {
            _ = term.wait_ended() => {}
            _ = stop.wait_for(|stop| *stop) => term.end("stopping"),
            // They work as long as the term lasts, unless something is wrong in them. Then half a dashboard would act.
            Some(done) = tasks.join_next() => match done {
                Ok(()) => term.end("a part of the dashboard ended"),
                Err(error) => term.end(&format!("a part of the dashboard failed: {error}")),
            },
        }
        let reason = term.wait_ended().await;
        self.wait(&reason, false);
        tasks.shutdown().await;
        *left = self.means.store.release(lock).await.is_err().then_some(lock);
        if *stop.borrow() { Ok(()) } else { Err(reason) }
    }

    fn wait(&self, reason: &str, ready: bool) {
        let next = State::Waiting {
            reason: reason.to_owned(),
            ready,
        };
        self.state.send_if_modified(|state| {
            let news = !matches!(state, State::Waiting { reason: known, .. } if known == reason);
            *state = next;
            if news {
                tracing::info!(reason, "not active");
            }
            news
        });
    }
}
