//! Commands that wait at a server. Before a change of the slot map is acknowledged they come back, and are issued anew,
//! with what is left of their time, where their slot is then; their clients notice nothing.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::forward::NOT_READY;
use super::place::{slot_of, slot_without_keys};
use super::private::{give_up, hand_over};
use super::{Client, Session, Verdict};
use crate::model::{HostPort, SlotId};
use crate::proxy::backend::{Ticket, is_refusal};
use crate::proxy::command::{Command, Patience, Plan, StreamRead, last_entry};
use crate::proxy::private::{Blocked, Private, PrivateError};
use crate::proxy::resp::{Protocol, Request, put_error, put_null_array, put_request};
use crate::proxy::router::Route;
use crate::proxy::worker::{Outcome, Worker};

/// How long a server may take to let a command go. Shorter than pushes of the slot map wait.
const LET_GO: Duration = Duration::from_millis(150);
/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// How long a command that a server ended by itself waits before it is issued anew: mostly its map comes next.
const PAUSE: Duration = Duration::from_millis(50);

/// A command that waits.
struct Call {
    slot: SlotId,
    protocol: Protocol,
    database: u16,
    args: Vec<Vec<u8>>,
    patience: Patience,
    /// When its time is over.
    until: Option<Instant>,
    blocked: Rc<Blocked>,
    /// When a server first refused it.
    refused: Option<Instant>,
    /// Whether its connection may serve the client's next use.
    keeps: bool,
    /// What is read from its stream's end on, and the arguments that say so. Where the end was is asked for with the
    /// first try: in a later one it is not where it was.
    ends: Vec<(usize, usize)>,
}

/// What came of sending it once.
enum Sent {
    /// A reply, and the connection where it is of further use.
    Answer(Option<Box<Private>>, Vec<u8>),
    /// It came back without having done anything.
    Back,
}

/// What the client gets in the end.
enum End {
    Answer(Option<Box<Private>>, Vec<u8>),
    Nothing,
    NoServer,
    Lost(PrivateError),
}

impl Call {
    /// Whether a refusal, which did nothing, is not yet to be shown.
    fn may_try_again(&mut self, worker: &Worker) -> bool {
        let now = Instant::now();
        now.saturating_duration_since(*self.refused.get_or_insert(now)) < worker.settings.repeat_timeout
    }

    /// How many bytes of memory its arguments take.
    fn memory(&self) -> usize {
        self.args.iter().map(|arg| arg.capacity() + size_of::<Vec<u8>>()).sum()
    }

    /// Has a further try begin where streams ended in the first that was told all of their ends.
    fn begin_at(&mut self, ends: &[Vec<u8>]) {
        let Some(entries) = ends.iter().map(|end| last_entry(end)).collect::<Option<Vec<_>>>() else {
            return;
        };
        for ((_, id), entry) in std::mem::take(&mut self.ends).into_iter().zip(entries) {
            if let Some(arg) = self.args.get_mut(id) {
                *arg = entry.to_vec();
            }
        }
    }
}

impl Session {
    /// Sends a command that may wait over the client's own connection.
    pub(super) fn block(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &Command,
        request: &Request<'_>,
        patience: Patience,
    ) -> Verdict {
        let slot = match slot_of(command, request) {
            Ok(Some(slot)) => slot,
            // Any server will tell what is wrong with it.
            Ok(None) => slot_without_keys(),
            Err(text) => return self.reject(worker, command.id, &text),
        };
        if let Err(verdict) = self.begin_alone() {
            return verdict;
        }
        if let Err(verdict) = self.primary_of(worker, client, command.id, slot, request.raw().len()) {
            return verdict;
        }
        let blocked = Blocked::new(&worker.memory, slot);
        let call = Call {
            slot,
            protocol: self.protocol,
            database: self.database,
            args: request.args_from(0).map(<[u8]>::to_vec).collect(),
            patience,
            until: patience.read(request).and_then(|time| Instant::now().checked_add(time)),
            blocked: blocked.clone(),
            refused: None,
            // The place of the one that watches is not to be taken by another.
            keeps: self.apart.watch.is_none(),
            ends: match command.plan {
                Plan::StreamRead => StreamRead::of(request).read_from_end(request),
                _ => Vec::new(),
            },
        };
        blocked.takes(call.memory());
        let own = if call.keeps { self.apart.own.take() } else { None };
        self.apart.alone = true;
        self.apart.blocked = Some(blocked);
        let ticket = self.ticket(worker, client, command, slot);
        tokio::task::spawn_local(run(worker.clone(), client.clone(), ticket, call, own));
        Verdict::Taken
    }
}

