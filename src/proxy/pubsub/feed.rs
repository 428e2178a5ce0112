use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::topic::{Heard, Topic};
use crate::model::HostPort;
use crate::proxy::backend::{Backoff, ConnectError, PROVEN, connect};
use crate::proxy::leftovers::drop_used;
use crate::proxy::resp::{Protocol, ReplyError, ReplyScanner};
use crate::proxy::transport::Transport;
use crate::proxy::worker::Worker;

/// Why a subscribed connection ended.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    NoReply(#[from] ReplyError),
    #[error("it took or sent nothing in time")]
    Slow,
    #[error("it refused: {0}")]
    Refused(String),
}

/// The one connection over which a worker hears what is published at a server.
#[derive(Debug)]
pub(super) struct Feed {
    addr: HostPort,
    topics: RefCell<HashSet<Topic>>,
    confirmed: RefCell<HashSet<Topic>>,
    /// Whether the server could not be reached, or was lost, and is not back yet.
    lost: Cell<bool>,
    /// What has still to be told to the server: begun or ended. Whoever connects begins with all topics.
    changes: RefCell<Vec<(Topic, bool)>>,
    changed: Notify,
}

impl Feed {
    /// Begins to connect.
    pub(super) fn open(worker: &Rc<Worker>, addr: &HostPort) -> Rc<Self> {
        let feed = Rc::new(Self {
            addr: addr.clone(),
            topics: RefCell::default(),
            confirmed: RefCell::default(),
            lost: Cell::default(),
            changes: RefCell::default(),
            changed: Notify::new(),
        });
        tokio::task::spawn_local(feed.clone().keep_open(worker.clone()));
        feed
    }

    /// Whether it hears of a topic already.
    pub(super) fn is_confirmed(&self, topic: &Topic) -> bool {
        self.confirmed.borrow().contains(topic)
    }

    /// Whether its server can't be reached, so that nobody knows when it hears of anything.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.get()
    }

    /// Whether nothing is wanted of it.
    pub(super) fn is_idle(&self) -> bool {
        self.topics.borrow().is_empty()
    }

    /// Hears of a topic from now on, or no more.
    pub(super) fn set(&self, topic: &Topic, wanted: bool) {
        let mut topics = self.topics.borrow_mut();
        let news = if wanted {
            topics.insert(topic.clone())
        } else {
            topics.remove(topic)
        };
        if news {
            self.confirmed.borrow_mut().remove(topic);
            self.changes.borrow_mut().push((topic.clone(), wanted));
            self.changed.notify_one();
        }
    }

    async fn keep_open(self: Rc<Self>, worker: Rc<Worker>) {
        let mut backoff = Backoff::default();
        let mut last_error = String::new();
        while !self.is_idle() {
            match connect(&self.addr, Protocol::Resp2, &worker.settings).await {
                Ok(transport) => {
                    self.lost.set(false);
                    let opened = Instant::now();
                    let ended = self.serve(&worker, transport).await;
                    if opened.elapsed() > PROVEN {
                        backoff = Backoff::default();
                    }
                    self.confirmed.borrow_mut().clear();
                    self.lost.set(ended.is_err());
                    match ended {
                        Ok(()) => debug!(server = %self.addr, "nobody is subscribed there any more"),
                        Err(error) => warn!(server = %self.addr, %error, "subscriptions lost, beginning anew"),
                    }
                    last_error.clear();
                }
                Err(error) => {
                    self.lost.set(true);
                    let error = error.to_string();
                    if error != last_error {
                        warn!(server = %self.addr, %error, "can't connect for subscriptions");
                        last_error = error;
                    }
                }
            }
            // Who waits for this one waits for the others only.
            worker.pubsub.confirmed();
            if !self.is_idle() {
                tokio::time::sleep(backoff.next_pause()).await;
            }
        }
        worker.pubsub.forget(&self);
    }

    /// Hears until the connection is lost, or nothing is wanted of it any more.
    async fn serve(&self, worker: &Rc<Worker>, mut transport: Transport) -> Result<(), FeedError> {
        let settings = &worker.settings;
        self.changes.borrow_mut().clear();
        let mut out = Vec::new();
        for topic in self.topics.borrow().iter() {
            topic.put_request(&mut out, true);
        }
        let (mut scanner, mut input, mut pinged) = (ReplyScanner::default(), Vec::new(), false);
        let share = worker.memory.share();
        loop {
            for (topic, begins) in self.changes.borrow_mut().drain(..) {
                topic.put_request(&mut out, begins);
            }
            if !out.is_empty() {
                timeout(settings.backend_send_timeout, transport.write_all(&out))
                    .await
                    .map_err(|_| FeedError::Slow)??;
                out.clear();
            }
            if self.is_idle() {
                return Ok(());
            }
            let patience = if pinged {
                Some(settings.backend_recv_timeout)
            } else {
                settings.backend_ping_period
            };
            let silence = async {
                match patience {
                    Some(patience) => tokio::time::sleep(patience).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = transport.read_buf(&mut input) => {
                    if read? == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                    }
                    pinged = false;
                    share.set(input.capacity());
                    let mut used = 0;
                    while let Some(len) = scanner.scan(&input[used..])? {
                        self.hear(worker, &input[used..used + len])?;
                        used += len;
                    }
                    drop_used(&mut input, used);
                    share.set(input.capacity());
                    worker.pubsub.confirmed();
                }
                () = self.changed.notified() => {}
                () = silence => {
                    if pinged {
                        return Err(FeedError::Slow);
                    }
                    pinged = true;
                    out.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
                }
            }
        }
    }

    fn hear(&self, worker: &Rc<Worker>, reply: &[u8]) -> Result<(), FeedError> {
        match Heard::of(reply) {
            Heard::Message(topic) => worker.pubsub.deliver(worker, &topic, reply),
            Heard::Confirmed(topic) => {
                if self.topics.borrow().contains(&topic) {
                    self.confirmed.borrow_mut().insert(topic);
                }
            }
            Heard::Other => {}
            Heard::Refused(text) => return Err(FeedError::Refused(text)),
        }
        Ok(())
    }
}
