//! A client: its requests are read, judged and sent on; its replies leave in the order of its requests.

mod about;
mod apart;
mod block;
mod client;
mod clients;
mod config;
mod errand;
mod everywhere;
mod figures;
mod forward;
mod handle;
mod haul;
mod info;
mod keyspace;
mod local;
mod mapping;
mod memory;
mod merge;
mod passed;
mod place;
mod private;
mod reads;
mod refused;
mod repeat;
mod replies;
mod script;
mod select;
mod slow;
mod split;
mod subscribe;
mod transaction;
mod upload;

pub(super) use client::{Client, serve};
pub(super) use figures::ClientFigures;

#[cfg(test)]
pub(super) use client::tests;

use std::rc::Rc;
use std::time::{Duration, Instant};

use self::about::About;
use self::apart::Apart;
use self::refused::Refused;
use self::replies::Replies;
use self::upload::Upload;
use super::command::{CommandId, Found, table};
use super::resp::{Limits, Protocol, Request, RequestParser, Step, put_error};
use super::worker::{HeldRequest, Outcome, Settings, Worker};

/// A client that has so many bytes of replies to take is not read on.
const HIGH_WATER: usize = 1 << 20;
/// How much is read of a client whose next request waits for its route; only to see when it leaves.
const READ_AHEAD: usize = 64 << 10;

/// A request is longer than any may be.
const TOO_BIG: &str = "ERR Protocol error: too big request";
/// A request that no server would understand; as Redis.
const SYNTAX: &str = "ERR syntax error";

/// Why the next request is not taken up yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The client has to take replies first, or enough of its requests are under way.
    Replies,
    /// All replies have to be there first.
    AllReplies,
    /// Its slot is held, or its server's connection full or not there.
    Route,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It was taken up.
    Taken,
    /// It has to wait, and all behind it.
    Waits(Wait),
}

/// What is known of a client. Everything but its socket.
#[derive(Debug)]
struct Session {
    id: u64,
    parser: RequestParser,
    /// What was read and not taken up: the beginning of a request, or requests that wait.
    input: Vec<u8>,
    replies: Replies,
    protocol: Protocol,
    database: u16,
    /// Whether its reads may go to replicas.
    reads_replicas: bool,
    /// Some of what is under way is; nothing of it but reads is under way then.
    at_replicas: bool,
    authenticated: bool,
    name: Vec<u8>,
    waits: Option<Wait>,
    /// Since when its requests wait for their routes. Those behind one that waited too long wait no more time of their own:
    /// it ends when one is sent, or none is left.
    waits_since: Option<Instant>,
    /// Counts the request that waits for its slot or server.
    held: Option<HeldRequest>,
    /// What servers did not look at; nothing else is taken up before that.
    refused: Option<Box<Refused>>,
    /// No further request is taken up; the connection ends when all replies were sent.
    closing: bool,
    /// The client sends nothing more. What it sent before may still have to be taken up.
    at_end: bool,
    /// The connection is gone; requests under way come to their end unheard.
    gone: bool,
    last_read: Instant,
    last_sent: Instant,
    /// What does not go over shared connections as it comes.
    apart: Apart,
    about: About,
    /// Places of keys; kept so that no request allocates.
    places: Vec<usize>,
}

impl Session {
    fn new(id: u64, settings: &Settings, now: Instant) -> Self {
        Self {
            id,
            parser: RequestParser::default(),
            input: Vec::new(),
            replies: Replies::default(),
            protocol: Protocol::Resp2,
            database: 0,
            reads_replicas: settings.session_replica_reads,
            at_replicas: false,
            authenticated: !settings.wants_password(),
            name: Vec::new(),
            waits: None,
            waits_since: None,
            held: None,
            refused: None,
            closing: false,
            at_end: false,
            gone: false,
            last_read: now,
            last_sent: now,
            apart: Apart::default(),
            about: About::new(now),
            places: Vec::new(),
        }
    }

    /// Whether nothing more that the client sends is looked at.
    fn is_over(&self) -> bool {
        self.closing && !self.apart.upload.as_deref().is_some_and(Upload::is_sent_on)
    }

    /// Whether more is read although a request waits.
    fn reads_on(&self) -> bool {
        self.waits != Some(Wait::Replies)
            && !self.at_end
            && self.input.len() < READ_AHEAD
            && self.held.as_ref().is_none_or(HeldRequest::may_grow)
    }

