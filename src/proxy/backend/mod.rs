//! A server's shared connection: the requests of all clients of one worker in one pipeline.

mod addresses;
mod admit;
mod connect;
mod figures;
mod login;
mod passing;
mod pipeline;
mod refusal;
mod replication;
mod requests;
mod witness;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{debug, info, warn};

pub(super) use self::addresses::Addresses;
pub(super) use self::admit::Admit;
use self::admit::Gate;
use self::connect::is_silence;
pub(super) use self::connect::{Backoff, ConnectError, connect, select};
pub(super) use self::figures::BackendFigures;
use self::figures::{Counts, add};
use self::login::LoginError;
pub(super) use self::login::{Login, PreparedServers};
use self::passing::Passing;
use self::pipeline::{Ended, Pipeline};
pub(super) use self::pipeline::{Part, Repeat, Ticket};
pub(super) use self::refusal::{Queueing, is_refusal};
pub(super) use self::replication::Replication;
use self::witness::Witness;
pub(super) use self::witness::by_server;
use super::resp::{Protocol, put_request};
use super::scripts::{Loaded, ScriptName, put_script_load};
use super::session::Client;
use super::transport::Transport;
use super::worker::{Bell, MemoryShare, Outcome, Settings, Worker};
use crate::model::{HostPort, ServerWitness};

/// A connection that lived so long did not fail at once, so the next may be tried without a pause.
pub(super) const PROVEN: Duration = Duration::from_secs(1);

/// The reply to requests that a lost connection left without one, and to those that found none. The text is Codis'.
const CONNECTION_LOST: &[u8] = b"-ERR handle response, backend conn reset\r\n";

/// The reply to a request that was split, when a part's is longer than a client may have waiting for it.
const TOO_LONG: &[u8] = b"-ERR handle response, the reply is too long to be merged\r\n";

/// A server's connection, and the task that keeps it open.
#[derive(Debug)]
pub(super) struct Backend {
    addr: HostPort,
    protocol: Protocol,
    database: u16,
    gate: Gate,
    pipeline: RefCell<Pipeline>,
    /// What that takes of the worker's memory.
    share: MemoryShare,
    passing: Passing,
    transport: RefCell<Option<Rc<Transport>>>,
    /// Scripts that the server was given on it.
    loaded: RefCell<Loaded>,
    /// Since when it is open, or not.
    since: Cell<Instant>,
    dirty: Cell<bool>,
    wants_write: Cell<bool>,
    /// Why the connection has to be closed.
    doomed: RefCell<Option<Reason>>,
    retired: Cell<bool>,
    closed: Cell<bool>,
    bell: Bell,
    counts: Counts,
    parked: RefCell<Vec<Rc<Client>>>,
    /// How far the transaction came whose replies come in.
    queueing: Cell<Queueing>,
    /// Who hears the answers to questions that are under way, in their order.
    askers: RefCell<VecDeque<oneshot::Sender<Vec<u8>>>>,
    witness: Witness,
    /// What is known of the server as a replica, on whichever connection it was heard.
    replication: Rc<Replication>,
}

enum Event {
    Readable,
    Writable,
    Doomed(Reason),
    Retired,
}

/// Why a connection has to be closed.
#[derive(Debug)]
enum Reason {
    /// The server did not answer, or took nothing, for too long.
    TimeOut(String),
    Other(String),
}

impl Reason {
    fn silent(limit: Duration) -> Self {
        Self::TimeOut(format!("no reply within {limit:?}"))
    }

    /// Whether it says that nobody is there, rather than that the server closed one connection.
    fn is_silence(&self) -> bool {
        matches!(self, Self::TimeOut(_))
    }

    fn text(&self) -> &str {
        match self {
            Self::TimeOut(text) | Self::Other(text) => text,
        }
    }
}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        let text = error.to_string();
        if is_silence(&error) {
            Self::TimeOut(text)
        } else {
            Self::Other(text)
        }
    }
}

