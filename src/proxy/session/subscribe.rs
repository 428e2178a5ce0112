//! Subscriptions of a client. What is published reaches it between its replies.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::forward::NO_CONNECTION;
use super::{Client, Session, Verdict};
use crate::proxy::command::{Command, CommandId, Local, Plan, Subscribe};
use crate::proxy::pubsub::{Topic, TopicKind};
use crate::proxy::resp::{Protocol, Request, put_array, put_bulk, put_error, put_integer, put_null, put_push};
use crate::proxy::worker::{Memory, Outcome, Worker};

/// How many topics a client may subscribe to.
const MOST: usize = 100_000;
/// How long a server may take to confirm: as long as requests wait for a connection, and some more.
const CONFIRM: Duration = Duration::from_secs(5);
/// A subscriber that would have so many bytes to take is closed; as Redis. One that took all before may get one message
/// that is longer.
const MOST_UNREAD: usize = 32 << 20;
/// A message that who took all before gets even if memory is short: what others hold is no fault of theirs.
const SHORT: usize = 64 << 10;

impl Session {
    /// Whether it speaks RESP2 and subscribed, so that it could not tell replies from what is published.
    pub(super) fn only_listens(&self) -> bool {
        self.protocol == Protocol::Resp2 && self.subscriptions() > 0
    }

    /// Whether such a client may use a command.
    pub(super) fn is_for_listeners(command: &Command) -> bool {
        matches!(
            command.plan,
            Plan::Subscribe(_) | Plan::Local(Local::Ping | Local::Quit | Local::Reset)
        )
    }

    /// To what it subscribed.
    pub(super) fn subscriptions(&self) -> usize {
        self.apart.topics.as_ref().map_or(0, |topics| topics.len())
    }

    pub(super) fn reject_listener(&mut self, worker: &Worker, command: &Command) -> Verdict {
        let text = format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
            command.name
        );
        self.reject(worker, command.id, &text)
    }

    /// `PING` of a client that only listens: the reply looks like what is published.
    pub(super) fn ping_listener(&mut self, worker: &Worker, command: &Command, request: &Request<'_>) -> Verdict {
        if request.len() > 2 {
            return self.wrong_number(worker, command);
        }
        self.answer(worker, command.id, |out| {
            put_array(out, 2);
            put_bulk(out, b"pong");
            put_bulk(out, request.arg(1));
        })
    }

    /// `SUBSCRIBE`, `UNSUBSCRIBE` and those of their kind.
    pub(super) fn subscribe(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &Command,
        request: &Request<'_>,
        kind: Subscribe,
    ) -> Verdict {
        let topics: Vec<_> = request.args_from(1).map(|name| Topic::new(kind.topics, name)).collect();
        if !kind.begins {
            return self.unsubscribe(worker, command, kind.topics, topics);
        }
        if self.subscriptions() + topics.len() > MOST {
            let text = format!("ERR handle request, a client may subscribe to {MOST} channels and patterns at most");
            return self.reject(worker, command.id, &text);
        }
        if let Err(verdict) = self.begin_alone() {
            return verdict;
        }
        self.apart.alone = true;
        let confirm = Confirm {
            sequence: self.replies.expect(),
            command: command.id,
            since: worker.now(),
            topics,
        };
        tokio::task::spawn_local(confirm.run(worker.clone(), client.clone()));
        Verdict::Taken
    }

    fn unsubscribe(&mut self, worker: &Worker, command: &Command, kind: TopicKind, named: Vec<Topic>) -> Verdict {
        let topics = if named.is_empty() { self.topics_of(kind) } else { named };
        let mut reply = Vec::new();
        for topic in &topics {
            if self.apart.topics.as_mut().is_some_and(|held| held.remove(topic)) {
                worker.pubsub.leave(topic, self.id);
            }
            self.put_change(&mut reply, kind, false, Some(topic.name()));
        }
        if topics.is_empty() {
            self.put_change(&mut reply, kind, false, None);
        }
        self.answer(worker, command.id, |out| out.extend_from_slice(&reply))
    }

    fn topics_of(&self, kind: TopicKind) -> Vec<Topic> {
        let topics = self.apart.topics.iter().flat_map(|topics| topics.iter());
        topics.filter(|topic| topic.kind() == kind).cloned().collect()
    }

    /// Is told of no topic any more.
    pub(super) fn leave_topics(&mut self, worker: &Worker) {
        for topic in self.apart.topics.take().iter().flat_map(|topics| topics.iter()) {
            worker.pubsub.leave(topic, self.id);
        }
    }

    /// All was confirmed: the replies.
    pub(super) fn join_topics(&mut self, worker: &Worker, client: &Rc<Client>, topics: &[Topic]) -> Vec<u8> {
        let mut reply = Vec::new();
        for topic in topics {
            worker.pubsub.join(topic, client);
            self.apart.topics.get_or_insert_default().insert(topic);
            self.put_change(&mut reply, topic.kind(), true, Some(topic.name()));
        }
        reply
    }

    /// How many there are is told with each change.
    fn put_change(&self, out: &mut Vec<u8>, kind: TopicKind, begins: bool, name: Option<&[u8]>) {
        let count = self.apart.topics.as_ref().map_or(0, |topics| topics.told(kind));
        put_push(out, self.protocol, 3);
        put_bulk(out, kind.word(begins).as_bytes());
        match name {
            Some(name) => put_bulk(out, name),
            None => put_null(out, self.protocol),
        }
        put_integer(out, count as i64);
    }
}

