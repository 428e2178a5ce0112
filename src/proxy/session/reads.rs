//! Where reads of clients that may read from replicas go.

use std::rc::Rc;

use super::{Session, Verdict, Wait};
use crate::model::SlotId;
use crate::proxy::command::Command;
use crate::proxy::router::Server;
use crate::proxy::worker::Worker;

impl Session {
    /// Whether this request has to wait because reads of the same client are under way at replicas: carried out sooner
    /// than these, it would change what they see.
    pub(super) fn waits_for_reads(&mut self, command: &Command) -> Option<Verdict> {
        if !self.at_replicas {
            return None;
        }
        if self.replies.under_way() == 0 {
            self.at_replicas = false;
            return None;
        }
        (!command.has_flag("readonly")).then_some(Verdict::Waits(Wait::AllReplies))
    }

    /// The server to which a request for `slot` goes: the nearest replica that may be read from, if the client wants
    /// that, and nothing that it asked of primaries is under way, which its read has to see. Else the slot's primary.
    pub(super) fn server_for(
        &mut self,
        worker: &Rc<Worker>,
        command: &Command,
        slot: SlotId,
        primary: Rc<Server>,
    ) -> Rc<Server> {
        let may =
            self.reads_replicas && (self.at_replicas || self.replies.under_way() == 0) && command.has_flag("readonly");
        if !may {
            return primary;
        }
        match worker.router.replica(worker, slot, self.protocol, self.database) {
            Some(replica) => {
                self.at_replicas = true;
                replica
            }
            None => primary,
        }
    }
}
