use std::rc::Rc;

use super::place::slot_without_keys;
use super::{Client, SYNTAX, Session, Verdict};
use crate::proxy::command::{Command, Found, Local, Patience, Plan, StreamRead, table};
use crate::proxy::resp::Request;
use crate::proxy::worker::Worker;

/// How much of the arguments an error about an unknown command shows; as Redis.
const SHOWN_ARGS: usize = 128;

impl Session {
    /// Judges a request, and answers it or sends it on.
    pub(super) fn handle(&mut self, worker: &Rc<Worker>, client: &Rc<Client>, request: &Request<'_>) -> Verdict {
        let other = table().other();
        let command = match table().find(request.arg(0)) {
            Found::Known(command) => command,
            _ if !self.authenticated => return self.not_authenticated(worker, other),
            Found::Refused => return self.refuse_command(worker, request),
            Found::Unknown => return self.reject(worker, other, &unknown_command(request)),
            Found::BadLength => {
                return self.reject(
                    worker,
                    other,
                    "ERR handle request, bad command length, too short or too long",
                );
            }
        };
        self.about.last = command.name;
        if !self.authenticated
            && !matches!(
                command.plan,
                Plan::Local(Local::Auth | Local::Hello | Local::Quit | Local::Reset)
            )
        {
            return self.not_authenticated(worker, command.id);
        }
        if !command.takes(request.len()) {
            return self.wrong_number(worker, command);
        }
        if self.only_listens() {
            if command.plan == Plan::Local(Local::Ping) {
                return self.ping_listener(worker, command, request);
            }
            if !Self::is_for_listeners(command) {
                return self.reject_listener(worker, command);
            }
        }
        if self.apart.transaction.is_some() && Self::is_queued(command) {
            return self.queue_checked(worker, command, request);
        }
        match command.plan {
            Plan::Local(local) => self.answer_locally(worker, client, local, command, request),
            Plan::Container => match self.subcommand(worker, command, request) {
                Ok(sub) => self.forward_by_plan(worker, client, sub, request),
                Err(verdict) => verdict,
            },
            _ => self.forward_by_plan(worker, client, command, request),
        }
    }

    fn forward_by_plan(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Verdict {
        match command.plan {
            Plan::Key(place) => self.forward_by_key(worker, client, command, request, usize::from(place)),
            Plan::Keys => self.forward_by_keys(worker, client, command, request),
            Plan::Sort => self.forward_sort(worker, client, command, request),
            Plan::StreamRead => match StreamRead::of(request) {
                StreamRead::Streams { keys, block: None } => {
                    self.forward_by_places(worker, client, command, request, keys)
                }
                StreamRead::Streams { block: Some(place), .. } => {
                    self.block(worker, client, command, request, Patience::millis(place))
                }
                StreamRead::Malformed => self.reject(worker, command.id, SYNTAX),
            },
            // The copy would be where no client and no move of the slot finds it.
            Plan::Copy if request.args_from(3).any(|option| option.eq_ignore_ascii_case(b"DB")) => {
                self.not_allowed(worker, command, " with DB")
            }
            Plan::Copy => self.forward_by_keys(worker, client, command, request),
            Plan::Blocking(at) => {
                let patience = Patience::seconds(at, request);
                self.block(worker, client, command, request, patience)
            }
            Plan::Transaction(kind) => self.transact(worker, client, command, request, kind),
            Plan::Script { by_name } => self.forward_script(worker, client, command, request, by_name),
            Plan::Everywhere(kind) => self.forward_everywhere(worker, client, command, request, kind),
            Plan::Anywhere => self.forward_to(worker, client, command, request, slot_without_keys()),
            Plan::Subscribe(kind) => self.subscribe(worker, client, command, request, kind),
            Plan::Split(kind) => self.forward_split(worker, client, command, request, kind),
            Plan::Local(_) | Plan::Container | Plan::Denied => self.not_allowed(worker, command, ""),
        }
    }

    fn refuse_command(&mut self, worker: &Worker, request: &Request<'_>) -> Verdict {
        let name = request.arg(0).to_ascii_uppercase();
        // A browser, or someone who makes one talk to us: nothing that it sends is meant as a command.
        if matches!(name.as_slice(), b"POST" | b"HOST:") {
            self.closing = true;
        }
        let name = String::from_utf8_lossy(&name).into_owned();
        self.reject(
            worker,
            table().other(),
            &format!("ERR handle request, command '{name}' is not allowed"),
        )
    }

    /// `what` is appended to the command's name.
    pub(super) fn not_allowed(&mut self, worker: &Worker, command: &Command, what: &str) -> Verdict {
        let name = command.name.to_uppercase();
        self.reject(
            worker,
            command.id,
            &format!("ERR handle request, command '{name}'{what} is not allowed"),
        )
    }

    pub(super) fn wrong_number(&mut self, worker: &Worker, command: &Command) -> Verdict {
        self.reject(
            worker,
            command.id,
            &format!("ERR wrong number of arguments for '{}' command", command.name),
        )
    }

    /// The subcommand that a request names, with the arguments that it takes; else what became of the request.
    pub(super) fn subcommand(
        &mut self,
        worker: &Worker,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Result<&'static Command, Verdict> {
        match command.subcommand(request.arg(1)) {
            None => Err(self.unknown_subcommand(worker, command, request)),
            Some(sub) if !sub.takes(request.len()) => Err(self.wrong_number(worker, sub)),
            Some(sub) => Ok(sub),
        }
    }

    fn unknown_subcommand(&mut self, worker: &Worker, command: &Command, request: &Request<'_>) -> Verdict {
        let given = shown(&request.arg(1)[..request.arg(1).len().min(SHOWN_ARGS)]);
        let name = command.name.to_uppercase();
        self.reject(
            worker,
            command.id,
            &format!("ERR unknown subcommand '{given}'. Try {name} HELP."),
        )
    }

    fn not_authenticated(&mut self, worker: &Worker, command: u16) -> Verdict {
        self.reject(worker, command, "NOAUTH Authentication required.")
    }
}

fn unknown_command(request: &Request<'_>) -> String {
    let mut args = String::new();
    for arg in request.args_from(1) {
        if args.len() >= SHOWN_ARGS {
            break;
        }
        args.push_str(&format!("'{}' ", shown(&arg[..arg.len().min(SHOWN_ARGS - args.len())])));
    }
    format!(
        "ERR unknown command '{}', with args beginning with: {args}",
        shown(request.arg(0))
    )
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
