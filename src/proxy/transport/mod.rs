//! A connection as the event loops use it: read when it is ready, written once per turn, plain or by TLS.

mod secured;

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::Connection;

use self::secured::Secured;

/// How much a task of its own reads from TLS at once.
const TASK_READ: usize = 16 << 10;

/// A connection.
#[derive(Debug)]
pub(super) enum Transport {
    /// As it is.
    Plain(TcpStream),
    /// By TLS.
    Tls(Box<Secured>),
}

impl Transport {
    /// A connection whose TLS handshake is done.
    pub(super) fn secured(socket: TcpStream, session: Connection) -> Self {
        Self::Tls(Box::new(Secured::new(socket, session)))
    }

    /// Its socket, for what concerns that alone.
    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(secured) => secured.socket(),
        }
    }

    /// How many bytes of memory what is on its way takes.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Tls(secured) => secured.memory(),
        }
    }

    /// Reads what is there; 0 bytes at its end. Fewer than fit mean that nothing more is there: it is not ready then until
    /// more comes.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing is there.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => read_some(socket, buffer),
            Self::Tls(secured) => secured.read(buffer),
        }
    }

    /// Writes: how many bytes are gone. Each call has to begin with the bytes that did not go in the one before: by TLS
    /// they may be sealed already.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when none went.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write(bytes),
            Self::Tls(secured) => secured.write(bytes),
        }
    }

    /// Whether there may be something to read. An error is seen by whoever reads.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(socket) => socket.poll_read_ready(cx).map(drop),
            Self::Tls(secured) => secured.poll_read_ready(cx),
        }
    }

    /// Whether the other side closed it, or at least its sending half, as far as the system heard: however much came before
    /// and was not read.
    pub(super) fn is_ended_by_peer(&self) -> bool {
        let ready = self.socket().ready(Interest::READABLE).now_or_never();
        matches!(ready, Some(Ok(ready)) if ready.is_read_closed())
    }

    /// Whether the socket may take something. An error is seen by whoever writes.
    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket().poll_write_ready(cx).map(drop)
    }

    /// Ends it in both directions. What the socket took still arrives.
    pub(super) fn close(&self) {
        if let Self::Tls(secured) = self {
            secured.say_goodbye();
        }
        // It may be gone already.
        let _ = SockRef::from(self.socket()).shutdown(Shutdown::Both);
    }
}

/// One read. A short one emptied the socket: asking it once more would cost a system call.
fn read_some(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let read = socket.try_read(buffer)?;
    if read < buffer.len() {
        let _ = socket.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
    Ok(read)
}

/// For tasks that wait on one connection alone.
impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(secured) => loop {
                ready!(secured.poll_read_ready(cx));
                let most = buffer.remaining().min(TASK_READ);
                match secured.read(buffer.initialize_unfilled_to(most)) {
                    Ok(read) => {
                        buffer.advance(read);
                        return Poll::Ready(Ok(()));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            },
        }
    }
}

/// As [`Transport::write`]: what was written in part is written on, or the connection is of no more use.
impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(secured) => loop {
                match secured.write(bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ready!(secured.socket().poll_write_ready(cx))?;
                    }
                    done => return Poll::Ready(done),
                }
            },
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing counts as written before the socket has it.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close();
        Poll::Ready(Ok(()))
    }
}

/// A connection on its way from one event loop to another.
#[derive(Debug)]
pub(super) struct Detached {
    socket: std::net::TcpStream,
    session: Option<Box<Connection>>,
}

impl From<std::net::TcpStream> for Detached {
    fn from(socket: std::net::TcpStream) -> Self {
        Self { socket, session: None }
    }
}

impl Detached {
    /// A connection whose TLS handshake is done.
    pub(super) fn secured(socket: std::net::TcpStream, session: Connection) -> Self {
        Self {
            socket,
            session: Some(Box::new(session)),
        }
    }

    /// Its socket.
    pub(super) fn socket(&self) -> &std::net::TcpStream {
        &self.socket
    }

    /// Belongs to the running event loop from now on.
    ///
    /// # Errors
    /// When the system refuses what is needed of the socket.
    pub(super) fn attach(self) -> io::Result<Transport> {
        self.socket.set_nonblocking(true)?;
        let socket = TcpStream::from_std(self.socket)?;
        Ok(match self.session {
            None => Transport::Plain(socket),
            Some(session) => Transport::secured(socket, *session),
        })
    }
}