impl Backend {
    /// Begins to connect. `replication`: what all connections to the server share.
    pub(super) fn open(
        worker: &Rc<Worker>,
        addr: HostPort,
        protocol: Protocol,
        database: u16,
        replication: Rc<Replication>,
    ) -> Rc<Self> {
        let backend = Rc::new(Self {
            addr,
            protocol,
            database,
            gate: Gate::new(worker.settings.backend_max_pipeline),
            pipeline: RefCell::default(),
            share: worker.memory.share(),
            passing: Passing::default(),
            transport: RefCell::default(),
            loaded: RefCell::default(),
            since: Cell::new(Instant::now()),
            dirty: Cell::new(false),
            wants_write: Cell::new(false),
            doomed: RefCell::default(),
            retired: Cell::new(false),
            closed: Cell::new(false),
            bell: Bell::default(),
            counts: Counts::default(),
            parked: RefCell::default(),
            queueing: Cell::default(),
            askers: RefCell::default(),
            witness: Witness::default(),
            replication,
        });
        worker.router.watch(&backend);
        tokio::task::spawn_local(backend.clone().keep_open(worker.clone()));
        backend
    }

    /// No slot is routed here any more: the connection is closed when nothing is under way.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        self.bell.ring();
    }

    /// The server.
    pub(super) fn addr(&self) -> &HostPort {
        &self.addr
    }

    /// What is seen of the server here.
    pub(super) fn seen(&self, now: Instant) -> ServerWitness {
        let silent = self.pipeline.borrow().silent_for(now);
        self.witness.tell(&self.addr, self.is_open(), silent)
    }

    /// What it counted, and how it is.
    pub(super) fn figures(&self) -> BackendFigures {
        let under_way = self.pipeline.borrow().under_way();
        BackendFigures::of(&self.counts, self.is_open(), under_way)
    }

    /// Whether no slot is routed here any more.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.get()
    }

    /// Closes the connection if replies are due on it: they will be heard by nobody.
    pub(super) fn give_up(&self, reason: &str) {
        if self.pipeline.borrow().under_way() > 0 {
            self.doom(Reason::Other(reason.to_owned()));
        }
    }

    /// Whether the connection is there.
    pub(super) fn is_open(&self) -> bool {
        self.transport.borrow().is_some()
    }

    /// Sends a request with this turn's write. Ask [`Backend::admit`] first.
    pub(super) fn send(self: &Rc<Self>, worker: &Worker, ticket: Ticket, write: impl FnOnce(&mut Vec<u8>)) {
        self.send_repeatable(worker, ticket, Repeat::Never, write);
    }

    /// The same for a request that its client gets back, to be sent again, when that may be. Behind those that are not
    /// heard of alone, if there are such.
    pub(super) fn send_repeatable(
        self: &Rc<Self>,
        worker: &Worker,
        ticket: Ticket,
        repeat: Repeat,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let (now, mut pipeline) = (worker.now(), self.pipeline.borrow_mut());
        if let Repeat::Unqueued { unheard } = repeat {
            for _ in 0..unheard {
                pipeline.push(now, Ticket::queued(now), Repeat::Never, |_| {});
                worker.turn.sent();
            }
        }
        let written = pipeline.push(now, ticket, repeat, write);
        drop(pipeline);
        add(&self.counts.written, written);
        self.mark(worker);
    }

    fn mark(self: &Rc<Self>, worker: &Worker) {
        worker.turn.sent();
        if !self.dirty.replace(true) {
            worker.turn.add_backend(self);
        }
    }

    /// Gives the server a script that it is about to be asked for by its name, where it may not know it.
    pub(super) fn give_script(self: &Rc<Self>, worker: &Worker, name: ScriptName) {
        let missing = self.loaded.borrow_mut().missing(&worker.settings.scripts, name);
        if let Some(text) = missing {
            self.send(worker, Ticket::ping(worker.now()), |out| put_script_load(out, &text));
        }
    }

    /// Sends a request whose reply nobody waits for, if it can be sent now.
    pub(super) fn tell(self: &Rc<Self>, worker: &Worker, request: &[&[u8]]) {
        if self.admit(worker.now()) == Admit::Yes {
            self.send(worker, Ticket::ping(worker.now()), |out| {
                put_request(out, request.iter().copied());
            });
        }
    }

    /// Sends a request of the proxy's own, if it can be sent now: who hears the reply. There is none when the connection
    /// is lost.
    pub(super) fn ask(self: &Rc<Self>, worker: &Worker, request: &[&[u8]]) -> Option<oneshot::Receiver<Vec<u8>>> {
        if self.admit(worker.now()) != Admit::Yes {
            return None;
        }
        let (asker, answer) = oneshot::channel();
        self.askers.borrow_mut().push_back(asker);
        self.send(worker, Ticket::question(worker.now()), |out| {
            put_request(out, request.iter().copied());
        });
        Some(answer)
    }

    /// The turn's one write.
    pub(super) fn flush(&self) {
        self.dirty.set(false);
        if self.wants_write.get() {
            return;
        }
        let Some(transport) = self.transport.borrow().clone() else {
            return;
        };
        self.write(&transport);
    }

    fn write(&self, transport: &Transport) {
        let mut pipeline = self.pipeline.borrow_mut();
        self.share.set(pipeline.memory());
        match pipeline.write_to(transport) {
            Ok(more) => {
                if self.wants_write.replace(more) != more {
                    self.bell.ring();
                }
            }
            Err(error) => self.doom(error.into()),
        }
    }

    fn doom(&self, reason: Reason) {
        self.doomed.borrow_mut().get_or_insert(reason);
        self.bell.ring();
    }

    /// Looks for time-outs, and whether an idle connection still works.
    pub(super) fn tick(self: &Rc<Self>, worker: &Worker, now: Instant) {
        self.wake_overdue(now);
        if !self.is_open() {
            return;
        }
        self.hurry(worker, now);
        let settings = &worker.settings;
        let pipeline = self.pipeline.borrow();
        if let Some(limit) = settings.backend_ping_timeout
            && pipeline.silent_for(now).is_some_and(|silent| silent > limit)
            && pipeline.ping_silent_for(now).is_none()
            && self.gate.shut(now)
        {
            warn!(server = %self.addr, "no reply within {limit:?}: further requests wait until it says something");
        }
        if pipeline
            .silent_for(now)
            .is_some_and(|silent| silent > settings.backend_recv_timeout)
        {
            drop(pipeline);
            self.doom(Reason::silent(settings.backend_recv_timeout));
        } else if let Some(limit) = settings.backend_ping_timeout
            && pipeline.ping_silent_for(now).is_some_and(|silent| silent > limit)
        {
            drop(pipeline);
            self.doom(Reason::silent(limit));
        } else if pipeline
            .stuck_for(now)
            .is_some_and(|stuck| stuck > settings.backend_send_timeout)
        {
            drop(pipeline);
            let text = format!("took no bytes within {:?}", settings.backend_send_timeout);
            self.doom(Reason::TimeOut(text));
        } else if settings
            .backend_ping_period
            .is_some_and(|period| pipeline.idle_for(now).is_some_and(|idle| idle >= period))
        {
            drop(pipeline);
            self.send(worker, Ticket::ping(now), |out| {
                out.extend_from_slice(b"*1\r\n$4\r\nPING\r\n")
            });
        } else if self.replication.is_due(now) {
            drop(pipeline);
            self.send(worker, Ticket::replication(now), |out| {
                put_request(out, [b"INFO".as_slice(), b"replication"].into_iter());
            });
        }
    }

    async fn connect(&self, settings: &Settings) -> Result<Transport, ConnectError> {
        let mut transport = connect(&self.addr, self.protocol, settings).await?;
        select(&mut transport, self.database).await?;
        Ok(transport)
    }

    async fn keep_open(self: Rc<Self>, worker: Rc<Worker>) {
        let mut backoff = Backoff::default();
        let (mut last_error, mut was_lost) = (String::new(), false);
        while !self.retired.get() {
            match self.connect(&worker.settings).await {
                Ok(transport) => {
                    info!(server = %self.addr, protocol = self.protocol.version(), database = self.database, "connected");
                    last_error.clear();
                    add(&self.counts.opened, 1);
                    let opened = worker.refresh_now();
                    let reason = self.serve(&worker, transport).await;
                    let lost = self.lost(&worker, reason.as_ref().is_some_and(Reason::is_silence));
                    match reason {
                        Some(reason) => {
                            add(&self.counts.lost, 1);
                            warn!(server = %self.addr, reason = reason.text(), lost, "connection lost");
                            let witness = &self.witness;
                            witness.note(&witness.lost, reason.text());
                            if reason.is_silence() {
                                witness.note(&witness.timeouts, reason.text());
                                worker.router.waiting.lose(&self.addr);
                            }
                            was_lost = true;
                        }
                        None => debug!(server = %self.addr, "connection closed, no slot needs it"),
                    }
                    if opened.elapsed() > PROVEN {
                        backoff = Backoff::default();
                    }
                }
                Err(error) => {
                    add(&self.counts.failed, 1);
                    if was_lost && error.is_silence() {
                        worker.router.waiting.lose(&self.addr);
                    }
                    // That a client asks for a database that there is not says nothing of the server.
                    let database = matches!(error, ConnectError::Login(LoginError::Database(_)));
                    let error = error.to_string();
                    if !database {
                        self.witness.note(&self.witness.connect_errors, &error);
                    }
                    if error != last_error {
                        warn!(server = %self.addr, %error, "can't connect");
                        last_error = error;
                    }
                }
            }
            tokio::time::sleep(backoff.next_pause()).await;
        }
        self.closed.set(true);
        self.wake_parked();
    }

    /// Whether it was retired and nothing is under way any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Carries requests until the connection has to be closed. Why; `None` when it is not needed any more.
    async fn serve(self: &Rc<Self>, worker: &Rc<Worker>, transport: Transport) -> Option<Reason> {
        let transport = Rc::new(transport);
        let now = worker.refresh_now();
        self.pipeline.borrow_mut().restart(now);
        self.loaded.take();
        self.queueing.take();
        self.doomed.borrow_mut().take();
        self.wants_write.set(false);
        self.since.set(now);
        *self.transport.borrow_mut() = Some(transport.clone());
        self.wake_parked();
        loop {
            match self.next_event(&transport).await {
                Event::Readable => {
                    if let Err(reason) = self.read(worker, &transport) {
                        return Some(reason);
                    }
                }
                Event::Writable => self.write(&transport),
                Event::Doomed(reason) => return Some(reason),
                Event::Retired => return None,
            }
        }
    }

    async fn next_event(&self, transport: &Transport) -> Event {
        std::future::poll_fn(|cx| {
            self.bell.answered(cx);
            if let Some(reason) = self.doomed.borrow_mut().take() {
                return Poll::Ready(Event::Doomed(reason));
            }
            if self.retired.get() && self.pipeline.borrow().under_way() == 0 {
                return Poll::Ready(Event::Retired);
            }
            if self.wants_write.get() && transport.poll_write_ready(cx).is_ready() {
                return Poll::Ready(Event::Writable);
            }
            if self.passing.poll_room(cx).is_pending() {
                return Poll::Pending;
            }
            transport.poll_read_ready(cx).map(|()| Event::Readable)
        })
        .await
    }

    fn read(&self, worker: &Rc<Worker>, transport: &Transport) -> Result<(), Reason> {
        let mut buffer = worker.buffer.borrow_mut();
        let read = match transport.read(&mut buffer) {
            Ok(0) => return Err(Reason::Other("closed by the server".to_owned())),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        add(&self.counts.read, read);
        let now = worker.refresh_now();
        let was_silent = self.gate.open().is_some();
        let mut pipeline = self.pipeline.borrow_mut();
        if self.passing.goes_on() {
            pipeline.excuse(now);
        }
        // This process may have slept: what comes too late is no success any more, whatever it says.
        let limit = worker.settings.backend_recv_timeout;
        if pipeline.silent_for(now).is_some_and(|silent| silent > limit) {
            return Err(Reason::silent(limit));
        }
        let received = pipeline.receive(now, &buffer[..read], |ended, reply| self.deliver(worker, ended, reply));
        let result = received.and_then(|()| self.pass_on(worker, &mut pipeline));
        self.share.set(pipeline.memory());
        let room = self.gate.has_room(pipeline.under_way()) && pipeline.bytes() < self.max_waiting_bytes() / 2;
        drop(pipeline);
        if (room || was_silent) && !self.parked.borrow().is_empty() {
            self.wake_parked();
        }
        result.map_err(|error| Reason::Other(error.to_string()))
    }

    /// Fails what was under way: it may have been carried out, or not. What was never sent is given back. How much that was.
    /// Where the server said nothing, requests waited for it already.
    fn lost(&self, worker: &Rc<Worker>, by_silence: bool) -> usize {
        *self.transport.borrow_mut() = None;
        self.replication.forget();
        self.askers.take();
        let (now, silent_since) = (worker.refresh_now(), self.gate.open());
        self.since.set(silent_since.filter(|_| by_silence).unwrap_or(now));
        self.passing.begin();
        let lost = self.pipeline.borrow_mut().abandon(|ended| {
            worker.turn.answered();
            let Ended {
                ticket,
                request,
                repeat,
                begun,
            } = ended;
            let Some(client) = ticket.client.clone() else { return };
            match request {
                _ if begun && ticket.takes_parts() => client.cut(worker, ticket, CONNECTION_LOST),
                Some(request) => {
                    client.refused(worker, ticket, (request, repeat), CONNECTION_LOST, Outcome::Failed);
                }
                None => client.complete(worker, ticket, CONNECTION_LOST, Outcome::Failed),
            }
        });
        self.share.set(0);
        self.wake_parked();
        lost
    }

    fn deliver(&self, worker: &Rc<Worker>, ended: Ended<'_>, reply: &[u8]) {
        let Ended {
            ticket,
            request,
            repeat,
            begun,
        } = ended;
        worker.turn.answered();
        let Some(client) = ticket.client.clone() else {
            if ticket.is_queued() {
                if reply.starts_with(b"-") {
                    self.queueing.set(self.queueing.get().after(reply));
                }
            } else if ticket.asks_for_replication() {
                self.replication
                    .learn(reply, worker.now(), worker.settings.backend_replica_max_lag);
            } else if ticket.is_question()
                && let Some(asker) = self.askers.borrow_mut().pop_front()
            {
                let _ = asker.send(reply.to_vec());
            }
            return;
        };
        // What is longer than a line is no error, and begins elsewhere.
        let (reply, outcome) = match begun {
            false => (reply, Outcome::of(reply)),
            true if ticket.takes_parts() => (reply, Outcome::Answered),
            true => (TOO_LONG, Outcome::Failed),
        };
        let queueing = match repeat {
            Repeat::Unqueued { .. } => self.queueing.take(),
            _ => Queueing::Whole,
        };
        if outcome == Outcome::Error {
            if let Some(request) = request.filter(|_| repeat.is_due(reply, queueing)) {
                self.replication.forget();
                // What gave it the scripts that it runs was refused as well.
                self.loaded.take();
                return client.refused(worker, ticket, (request, repeat), reply, outcome);
            }
            worker.figures.record_server_error();
        }
        // A transaction is known by its end, not by its beginning.
        let shown = request.filter(|_| !matches!(repeat, Repeat::Unqueued { .. }));
        client.note_if_slow(worker, ticket.command, ticket.since, shown);
        client.complete(worker, ticket, reply, outcome);
    }
}
