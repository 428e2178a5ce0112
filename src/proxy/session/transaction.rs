//! `MULTI` to `EXEC`: queued here and sent whole, so that a transaction never waits for its client at a server.

use std::borrow::Cow;
use std::rc::Rc;

use super::apart::Watch;
use super::forward::CROSS_SLOT;
use super::place::{slot_of, slot_without_keys};
use super::private::{Job, carry};
use super::{Client, Session, Verdict};
use crate::model::SlotId;
use crate::proxy::backend::Repeat;
use crate::proxy::command::{Command, Local, Plan, Transact};
use crate::proxy::private::Private;
use crate::proxy::resp::{Request, put_array, put_null_array, put_simple};
use crate::proxy::scripts::{ScriptName, script_name};
use crate::proxy::worker::{QueuedBytes, Worker};

/// Longest transaction, in bytes.
const MOST_BYTES: usize = 64 << 20;

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";
const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";
const TOO_MUCH_QUEUED: &str =
    "ERR handle request, the transactions of all clients hold too much already (session_max_queued_size)";
const NOT_IN_TRANSACTIONS: &str = "ERR Command not allowed inside a transaction";

/// What was queued since `MULTI`.
#[derive(Debug)]
pub(super) struct Transaction {
    requests: Vec<u8>,
    /// Counts them among those of all clients.
    queued: QueuedBytes,
    commands: usize,
    /// So many it may have: a server's connection has to take them at once.
    most_commands: usize,
    slot: Option<SlotId>,
    /// Scripts that are run by their name.
    scripts: Vec<ScriptName>,
    /// A command could not be queued.
    pub(super) broken: bool,
}

impl Transaction {
    /// One of so many commands at most, whose keys have to lie in `slot`, if that is given.
    fn new(queued: QueuedBytes, most_commands: usize, slot: Option<SlotId>) -> Self {
        Self {
            requests: Vec::new(),
            queued,
            commands: 0,
            most_commands,
            slot,
            scripts: Vec::new(),
            broken: false,
        }
    }

    /// Takes a request in, whose keys lie in `slot`.
    fn queue(&mut self, request: &[u8], slot: Option<SlotId>) -> Result<(), Cow<'static, str>> {
        if self.slot.is_some() && slot.is_some() && self.slot != slot {
            return Err(CROSS_SLOT.into());
        }
        self.slot = self.slot.or(slot);
        // What will never be sent needs no memory.
        if self.broken {
            return Ok(());
        }
        if self.requests.len() + request.len() > MOST_BYTES || self.commands == self.most_commands {
            let most = self.most_commands;
            let text = format!(
                "ERR handle request, the transaction is too large: at most 64 MiB and {most} commands \
                 (backend_max_pipeline)"
            );
            return Err(text.into());
        }
        if !self.queued.grow(request.len()) {
            return Err(TOO_MUCH_QUEUED.into());
        }
        self.requests.extend_from_slice(request);
        self.commands += 1;
        Ok(())
    }

    /// How many bytes of memory they take.
    pub(super) fn memory(&self) -> usize {
        self.requests.capacity()
    }

    /// How many commands were queued.
    pub(super) fn commands(&self) -> usize {
        self.commands
    }

    /// Can't be carried out any more.
    pub(super) fn abort(&mut self) {
        self.broken = true;
        self.requests = Vec::new();
        self.queued.release();
        self.scripts = Vec::new();
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(MULTI);
        out.extend_from_slice(&self.requests);
        out.extend_from_slice(EXEC);
    }
}

impl Session {
    /// Whether a command is carried out although a transaction was begun: it ends it, or leaves.
    pub(super) fn is_queued(command: &Command) -> bool {
        !matches!(
            command.plan,
            Plan::Transaction(Transact::Multi | Transact::Exec | Transact::Discard | Transact::Watch)
                | Plan::Local(Local::Quit | Local::Reset)
        )
    }

