use std::rc::Rc;

use super::place::{slot_of, slot_without_keys};
use super::{Client, Session, Verdict};
use crate::proxy::backend::Repeat;
use crate::proxy::command::Command;
use crate::proxy::resp::Request;
use crate::proxy::scripts::script_name;
use crate::proxy::worker::Worker;

impl Session {
    /// `EVAL`, `EVALSHA`, `FCALL` and those of their kind: by their keys, and without any to slot 0's server, as Codis
    /// does. `by_name`: what has to run is named only, so that the server is given it first where it may not know it.
    pub(super) fn forward_script(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &Command,
        request: &Request<'_>,
        by_name: bool,
    ) -> Verdict {
        if let Some(waits) = self.waits_for_reads(command) {
            return waits;
        }
        let slot = match slot_of(command, request) {
            Ok(slot) => slot.unwrap_or_else(slot_without_keys),
            Err(text) => return self.reject(worker, command.id, &text),
        };
        let backend = match self
            .primary_of(worker, client, command.id, slot, request.raw().len())
            .and_then(|server| {
                self.admitted(worker, client, command.id, &server, request.raw().len())
                    .cloned()
            }) {
            Ok(backend) => backend,
            Err(verdict) => return verdict,
        };
        if by_name && let Some(name) = script_name(request.arg(1)) {
            backend.give_script(worker, name);
        }
        let ticket = self.ticket(worker, client, command, slot);
        backend.send_repeatable(worker, ticket, Repeat::Unbegun, |out| {
            out.extend_from_slice(request.raw());
        });
        Verdict::Taken
    }
}
