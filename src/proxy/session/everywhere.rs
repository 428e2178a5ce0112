//! Commands that all servers have a part in.

use std::rc::Rc;

use super::forward::NOT_READY;
use super::merge::{Bond, Merge};
use super::{Client, Session, Verdict};
use crate::model::SlotId;
use crate::proxy::backend::{Part, Repeat, Ticket};
use crate::proxy::command::{Command, Everywhere, ScanCursor, ScanPlace, Split};
use crate::proxy::resp::{Request, put_array, put_bulk};
use crate::proxy::router::{Primary, Route};
use crate::proxy::worker::Worker;

/// What is sent to several servers at once.
struct Round<'a> {
    primaries: &'a [Primary],
    /// How their replies become one.
    merged: Split,
    bond: Bond,
    /// How much waits when it can't be sent.
    bytes: usize,
}

impl Session {
    /// Sends a request to all servers that slots are routed to, or, of `SCAN`, to the one whose turn it is.
    pub(super) fn forward_everywhere(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &Command,
        request: &Request<'_>,
        kind: Everywhere,
    ) -> Verdict {
        if !worker.settings.optional.allows(command) {
            let setting = if kind == Everywhere::Keys {
                "session_allow_keys"
            } else {
                "session_allow_flush"
            };
            let name = command.name.to_uppercase();
            let text =
                format!("ERR handle request, command '{name}' is not allowed; {setting} in proxy.toml allows it");
            return self.reject(worker, command.id, &text);
        }
        if let Some(waits) = self.waits_for_reads(command) {
            return waits;
        }
        let primaries = worker.router.primaries();
        if primaries.is_empty() {
            return self.fail(worker, command.id, NOT_READY);
        }
        match kind {
            Everywhere::Scan => return self.scan(worker, client, command, request, &primaries),
            Everywhere::ScriptLoad => worker.settings.scripts.keep(request.arg(2)),
            Everywhere::ScriptFlush => worker.settings.scripts.clear(),
            _ => {}
        }
        let (writes, bytes) = (kind.writes(), request.raw().len());
        if writes && SlotId::all().any(|slot| matches!(worker.router.route(slot), Route::Held)) {
            worker.router.park(client);
            return self.hold(worker, command.id, bytes);
        }
        let bond = match (writes, kind.reads_keys()) {
            (true, _) => Bond::Counted,
            (false, true) => Bond::Ordered,
            (false, false) => Bond::Loose,
        };
        let round = Round {
            primaries: &primaries,
            merged: kind.merged(),
            bond,
            bytes,
        };
        self.send_to_all(worker, client, command, round, |out| {
            out.extend_from_slice(request.raw())
        })
    }

    /// `SCAN`: one server after the other; the cursor tells which.
    fn scan(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &Command,
        request: &Request<'_>,
        primaries: &[Primary],
    ) -> Verdict {
        let places = ScanPlace::all(primaries.iter().map(|primary| primary.group));
        let (at, cursor) = match ScanCursor::read(request.arg(1), &places) {
            Ok(Some(found)) => found,
            Ok(None) => {
                return self.answer(worker, command.id, |out| {
                    put_array(out, 2);
                    put_bulk(out, b"0");
                    put_array(out, 0);
                });
            }
            Err(error) => return self.reject(worker, command.id, &error.to_string()),
        };
        let merged = Split::Scan {
            here: places[at],
            next: places.get(at + 1).copied(),
        };
        let round = Round {
            primaries: &primaries[at..=at],
            merged,
            bond: Bond::Ordered,
            bytes: request.raw().len(),
        };
        self.send_to_all(worker, client, command, round, |out| {
            put_array(out, request.len());
            put_bulk(out, request.arg(0));
            put_bulk(out, cursor.to_string().as_bytes());
            for arg in request.args_from(2) {
                put_bulk(out, arg);
            }
        })
    }

    /// Nothing is sent before every server's connection takes it. A server that refuses it is asked again, or who leads its
    /// slots by then.
    fn send_to_all(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &Command,
        round: Round<'_>,
        write: impl Fn(&mut Vec<u8>),
    ) -> Verdict {
        let Round {
            primaries,
            merged,
            bond,
            bytes,
        } = round;
        for primary in primaries {
            if let Err(verdict) = self.admitted(worker, client, command.id, &primary.server, bytes) {
                return verdict;
            }
        }
        let slots = primaries.iter().map(|primary| primary.slots.iter());
        let slots = slots.map(|slots| slots.map(|slot| slot.get()).collect()).collect();
        if bond == Bond::Counted {
            let all = primaries.iter().flat_map(|primary| &primary.slots);
            all.for_each(|slot| worker.router.begun(*slot));
        }
        let merge = Merge::new(merged, command.name, command.id, worker.now(), slots, Vec::new());
        let sequence = self.replies.expect_merge(Box::new(merge.bound(bond)));
        for (part, primary) in primaries.iter().enumerate() {
            let ticket = Ticket {
                client: Some(client.clone()),
                sequence,
                part: Part::Split(part as u32),
                command: command.id,
                since: worker.now(),
            };
            let backend = primary.server.backend(worker, self.protocol, self.database);
            backend.send_repeatable(worker, ticket, Repeat::Refused, &write);
        }
        Verdict::Taken
    }
}
