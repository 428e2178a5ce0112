use std::rc::Rc;

use super::merge::Merge;
use super::{Client, Session, Verdict};
use crate::model::SlotId;
use crate::proxy::backend::{Part, Repeat, Ticket};
use crate::proxy::command::{Command, Split};
use crate::proxy::resp::{Request, put_array, put_bulk};
use crate::proxy::router::Server;
use crate::proxy::worker::{Outcome, Worker};

/// What goes to one server: places of the keys in the request, and their slots.
struct Share {
    server: Rc<Server>,
    places: Vec<usize>,
    slots: Vec<u16>,
}

impl Session {
    /// Sends the keys of a request to the servers of their slots, each server's in one request. Nothing is sent before
    /// every slot is open and every server's connection takes it.
    pub(super) fn forward_split(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &'static Command,
        request: &Request<'_>,
        kind: Split,
    ) -> Verdict {
        let step = if kind == Split::Mset { 2 } else { 1 };
        if step == 2 && request.len().is_multiple_of(2) {
            return self.wrong_number(worker, command);
        }
        let keys = || (1..request.len()).step_by(step);
        let first = SlotId::of_key(request.arg(1));
        if keys().skip(1).all(|place| SlotId::of_key(request.arg(place)) == first) {
            return self.forward_to(worker, client, command, request, first);
        }
        if let Some(waits) = self.waits_for_reads(command) {
            return waits;
        }
        let bytes = request.raw().len();
        let mut shares: Vec<Share> = Vec::new();
        let mut order = Vec::with_capacity(request.len() / step);
        for place in keys() {
            let slot = SlotId::of_key(request.arg(place));
            let primary = match self.primary_of(worker, client, command.id, slot, bytes) {
                Ok(primary) => primary,
                Err(verdict) => return verdict,
            };
            let server = self.server_for(worker, command, slot, primary);
            let share = shares
                .iter()
                .position(|share| Rc::ptr_eq(&share.server, &server))
                .unwrap_or_else(|| {
                    shares.push(Share {
                        server,
                        places: Vec::new(),
                        slots: Vec::new(),
                    });
                    shares.len() - 1
                });
            order.push((share as u32, shares[share].places.len() as u32));
            shares[share].places.push(place);
            shares[share].slots.push(slot.get());
        }
        for share in &shares {
            if let Err(verdict) = self.admitted(worker, client, command.id, &share.server, bytes) {
                return verdict;
            }
        }
        let mut slots = Vec::with_capacity(shares.len());
        for share in &mut shares {
            slots.push(std::mem::take(&mut share.slots));
        }
        for slot in slots
            .iter()
            .flatten()
            .filter_map(|slot| SlotId::new((*slot).into()).ok())
        {
            worker.router.begun(slot);
        }
        let order = if kind == Split::Mget { order } else { Vec::new() };
        let merge = Merge::new(kind, command.name, command.id, worker.now(), slots, order);
        let sequence = self.replies.expect_merge(Box::new(merge));
        for (part, share) in shares.iter().enumerate() {
            let ticket = Ticket {
                client: Some(client.clone()),
                sequence,
                part: Part::Split(part as u32),
                command: command.id,
                since: worker.now(),
            };
            let backend = share.server.backend(worker, self.protocol, self.database);
            backend.send_repeatable(worker, ticket, Repeat::Refused, |out| {
                put_array(out, 1 + share.places.len() * step);
                put_bulk(out, request.arg(0));
                for arg in share.places.iter().flat_map(|place| *place..place + step) {
                    put_bulk(out, request.arg(arg));
                }
            });
        }
        Verdict::Taken
    }

    /// The reply to a part came, or never will.
    pub(super) fn complete_part(&mut self, worker: &Worker, sequence: u64, part: u32, reply: &[u8], outcome: Outcome) {
        let Some(merge) = self.replies.merge(sequence) else {
            return;
        };
        let (slots, last) = merge.complete(part, reply, outcome == Outcome::Failed);
        let bytes = merge.bytes();
        let whole = last.then(|| (merge.reply(), merge.command, merge.since, merge.failed()));
        self.replies.part_came(reply.len());
        for slot in slots.into_iter().filter_map(|slot| SlotId::new(slot.into()).ok()) {
            worker.router.ended(slot);
        }
        let Some((reply, command, since, failed)) = whole else {
            return;
        };
        let outcome = if failed { Outcome::Failed } else { Outcome::of(&reply) };
        let took = worker.now().saturating_duration_since(since);
        worker.figures.record_reply(command, took, outcome, &reply);
        self.replies.are_merged(bytes);
        self.replies.complete(sequence, &reply);
    }
}
