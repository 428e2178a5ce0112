use std::future::poll_fn;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::Client;
use super::private::{give_up, hand_over};
use super::upload::{Uplink, UplinkEnd};
use crate::model::HostPort;
use crate::proxy::backend::Ticket;
use crate::proxy::private::{Blocked, PART, Piece, Private, PrivateError};
use crate::proxy::resp::{Protocol, put_error};
use crate::proxy::worker::{Outcome, Worker};

/// How long the rest of a request may take to arrive after its slot was locked or moved. Shorter than pushes of the slot
/// map wait.
const LET_GO: Duration = Duration::from_millis(150);
const MOVED: &str =
    "ERR handle request, its slot was locked or moved before it arrived as a whole; it was not carried out";

/// A long request that is sent while it arrives.
pub(super) struct Haul {
    pub(super) addr: HostPort,
    pub(super) protocol: Protocol,
    pub(super) database: u16,
    /// The client's connection, if it has one there.
    pub(super) own: Option<Box<Private>>,
    /// Whether the connection may serve the client's next use.
    pub(super) keeps: bool,
    pub(super) blocked: Rc<Blocked>,
    pub(super) uplink: Rc<Uplink>,
    /// When it was sent to its end: before that, what takes long is its client.
    pub(super) sent: Option<Instant>,
}

/// Why a request gets no reply.
enum Failure {
    /// It was not sent to its end: nothing was carried out.
    Broken(String),
    Lost(PrivateError),
}

impl From<PrivateError> for Failure {
    fn from(error: PrivateError) -> Self {
        Self::Lost(error)
    }
}

/// Sends the request, and gives the client its reply.
pub(super) async fn carry(worker: Rc<Worker>, client: Rc<Client>, ticket: Ticket, mut haul: Haul) {
    let mut begun = false;
    let came = haul.run(&worker, &client, &ticket, &mut begun).await;
    worker.router.waiting.remove(&haul.blocked);
    client.session.borrow_mut().throw_upload_away();
    worker.refresh_now();
    if let (Ok(_), Some(sent)) = (&came, haul.sent) {
        client.note_if_slow(&worker, ticket.command, sent, None);
    }
    match came {
        Ok(reply) if begun => client.complete(&worker, ticket, &reply, Outcome::Answered),
        Ok(reply) => hand_over(&worker, &client, ticket, &reply),
        Err(_) if begun => client.cut(&worker, ticket, b""),
        Err(Failure::Lost(error)) => give_up(&worker, &client, ticket, &error),
        Err(Failure::Broken(text)) => {
            let mut reply = Vec::new();
            put_error(&mut reply, &text);
            client.complete(&worker, ticket, &reply, Outcome::Failed);
        }
    }
    // It is read again.
    client.wake();
}

impl Haul {
    /// `begun`: whether the client got the beginning of the reply.
    async fn run(
        &mut self,
        worker: &Worker,
        client: &Rc<Client>,
        ticket: &Ticket,
        begun: &mut bool,
    ) -> Result<Vec<u8>, Failure> {
        let blocked = self.blocked.clone();
        let moved = async {
            blocked.until_wanted_back().await;
            let _ = timeout(LET_GO, blocked.until_cut()).await;
        };
        let (mut own, early) = tokio::select! {
            sent = self.send(worker, client) => sent?,
            () = moved => return Err(Failure::Broken(MOVED.to_owned())),
        };
        if let Some(reply) = early {
            return Ok(reply);
        }
        self.sent = Some(Instant::now());
        let reply = tokio::select! {
            reply = hear(worker, client, ticket, &mut own, &self.addr, begun) => reply?,
            () = blocked.until_cut() => return Err(PrivateError::NotWaitedFor(self.addr.clone()).into()),
        };
        if self.keeps {
            client.keep(own);
        }
        Ok(reply)
    }

    /// Sends the request to its end: the connection on which it was sent. With it comes what the server answered before
    /// that, which is an error.
    async fn send(&mut self, worker: &Worker, client: &Client) -> Result<(Box<Private>, Option<Vec<u8>>), Failure> {
        let settings = &worker.settings;
        let mut own = match self.own.take() {
            Some(own) => own,
            None => {
                let places = &worker.private;
                let opened = Private::open(places, settings, &self.addr, self.protocol, self.database);
                Box::new(opened.await?)
            }
        };
        let mut bytes = Vec::new();
        loop {
            let next = tokio::select! {
                biased;
                next = self.uplink.next(&mut bytes) => next,
                reply = own.reply() => return Ok((own, Some(reply?))),
            };
            match next {
                Some(UplinkEnd::Whole) => return Ok((own, None)),
                Some(UplinkEnd::Broken(text)) => return Err(Failure::Broken(text)),
                None => {}
            }
            client.wake();
            timeout(settings.backend_send_timeout, own.send(&bytes))
                .await
                .map_err(|_| PrivateError::Slow(self.addr.clone(), settings.backend_send_timeout))??;
        }
    }
}

/// The reply, or what is behind its parts that the client got already.
async fn hear(
    worker: &Worker,
    client: &Rc<Client>,
    ticket: &Ticket,
    own: &mut Private,
    addr: &HostPort,
    begun: &mut bool,
) -> Result<Vec<u8>, PrivateError> {
    let settings = &worker.settings;
    loop {
        let piece = timeout(settings.backend_recv_timeout, own.piece(PART))
            .await
            .map_err(|_| PrivateError::Slow(addr.clone(), settings.backend_recv_timeout))?;
        match piece? {
            Piece::End(reply) => return Ok(reply),
            Piece::Part(bytes) => {
                *begun = true;
                client.pass(worker, ticket, &bytes, false);
                if client.is_full(worker) {
                    poll_fn(|cx| client.poll_room(cx)).await;
                }
            }
        }
    }
}