    /// Takes no further request up.
    fn end(&mut self) {
        self.closing = true;
        self.apart.upload = None;
        self.input = Vec::new();
    }

    /// Whether its command waits at a server, and what it sent since waits unread.
    fn is_blocked_unread(&self) -> bool {
        self.apart.blocked.is_some() && self.waits.is_some() && !self.reads_on()
    }

    /// The client sends nothing more. Whoever shut down only its sending half still gets what it asked for: all that it
    /// sent, where that only waits for replies. Not what can't be sent on yet, or waits behind a command that waits at a
    /// server: mostly its client gave up, and would not expect that to be done later.
    fn hears_the_end(&mut self, worker: &Worker) {
        self.at_end = true;
        let blocked = self.apart.blocked.clone();
        if self.waits != Some(Wait::AllReplies) || blocked.is_some() {
            self.end();
        }
        if let Some(blocked) = blocked {
            blocked.cancel(worker);
        }
    }

    /// Takes up what was read.
    fn feed(&mut self, worker: &Rc<Worker>, client: &Rc<Client>, data: &[u8]) {
        if self.waits.is_some() {
            self.input.extend_from_slice(data);
            if let Some(held) = &mut self.held {
                held.grow(data.len());
            }
        } else if self.input.is_empty() {
            let used = self.take_up(worker, client, data);
            if !self.is_over() {
                self.input.extend_from_slice(&data[used..]);
            }
        } else {
            self.input.extend_from_slice(data);
            self.go_on(worker, client);
        }
    }

    /// Takes up what had to wait.
    fn go_on(&mut self, worker: &Rc<Worker>, client: &Rc<Client>) {
        let mut input = std::mem::take(&mut self.input);
        let used = self.take_up(worker, client, &input);
        if self.at_end && (self.waits.is_none() || self.apart.blocked.is_some()) {
            self.waits = None;
            self.hears_the_end(worker);
        }
        if self.is_over() {
            return;
        }
        if used == input.len() {
            input.clear();
            if input.capacity() > 64 << 10 {
                return;
            }
        } else {
            input.drain(..used);
        }
        self.input = input;
    }

    /// Takes up the requests in `data`, which begins where a request begins: how many bytes were used.
    fn take_up(&mut self, worker: &Rc<Worker>, client: &Rc<Client>, data: &[u8]) -> usize {
        let mut parser = std::mem::take(&mut self.parser);
        let mut used = 0;
        self.waits = None;
        while !self.is_over() {
            if self.apart.upload.is_some() {
                used += self.go_on_uploading(worker, &data[used..]);
                if self.apart.upload.is_some() {
                    break;
                }
                continue;
            }
            if self.apart.alone {
                if self.replies.under_way() > 0 {
                    self.waits = Some(Wait::AllReplies);
                    break;
                }
                self.apart.alone = false;
            }
            if self.is_full(worker) {
                self.waits = Some(Wait::Replies);
                break;
            }
            let limits = if self.authenticated {
                Limits::AUTHENTICATED
            } else {
                Limits::UNAUTHENTICATED
            };
            let before = self.replies.forwarded();
            match parser.parse(&data[used..], limits) {
                Ok(Step::More) => {
                    let len = parser.least_len().max(data.len() - used);
                    if len > worker.settings.session_max_request {
                        self.refuse(worker, TOO_BIG);
                    } else if len > worker.settings.stream_threshold {
                        match self.begin_upload(worker, client, &parser, &data[used..]) {
                            Some(Ok(begun)) => {
                                used += begun;
                                parser.reset();
                                self.is_taken_up(before);
                                continue;
                            }
                            Some(Err(wait)) => self.begin_to_wait(worker, wait),
                            None => {}
                        }
                    }
                    break;
                }
                Ok(Step::Done(len)) => {
                    let request = parser.request(&data[used..], len);
                    let database = self.database;
                    let verdict = if request.len() == 0 {
                        Verdict::Taken
                    } else {
                        self.handle(worker, client, &request)
                    };
                    if verdict == Verdict::Taken && worker.observers.are_there() && request.len() > 0 {
                        self.show(worker, database, &request);
                    }
                    parser.reset();
                    match verdict {
                        Verdict::Taken => {
                            used += len;
                            self.is_taken_up(before);
                        }
                        Verdict::Waits(wait) => {
                            self.begin_to_wait(worker, wait);
                            break;
                        }
                    }
                }
                Err(error) => self.refuse(worker, &error.to_string()),
            }
        }
        self.parser = parser;
        if self.waits.is_none() {
            self.waits_since = None;
        }
        if self.is_over() {
            self.parser.reset();
            self.input = Vec::new();
        } else if worker.is_draining() && self.waits.is_none() {
            self.closing = true;
        }
        used
    }

