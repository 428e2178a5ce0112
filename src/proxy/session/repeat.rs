//! What servers did not look at is sent again: by itself, and before anything else of the same client.

use std::rc::Rc;

use super::merge::Bond;
use super::refused::Item;
use super::{Client, Session};
use crate::model::SlotId;
use crate::proxy::backend::{Admit, Part, Repeat, Ticket};
use crate::proxy::command::{Found, Plan, table};
use crate::proxy::resp::{Limits, RequestParser, Step};
use crate::proxy::router::{Route, Server};
use crate::proxy::scripts::{ScriptName, script_name};
use crate::proxy::worker::{Outcome, Worker};

/// What became of the try to send a request again.
enum Try {
    Sent,
    /// Its slot is held, or its server's connection full or not there.
    Later,
    /// It can't be.
    Never,
}

impl Session {
    /// A request was not carried out. It is kept, or its client told.
    pub(super) fn refuse_for_now(
        &mut self,
        worker: &Worker,
        ticket: Ticket,
        (request, repeat): (&[u8], Repeat),
        error: &[u8],
        outcome: Outcome,
    ) {
        let slots = self.slots_of(&ticket);
        let bond = self.bond_of(&ticket);
        if bond == Bond::Counted {
            slots.iter().for_each(|slot| worker.router.ended(*slot));
        }
        if let Part::Split(part) = ticket.part
            && let Some(slots) = self.replies.merge(ticket.sequence).and_then(|merge| merge.slots(part))
        {
            slots.clear();
        }
        let again = |refused: &mut Box<super::Refused>| refused.again(&ticket, error, outcome);
        if self.refused.as_mut().is_some_and(again) {
            return;
        }
        let age = worker.now().saturating_duration_since(ticket.since);
        let held = (!self.gone && age < worker.settings.repeat_timeout)
            .then(|| worker.held.hold(request.len()))
            .flatten();
        match held {
            Some(held) => self.refused.get_or_insert_default().add(Item {
                ticket: Ticket { client: None, ..ticket },
                slots,
                bond,
                request: request.to_vec(),
                repeat,
                error: error.to_vec(),
                outcome,
                under_way: false,
                _held: held,
            }),
            None => self.tell_refused(worker, &ticket, error, outcome),
        }
    }

    /// A request was carried out, or may have been: earlier ones on its slots can't be any more.
    pub(super) fn carried_out(&mut self, worker: &Worker, ticket: &Ticket) {
        let slots = match self.bond_of(ticket) {
            Bond::Counted | Bond::Ordered => self.slots_of(ticket),
            Bond::Loose => Vec::new(),
        };
        let Some(mut refused) = self.refused.take() else { return };
        for item in refused.carried_out(ticket, &slots) {
            self.tell_refused(worker, &item.ticket, &item.error, item.outcome);
        }
        self.refused = (!refused.is_empty()).then_some(refused);
    }

    /// Sends again what may be, and tells the client what will not be.
    pub(super) fn repeat(&mut self, worker: &Rc<Worker>, client: &Rc<Client>) {
        let Some(mut refused) = self.refused.take() else { return };
        let mut given_up = refused.overdue(worker.now(), worker.settings.repeat_timeout);
        let at_servers = self.replies.at_servers().saturating_sub(given_up.len());
        let mut never = Vec::new();
        for item in refused.due(at_servers) {
            match self.send_again(worker, client, item) {
                Try::Sent => item.under_way = true,
                Try::Later => break,
                Try::Never => never.push((item.ticket.sequence, item.ticket.part)),
            }
        }
        given_up.extend(refused.take(|item| never.contains(&(item.ticket.sequence, item.ticket.part))));
        for item in given_up {
            self.tell_refused(worker, &item.ticket, &item.error, item.outcome);
        }
        self.refused = (!refused.is_empty()).then_some(refused);
    }