/// Waits until there is a reply for the client.
async fn run(worker: Rc<Worker>, client: Rc<Client>, ticket: Ticket, mut call: Call, own: Option<Box<Private>>) {
    worker.router.waiting.insert(&call.blocked);
    let end = wait(&worker, &mut call, own).await;
    worker.router.waiting.remove(&call.blocked);
    client.unblocked();
    match end {
        End::Answer(own, reply) => {
            if let Some(own) = own.filter(|_| call.keeps) {
                client.keep(own);
            }
            hand_over(&worker, &client, ticket, &reply);
        }
        End::Nothing => {
            let mut reply = Vec::new();
            put_null_array(&mut reply, call.protocol);
            hand_over(&worker, &client, ticket, &reply);
        }
        End::NoServer => {
            let mut reply = Vec::new();
            put_error(&mut reply, NOT_READY);
            worker.refresh_now();
            client.complete(&worker, ticket, &reply, Outcome::Failed);
        }
        End::Lost(error) => give_up(&worker, &client, ticket, &error),
    }
}

/// The slot counts the command as under way when this begins and when it ends, and in between while it is at a server.
async fn wait(worker: &Rc<Worker>, call: &mut Call, mut own: Option<Box<Private>>) -> End {
    loop {
        match send(worker, call, own.take()).await {
            Ok(Sent::Answer(own, reply)) => return End::Answer(own, reply),
            Ok(Sent::Back) => {}
            Err(error) => return End::Lost(error),
        }
        // The change of the map that it had to come back for goes on now.
        worker.router.ended(call.slot);
        let open = until_open(worker, call).await;
        worker.router.begun(call.slot);
        let left = call.until.map(|until| until.saturating_duration_since(Instant::now()));
        if call.blocked.is_cancelled() || left.is_some_and(|left| left.is_zero()) {
            return End::Nothing;
        }
        if !open {
            return End::NoServer;
        }
        if let Some(left) = left {
            call.patience.rewrite(&mut call.args, left);
        }
    }
}

