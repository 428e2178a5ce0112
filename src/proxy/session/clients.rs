use std::rc::Rc;

use super::local::{BAD_NAME, is_name};
use super::select::{Candidate, Select};
use super::{Client, Session, Verdict};
use crate::proxy::command::Command;
use crate::proxy::pubsub::TopicKind;
use crate::proxy::resp::{
    Protocol, Request, begin_map, put_array, put_bulk, put_error, put_integer, put_null, put_simple,
};
use crate::proxy::worker::Worker;

/// Who asks.
#[derive(Debug, Clone, Copy)]
struct Asker(u64);

impl Session {
    /// `CLIENT`: what can be right at a proxy. `PAUSE`, `TRACKING ON` and the like would need every server.
    pub(super) fn client(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Verdict {
        let sub = match self.subcommand(worker, command, request) {
            Ok(sub) => sub,
            Err(verdict) => return verdict,
        };
        self.about.last = sub.name;
        let (id, protocol) = (command.id, self.protocol);
        let option = |word: &str| request.arg(2).eq_ignore_ascii_case(word.as_bytes());
        match sub.short_name() {
            "id" => {
                let own = self.id as i64;
                self.answer(worker, id, |out| put_integer(out, own))
            }
            "getname" if self.name.is_empty() => self.answer(worker, id, |out| put_null(out, protocol)),
            "getname" => {
                let name = self.name.clone();
                self.answer(worker, id, |out| put_bulk(out, &name))
            }
            "setname" if !is_name(request.arg(2)) => self.reject(worker, id, BAD_NAME),
            "setname" => {
                self.name = request.arg(2).to_vec();
                self.done(worker, command)
            }
            "setinfo" => self.set_info(worker, command, request),
            "info" => {
                let line = self.line(worker);
                self.answer(worker, id, |out| put_bulk(out, line.as_bytes()))
            }
            "list" => self.list_clients(worker, client, command, request),
            "kill" => self.kill_clients(worker, client, command, request),
            // Nothing is tracked, sent by another connection, or kept from a client here.
            "getredir" => self.answer(worker, id, |out| put_integer(out, -1)),
            "trackinginfo" => self.answer(worker, id, |out| put_no_tracking(out, protocol)),
            "tracking" if option("OFF") => self.done(worker, command),
            "reply" if option("ON") => self.done(worker, command),
            "no-touch" if option("OFF") => self.done(worker, command),
            "no-evict" if option("ON") || option("OFF") => self.done(worker, command),
            "capa" => self.done(worker, command),
            _ => self.not_allowed(worker, sub, ""),
        }
    }

    fn done(&mut self, worker: &Worker, command: &Command) -> Verdict {
        self.answer(worker, command.id, |out| put_simple(out, "OK"))
    }

    fn set_info(&mut self, worker: &Worker, command: &Command, request: &Request<'_>) -> Verdict {
        let (option, value) = (request.arg(2), request.arg(3));
        let field = if option.eq_ignore_ascii_case(b"LIB-NAME") {
            &mut self.about.library
        } else if option.eq_ignore_ascii_case(b"LIB-VER") {
            &mut self.about.version
        } else {
            let text = format!("ERR Unrecognized option '{}'", String::from_utf8_lossy(option));
            return self.reject(worker, command.id, &text);
        };
        if !is_name(value) {
            let option = String::from_utf8_lossy(option).to_lowercase();
            let text = format!("ERR {option} cannot contain spaces, newlines or special characters.");
            return self.reject(worker, command.id, &text);
        }
        *field = value.to_vec();
        self.done(worker, command)
    }

    fn list_clients(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &Command,
        request: &Request<'_>,
    ) -> Verdict {
        let select = match Select::for_list(request) {
            Ok(select) => select,
            Err(text) => return self.reject(worker, command.id, &text),
        };
        let settings = worker.settings.clone();
        let asker = Asker(self.id);
        self.answer_later(worker, client, command.id, async move {
            let asked = settings.peers.ask(move |worker| lines(worker, &select, asker)).await;
            let mut lines: Vec<_> = asked.into_iter().flatten().collect();
            lines.sort_unstable_by_key(|(id, _)| *id);
            let text: String = lines.into_iter().map(|(_, line)| line).collect();
            let mut reply = Vec::with_capacity(text.len() + 16);
            put_bulk(&mut reply, text.as_bytes());
            reply
        })
    }

    fn kill_clients(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &Command,
        request: &Request<'_>,
    ) -> Verdict {
        let select = match Select::for_kill(request) {
            Ok(select) => select,
            Err(text) => return self.reject(worker, command.id, &text),
        };
        let by_address = request.len() == 3;
        let settings = worker.settings.clone();
        let asker = Asker(self.id);
        self.answer_later(worker, client, command.id, async move {
            let asked = settings.peers.ask(move |worker| kill(worker, &select, asker)).await;
            let killed: i64 = asked.into_iter().sum();
            let mut reply = Vec::new();
            match (by_address, killed) {
                (true, 0) => put_error(&mut reply, "ERR No such client"),
                (true, _) => put_simple(&mut reply, "OK"),
                (false, _) => put_integer(&mut reply, killed),
            }
            reply
        })
    }

    fn candidate(&self, worker: &Worker, asker: Asker) -> Candidate {
        Candidate {
            id: self.id,
            addr: self.about.addr,
            local: self.about.local,
            age: worker.now().saturating_duration_since(self.about.came).as_secs(),
            is_asker: self.id == asker.0,
        }
    }

    /// As `CLIENT LIST` shows a client.
    fn line(&self, worker: &Worker) -> String {
        let since = |then| worker.now().saturating_duration_since(then).as_secs();
        let about = &self.about;
        let text = String::from_utf8_lossy;
        let flags = if self.waits.is_some() { "b" } else { "N" };
        let output = self.replies.backlog();
        let of_kind = |kind| {
            let topics = self.apart.topics.iter().flat_map(|topics| topics.iter());
            topics.filter(|topic| topic.kind() == kind).count()
        };
        let queued = self
            .apart
            .transaction
            .as_ref()
            .map(|transaction| transaction.commands().to_string());
        let multi = queued.as_deref().unwrap_or("-1");
        format!(
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db={} sub={} psub={} ssub={} multi={multi} \
             qbuf={} qbuf-free=0 argv-mem=0 multi-mem=0 obl={output} oll={} omem={output} tot-mem={} events=r cmd={} \
             user=default redir=-1 resp={} lib-name={} lib-ver={}\n",
            self.id,
            about.addr,
            about.local,
            text(&self.name),
            since(about.came),
            since(self.last_read),
            self.database,
            of_kind(TopicKind::Channel),
            of_kind(TopicKind::Pattern),
            of_kind(TopicKind::Shard),
            self.input.len(),
            self.replies.under_way(),
            self.input.len() + output,
            about.last,
            self.protocol.version(),
            text(&about.library),
            text(&about.version),
        )
    }
}

/// This worker's clients that are meant.
fn lines(worker: &Worker, select: &Select, asker: Asker) -> Vec<(u64, String)> {
    worker.refresh_now();
    let clients = worker.clients.borrow();
    let sessions = clients.values().map(|client| client.session.borrow());
    sessions
        .filter(|session| !session.gone && select.fits(session.candidate(worker, asker)))
        .map(|session| (session.id, session.line(worker)))
        .collect()
}

/// Closes this worker's clients that are meant: how many. The one who asks hears the answer first.
fn kill(worker: &Worker, select: &Select, asker: Asker) -> i64 {
    worker.refresh_now();
    let mut killed = 0;
    for client in worker.clients.borrow().values() {
        let mut session = client.session.borrow_mut();
        let candidate = session.candidate(worker, asker);
        if session.gone || !select.fits(candidate) {
            continue;
        }
        killed += 1;
        if candidate.is_asker {
            session.end();
        } else {
            drop(session);
            client.doom();
        }
    }
    killed
}

fn put_no_tracking(out: &mut Vec<u8>, protocol: Protocol) {
    begin_map(out, protocol, 3);
    put_bulk(out, b"flags");
    put_array(out, 1);
    put_bulk(out, b"off");
    put_bulk(out, b"redirect");
    put_integer(out, -1);
    put_bulk(out, b"prefixes");
    put_array(out, 0);
}
