use std::cell::{Cell, RefCell, RefMut};
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use socket2::{SockRef, TcpKeepalive};

use super::passed::Room;
use super::upload::Upload;
use super::{Session, Wait};
use crate::proxy::backend::{Part, Repeat, Ticket};
use crate::proxy::private::Private;
use crate::proxy::pubsub::Topic;
use crate::proxy::transport::{Detached, Transport};
use crate::proxy::worker::{Bell, MemoryShare, Outcome, Worker};

/// A client's connection.
#[derive(Debug)]
pub(in crate::proxy) struct Client {
    pub(super) id: u64,
    pub(super) transport: Transport,
    pub(super) session: RefCell<Session>,
    dirty: Cell<bool>,
    pub(super) wants_write: Cell<bool>,
    /// To be closed at once, whatever is under way.
    doomed: Cell<bool>,
    /// Something that its next request waits for may have happened.
    woken: Cell<bool>,
    /// Told when it took enough of what waits for it.
    pub(super) room: Room,
    /// What it takes of the worker's memory.
    pub(super) share: MemoryShare,
    bell: Bell,
}

enum Event {
    Readable,
    Writable,
    Woken,
    Done,
}

impl Client {
    /// Takes a connection over.
    ///
    /// # Errors
    /// When the system refuses what is needed of the socket.
    pub(in crate::proxy) fn new(worker: &Worker, connection: Detached, id: u64) -> io::Result<Rc<Self>> {
        connection.socket().set_nodelay(true)?;
        if let Some(period) = worker.settings.session_keepalive {
            SockRef::from(connection.socket()).set_tcp_keepalive(&TcpKeepalive::new().with_time(period))?;
        }
        let transport = connection.attach()?;
        let mut session = Session::new(id, &worker.settings, worker.refresh_now());
        session.about.learn(transport.socket());
        Ok(Rc::new(Self {
            id,
            transport,
            session: RefCell::new(session),
            dirty: Cell::new(false),
            wants_write: Cell::new(false),
            doomed: Cell::new(false),
            woken: Cell::new(false),
            room: Room::new(&worker.settings),
            share: worker.memory.share_of_client(),
            bell: Bell::default(),
        }))
    }

    /// Its number, unique in the process.
    pub(in crate::proxy) fn id(&self) -> u64 {
        self.id
    }

    /// Whether its connection is gone.
    pub(in crate::proxy) fn is_gone(&self) -> bool {
        self.session.borrow().gone
    }

    /// Has it look at its waiting request again.
    pub(in crate::proxy) fn wake(&self) {
        self.woken.set(true);
        self.bell.ring();
    }

    /// Begins nothing new.
    pub(in crate::proxy) fn drain(&self) {
        let mut session = self.session.borrow_mut();
        if session.waits.is_none() {
            session.closing = true;
        }
        drop(session);
        self.wake();
    }

    /// A reply came, or never will.
    pub(in crate::proxy) fn complete(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        ticket: Ticket,
        reply: &[u8],
        outcome: Outcome,
    ) {
        let mut session = self.session.borrow_mut();
        if session.refused.is_some() {
            session.carried_out(worker, &ticket);
        }
        match ticket.part {
            Part::Whole(slot) => {
                worker.router.ended(slot);
                let took = worker.now().saturating_duration_since(ticket.since);
                worker.figures.record_reply(ticket.command, took, outcome, reply);
                session.replies.complete(ticket.sequence, reply);
            }
            Part::Split(part) => session.complete_part(worker, ticket.sequence, part, reply, outcome),
        }
        if outcome == Outcome::Failed && worker.settings.session_break_on_failure {
            session.closing = true;
        }
        self.is_answered(worker, session);
    }

    /// Its replies leave with this turn, unless it is gone and takes none.
    pub(super) fn is_answered(self: &Rc<Self>, worker: &Worker, mut session: RefMut<'_, Session>) {
        if session.gone {
            session.replies.drop_all();
            return;
        }
        drop(session);
        self.mark(worker);
    }

    /// Keeps a connection of its own for the next use.
    pub(super) fn keep(&self, own: Box<Private>) {
        let mut session = self.session.borrow_mut();
        if !session.gone {
            session.apart.own = Some(own);
        }
    }

    /// Joins topics that were confirmed: the replies. `None` when it is gone.
    pub(super) fn join(self: &Rc<Self>, worker: &Worker, topics: &[Topic]) -> Option<Vec<u8>> {
        let mut session = self.session.borrow_mut();
        (!session.gone).then(|| session.join_topics(worker, self, topics))
    }

    /// The reply to a request that no slot knows of.
    pub(super) fn answer_late(self: &Rc<Self>, worker: &Worker, sequence: u64, reply: &[u8]) {
        let mut session = self.session.borrow_mut();
        session.replies.complete(sequence, reply);
        self.is_answered(worker, session);
    }

