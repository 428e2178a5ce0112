use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::place::slot_without_keys;
use super::{Client, SYNTAX, Session, Verdict, Wait};
use crate::model::SlotId;
use crate::proxy::command::{Command, Local, count, put_all, put_infos};
use crate::proxy::resp::{Protocol, Request, begin_map, decimal, put_array, put_bulk, put_integer, put_simple};
use crate::proxy::worker::Worker;

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?";
const TOO_MANY_GUESSES: &str =
    "ERR too many wrong passwords came from this address, so this one was not looked at; try again in a second";
/// What clients that ask for the server's version are told: the one that Valkey 8 gives for this purpose too.
pub(super) const REDIS_VERSION: &str = "7.2.4";

impl Session {
    /// Answers a command that needs no server.
    pub(super) fn answer_locally(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        local: Local,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Verdict {
        let id = command.id;
        match local {
            Local::Auth => self.auth(worker, command, request),
            Local::Client => self.client(worker, client, command, request),
            Local::Command => self.command(worker, client, command, request),
            Local::Config => self.config(worker, command, request),
            Local::Echo => self.answer(worker, id, |out| put_bulk(out, request.arg(1))),
            Local::Hello => self.hello(worker, command, request),
            Local::Info => self.info(worker, client, command, request),
            Local::Ping => match request.get(1) {
                None => self.answer(worker, id, |out| put_simple(out, "PONG")),
                Some(_) if request.len() > 2 => self.wrong_number(worker, command),
                Some(message) => self.answer(worker, id, |out| put_bulk(out, message)),
            },
            Local::Quit => {
                self.closing = true;
                self.answer(worker, id, |out| put_simple(out, "OK"))
            }
            Local::ReadOnly | Local::ReadWrite => {
                self.reads_replicas = local == Local::ReadOnly;
                self.answer(worker, id, |out| put_simple(out, "OK"))
            }
            Local::Reset => {
                // What is under way still comes in the protocol that it was asked for in.
                if self.replies.under_way() > 0 {
                    return Verdict::Waits(Wait::AllReplies);
                }
                self.reset_apart(worker);
                self.protocol = Protocol::Resp2;
                self.database = 0;
                self.reads_replicas = worker.settings.session_replica_reads;
                self.authenticated = !worker.settings.wants_password();
                self.name.clear();
                self.answer(worker, id, |out| put_simple(out, "RESET"))
            }
            Local::Select => self.select(worker, command, request),
            Local::SlotsHashKey => self.answer(worker, id, |out| {
                put_array(out, request.len() - 1);
                for key in request.args_from(1) {
                    put_integer(out, SlotId::of_key(key).get().into());
                }
            }),
            Local::SlotsMapping => self.slots_mapping(worker, command, request),
            Local::Slowlog => self.slow_log(worker, client, command, request),
            Local::Time => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                self.answer(worker, id, |out| {
                    put_array(out, 2);
                    put_bulk(out, now.as_secs().to_string().as_bytes());
                    put_bulk(out, now.subsec_micros().to_string().as_bytes());
                })
            }
        }
    }

    fn select(&mut self, worker: &Worker, command: &Command, request: &Request<'_>) -> Verdict {
        let (id, databases) = (command.id, worker.settings.databases);
        let Some(number) = decimal(request.arg(1)) else {
            return self.reject(worker, id, "ERR invalid DB index");
        };
        let Some(database) = u16::try_from(number).ok().filter(|number| *number < databases) else {
            let text = format!("ERR invalid DB index, only accept DB [0,{databases})");
            return self.reject(worker, id, &text);
        };
        // What is under way goes over another connection: a script there may know no databases, and be overtaken.
        if database != self.database && self.replies.under_way() > 0 {
            return Verdict::Waits(Wait::AllReplies);
        }
        self.database = database;
        self.answer(worker, id, |out| put_simple(out, "OK"))
    }

    fn auth(&mut self, worker: &Worker, command: &Command, request: &Request<'_>) -> Verdict {
        let (user, password) = match request.len() {
            2 => (None, request.arg(1)),
            3 => (Some(request.arg(1)), request.arg(2)),
            _ => return self.reject(worker, command.id, SYNTAX),
        };
        if user.is_none() && !worker.settings.wants_password() {
            return self.reject(worker, command.id, NO_PASSWORD);
        }
        if let Err(text) = self.log_in(worker, user.unwrap_or(b"default"), password) {
            return self.reject(worker, command.id, text);
        }
        self.answer(worker, command.id, |out| put_simple(out, "OK"))
    }