/// Waits until the slot is open, or there is no more need to. Whether it has a server.
async fn until_open(worker: &Worker, call: &Call) -> bool {
    let over = async {
        match call.until {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
    };
    let open = async {
        loop {
            match worker.router.route(call.slot) {
                Route::Open(_) => return true,
                Route::Offline => return false,
                Route::Held if call.blocked.is_cancelled() => return true,
                Route::Held => call.blocked.changed().await,
            }
        }
    };
    tokio::select! {
        open = open => open,
        () = over => true,
    }
}

async fn send(worker: &Rc<Worker>, call: &mut Call, own: Option<Box<Private>>) -> Result<Sent, PrivateError> {
    let Route::Open(server) = worker.router.route(call.slot) else {
        return Ok(Sent::Back);
    };
    let (addr, backend) = (
        server.addr().clone(),
        server.backend(worker, Protocol::Resp2, 0).clone(),
    );
    // Nobody would see that its slots are gone while it is held here.
    drop(server);
    call.blocked.begins();
    let own = own.filter(|own| own.leads_to(&addr, call.protocol, call.database) && own.is_open());
    let mut own = match own {
        Some(own) => own,
        None => tokio::select! {
            opened = Private::open(&worker.private, &worker.settings, &addr, call.protocol, call.database) => Box::new(opened?),
            () = call.blocked.until_wanted_back() => return Ok(Sent::Back),
        },
    };
    if call.blocked.is_wanted_back() {
        return Ok(Sent::Back);
    }
    call.blocked.is_sent(own.id(), backend);
    let (ends, reply, asked_back) = reply_to(worker, call, &mut own, &addr).await?;
    call.blocked.is_back();
    call.begin_at(&ends);
    if reply.starts_with(b"-UNBLOCKED") || (is_refusal(&reply) && call.may_try_again(worker)) {
        // The server is no primary any more, or none yet.
        sleep_until(Instant::now() + PAUSE).await;
        return Ok(Sent::Back);
    }
    Ok(match asked_back {
        true if is_nothing(&reply) => Sent::Back,
        // What was sent to wake it may come late, and would wake what waits on this connection next.
        true => Sent::Answer(None, reply),
        false => Sent::Answer(Some(own), reply),
    })
}

/// Where streams ended, the reply, and whether the command had to be asked back for it.
async fn reply_to(
    worker: &Worker,
    call: &Call,
    own: &mut Private,
    addr: &HostPort,
) -> Result<(Vec<Vec<u8>>, Vec<u8>, bool), PrivateError> {
    let mut requests = Vec::new();
    for (key, _) in &call.ends {
        let words: [&[u8]; 6] = [b"XREVRANGE", &call.args[*key], b"+", b"-", b"COUNT", b"1"];
        put_request(&mut requests, words.into_iter());
    }
    put_request(&mut requests, call.args.iter().map(Vec::as_slice));
    let mut replies = Box::pin(async {
        call.blocked.takes(call.memory() + requests.capacity());
        own.send(&requests).await?;
        // It may wait for long now.
        drop(requests);
        call.blocked.takes(call.memory());
        let mut ends = Vec::new();
        for _ in &call.ends {
            ends.push(own.reply().await?);
        }
        Ok::<_, PrivateError>((ends, own.reply().await?))
    });
    let slow = worker.settings.backend_recv_timeout;
    let overdue = async {
        match call.until.and_then(|until| until.checked_add(slow)) {
            Some(then) => sleep_until(then).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // It may have been asked back just now.
        came = &mut replies => return came.map(|(ends, reply)| (ends, reply, call.blocked.is_wanted_back())),
        () = overdue => return Err(PrivateError::Slow(addr.clone(), slow)),
        () = call.blocked.until_wanted_back_or_lost() => {}
    }
    if call.blocked.is_lost() {
        return Err(PrivateError::Gone(addr.clone()));
    }
    let until = Instant::now() + LET_GO;
    while Instant::now() < until {
        if let Ok(came) = timeout(ASK_EVERY, &mut replies).await {
            return came.map(|(ends, reply)| (ends, reply, true));
        }
        call.blocked.wake(worker);
    }
    // Whether it gave something away is not known: it must not be carried out once more.
    Err(PrivateError::Slow(addr.clone(), LET_GO))
}

/// What a server answers when the time is over.
fn is_nothing(reply: &[u8]) -> bool {
    matches!(reply, b"*-1\r\n" | b"$-1\r\n" | b"_\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::worker::Memory;

    #[test]
    fn stream_is_read_from_its_end_in_the_first_try_that_was_told_where_that_is() {
        let mut call = Call {
            slot: SlotId::of_key(b"a"),
            protocol: Protocol::Resp2,
            database: 0,
            args: ["XREAD", "BLOCK", "0", "STREAMS", "a", "b", "$", "$"]
                .map(|arg| arg.into())
                .to_vec(),
            patience: Patience::millis(2),
            until: None,
            blocked: Blocked::new(&Memory::new(0), SlotId::of_key(b"a")),
            refused: None,
            keeps: true,
            ends: vec![(4, 6), (5, 7)],
        };
        let replies = |ends: [&str; 2]| ends.map(|end| end.as_bytes().to_vec());
        call.begin_at(&replies([
            "-LOADING Redis is loading the dataset in memory\r\n",
            "*0\r\n",
        ]));
        assert_eq!((call.args[6].as_slice(), call.ends.len()), (b"$".as_slice(), 2));
        call.begin_at(&replies(["*1\r\n*2\r\n$3\r\n7-1\r\n*0\r\n", "*0\r\n"]));
        assert_eq!(call.args[6..], [b"7-1".to_vec(), b"0-0".to_vec()]);
        assert!(call.ends.is_empty());
    }
}
