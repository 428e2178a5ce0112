//! Requests on a client's own connection. They are rare, so that each has a task of its own while it is under way.

use std::rc::Rc;

use tokio::time::timeout;
use tracing::debug;

use super::Client;
use super::forward::NO_CONNECTION;
use crate::model::{HostPort, SlotId};
use crate::proxy::backend::Ticket;
use crate::proxy::private::{Blocked, Private, PrivateError};
use crate::proxy::resp::{Protocol, put_error};
use crate::proxy::worker::{Outcome, Worker};

/// Requests that are answered at once.
pub(super) struct Job {
    pub(super) slot: SlotId,
    pub(super) addr: HostPort,
    pub(super) protocol: Protocol,
    pub(super) database: u16,
    /// The client's connection, if it has one there.
    pub(super) own: Option<Box<Private>>,
    pub(super) requests: Vec<u8>,
    /// How many replies they get; the last one is the client's.
    pub(super) replies: usize,
}

/// Carries requests over, and gives the client its reply.
pub(super) async fn carry(worker: Rc<Worker>, client: Rc<Client>, ticket: Ticket, job: Job) {
    let blocked = Blocked::new(job.slot);
    worker.router.waiting.insert(&blocked);
    let lost = PrivateError::NotWaitedFor(job.addr.clone());
    let came = tokio::select! {
        came = exchange(&worker, job) => came,
        () = blocked.until_cut() => Err(lost),
    };
    worker.router.waiting.remove(&blocked);
    match came {
        Ok((own, reply)) => {
            client.keep(own);
            hand_over(&worker, &client, ticket, &reply);
        }
        Err(error) => give_up(&worker, &client, ticket, &error),
    }
}

async fn exchange(worker: &Worker, job: Job) -> Result<(Box<Private>, Vec<u8>), PrivateError> {
    let settings = &worker.settings;
    let mut own = match job.own {
        Some(own) => own,
        None => Box::new(Private::open(&worker.private, settings, &job.addr, job.protocol, job.database).await?),
    };
    let asked = async {
        own.send(&job.requests).await?;
        let mut last = Vec::new();
        for _ in 0..job.replies {
            last = own.reply().await?;
        }
        Ok(last)
    };
    let reply = timeout(settings.backend_recv_timeout, asked)
        .await
        .unwrap_or_else(|_| Err(PrivateError::Slow(job.addr, settings.backend_recv_timeout)))?;
    Ok((own, reply))
}

/// The client gets a server's reply.
pub(super) fn hand_over(worker: &Rc<Worker>, client: &Rc<Client>, ticket: Ticket, reply: &[u8]) {
    worker.refresh_now();
    let outcome = Outcome::of(reply);
    if outcome == Outcome::Error {
        worker.figures.record_server_error();
    }
    client.complete(worker, ticket, reply, outcome);
}

/// The client hears that there is no reply.
pub(super) fn give_up(worker: &Rc<Worker>, client: &Rc<Client>, ticket: Ticket, error: &PrivateError) {
    worker.refresh_now();
    debug!(client = client.id(), %error, "a client's own connection is of no use");
    let mut reply = Vec::new();
    match error {
        PrivateError::TooMany => put_error(&mut reply, &format!("ERR handle request, {error}")),
        PrivateError::NoMemory => put_error(&mut reply, &format!("ERR handle response, {error}")),
        _ => put_error(&mut reply, NO_CONNECTION),
    }
    client.complete(worker, ticket, &reply, Outcome::Failed);
}
