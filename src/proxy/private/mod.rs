//! Connections of one client's own to a server, for what can't share one: `WATCH`, commands that
//! wait, and long requests, which take as long as their clients take to send them.

mod blocked;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

pub(super) use self::blocked::{Blocked, Waiting};
use super::backend::{ConnectError, connect, select};
use super::resp::{Protocol, ReplyError, ReplyScanner, integer, put_request};
use super::scripts::{Loaded, ScriptName, Scripts, put_script_load};
use super::transport::Transport;
use super::worker::{Memory, MemoryShare, Settings};
use crate::model::HostPort;

/// How many of them a worker may have open.
const MOST: usize = 1000;
/// How much is read at once of a reply that is given away in parts.
pub(super) const PART: usize = 64 << 10;

/// Why a client's own connection is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrivateError {
    /// None may be opened.
    #[error(
        "{MOST} clients of one worker wait, watch or send long requests already; close some of them, or add proxies"
    )]
    TooMany,
    /// None could be opened.
    #[error("connecting to {0}: {1}")]
    Connect(HostPort, ConnectError),
    /// It was open, and broke: what was sent may have been carried out.
    #[error("the connection to {0} was lost: {1}")]
    Lost(HostPort, io::Error),
    /// No reply came in time: what was sent may have been carried out.
    #[error("no reply from {0} within {1:?}")]
    Slow(HostPort, Duration),
    /// Its server answers nobody any more: what was sent may have been carried out.
    #[error("{0} does not answer any more")]
    Gone(HostPort),
    /// A change of the slot map does not wait for it: it may have been carried out.
    #[error("a change of the slot map does not wait for {0}")]
    NotWaitedFor(HostPort),
    /// The reply is long, and memory short: what was sent was carried out.
    #[error("there is no memory for so long a reply (proxy_max_memory)")]
    NoMemory,
    /// The reply is kept until it is there as a whole, and too long for that: what was sent was carried out.
    #[error("the reply is longer than session_max_output_size allows ({0} bytes), though the request was carried out")]
    TooLong(usize),
    /// What came is no reply.
    #[error("{0}: {1}")]
    NoReply(HostPort, ReplyError),
}

/// How many connections of clients' own a worker has open.
#[derive(Debug)]
pub(super) struct Places {
    taken: Rc<Cell<usize>>,
    memory: Rc<Memory>,
}

/// One of them; free again when it is dropped.
#[derive(Debug)]
struct Place {
    taken: Rc<Cell<usize>>,
    /// What its connection takes of the worker's memory.
    share: MemoryShare,
}

impl Places {
    /// All free. `memory`: of which their connections take.
    pub(super) fn new(memory: &Rc<Memory>) -> Self {
        Self {
            taken: Rc::default(),
            memory: memory.clone(),
        }
    }