    /// A request has to wait, and all behind it.
    fn begin_to_wait(&mut self, worker: &Worker, wait: Wait) {
        self.waits = Some(wait);
        self.waits_since = match wait {
            Wait::Route => self.waits_since.or(Some(worker.now())),
            Wait::Replies | Wait::AllReplies => None,
        };
    }

    /// A request was taken up; `before` it so many had been forwarded.
    fn is_taken_up(&mut self, before: u64) {
        self.held = None;
        if self.replies.forwarded() != before {
            self.waits_since = None;
        }
    }

    /// Shows a request that was taken up, for this database, to those who look at them. What strangers send is nobody's
    /// business.
    fn show(&self, worker: &Worker, database: u16, request: &Request<'_>) {
        if let (true, Found::Known(command)) = (self.authenticated, table().find(request.arg(0))) {
            worker.observers.see(self.about.addr, database, command, request);
        }
    }

    /// Whether the client has to wait for replies, or take some, before more of its requests are taken up.
    fn is_full(&self, worker: &Worker) -> bool {
        let most = if worker.memory.is_tight() { 0 } else { HIGH_WATER };
        self.refused.is_some()
            || self.replies.backlog() > most
            || self.replies.under_way() >= self.replies.window(worker.settings.session_max_pipeline)
    }

    /// Answers with an error behind all replies that are due, then ends.
    fn refuse(&mut self, worker: &Worker, text: &str) {
        worker.figures.record_error(text.as_bytes());
        self.replies.answer(|out| put_error(out, text));
        self.closing = true;
    }

    /// Answers with an error of the proxy's own.
    fn fail(&mut self, worker: &Worker, command: CommandId, text: &str) -> Verdict {
        self.abort_transaction();
        self.replies.answer(|out| put_error(out, text));
        worker.figures.record_error(text.as_bytes());
        worker.figures.record(command, Duration::ZERO, Outcome::Failed);
        if worker.settings.session_break_on_failure {
            self.closing = true;
        }
        Verdict::Taken
    }

    /// Answers with an error that a server would have given.
    fn reject(&mut self, worker: &Worker, command: CommandId, text: &str) -> Verdict {
        self.abort_transaction();
        self.replies.answer(|out| put_error(out, text));
        worker.figures.record_error(text.as_bytes());
        worker.figures.record(command, Duration::ZERO, Outcome::Error);
        Verdict::Taken
    }

    /// Answers.
    fn answer(&mut self, worker: &Worker, command: CommandId, write: impl FnOnce(&mut Vec<u8>)) -> Verdict {
        self.replies.answer(write);
        worker.figures.record(command, Duration::ZERO, Outcome::Answered);
        Verdict::Taken
    }

    /// Has the request wait for its slot or for a connection that is not there, unless too much waits already.
    fn hold(&mut self, worker: &Worker, command: CommandId, bytes: usize) -> Verdict {
        if self.held.is_none() {
            self.held = worker.held.hold(bytes);
        }
        if self.held.is_none() {
            return self.fail(worker, command, "ERR handle request, too many requests are held back");
        }
        self.wait_for_route(worker, command)
    }

    /// Has the request wait, unless it waited too long or the process is about to end.
    fn wait_for_route(&mut self, worker: &Worker, command: CommandId) -> Verdict {
        if worker.is_draining() {
            return self.fail(worker, command, "ERR handle request, the proxy is shutting down");
        }
        if self
            .waits_since
            .is_some_and(|since| worker.now().saturating_duration_since(since) > worker.settings.hold_timeout)
        {
            return self.fail(
                worker,
                command,
                "ERR handle request, the slot was locked, or its server full, for too long",
            );
        }
        Verdict::Waits(Wait::Route)
    }
}
