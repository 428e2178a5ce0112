use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{ProxyToken, Slot, SlotId};

/// The state of the pushes to one proxy.
pub(crate) struct Link {
    /// Pushes to one proxy go one after the other, each computed when its turn comes: so an older routing never
    /// overtakes a newer one.
    pub(crate) turn: tokio::sync::Mutex<()>,
    doubts: AtomicU64,
    settled: AtomicU64,
    acknowledged: Mutex<BTreeMap<SlotId, Slot>>,
}

/// How often it was doubted that a proxy knows everything, when a push was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Doubts(u64);

impl Default for Link {
    fn default() -> Self {
        Self {
            turn: tokio::sync::Mutex::default(),
            doubts: AtomicU64::new(1),
            settled: AtomicU64::new(0),
            acknowledged: Mutex::default(),
        }
    }
}

impl Link {
    /// Whether the proxy acknowledged a push of all slots in this term, and every push since.
    pub(crate) fn is_complete(&self) -> bool {
        self.settled.load(Ordering::SeqCst) == self.doubts.load(Ordering::SeqCst)
    }

    /// The proxy acknowledged this.
    pub(crate) fn note(&self, slots: &[Slot]) {
        let mut acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        acknowledged.extend(slots.iter().map(|slot| (slot.id, slot.clone())));
    }

    /// Whether the proxy routes these slots so: it acknowledged everything, and of these the same. Their epochs grow with
    /// each change of a record, also where that is nothing to proxies.
    pub(crate) fn routes(&self, slots: &[Slot]) -> bool {
        let acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = |slot: &Slot| {
            let known = acknowledged.get(&slot.id);
            known.is_some_and(|known| {
                let epoch = slot.epoch;
                *slot == Slot { epoch, ..known.clone() }
            })
        };
        self.is_complete() && slots.iter().all(is_known)
    }

    /// To be asked before a push is computed.
    pub(crate) fn doubts(&self) -> Doubts {
        Doubts(self.doubts.load(Ordering::SeqCst))
    }

    /// The proxy did not acknowledge something, or what it was told may not be what is stored; also what it is being told
    /// right now.
    pub(crate) fn doubt(&self) {
        self.doubts.fetch_add(1, Ordering::SeqCst);
    }

    /// The proxy acknowledged all slots, as they were when there were these doubts. Later ones stay.
    pub(crate) fn settle(&self, doubts: Doubts) {
        self.settled.fetch_max(doubts.0, Ordering::SeqCst);
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
        self.guard().values().for_each(|link| link.doubt());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_that_was_computed_before_everything_was_doubted_settles_nothing() {
        let links = Links::default();
        let link = links.of(&"a".into());
        assert!(!link.is_complete());
        let computed = link.doubts();
        link.settle(computed);
        assert!(link.is_complete());
        let computed = link.doubts();
        links.forget_all();
        link.settle(computed);
        assert!(!link.is_complete());
        link.settle(link.doubts());
        assert!(link.is_complete());
    }

    #[test]
    fn a_proxy_routes_as_it_acknowledged_last_whatever_the_epoch() {
        let link = Link::default();
        let slot = |epoch, locked| Slot {
            epoch,
            locked,
            ..Slot::offline(SlotId::new(7).unwrap())
        };
        link.settle(link.doubts());
        assert!(!link.routes(&[slot(1, true)]), "nobody told it");
        link.note(&[slot(1, true)]);
        assert!(link.routes(&[slot(2, true)]) && !link.routes(&[slot(1, false)]));
        link.note(&[slot(3, false)]);
        assert!(link.routes(&[slot(3, false)]));
        link.doubt();
        assert!(!link.routes(&[slot(3, false)]), "it may have missed something");
    }
}
