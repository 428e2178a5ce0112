use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::task::{Context, Poll};

use tokio::net::TcpStream;
use tokio_rustls::rustls::Connection;

use super::read_some;

/// The most that one record holds.
const RECORD: usize = 16 << 10;
/// How much may be sealed and not gone, but for one record. Before a further one is, all has to go.
const WINDOW: usize = 64 << 10;
/// Capacity that an empty buffer keeps; what grew beyond is given back.
const KEEP: usize = 4 << 10;

/// A connection by TLS.
#[derive(Debug)]
pub(in crate::proxy) struct Secured {
    socket: TcpStream,
    session: RefCell<Session>,
    /// Something was opened, or the end was seen, and nobody told yet: the socket does not show it any more.
    unread: Cell<bool>,
}

#[derive(Debug)]
struct Session {
    tls: Connection,
    /// Records on their way.
    sealed: Vec<u8>,
    sent: usize,
    records: VecDeque<Record>,
    /// How many bytes of what is to be written are in them.
    taken: usize,
}

/// Some bytes, sealed together. The other side can open a record only when it has it whole: where the end of one did not
/// go, nothing in it was read.
#[derive(Debug)]
struct Record {
    /// How many bytes are in it.
    len: usize,
    /// Where it ends among all on their way.
    end: usize,
}

/// Reads a socket, and sees when it is empty.
struct Incoming<'a> {
    socket: &'a TcpStream,
    is_empty: bool,
}

impl Read for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = read_some(self.socket, buffer)?;
        self.is_empty = read < buffer.len();
        Ok(read)
    }
}

impl Secured {
    /// One whose handshake is done. What came behind that may have been read already.
    pub(super) fn new(socket: TcpStream, tls: Connection) -> Self {
        Self {
            socket,
            session: RefCell::new(Session {
                tls,
                sealed: Vec::new(),
                sent: 0,
                records: VecDeque::new(),
                taken: 0,
            }),
            unread: Cell::new(true),
        }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.unread.get() {
            Poll::Ready(())
        } else {
            self.socket.poll_read_ready(cx).map(drop)
        }
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let session = &mut *self.session.borrow_mut();
        let tls = &mut session.tls;
        let mut incoming = Incoming {
            socket: &self.socket,
            is_empty: false,
        };
        let mut read = 0;
        self.unread.set(false);
        while read < buffer.len() {
            match tls.reader().read(&mut buffer[read..]) {
                Ok(more @ 1..) => {
                    read += more;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Requests and replies tell their length: whether the end was announced says nothing more.
                Ok(0) | Err(_) => {
                    self.unread.set(read > 0);
                    return Ok(read);
                }
            }
            if incoming.is_empty {
                break;
            }
            match tls.read_tls(&mut incoming) {
                Ok(_) => {
                    if let Err(error) = tls.process_new_packets() {
                        session.say_last_words(&self.socket);
                        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if read == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.unread.set(read == buffer.len());
        Ok(read)
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        session.seal(bytes)?;
        session.send(&self.socket)
    }

    /// How many bytes of memory what is sealed takes.
    pub(super) fn memory(&self) -> usize {
        self.session.borrow().sealed.capacity()
    }

    /// Tells the other side that this is the end, if it takes that at once.
    pub(super) fn say_goodbye(&self) {
        let mut session = self.session.borrow_mut();
        session.tls.send_close_notify();
        session.say_last_words(&self.socket);
    }
}

impl Session {
    /// Seals what is not sealed yet, as much as may be on its way.
    fn seal(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes.get(self.taken..).unwrap_or_default();
        while !rest.is_empty() && self.sealed.len() < WINDOW {
            let (record, more) = rest.split_at(rest.len().min(RECORD));
            self.tls.writer().write_all(record)?;
            self.collect()?;
            self.taken += record.len();
            self.records.push_back(Record {
                len: record.len(),
                end: self.sealed.len(),
            });
            rest = more;
        }
        Ok(())
    }

    /// Takes over what the library wants to send.
    fn collect(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.sealed)?;
        }
        Ok(())
    }

    /// Sends what the library has to say, if the socket takes it: whoever does not hear it sees the end of the connection.
    fn say_last_words(&mut self, socket: &TcpStream) {
        let _ = self.collect().and_then(|()| self.send(socket));
    }

    /// One write: how many bytes are in the records that are gone by then.
    fn send(&mut self, socket: &TcpStream) -> io::Result<usize> {
        match socket.try_write(&self.sealed[self.sent..])? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            sent => self.sent += sent,
        }
        let mut gone = 0;
        while let Some(record) = self.records.front()
            && record.end <= self.sent
        {
            gone += record.len;
            self.records.pop_front();
        }
        self.taken -= gone;
        if self.sent == self.sealed.len() {
            self.sent = 0;
            self.sealed.clear();
            self.sealed.shrink_to(KEEP);
        }
        if gone == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::provider;
    use rcgen::CertifiedKey;
    use std::sync::Arc;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio_rustls::client::TlsStream;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    /// Both ends of a connection.
    async fn connected() -> (Secured, TlsStream<TcpStream>) {
        let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["name".to_owned()]).unwrap();
        let key = signing_key.serialize_der().try_into().unwrap();
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let (acceptor, connector) = (
            TlsAcceptor::from(Arc::new(server)),
            TlsConnector::from(Arc::new(client)),
        );
        let (ours, theirs) = tokio::join!(
            acceptor.accept(accepted),
            connector.connect("name".try_into().unwrap(), socket)
        );
        let (socket, session) = ours.unwrap().into_inner();
        (Secured::new(socket, Connection::Server(session)), theirs.unwrap())
    }

    #[tokio::test]
    async fn what_counts_as_written_is_what_the_other_side_can_read() {
        let (ours, mut theirs) = connected().await;
        let (bytes, mut gone) = (vec![b'x'; 64 << 20], 0);
        let mut blocked = 0;
        // It blocks as soon as a record goes in part; the socket is full when it does so again and again.
        while blocked < 3 {
            match ours.write(&bytes[gone..]) {
                Ok(more) => {
                    gone += more;
                    blocked = 0;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => blocked += 1,
                Err(error) => panic!("{error}"),
            }
            assert!(ours.session.borrow().sealed.len() <= WINDOW + 2 * RECORD);
        }
        assert!(gone > 0 && gone < bytes.len(), "{gone}");
        drop(ours);
        let mut read = Vec::new();
        assert!(
            theirs.read_to_end(&mut read).await.is_err(),
            "the last record has no end"
        );
        assert_eq!(read.len(), gone);
    }

    #[tokio::test]
    async fn all_is_read_however_little_fits_at_once() {
        let (ours, mut theirs) = connected().await;
        let sent: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut theirs, &sent).await.unwrap();
            tokio::io::AsyncWriteExt::shutdown(&mut theirs).await.unwrap();
            theirs
        });
        let (mut read, mut sizes) = (Vec::new(), [1, 7, 4096, 70_000].into_iter().cycle());
        loop {
            std::future::poll_fn(|cx| ours.poll_read_ready(cx)).await;
            let mut buffer = vec![0; sizes.next().unwrap()];
            match ours.read(&mut buffer) {
                Ok(0) => break,
                Ok(more) => read.extend_from_slice(&buffer[..more]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert!(read == expected);
        assert_eq!(
            ours.read(&mut [0; 10]).unwrap(),
            0,
            "the end is told as often as one asks"
        );
        drop(writer.await.unwrap());
    }
}
