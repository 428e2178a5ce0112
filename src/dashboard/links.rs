use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::ProxyToken;

/// The state of the pushes to one proxy.
#[derive(Default)]
pub(crate) struct Link {
    /// Pushes to one proxy go one after the other, each computed when its turn comes: so an older routing never
    /// overtakes a newer one.
    pub(crate) turn: tokio::sync::Mutex<()>,
    complete: AtomicBool,
}

impl Link {
    /// Whether the proxy acknowledged a push of all slots in this term, and every push since.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::SeqCst)
    }

    /// Notes that it did, or that it did not acknowledge one.
    pub(crate) fn set_complete(&self, complete: bool) {
        self.complete.store(complete, Ordering::SeqCst);
    }
}

/// The links to all proxies, made when they are first needed.
#[derive(Default)]
pub(crate) struct Links {
    links: Mutex<HashMap<ProxyToken, Arc<Link>>>,
}

impl Links {
    /// The link to this proxy.
    pub(crate) fn of(&self, token: &ProxyToken) -> Arc<Link> {
        Arc::clone(self.guard().entry(token.clone()).or_default())
    }

    /// No proxy is known to have what is stored.
    pub(crate) fn forget_all(&self) {
        self.guard().values().for_each(|link| link.set_complete(false));
    }

    /// Drops the links of proxies that are not registered any more.
    pub(crate) fn retain(&self, registered: impl Fn(&ProxyToken) -> bool) {
        self.guard()
            .retain(|token, link| registered(token) || Arc::strong_count(link) > 1);
    }

    fn guard(&self) -> MutexGuard<'_, HashMap<ProxyToken, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