    fn take(&self) -> Option<Place> {
        let taken = self.taken.get();
        (taken < MOST).then(|| {
            self.taken.set(taken + 1);
            Place {
                taken: self.taken.clone(),
                share: self.memory.share(),
            }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.set(self.taken.get() - 1);
    }
}

/// A connection to a server that one client uses alone.
#[derive(Debug)]
pub(super) struct Private {
    addr: HostPort,
    protocol: Protocol,
    database: u16,
    /// Its number at the server.
    id: i64,
    /// How long a reply may be that is kept until it is there as a whole.
    most: usize,
    transport: Transport,
    scanner: ReplyScanner,
    input: Vec<u8>,
    /// Scripts that the server was given on it.
    loaded: Loaded,
    /// Whether the beginning of the reply that is coming in was given away.
    begun: bool,
    place: Place,
}

/// What came of a reply.
#[derive(Debug)]
pub(super) enum Piece {
    /// More follows.
    Part(Vec<u8>),
    /// All, or what is behind the parts.
    End(Vec<u8>),
}

impl Private {
    /// Connects and logs in, as the shared connections do.
    ///
    /// # Errors
    /// When that fails, or too many are open.
    pub(super) async fn open(
        places: &Places,
        settings: &Settings,
        addr: &HostPort,
        protocol: Protocol,
        database: u16,
    ) -> Result<Self, PrivateError> {
        let place = places.take().ok_or(PrivateError::TooMany)?;
        let failed = |error| PrivateError::Connect(addr.clone(), error);
        let mut transport = connect(addr, protocol, settings).await.map_err(failed)?;
        select(&mut transport, database).await.map_err(failed)?;
        let mut private = Self {
            addr: addr.clone(),
            protocol,
            database,
            id: 0,
            most: settings.session_max_output,
            transport,
            scanner: ReplyScanner::default(),
            input: Vec::new(),
            loaded: Loaded::default(),
            begun: false,
            place,
        };
        let mut request = Vec::new();
        put_request(&mut request, [b"CLIENT".as_slice(), b"ID"].into_iter());
        private.send(&request).await?;
        let patience = settings.backend_recv_timeout;
        let reply = timeout(patience, private.reply())
            .await
            .map_err(|_| PrivateError::Slow(addr.clone(), patience))??;
        // A server that does not tell it can't be asked to wake the client either.
        private.id = integer(&reply).unwrap_or(0);
        Ok(private)
    }

    /// Whether it leads there, in this protocol and to this database.
    pub(super) fn leads_to(&self, addr: &HostPort, protocol: Protocol, database: u16) -> bool {
        self.addr == *addr && self.protocol == protocol && self.database == database
    }

    /// Its number at the server; 0 when the server does not tell.
    pub(super) fn id(&self) -> i64 {
        self.id
    }

    /// Whether it is still open, as far as this side knows. Nothing may be under way.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.transport.read(&mut [0; 1]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Appends what gives the server a script that it is about to be asked for by its name, where it may not know it.
    /// Whether there is such a request, which is answered like any other.
    pub(super) fn put_script(&mut self, scripts: &Scripts, name: ScriptName, requests: &mut Vec<u8>) -> bool {
        let missing = self.loaded.missing(scripts, name);
        if let Some(text) = &missing {
            put_script_load(requests, text);
        }
        missing.is_some()
    }

    /// Sends requests.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(super) async fn send(&mut self, requests: &[u8]) -> Result<(), PrivateError> {
        let sent = self.transport.write_all(requests).await;
        sent.map_err(|error| self.lost(error))
    }

    /// The next reply. May be given up and called again: nothing of what came is lost.
    ///
    /// # Errors
    /// When the connection is lost, or what comes is no reply.
    pub(super) async fn reply(&mut self) -> Result<Vec<u8>, PrivateError> {
        loop {
            if let Piece::End(reply) = self.piece(usize::MAX).await? {
                return Ok(reply);
            }
        }
    }

    /// The next reply, or what came of it once that is more than `least` bytes. May be given up and called again.
    ///
    /// # Errors
    /// When the connection is lost, or what comes is no reply.
    pub(super) async fn piece(&mut self, least: usize) -> Result<Piece, PrivateError> {
        loop {
            let found = self.scanner.scan(&self.input);
            match found.map_err(|error| PrivateError::NoReply(self.addr.clone(), error))? {
                Some(len) => {
                    let reply = self.split_off(len);
                    // Pushes answer nothing.
                    if std::mem::take(&mut self.begun) || reply.first() != Some(&b'>') {
                        return Ok(Piece::End(reply));
                    }
                }
                None => {
                    let settled = self.scanner.settled(self.input.len());
                    if settled > 0 && (self.begun || self.input.len() > least) {
                        self.begun = true;
                        self.scanner.forget(settled);
                        return Ok(Piece::Part(self.split_off(settled)));
                    }
                    if self.begun {
                        self.input.reserve(PART);
                    }
                    let read = self.transport.read_buf(&mut self.input).await;
                    if read.map_err(|error| self.lost(error))? == 0 {
                        return Err(self.lost(io::ErrorKind::UnexpectedEof.into()));
                    }
                    let too_much = self.place.share.set(self.input.capacity());
                    if too_much && self.input.len() > PART && !self.begun {
                        return Err(PrivateError::NoMemory);
                    }
                    if self.input.len() > self.most && !self.begun {
                        return Err(PrivateError::TooLong(self.most));
                    }
                }
            }
        }
    }

    /// The first `len` bytes of what came.
    fn split_off(&mut self, len: usize) -> Vec<u8> {
        let rest = self.input.split_off(len);
        self.place.share.set(rest.capacity());
        std::mem::replace(&mut self.input, rest)
    }

    fn lost(&self, error: io::Error) -> PrivateError {
        PrivateError::Lost(self.addr.clone(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let places = Places::new(&Memory::new(0));
        let mut taken: Vec<_> = std::iter::from_fn(|| places.take()).collect();
        assert_eq!(taken.len(), MOST);
        taken.pop();
        assert!(places.take().is_some());
    }
}
