//! Long requests are passed on to their server as they arrive, over the client's own connection: whoever sends slowly
//! holds up nobody else. A server carries out nothing of a request before it has the whole of it, so that one which does not
//! arrive as a whole leaves no trace.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::Notify;

use super::haul::{Haul, carry};
use super::place::slot_of;
use super::{Client, Session, TOO_BIG, Verdict, Wait};
use crate::model::SlotId;
use crate::proxy::command::{Command, Found, Plan, Split, table};
use crate::proxy::private::Blocked;
use crate::proxy::resp::{Request, RequestParser, RequestRest};
use crate::proxy::worker::Worker;

/// How many bytes of a request may wait to be sent before its client is not read.
const WINDOW: usize = 64 << 10;
/// Why a request is not sent to its end, when its client leaves.
const NOT_WHOLE: &str = "ERR handle request, it did not arrive as a whole";

/// A request that is passed on, or thrown away, as it arrives. Dropped before its end, it is broken off.
#[derive(Debug)]
pub(super) struct Upload {
    rest: RequestRest,
    /// How much of it arrived.
    len: usize,
    /// Its way to the server; `None`: it is thrown away, and was answered already.
    uplink: Option<Rc<Uplink>>,
}

/// What is between a client that sends a request, and the task that sends it on.
#[derive(Debug, Default)]
pub(super) struct Uplink {
    bytes: RefCell<Vec<u8>>,
    end: RefCell<Option<UplinkEnd>>,
    changed: Notify,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UplinkEnd {
    /// With its last byte.
    Whole,
    /// It is not to be carried out: what its client is told.
    Broken(String),
}

impl Uplink {
    fn put(&self, bytes: &[u8]) {
        self.bytes.borrow_mut().extend_from_slice(bytes);
        self.changed.notify_one();
    }

    fn end(&self, end: UplinkEnd) {
        self.end.borrow_mut().get_or_insert(end);
        self.changed.notify_one();
    }

    /// Waits for bytes and puts them in the place of what `bytes` holds; tells how the request ended when there are no more.
    pub(super) async fn next(&self, bytes: &mut Vec<u8>) -> Option<UplinkEnd> {
        loop {
            let end = self.end.borrow().clone();
            if let Some(UplinkEnd::Broken(_)) = end {
                return end;
            }
            if !self.bytes.borrow().is_empty() {
                bytes.clear();
                std::mem::swap(bytes, &mut *self.bytes.borrow_mut());
                return None;
            }
            if end.is_some() {
                return end;
            }
            self.changed.notified().await;
        }
    }
}

impl Upload {
    /// Whether it is sent on.
    pub(super) fn is_sent_on(&self) -> bool {
        self.uplink.is_some()
    }

    /// Whether so much waits to be sent that no more is read of the client.
    pub(super) fn is_full(&self) -> bool {
        let waiting = |uplink: &Rc<Uplink>| uplink.bytes.borrow().len();
        self.uplink.as_ref().is_some_and(|uplink| waiting(uplink) >= WINDOW)
    }

    /// How many bytes of memory it takes.
    pub(super) fn memory(&self) -> usize {
        let waiting = |uplink: &Rc<Uplink>| uplink.bytes.borrow().capacity();
        self.uplink.as_ref().map_or(0, waiting)
    }