    /// A server did not look at a request, or never saw it: it is sent again later, unless that would change the order
    /// of the client's requests. `error`: what the client is told otherwise.
    pub(in crate::proxy) fn refused(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        ticket: Ticket,
        request: (&[u8], Repeat),
        error: &[u8],
        outcome: Outcome,
    ) {
        let mut session = self.session.borrow_mut();
        session.refuse_for_now(worker, ticket, request, error, outcome);
        self.is_answered(worker, session);
    }

    /// Its command that waited at a server does no more.
    pub(super) fn unblocked(&self) {
        self.session.borrow_mut().apart.blocked = None;
    }

    /// Ends the waiting of its command at a server.
    pub(super) fn unblock(&self, worker: &Worker) {
        let blocked = self.session.borrow().apart.blocked.clone();
        if let Some(blocked) = blocked {
            blocked.cancel(worker);
        }
    }

    pub(super) fn mark(self: &Rc<Self>, worker: &Worker) {
        if !self.dirty.replace(true) {
            worker.turn.add_client(self);
        }
    }

    /// The turn's one write.
    pub(in crate::proxy) fn flush(&self, worker: &Worker) {
        self.dirty.set(false);
        if !self.wants_write.get() {
            self.write(worker);
            return;
        }
        let session = self.session.borrow();
        self.count(worker, &session);
        if session.replies.backlog() > worker.settings.session_max_output {
            self.doom();
        }
    }

    pub(super) fn write(&self, worker: &Worker) {
        let mut session = self.session.borrow_mut();
        if session.gone {
            return;
        }
        match session.replies.out.write_to(&self.transport) {
            Ok(taken) => {
                worker.figures.written_to_client(taken);
                // The first try after a while begins the time in which the client has to take something.
                if taken > 0 || !self.wants_write.get() {
                    session.last_sent = worker.now();
                }
                let more = !session.replies.out.is_empty();
                self.wants_write.set(more);
                let over = session.replies.backlog() > worker.settings.session_max_output;
                if session.replies.backlog() == 0 {
                    session.apart.late = None;
                }
                self.room.look(session.replies.backlog());
                self.count(worker, &session);
                let can_go_on = match session.waits {
                    Some(Wait::Replies) => !session.is_full(worker),
                    Some(Wait::AllReplies) => session.replies.under_way() == 0,
                    Some(Wait::Route) | None => false,
                };
                let done = session.closing && !more && session.replies.under_way() == 0;
                drop(session);
                if over {
                    self.doom();
                } else if can_go_on {
                    self.wake();
                } else if more || done {
                    self.bell.ring();
                }
            }
            Err(_) => {
                drop(session);
                self.doom();
            }
        }
    }

    pub(super) fn doom(&self) {
        self.doomed.set(true);
        self.bell.ring();
    }

    /// Looks for time-outs, and sends again what servers did not look at.
    pub(in crate::proxy) fn tick(self: &Rc<Self>, worker: &Rc<Worker>, now: Instant) {
        let mut session = self.session.borrow_mut();
        if session.refused.is_some() {
            session.repeat(worker, self);
            self.mark(worker);
        }
        let settings = &worker.settings;
        let since = |then: Instant| now.saturating_duration_since(then);
        let idle = session.replies.under_way() == 0 && session.waits.is_none() && session.subscriptions() == 0;
        let silent = (idle || session.waits_for_upload())
            && settings
                .session_recv_timeout
                .is_some_and(|limit| since(session.last_read) > limit);
        // What only waits for the turn's write is not what the client did not take.
        let stuck = self.wants_write.get()
            && settings
                .session_send_timeout
                .is_some_and(|limit| since(session.last_sent) > limit);
        let held = session
            .waits_since
            .is_some_and(|then| since(then) > settings.hold_timeout);
        session.drop_idle(worker);
        // Nobody reads up to the end that tells that it left.
        if session.is_blocked_unread() && self.transport.is_ended_by_peer() {
            session.hears_the_end(worker);
        }
        self.slim(worker, &mut session, now);
        drop(session);
        if worker.is_draining() {
            self.unblock(worker);
        }
        if silent || stuck {
            self.doom();
        } else if held {
            self.wake();
        }
    }