    fn log_in(&mut self, worker: &Worker, user: &[u8], password: &[u8]) -> Result<(), &'static str> {
        let (guesses, from) = (&worker.settings.guesses, self.about.addr.ip());
        if guesses.refuses(from, worker.now()) {
            return Err(TOO_MANY_GUESSES);
        }
        let right = worker.settings.is_password(password) & (user == b"default");
        self.authenticated |= right;
        if right {
            return Ok(());
        }
        guesses.wrong(from, worker.now());
        Err(WRONG_PASSWORD)
    }

    /// `HELLO [version [AUTH user password] [SETNAME name]]`. Nothing is changed unless all of it is right.
    fn hello(&mut self, worker: &Worker, command: &Command, request: &Request<'_>) -> Verdict {
        let id = command.id;
        let protocol = match request.get(1).map(decimal) {
            None => self.protocol,
            Some(None) => return self.reject(worker, id, "ERR Protocol version is not an integer or out of range"),
            Some(Some(2)) => Protocol::Resp2,
            Some(Some(3)) => Protocol::Resp3,
            Some(Some(_)) => return self.reject(worker, id, "NOPROTO unsupported protocol version"),
        };
        let (mut login, mut name, mut place) = (None, None, 2);
        while let Some(option) = request.get(place) {
            let is = |word: &[u8]| option.eq_ignore_ascii_case(word);
            match (request.get(place + 1), request.get(place + 2)) {
                (Some(user), Some(password)) if is(b"AUTH") => {
                    login = Some((user, password));
                    place += 3;
                }
                (Some(given), _) if is(b"SETNAME") => {
                    name = Some(given);
                    place += 2;
                }
                _ => {
                    let text = format!("ERR Syntax error in HELLO option '{}'", String::from_utf8_lossy(option));
                    return self.reject(worker, id, &text);
                }
            }
        }
        if name.is_some_and(|name| !is_name(name)) {
            return self.reject(worker, id, BAD_NAME);
        }
        // Replies that are under way are written in the protocol that they were asked for in, and from a connection
        // that speaks it; a request that overtook them on another connection would be out of order.
        if self.replies.under_way() > 0 {
            return Verdict::Waits(Wait::AllReplies);
        }
        if let Some((user, password)) = login
            && let Err(text) = self.log_in(worker, user, password)
        {
            return self.reject(worker, id, text);
        }
        if !self.authenticated {
            let text = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> \
                        AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol \
                        version at the same time";
            return self.reject(worker, id, text);
        }
        if let Some(name) = name {
            self.name = name.to_vec();
        }
        self.protocol = protocol;
        let client = self.id;
        self.answer(worker, id, |out| {
            begin_map(out, protocol, 7);
            for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
                put_bulk(out, key.as_bytes());
                put_bulk(out, value.as_bytes());
            }
            put_bulk(out, b"proto");
            put_integer(out, protocol.version());
            put_bulk(out, b"id");
            put_integer(out, client as i64);
            for (key, value) in [("mode", "standalone"), ("role", "master")] {
                put_bulk(out, key.as_bytes());
                put_bulk(out, value.as_bytes());
            }
            put_bulk(out, b"modules");
            put_array(out, 0);
        })
    }

    fn command(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Verdict {
        let (id, protocol, optional) = (command.id, self.protocol, worker.settings.optional);
        if request.len() == 1 {
            return self.answer(worker, id, |out| put_all(out, optional));
        }
        let sub = match self.subcommand(worker, command, request) {
            Ok(sub) => sub,
            Err(verdict) => return verdict,
        };
        match sub.short_name() {
            "count" => self.answer(worker, id, |out| put_integer(out, count(optional) as i64)),
            "info" if request.len() == 2 => self.answer(worker, id, |out| put_all(out, optional)),
            "info" => {
                let names: Vec<_> = request.args_from(2).collect();
                self.answer(worker, id, |out| put_infos(out, protocol, optional, names.into_iter()))
            }
            // What the table does not hold, or is rarely asked: any server knows it.
            "docs" | "getkeys" | "getkeysandflags" | "list" => {
                self.forward_to(worker, client, sub, request, slot_without_keys())
            }
            _ => self.not_allowed(worker, sub, ""),
        }
    }
}

pub(super) const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

pub(super) fn is_name(name: &[u8]) -> bool {
    name.iter().all(u8::is_ascii_graphic)
}