    /// Takes a command, or the subcommand that it names, into the transaction.
    pub(super) fn queue_checked(
        &mut self,
        worker: &Worker,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Verdict {
        if command.plan != Plan::Container {
            return self.queue(worker, command, request);
        }
        match self.subcommand(worker, command, request) {
            Ok(sub) => self.queue(worker, sub, request),
            Err(verdict) => verdict,
        }
    }

    /// Mistakes are told at once, and `EXEC` is refused then.
    fn queue(&mut self, worker: &Worker, command: &Command, request: &Request<'_>) -> Verdict {
        let queued = match command.plan {
            // A server answers them as the proxy does.
            Plan::Local(Local::Ping | Local::Echo | Local::Time) | Plan::Transaction(Transact::Unwatch) => Ok(None),
            Plan::Copy if request.args_from(3).any(|option| option.eq_ignore_ascii_case(b"DB")) => {
                return self.not_allowed(worker, command, " with DB");
            }
            Plan::Local(_) | Plan::Transaction(_) | Plan::Subscribe(_) | Plan::Everywhere(_) => {
                return self.not_allowed(worker, command, " in a transaction");
            }
            Plan::Denied | Plan::Container => return self.not_allowed(worker, command, ""),
            _ => slot_of(command, request),
        };
        let queued = queued.and_then(|slot| match &mut self.apart.transaction {
            Some(transaction) => {
                transaction.queue(request.raw(), slot)?;
                if !transaction.broken && command.plan == (Plan::Script { by_name: true }) {
                    transaction.scripts.extend(script_name(request.arg(1)));
                }
                Ok(())
            }
            None => Ok(()),
        });
        match queued {
            Ok(()) => self.answer(worker, command.id, |out| put_simple(out, "QUEUED")),
            Err(text) => self.reject(worker, command.id, &text),
        }
    }

    /// `MULTI`, `EXEC`, `DISCARD`, `WATCH`, `UNWATCH`.
    pub(super) fn transact(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &Command,
        request: &Request<'_>,
        kind: Transact,
    ) -> Verdict {
        let begun = self.apart.transaction.is_some();
        match kind {
            Transact::Multi | Transact::Watch if begun => self.reject(worker, command.id, NOT_IN_TRANSACTIONS),
            Transact::Multi => {
                self.apart.transaction = Some(Box::new(Transaction::new(
                    worker.queued.begin(),
                    worker.settings.backend_max_pipeline,
                    self.apart.watch.as_ref().map(|watch| watch.slot),
                )));
                self.answer(worker, command.id, |out| put_simple(out, "OK"))
            }
            Transact::Exec if !begun => self.reject(worker, command.id, "ERR EXEC without MULTI"),
            Transact::Exec => self.exec(worker, client, command),
            Transact::Discard if !begun => self.reject(worker, command.id, "ERR DISCARD without MULTI"),
            Transact::Discard | Transact::Unwatch => {
                self.apart.transaction = None;
                self.unwatch();
                self.answer(worker, command.id, |out| put_simple(out, "OK"))
            }
            Transact::Watch => self.watch(worker, client, command, request),
        }
    }

    fn exec(&mut self, worker: &Rc<Worker>, client: &Rc<Client>, command: &Command) -> Verdict {
        let Some(mut transaction) = self.apart.transaction.take() else {
            return Verdict::Taken;
        };
        if transaction.broken {
            self.unwatch();
            return self.reject(worker, command.id, ABORTED);
        }
        let verdict = if self.apart.watch.is_some() {
            self.exec_watched(worker, client, command, &mut transaction)
        } else if transaction.commands == 0 {
            self.answer(worker, command.id, |out| put_array(out, 0))
        } else {
            self.exec_shared(worker, client, command, &transaction)
        };
        match verdict {
            Verdict::Waits(_) => self.apart.transaction = Some(transaction),
            Verdict::Taken => self.unwatch(),
        }
        verdict
    }

    /// All in one piece on the shared connection, where nothing of others can come in between.
    fn exec_shared(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &Command,
        transaction: &Transaction,
    ) -> Verdict {
        if let Some(waits) = self.waits_for_reads(command) {
            return waits;
        }
        let slot = transaction.slot.unwrap_or(slot_without_keys());
        let backend = match self
            .primary_of(worker, client, command.id, slot, transaction.requests.len())
            .and_then(|server| {
                self.admitted(worker, client, command.id, &server, transaction.requests.len())
                    .cloned()
            }) {
            Ok(backend) => backend,
            Err(verdict) => return verdict,
        };
        for name in &transaction.scripts {
            backend.give_script(worker, *name);
        }
        let ticket = self.ticket(worker, client, command, slot);
        // With `MULTI`; a server's connection takes fewer at once than that holds.
        let unheard = u32::try_from(transaction.commands + 1).unwrap_or(u32::MAX);
        backend.send_repeatable(worker, ticket, Repeat::Unqueued { unheard }, |out| transaction.put(out));
        Verdict::Taken
    }

    /// On the connection that watches, if it still does. What was queued is taken out once it is sent.
    fn exec_watched(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &Command,
        transaction: &mut Transaction,
    ) -> Verdict {
        if let Err(verdict) = self.begin_alone() {
            return verdict;
        }
        let Some(watch) = &self.apart.watch else {
            return Verdict::Taken;
        };
        let (slot, holds) = (watch.slot, watch.holds(worker));
        let server = match self.primary_of(worker, client, command.id, slot, transaction.requests.len()) {
            Ok(server) => server,
            Err(verdict) => return verdict,
        };
        let (protocol, database) = (self.protocol, self.database);
        let leads_there = |own: &Private| own.leads_to(server.addr(), protocol, database) && own.is_open();
        let own = self.apart.own.take().filter(|own| holds && leads_there(own));
        let Some(mut own) = own else {
            // Nobody knows what happened to the keys, so that the client has to begin anew.
            return self.answer(worker, command.id, |out| put_null_array(out, protocol));
        };
        let mut before = Vec::new();
        let mut replies = transaction.commands + 2;
        for name in &transaction.scripts {
            replies += usize::from(own.put_script(&worker.settings.scripts, *name, &mut before));
        }
        before.extend_from_slice(MULTI);
        let job = Job {
            slot,
            addr: server.addr().clone(),
            protocol,
            database,
            own: Some(own),
            requests: vec![before, std::mem::take(&mut transaction.requests), EXEC.to_vec()],
            queued: Some(std::mem::replace(&mut transaction.queued, worker.queued.begin())),
            replies,
        };
        self.apart.alone = true;
        let ticket = self.ticket(worker, client, command, slot);
        tokio::task::spawn_local(carry(worker.clone(), client.clone(), ticket, job));
        Verdict::Taken
    }

    /// `WATCH` is sent at once: from now on the server looks at the keys.
    fn watch(&mut self, worker: &Rc<Worker>, client: &Rc<Client>, command: &Command, request: &Request<'_>) -> Verdict {
        let slot = match slot_of(command, request) {
            Ok(slot) => slot.unwrap_or(slot_without_keys()),
            Err(text) => return self.reject(worker, command.id, &text),
        };
        if self.apart.watch.as_ref().is_some_and(|watch| watch.slot != slot) {
            return self.reject(worker, command.id, CROSS_SLOT);
        }
        if let Err(verdict) = self.begin_alone() {
            return verdict;
        }
        let server = match self.primary_of(worker, client, command.id, slot, request.raw().len()) {
            Ok(server) => server,
            Err(verdict) => return verdict,
        };
        let (protocol, database) = (self.protocol, self.database);
        let own = self
            .apart
            .own
            .take()
            .filter(|own| own.leads_to(server.addr(), protocol, database) && own.is_open());
        let known = self.apart.watch.as_ref().is_none_or(|watch| watch.holds(worker))
            && (own.is_some() || self.apart.watch.is_none());
        if !known {
            // `EXEC` will answer that keys changed, whatever else is watched.
            return self.answer(worker, command.id, |out| put_simple(out, "OK"));
        }
        self.apart.watch = Some(Watch {
            slot,
            moves: worker.router.moves(slot),
        });
        let job = Job {
            slot,
            addr: server.addr().clone(),
            protocol,
            database,
            own,
            requests: vec![request.raw().to_vec()],
            queued: None,
            replies: 1,
        };
        self.apart.alone = true;
        let ticket = self.ticket(worker, client, command, slot);
        tokio::task::spawn_local(carry(worker.clone(), client.clone(), ticket, job));
        Verdict::Taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::worker::Queued;

    fn begun(most_bytes: usize, most_commands: usize) -> Transaction {
        Transaction::new(Queued::new(most_bytes).begin(), most_commands, None)
    }

    #[test]
    fn transaction_holds_to_the_first_slot_and_to_its_bounds() {
        let (one, other) = (SlotId::of_key(b"a"), SlotId::of_key(b"b"));
        let mut transaction = begun(MOST_BYTES, 3);
        assert_eq!(transaction.queue(b"x", None), Ok(()));
        assert_eq!(transaction.queue(b"x", Some(one)), Ok(()));
        assert_eq!(transaction.queue(b"x", Some(other)), Err(CROSS_SLOT.into()));
        assert_eq!((transaction.slot, transaction.commands), (Some(one), 2));
        let text = transaction.queue(&vec![b'x'; MOST_BYTES], Some(one)).unwrap_err();
        assert!(text.contains("at most 64 MiB and 3 commands"), "{text}");
        assert_eq!(transaction.queue(b"x", None), Ok(()));
        assert!(transaction.queue(b"x", None).is_err());
    }

    #[test]
    fn transactions_of_all_clients_share_a_bound() {
        let queued = Queued::new(10);
        let mut both = [(); 2].map(|()| Transaction::new(queued.begin(), 9, None));
        assert_eq!(both[0].queue(b"123456", None), Ok(()));
        assert_eq!(both[1].queue(b"12345", None), Err(TOO_MUCH_QUEUED.into()));
        both[0].abort();
        assert_eq!(both[1].queue(b"1234567890", None), Ok(()));
        drop(both);
        assert_eq!(
            Transaction::new(queued.begin(), 9, None).queue(b"1234567890", None),
            Ok(())
        );
    }

    #[test]
    fn broken_transaction_keeps_nothing() {
        let mut transaction = begun(MOST_BYTES, 9);
        assert_eq!(transaction.queue(b"x", None), Ok(()));
        transaction.abort();
        assert_eq!(transaction.queue(b"x", None), Ok(()));
        assert!(transaction.requests.is_empty());
    }
}