    async fn next_event(&self) -> Event {
        std::future::poll_fn(|cx| {
            self.bell.answered(cx);
            if self.doomed.get() {
                return Poll::Ready(Event::Done);
            }
            if self.wants_write.get() && self.transport.poll_write_ready(cx).is_ready() {
                return Poll::Ready(Event::Writable);
            }
            let session = self.session.borrow();
            if session.is_over() {
                let done = session.replies.out.is_empty() && session.replies.under_way() == 0;
                return if done { Poll::Ready(Event::Done) } else { Poll::Pending };
            }
            if session.waits.is_some() {
                if self.woken.replace(false) {
                    return Poll::Ready(Event::Woken);
                }
                if !session.reads_on() {
                    return Poll::Pending;
                }
            }
            if session.apart.upload.as_deref().is_some_and(Upload::is_full) {
                return Poll::Pending;
            }
            self.transport.poll_read_ready(cx).map(|()| Event::Readable)
        })
        .await
    }

    /// One read. Whether there may be more to read.
    fn read(self: &Rc<Self>, worker: &Rc<Worker>) -> bool {
        let mut buffer = worker.buffer.borrow_mut();
        let read = match self.transport.read(&mut buffer) {
            Ok(0) => {
                self.session.borrow_mut().hears_the_end(worker);
                return false;
            }
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => {
                self.doomed.set(true);
                return false;
            }
        };
        worker.figures.read_from_client(read);
        let all = read < buffer.len();
        let mut session = self.session.borrow_mut();
        session.last_read = worker.refresh_now();
        session.feed(worker, self, &buffer[..read]);
        self.count(worker, &session);
        let answered = !session.replies.out.is_empty();
        drop(session);
        if answered {
            self.mark(worker);
        }
        !all
    }

    fn go_on(self: &Rc<Self>, worker: &Rc<Worker>) {
        worker.refresh_now();
        let mut session = self.session.borrow_mut();
        session.go_on(worker, self);
        self.count(worker, &session);
        let answered = !session.replies.out.is_empty();
        drop(session);
        if answered {
            self.mark(worker);
        }
    }
}

/// Serves a client until it leaves.
pub(in crate::proxy) async fn serve(worker: Rc<Worker>, client: Rc<Client>) {
    loop {
        match client.next_event().await {
            Event::Readable => {
                if client.read(&worker) {
                    // One that sends without end does not keep the others waiting.
                    tokio::task::yield_now().await;
                }
            }
            Event::Writable => client.write(&worker),
            Event::Woken => client.go_on(&worker),
            Event::Done => break,
        }
    }
    client.let_go(&worker);
    client.transport.close();
    worker.forget(&client);
}

#[cfg(test)]
pub(in crate::proxy) mod tests {
    use super::*;
    use crate::model::SlotId;
    use crate::proxy::config::Config;
    use crate::proxy::tls::Tls;
    use crate::proxy::worker::Settings;
    use std::sync::Arc;
    use std::time::Duration;

    pub(in crate::proxy) fn worker_of(config: &Config) -> Rc<Worker> {
        let user = crate::model::ServerUserKind::Probe;
        Rc::new(Worker::new(Arc::new(Settings::new(config, 1, user, Tls::default()))))
    }

    /// A client, and its other end.
    pub(in crate::proxy) fn client_of(worker: &Worker) -> (Rc<Client>, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let client = Client::new(worker, listener.accept().unwrap().0.into(), 1).unwrap();
        (client, peer)
    }

    /// One request of the client is under way.
    pub(in crate::proxy) fn under_way(worker: &Worker, client: &Client) -> Ticket {
        worker.router.begun(SlotId::of_key(b"a"));
        Ticket {
            client: None,
            sequence: client.session.borrow_mut().replies.expect(),
            part: Part::Whole(SlotId::of_key(b"a")),
            command: 0,
            since: worker.now(),
        }
    }

    /// A client with one request under way, and its other end.
    fn waiting_client() -> (Rc<Worker>, Rc<Client>, Ticket, std::net::TcpStream) {
        let worker = worker_of(&Config::default());
        let (client, peer) = client_of(&worker);
        let ticket = under_way(&worker, &client);
        (worker, client, ticket, peer)
    }

    #[tokio::test]
    async fn reply_that_comes_after_a_long_silence_is_no_reason_to_close_the_client() {
        let (worker, client, ticket, _peer) = waiting_client();
        client.complete(&worker, ticket, b"+OK\r\n", Outcome::Answered);
        // Time-outs may be looked for before the turn ends and the reply is written.
        client.tick(&worker, Instant::now() + Duration::from_secs(60));
        assert!(!client.doomed.get());
    }

    #[tokio::test]
    async fn client_that_takes_nothing_for_long_is_closed() {
        let (worker, client, ticket, _peer) = waiting_client();
        client.complete(&worker, ticket, &vec![b'x'; 64 << 20], Outcome::Answered);
        client.flush(&worker);
        client.tick(&worker, Instant::now() + Duration::from_secs(20));
        assert!(!client.doomed.get());
        client.tick(&worker, Instant::now() + Duration::from_secs(60));
        assert!(client.doomed.get());
    }
}