impl Client {
    /// Gets what was published: `message`, in RESP2. Whoever is too slow for it is closed before it is copied: one message
    /// may go to thousands.
    pub(in crate::proxy) fn push(self: &Rc<Self>, worker: &Worker, message: &[u8]) {
        let over = {
            let session = self.session.borrow();
            if session.gone || session.closing {
                return;
            }
            !may_get(session.replies.backlog(), message.len(), &worker.memory)
        };
        if over && !self.wants_write.get() {
            // What its socket takes now was only not offered yet.
            self.write(worker);
        }
        let mut session = self.session.borrow_mut();
        if over && !may_get(session.replies.backlog(), message.len(), &worker.memory) {
            drop(session);
            if worker.memory.would_be_over(message.len()) {
                worker.figures.closed_for_memory(1);
            }
            self.cut_off(worker);
            return;
        }
        let pieces: [&[u8]; 2] = match session.protocol {
            Protocol::Resp2 => [message, b""],
            // The two forms differ in this sign only.
            Protocol::Resp3 => [b">", message.get(1..).unwrap_or_default()],
        };
        session.replies.push(pieces);
        self.count(worker, &session);
        drop(session);
        if worker.memory.is_tight() && !self.wants_write.get() {
            self.write(worker);
        } else {
            self.mark(worker);
        }
    }

    /// Gets no more, and gives back what it had to take: the rest is done when its turn comes.
    fn cut_off(&self, worker: &Worker) {
        let mut session = self.session.borrow_mut();
        session.gone = true;
        session.replies.drop_all();
        self.count(worker, &session);
        drop(session);
        self.doom();
    }
}

/// Whether a subscriber that has `unread` bytes to take may get a message of so many more.
fn may_get(unread: usize, message: usize, memory: &Memory) -> bool {
    let few = unread == 0 || unread + message <= MOST_UNREAD;
    let affordable = !memory.would_be_over(message) || (unread == 0 && message <= SHORT);
    few && affordable
}

/// A subscription that waits for its servers.
struct Confirm {
    sequence: u64,
    command: CommandId,
    since: Instant,
    topics: Vec<Topic>,
}

impl Confirm {
    async fn run(self, worker: Rc<Worker>, client: Rc<Client>) {
        for topic in &self.topics {
            worker.pubsub.prepare(&worker, topic);
        }
        let confirmed = timeout(CONFIRM, worker.pubsub.until_confirmed(&worker, &self.topics)).await;
        worker.refresh_now();
        let joined = confirmed.ok().and_then(|()| client.join(&worker, &self.topics));
        let (reply, outcome) = match joined {
            Some(reply) => (reply, Outcome::Answered),
            None => {
                self.topics.iter().for_each(|topic| worker.pubsub.give_up(topic));
                let mut reply = Vec::new();
                put_error(&mut reply, NO_CONNECTION);
                (reply, Outcome::Failed)
            }
        };
        let took = worker.now().saturating_duration_since(self.since);
        worker.figures.record(self.command, took, outcome);
        client.answer_late(&worker, self.sequence, &reply);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ByteSize;
    use crate::proxy::config::Config;
    use crate::proxy::session::tests::{client_of, worker_of};

    const MB: usize = 1 << 20;

    fn with_memory(bytes: usize) -> Rc<Worker> {
        worker_of(&Config {
            proxy_max_memory: ByteSize(bytes as u64),
            ..Config::default()
        })
    }

    #[tokio::test]
    async fn message_for_many_is_not_copied_for_more_than_there_is_memory_for() {
        let worker = with_memory(64 * MB);
        let subscribers: Vec<_> = (0..50).map(|_| client_of(&worker)).collect();
        let message = vec![b'x'; 10 * MB];
        let mut most = 0;
        for (client, _) in &subscribers {
            client.push(&worker, &message);
            most = most.max(worker.memory.bytes());
        }
        let closed = subscribers.iter().filter(|(client, _)| client.is_gone()).count();
        assert!(most <= 64 * MB + MB, "{most}");
        assert!((40..50).contains(&closed), "{closed}");
        // What is short costs next to nothing, and nobody is to blame for what others hold.
        let (other, _peer) = client_of(&worker);
        other.push(&worker, b"x");
        assert!(!other.is_gone());
    }

    #[tokio::test]
    async fn whoever_took_all_gets_one_message_however_long_and_the_next_is_not_copied() {
        let worker = with_memory(256 * MB);
        let (client, _peer) = client_of(&worker);
        client.push(&worker, &vec![b'x'; MOST_UNREAD + MB]);
        assert!(!client.is_gone() && worker.memory.bytes() > MOST_UNREAD);
        client.push(&worker, b"x");
        assert!(
            client.is_gone() && worker.memory.bytes() < MB,
            "{}",
            worker.memory.bytes()
        );
    }
}
