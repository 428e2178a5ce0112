//! Requests on a client's own connection. They are rare, so that each has a task of its own while it is under way.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::debug;

use super::Client;
use super::forward::NO_CONNECTION;
use crate::model::{HostPort, SlotId};
use crate::proxy::backend::{Queueing, Ticket};
use crate::proxy::private::{Blocked, Private, PrivateError};
use crate::proxy::resp::{Protocol, put_error, put_null_array};
use crate::proxy::worker::{Outcome, QueuedBytes, Worker};

/// How long a client waits before it hears that it may begin its transaction anew: what refused it rarely ends at once.
const PAUSE: Duration = Duration::from_millis(50);

/// Requests that are answered at once.
pub(super) struct Job {
    pub(super) slot: SlotId,
    pub(super) addr: HostPort,
    pub(super) protocol: Protocol,
    pub(super) database: u16,
    /// The client's connection, if it has one there.
    pub(super) own: Option<Box<Private>>,
    /// They are sent one after the other.
    pub(super) requests: Vec<Vec<u8>>,
    /// Counts them among those of all transactions, until they were answered.
    pub(super) queued: Option<QueuedBytes>,
    /// How many replies they get; the last one is the client's.
    pub(super) replies: usize,
}

/// Carries requests over, and gives the client its reply.
pub(super) async fn carry(worker: Rc<Worker>, client: Rc<Client>, ticket: Ticket, job: Job) {
    let blocked = Blocked::new(&worker.memory, job.slot);
    worker.router.waiting.insert(&blocked);
    let (lost, protocol) = (PrivateError::NotWaitedFor(job.addr.clone()), job.protocol);
    let came = tokio::select! {
        came = exchange(&worker, &blocked, job) => came,
        () = blocked.until_cut() => Err(lost),
    };
    worker.router.waiting.remove(&blocked);
    match came {
        Ok((own, mut reply, queueing)) => {
            client.keep(own);
            worker.refresh_now();
            client.note_if_slow(&worker, ticket.command, ticket.since, None);
            // Its server forgot what was watched, so that it can't be sent again: whoever hears that keys may have changed
            // reads them and begins anew.
            if queueing.is_refused_by(&reply) && client.may_begin_anew(&worker) {
                sleep(PAUSE).await;
                reply.clear();
                put_null_array(&mut reply, protocol);
            }
            hand_over(&worker, &client, ticket, &reply);
        }
        Err(error) => give_up(&worker, &client, ticket, &error),
    }
}

/// The connection, the last reply, and what became of those before it.
async fn exchange(
    worker: &Worker,
    blocked: &Blocked,
    job: Job,
) -> Result<(Box<Private>, Vec<u8>, Queueing), PrivateError> {
    blocked.takes(job.requests.iter().map(Vec::capacity).sum());
    let _queued = job.queued;
    let settings = &worker.settings;
    let mut own = match job.own {
        Some(own) => own,
        None => Box::new(Private::open(&worker.private, settings, &job.addr, job.protocol, job.database).await?),
    };
    let asked = async {
        for requests in job.requests {
            own.send(&requests).await?;
        }
        blocked.takes(0);
        let mut queueing = Queueing::default();
        for _ in 1..job.replies {
            let reply = own.reply().await?;
            if reply.starts_with(b"-") {
                queueing = queueing.after(&reply);
            }
        }
        Ok((own.reply().await?, queueing))
    };
    let (reply, queueing) = timeout(settings.backend_recv_timeout, asked)
        .await
        .unwrap_or_else(|_| Err(PrivateError::Slow(job.addr, settings.backend_recv_timeout)))?;
    Ok((own, reply, queueing))
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
        PrivateError::NoMemory | PrivateError::TooLong(_) => {
            put_error(&mut reply, &format!("ERR handle response, {error}"))
        }
        _ => put_error(&mut reply, NO_CONNECTION),
    }
    client.complete(worker, ticket, &reply, Outcome::Failed);
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::*;
    use crate::proxy::config::Config;
    use crate::proxy::session::tests::{client_of, under_way, worker_of};
    use crate::proxy::worker::Queued;

    #[tokio::test]
    async fn requests_of_a_job_count_until_it_ended() {
        let worker = worker_of(&Config::default());
        let (client, _peer) = client_of(&worker);
        let ticket = under_way(&worker, &client);
        // It is connected to, and says nothing.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let all_queued = Queued::new(10);
        let mut queued = all_queued.begin();
        assert!(queued.grow(10));
        let job = Job {
            slot: SlotId::of_key(b"a"),
            addr: HostPort::new("127.0.0.1", silent.local_addr().unwrap().port()).unwrap(),
            protocol: Protocol::Resp2,
            database: 0,
            own: None,
            requests: vec![vec![b'x'; 1 << 20]],
            queued: Some(queued),
            replies: 1,
        };
        let before = worker.memory.bytes();
        let mut carried = Box::pin(carry(worker.clone(), client, ticket, job));
        assert!(poll!(&mut carried).is_pending());
        assert!(worker.memory.bytes() >= before + (1 << 20) && !all_queued.begin().grow(1));
        carried.await;
        assert!(worker.memory.bytes() < before + (1 << 20) && all_queued.begin().grow(10));
    }
}