    fn send_again(&mut self, worker: &Rc<Worker>, client: &Rc<Client>, item: &Item) -> Try {
        let mut servers: Option<Rc<Server>> = None;
        for slot in &item.slots {
            match worker.router.route(*slot) {
                // A part whose slots were parted since then belongs to no server.
                Route::Open(server) if servers.as_ref().is_none_or(|other| Rc::ptr_eq(other, &server)) => {
                    servers = Some(server);
                }
                Route::Held => return Try::Later,
                Route::Open(_) | Route::Offline => return Try::Never,
            }
        }
        let Some(server) = servers else { return Try::Never };
        let backend = server.backend(worker, self.protocol, self.database);
        match backend.admit(worker.now()) {
            Admit::Yes => {}
            Admit::Later => return Try::Later,
            Admit::No => return Try::Never,
        }
        let Ticket {
            sequence,
            part,
            command,
            since,
            ..
        } = item.ticket;
        if let Part::Split(part) = part
            && let Some(slots) = self.replies.merge(sequence).and_then(|merge| merge.slots(part))
        {
            slots.extend(item.slots.iter().map(|slot| slot.get()));
        }
        if item.bond == Bond::Counted {
            item.slots.iter().for_each(|slot| worker.router.begun(*slot));
        }
        let ticket = Ticket {
            client: Some(client.clone()),
            sequence,
            part,
            command,
            since,
        };
        if matches!(item.repeat, Repeat::Unbegun | Repeat::Unqueued { .. }) {
            for name in scripts_in(&item.request) {
                backend.give_script(worker, name);
            }
        }
        backend.send_repeatable(worker, ticket, item.repeat, |out| {
            out.extend_from_slice(&item.request);
        });
        Try::Sent
    }

    /// Gives the client the error of a request that is under way nowhere.
    fn tell_refused(&mut self, worker: &Worker, ticket: &Ticket, error: &[u8], outcome: Outcome) {
        match ticket.part {
            Part::Whole(_) => {
                let took = worker.now().saturating_duration_since(ticket.since);
                worker.figures.record_reply(ticket.command, took, outcome, error);
                self.replies.complete(ticket.sequence, error);
            }
            Part::Split(part) => self.complete_part(worker, ticket.sequence, part, error, outcome),
        }
        if outcome == Outcome::Failed && worker.settings.session_break_on_failure {
            self.closing = true;
        }
    }

    fn bond_of(&mut self, ticket: &Ticket) -> Bond {
        let merge = match ticket.part {
            Part::Whole(_) => None,
            Part::Split(_) => self.replies.merge(ticket.sequence),
        };
        merge.map_or(Bond::Counted, |merge| merge.bond())
    }

    fn slots_of(&mut self, ticket: &Ticket) -> Vec<SlotId> {
        match ticket.part {
            Part::Whole(slot) => vec![slot],
            Part::Split(part) => {
                let merge = self.replies.merge(ticket.sequence);
                let slots = merge.and_then(|merge| merge.slots(part)).map(|slots| slots.as_slice());
                let ids = slots.unwrap_or_default().iter();
                ids.filter_map(|slot| SlotId::new((*slot).into()).ok()).collect()
            }
        }
    }
}

/// The scripts that these requests run by their names.
fn scripts_in(mut requests: &[u8]) -> Vec<ScriptName> {
    let (mut parser, mut names) = (RequestParser::default(), Vec::new());
    while let Ok(Step::Done(len)) = parser.parse(requests, Limits::AUTHENTICATED) {
        let request = parser.request(requests, len);
        if let Found::Known(command) = table().find(request.arg(0))
            && command.plan == (Plan::Script { by_name: true })
        {
            names.extend(script_name(request.arg(1)));
        }
        parser.reset();
        requests = &requests[len..];
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::resp::put_request;

    #[test]
    fn scripts_that_a_transaction_runs_by_name_are_found() {
        let mut requests = Vec::new();
        let names = [
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "0000000000000000000000000000000000000000",
        ];
        for words in [
            &["MULTI"] as &[&str],
            &["evalsha", names[0], "0"],
            &["EVAL", names[1], "0"],
            &["EVALSHA_RO", names[1], "0"],
            &["EVALSHA", "none", "0"],
            &["EXEC"],
        ] {
            put_request(&mut requests, words.iter().map(|word| word.as_bytes()));
        }
        assert_eq!(
            scripts_in(&requests),
            names.map(|name| script_name(name.as_bytes()).unwrap())
        );
        assert!(scripts_in(b"").is_empty());
    }
}
