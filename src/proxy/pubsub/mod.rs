//! Subscriptions: each worker has one connection to each server where something that its clients want is published,
//! and hands what comes to all that subscribed. A channel lives at the server of its slot, a pattern at all.

mod feed;
mod kind;
mod topic;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tokio::sync::Notify;

use self::feed::Feed;
pub(in crate::proxy) use self::kind::TopicKind;
pub(super) use self::topic::{Topic, TopicSet};
use super::session::Client;
use super::worker::Worker;
use crate::model::HostPort;

/// The subscriptions of a worker's clients.
#[derive(Debug, Default)]
pub(super) struct PubSub {
    topics: RefCell<HashMap<Topic, Audience>>,
    feeds: RefCell<HashMap<HostPort, Rc<Feed>>>,
    confirmed: Notify,
}

/// Who wants a topic.
#[derive(Debug, Default)]
struct Audience {
    clients: HashMap<u64, Rc<Client>>,
    /// Requests that wait for the server's confirmation.
    coming: usize,
}

impl PubSub {
    /// Begins to subscribe at the servers. Each call needs one of [`PubSub::join`] or [`PubSub::give_up`].
    pub(super) fn prepare(&self, worker: &Rc<Worker>, topic: &Topic) {
        let mut topics = self.topics.borrow_mut();
        topics.entry(topic.clone()).or_default().coming += 1;
        drop(topics);
        for addr in servers_of(worker, topic) {
            self.feed(worker, &addr).set(topic, true);
        }
    }

    /// Until these topics are heard of wherever they live: a pattern at all servers that can be reached, at one at least.
    /// The others hear of it when they are back.
    pub(super) async fn until_confirmed(&self, worker: &Rc<Worker>, topics: &[Topic]) {
        for topic in topics {
            loop {
                let confirmed = self.confirmed.notified();
                if self.is_confirmed(worker, topic) {
                    break;
                }
                confirmed.await;
            }
        }
    }

    fn is_confirmed(&self, worker: &Worker, topic: &Topic) -> bool {
        let (servers, feeds) = (servers_of(worker, topic), self.feeds.borrow());
        let feeds = || servers.iter().map(|addr| feeds.get(addr));
        let confirmed = |feed: Option<&Rc<Feed>>| feed.is_some_and(|feed| feed.is_confirmed(topic));
        let lost = |feed: Option<&Rc<Feed>>| feed.is_some_and(|feed| feed.is_lost());
        feeds().any(confirmed) && feeds().all(|feed| confirmed(feed) || lost(feed))
    }

    /// The client gets what is published from now on.
    pub(super) fn join(&self, topic: &Topic, client: &Rc<Client>) {
        if let Some(audience) = self.topics.borrow_mut().get_mut(topic) {
            audience.coming -= 1;
            audience.clients.insert(client.id(), client.clone());
        }
    }

    /// A request that waited for its confirmation waits no more.
    pub(super) fn give_up(&self, topic: &Topic) {
        if let Some(audience) = self.topics.borrow_mut().get_mut(topic) {
            audience.coming -= 1;
        }
        self.unless_wanted(topic);
    }

    /// The client gets no more of it.
    pub(super) fn leave(&self, topic: &Topic, client: u64) {
        if let Some(audience) = self.topics.borrow_mut().get_mut(topic) {
            audience.clients.remove(&client);
        }
        self.unless_wanted(topic);
    }

    fn unless_wanted(&self, topic: &Topic) {
        let mut topics = self.topics.borrow_mut();
        let unwanted = topics
            .get(topic)
            .is_some_and(|audience| audience.coming == 0 && audience.clients.is_empty());
        if unwanted {
            topics.remove(topic);
            self.feeds.borrow().values().for_each(|feed| feed.set(topic, false));
        }
    }

    /// Subscribes where topics live now, and no longer where they lived.
    pub(super) fn reroute(&self, worker: &Rc<Worker>) {
        if self.topics.borrow().is_empty() {
            return;
        }
        let all = all_servers(worker);
        let lives_at = |topic: &Topic| match topic.slot() {
            Some(_) => servers_of(worker, topic),
            None => all.clone(),
        };
        for topic in self.topics.borrow().keys() {
            let servers = lives_at(topic);
            for addr in &servers {
                self.feed(worker, addr).set(topic, true);
            }
            for (addr, feed) in self.feeds.borrow().iter() {
                if !servers.contains(addr) {
                    feed.set(topic, false);
                }
            }
        }
        self.confirmed();
    }

    fn feed(&self, worker: &Rc<Worker>, addr: &HostPort) -> Rc<Feed> {
        let mut feeds = self.feeds.borrow_mut();
        feeds
            .entry(addr.clone())
            .or_insert_with(|| Feed::open(worker, addr))
            .clone()
    }

    /// Something was confirmed, or may be by another server.
    fn confirmed(&self) {
        self.confirmed.notify_waiters();
    }

    /// Something was published; `message` is what the server sent, in RESP2.
    fn deliver(&self, worker: &Rc<Worker>, topic: &Topic, message: &[u8]) {
        if let Some(audience) = self.topics.borrow().get(topic) {
            audience
                .clients
                .values()
                .for_each(|client| client.push(worker, message));
        }
    }

    /// A feed ended.
    fn forget(&self, feed: &Rc<Feed>) {
        self.feeds.borrow_mut().retain(|_, other| !Rc::ptr_eq(other, feed));
    }
}

fn servers_of(worker: &Worker, topic: &Topic) -> Vec<HostPort> {
    match topic.slot() {
        Some(slot) => {
            let primary = worker.router.primary(slot);
            primary.into_iter().map(|server| server.addr().clone()).collect()
        }
        None => all_servers(worker),
    }
}

fn all_servers(worker: &Worker) -> Vec<HostPort> {
    let primaries = worker.router.primaries();
    primaries
        .into_iter()
        .map(|primary| primary.server.addr().clone())
        .collect()
}
