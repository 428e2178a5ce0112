use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// Room for a number of connections. When all of it is taken, the client that kept us waiting longest has to make room:
/// first among those that never got an answer, because the others know how to ask. One whose request is being worked at
/// never has to.
pub(crate) struct Places {
    limit: usize,
    taken: Mutex<Taken>,
    /// One left, or began to keep us waiting, so that there may be room now.
    room: Notify,
}

#[derive(Default)]
struct Taken {
    next: u64,
    places: HashMap<u64, Occupied>,
}

struct Occupied {
    /// Since when the client keeps us waiting; `None` while its request is being worked at.
    waits: Option<Instant>,
    /// Whether it got an answer before.
    known: bool,
    given_away: Arc<Notify>,
}

/// The place of one connection. Dropping it frees it.
pub(crate) struct Place {
    number: u64,
    given_away: Arc<Notify>,
    places: Arc<Places>,
}

impl Places {
    /// Room for this many.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            taken: Mutex::default(),
            room: Notify::new(),
        }
    }

    /// A place, as soon as there is one. It is given to a client that keeps us waiting for its request.
    pub(crate) async fn take(self: &Arc<Self>) -> Arc<Place> {
        loop {
            let room = self.room.notified();
            if let Some(place) = self.try_take() {
                return Arc::new(place);
            }
            room.await;
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Place> {
        let mut taken = self.guard();
        if taken.places.len() >= self.limit {
            let waiting = taken
                .places
                .iter()
                .filter_map(|(number, one)| Some((one.known, one.waits?, *number)));
            let (.., longest) = waiting.min()?;
            if let Some(one) = taken.places.remove(&longest) {
                one.given_away.notify_one();
            }
        }
        let number = taken.next;
        taken.next += 1;
        let given_away = Arc::new(Notify::new());
        let occupied = Occupied {
            waits: Some(Instant::now()),
            known: false,
            given_away: Arc::clone(&given_away),
        };
        taken.places.insert(number, occupied);
        Some(Place {
            number,
            given_away,
            places: Arc::clone(self),
        })
    }

    fn guard(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The client got an answer, and keeps us waiting: until it read it, then for its next request.
    pub(crate) fn answered(&self) {
        if let Some(one) = self.places.guard().places.get_mut(&self.number) {
            one.known = true;
        }
        self.waits();
    }

    /// The client keeps us waiting for the rest of its request.
    pub(crate) fn waits(&self) {
        if let Some(one) = self.places.guard().places.get_mut(&self.number)
            && one.waits.is_none()
        {
            one.waits = Some(Instant::now());
            self.places.room.notify_one();
        }
    }

    /// We work at its request.
    pub(crate) fn served(&self) {
        if let Some(one) = self.places.guard().places.get_mut(&self.number) {
            one.waits = None;
        }
    }

    /// Returns when somebody else got the place.
    pub(crate) async fn given_away(&self) {
        self.given_away.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.guard().places.remove(&self.number);
        self.places.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn who_kept_us_waiting_longest_makes_room_and_who_is_served_stays() {
        let places = Arc::new(Places::new(3));
        let (served, first, second) = (places.take().await, places.take().await, places.take().await);
        served.served();
        let _third = places.take().await;
        assert!(first.given_away().now_or_never().is_some());
        assert!(second.given_away().now_or_never().is_none() && served.given_away().now_or_never().is_none());
        // Who got an answer waits longer than who came later and never asked.
        served.answered();
        let (_fourth, _fifth) = (places.take().await, places.take().await);
        assert!(second.given_away().now_or_never().is_some() && served.given_away().now_or_never().is_none());
    }

    #[tokio::test]
    async fn when_all_are_served_the_next_waits_until_one_is_done() {
        let places = Arc::new(Places::new(1));
        let one = places.take().await;
        one.served();
        let next = places.take();
        tokio::pin!(next);
        assert!(next.as_mut().now_or_never().is_none());
        one.waits();
        next.await;
        assert!(one.given_away().now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_leaves_makes_room() {
        let places = Arc::new(Places::new(1));
        let one = places.take().await;
        one.served();
        drop(one);
        assert!(places.take().now_or_never().is_some());
    }
}
