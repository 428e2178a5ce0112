//! Where a request goes, and whether it can go there now.

use std::borrow::Cow;
use std::rc::Rc;

use super::forward::{CROSS_SLOT, NO_CONNECTION, NOT_READY, slot_of_sort};
use super::{Client, SYNTAX, Session, Verdict};
use crate::model::SlotId;
use crate::proxy::backend::{Admit, Backend, Part, Ticket};
use crate::proxy::command::{Command, CommandId, Plan, StreamRead};
use crate::proxy::resp::Request;
use crate::proxy::router::{Route, Server};
use crate::proxy::worker::Worker;

/// The slot that all keys of a request lie in; `None` when it has none.
///
/// # Errors
/// The text of the error that its client gets when they do not, or can't be told.
pub(super) fn slot_of(command: &Command, request: &Request<'_>) -> Result<Option<SlotId>, Cow<'static, str>> {
    let mut places = Vec::new();
    match command.plan {
        Plan::Key(place) => places.push(usize::from(place)),
        Plan::Sort => return Ok(Some(slot_of_sort(request)?)),
        Plan::StreamRead => match StreamRead::of(request) {
            StreamRead::Streams { keys, .. } => places.extend(keys),
            StreamRead::Malformed => return Err(SYNTAX.into()),
        },
        _ => {
            for spec in &command.keys {
                spec.places(request, &mut places).map_err(|error| error.to_string())?;
            }
        }
    }
    let mut slots = places.iter().map(|place| SlotId::of_key(request.arg(*place)));
    let first = slots.next();
    if slots.any(|slot| Some(slot) != first) {
        return Err(CROSS_SLOT.into());
    }
    Ok(first)
}

/// Where requests without keys go that any server could carry out: to slot 0, as in Codis.
pub(super) fn slot_without_keys() -> SlotId {
    SlotId::of_key(b"")
}

impl Session {
    /// The server that leads a slot now; else what became of the request, of which so many bytes wait.
    pub(super) fn primary_of(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: CommandId,
        slot: SlotId,
        bytes: usize,
    ) -> Result<Rc<Server>, Verdict> {
        match worker.router.route(slot) {
            Route::Open(server) => Ok(server),
            Route::Offline => Err(self.fail(worker, command, NOT_READY)),
            Route::Held => {
                worker.router.park(client);
                Err(self.hold(worker, command, bytes))
            }
        }
    }

    /// A request begins whose keys lie in `slot`: who waits for its reply.
    pub(super) fn ticket(&mut self, worker: &Worker, client: &Rc<Client>, command: &Command, slot: SlotId) -> Ticket {
        worker.router.begun(slot);
        Ticket {
            client: Some(client.clone()),
            sequence: self.replies.expect(),
            part: Part::Whole(slot),
            command: command.id,
            since: worker.now(),
        }
    }

    /// The shared connection to a server, when it takes a request now; else what became of the request, of which so many
    /// bytes wait.
    pub(super) fn admitted<'a>(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: CommandId,
        server: &'a Server,
        bytes: usize,
    ) -> Result<&'a Rc<Backend>, Verdict> {
        let backend = server.backend(worker, self.protocol, self.database);
        match backend.admit(worker.now()) {
            Admit::Yes => Ok(backend),
            Admit::No => Err(self.fail(worker, command, NO_CONNECTION)),
            Admit::Later => {
                backend.park(client);
                // A change of the map may come sooner than the connection.
                worker.router.park(client);
                Err(if backend.is_missed() {
                    self.hold(worker, command, bytes)
                } else {
                    self.wait_for_route(worker, command)
                })
            }
        }
    }
}