    fn put(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        if let Some(uplink) = &self.uplink
            && !bytes.is_empty()
        {
            uplink.put(bytes);
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(uplink) = &self.uplink {
            uplink.end(UplinkEnd::Broken(NOT_WHOLE.to_owned()));
        }
    }
}

/// The command and the slot of a request of which only the beginning arrived, with `args` arguments in the end. `None` when
/// that can't be told, or it is not for one server alone.
fn sent_on(request: &Request<'_>, args: usize) -> Option<(&'static Command, SlotId)> {
    let Found::Known(command) = table().find(request.arg(0)) else {
        return None;
    };
    if !command.takes(args) {
        return None;
    }
    let slot = match command.plan {
        Plan::Key(place) => SlotId::of_key(request.get(usize::from(place))?),
        Plan::Split(Split::Mset) if args == 3 => SlotId::of_key(request.get(1)?),
        Plan::Script { by_name: false } => slot_of(command, request).ok().flatten()?,
        _ => return None,
    };
    Some((command, slot))
}

impl Session {
    /// Begins to pass a request on whose beginning is in `data`: how many bytes of it were used. `None`: it is taken up when
    /// it is there as a whole.
    pub(super) fn begin_upload(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        parser: &RequestParser,
        data: &[u8],
    ) -> Option<Result<usize, Wait>> {
        if !self.authenticated || self.apart.transaction.is_some() || self.only_listens() {
            return None;
        }
        let (request, args) = parser.begun(data);
        let (command, slot) = sent_on(&request, args)?;
        self.about.last = command.name;
        let uplink = match self.open_uplink(worker, client, command, &request, slot) {
            Ok(uplink) => Some(uplink),
            Err(Verdict::Taken) => None,
            Err(Verdict::Waits(wait)) => return Some(Err(wait)),
        };
        if worker.observers.are_there() {
            self.show(worker, self.database, &request);
        }
        let mut upload = Box::new(Upload {
            rest: parser.rest(),
            len: 0,
            uplink,
        });
        upload.put(request.raw());
        self.apart.upload = Some(upload);
        Some(Ok(request.raw().len()))
    }

    fn open_uplink(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &Command,
        request: &Request<'_>,
        slot: SlotId,
    ) -> Result<Rc<Uplink>, Verdict> {
        self.begin_alone()?;
        let bytes = request.raw().len();
        let server = self.primary_of(worker, client, command.id, slot, bytes)?;
        // It does not go over this connection, but when that is lost, so is the server.
        self.admitted(worker, client, command.id, &server, bytes)?;
        let (protocol, database) = (self.protocol, self.database);
        // The connection that watches is not to be given away.
        let keeps = self.apart.watch.is_none();
        let own = if keeps { self.apart.own.take() } else { None };
        let blocked = Blocked::new(&worker.memory, slot);
        worker.router.waiting.insert(&blocked);
        self.apart.alone = true;
        let uplink = Rc::<Uplink>::default();
        let haul = Haul {
            addr: server.addr().clone(),
            protocol,
            database,
            own: own.filter(|own| own.leads_to(server.addr(), protocol, database) && own.is_open()),
            keeps,
            blocked,
            uplink: uplink.clone(),
            sent: None,
        };
        let ticket = self.ticket(worker, client, command, slot);
        tokio::task::spawn_local(carry(worker.clone(), client.clone(), ticket, haul));
        Ok(uplink)
    }

    /// Passes on, or throws away, what came of a request: how many bytes that were.
    pub(super) fn go_on_uploading(&mut self, worker: &Worker, data: &[u8]) -> usize {
        let Some(upload) = &mut self.apart.upload else { return 0 };
        let step = upload.rest.advance(data);
        let (used, ended) = match step {
            Ok((used, _)) if upload.len + used > worker.settings.session_max_request => {
                self.break_upload(worker, TOO_BIG);
                return 0;
            }
            Ok(step) => step,
            Err(error) => {
                self.break_upload(worker, &error.to_string());
                return 0;
            }
        };
        upload.put(&data[..used]);
        if ended {
            if let Some(uplink) = upload.uplink.take() {
                uplink.end(UplinkEnd::Whole);
            }
            self.apart.upload = None;
        }
        used
    }

    /// What comes is no request: nobody knows where the next one begins.
    fn break_upload(&mut self, worker: &Worker, text: &str) {
        match self.apart.upload.take().and_then(|mut upload| upload.uplink.take()) {
            Some(uplink) => {
                uplink.end(UplinkEnd::Broken(text.to_owned()));
                self.closing = true;
            }
            None => self.refuse(worker, text),
        }
    }

    /// Nobody sends the request on any more: what is still to come of it is thrown away.
    pub(super) fn throw_upload_away(&mut self) {
        if let Some(upload) = &mut self.apart.upload {
            upload.uplink = None;
        }
    }

    /// Whether it is the client's turn to send more of a long request.
    pub(super) fn waits_for_upload(&self) -> bool {
        self.apart.upload.as_deref().is_some_and(|upload| !upload.is_full())
    }
}
