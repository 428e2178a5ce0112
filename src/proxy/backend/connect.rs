use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rand::RngExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::login::{LoginError, log_in, select_database};
use crate::model::HostPort;
use crate::proxy::resp::Protocol;
use crate::proxy::tls::{ServerTls, explain};
use crate::proxy::transport::Transport;
use crate::proxy::worker::Settings;

/// Most that each of looking up, connecting and logging in may take.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an address is tried alone before the next one is tried as well.
const HEAD_START: Duration = Duration::from_millis(50);
/// How many probes of a silent connection may stay unanswered.
const PROBES: u32 = 3;
/// How many times more often than it is first probed it is probed then.
const PROBES_IN_PERIOD: u32 = 5;

/// Why a server can't be used now. Each is worth another try.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum ConnectError {
    /// Its address is not known.
    #[error("the name {0} can't be resolved: {1}")]
    Lookup(String, io::Error),
    /// It took too long.
    #[error("no answer within {STEP_TIMEOUT:?} to {0}")]
    Slow(&'static str),
    /// Nobody is at its address.
    #[error("nobody answers at {0} within {STEP_TIMEOUT:?}")]
    Silent(SocketAddr),
    /// The network.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// There is no TLS with it.
    #[error("TLS: {0}")]
    Tls(String),
    /// It does not let the proxy in.
    #[error(transparent)]
    Login(#[from] LoginError),
}

impl ConnectError {
    /// Whether nobody is there, as far as one sees. That its name is unknown, that it refuses, or that this process can open
    /// nothing says nothing of it.
    pub(super) fn is_silence(&self) -> bool {
        match self {
            Self::Slow(_) | Self::Silent(_) => true,
            Self::Io(error) => is_silence(error) || error.kind() == io::ErrorKind::ConnectionRefused,
            Self::Lookup(..) | Self::Tls(_) | Self::Login(_) => false,
        }
    }
}

/// Whether the system says that nobody answers at the other end, or that no way leads there.
pub(super) fn is_silence(error: &io::Error) -> bool {
    use io::ErrorKind::{HostUnreachable, NetworkUnreachable, TimedOut};
    matches!(error.kind(), HostUnreachable | NetworkUnreachable | TimedOut)
}

/// Opens a connection and logs in. The name is resolved anew each time, because pods change their addresses; and where name
/// servers still tell a former one, the address that the dashboard told is tried soon after.
pub(in crate::proxy) async fn connect(
    addr: &HostPort,
    protocol: Protocol,
    settings: &Settings,
) -> Result<Transport, ConnectError> {
    let tls = settings.tls.servers.as_deref();
    let port = tls.map_or_else(|| addr.port(), |tls| tls.port(addr));
    let found = settings.addresses.of(addr.host()).await?;
    let attempts = found
        .into_iter()
        .map(|ip| connect_to(addr, SocketAddr::new(ip, port), protocol, settings));
    let none = ConnectError::Lookup(
        addr.host().to_owned(),
        io::Error::new(io::ErrorKind::NotFound, "it has no address"),
    );
    staggered(attempts).await.unwrap_or(Err(none))
}

/// One attempt after the other: the next begins when the one before failed, or took long. The first success, or the last
/// failure.
async fn staggered<T, E, F: Future<Output = Result<T, E>>>(
    attempts: impl ExactSizeIterator<Item = F>,
) -> Option<Result<T, E>> {
    let mut attempts = attempts;
    let mut under_way = FuturesUnordered::new();
    let mut failure = None;
    loop {
        under_way.extend(attempts.next());
        tokio::select! {
            ended = under_way.next() => match ended {
                Some(Ok(done)) => return Some(Ok(done)),
                Some(Err(error)) => failure = Some(Err(error)),
                None => return failure,
            },
            () = sleep(HEAD_START), if attempts.len() > 0 => {}
        }
    }
}

async fn connect_to(
    addr: &HostPort,
    at: SocketAddr,
    protocol: Protocol,
    settings: &Settings,
) -> Result<Transport, ConnectError> {
    let socket = timeout(STEP_TIMEOUT, TcpStream::connect(at))
        .await
        .map_err(|_| ConnectError::Silent(at))??;
    socket.set_nodelay(true)?;
    if let Some(period) = settings.backend_keepalive {
        watch_over(&socket, period)?;
    }
    let mut transport = secure(socket, addr, settings.tls.servers.as_deref()).await?;
    let login = log_in(
        &mut transport,
        addr,
        protocol,
        &settings.login,
        &settings.prepared_servers,
    );
    timeout(STEP_TIMEOUT, login)
        .await
        .map_err(|_| ConnectError::Slow("the login"))?
        .map_err(refused)?;
    Ok(transport)
}

/// Has the system end a connection over which nothing came for `period` and that answers no probe then; and one whose bytes
/// nobody confirms for as long as that takes. By itself it would try for eleven minutes more.
fn watch_over(socket: &TcpStream, period: Duration) -> io::Result<()> {
    let interval = (period / PROBES_IN_PERIOD).max(Duration::from_secs(1));
    let probing = TcpKeepalive::new()
        .with_time(period)
        .with_interval(interval)
        .with_retries(PROBES);
    let socket = SockRef::from(socket);
    socket.set_tcp_keepalive(&probing)?;
    socket.set_tcp_user_timeout(Some(period + interval * PROBES))
}

async fn secure(socket: TcpStream, addr: &HostPort, tls: Option<&ServerTls>) -> Result<Transport, ConnectError> {
    let Some(tls) = tls else {
        return Ok(Transport::Plain(socket));
    };
    let secured = timeout(STEP_TIMEOUT, tls.secure(socket, addr.host())).await;
    secured
        .map_err(|_| ConnectError::Slow("the TLS handshake; is this the server's TLS port?"))?
        .map_err(|error| explain(&error).map_or(ConnectError::Io(error), ConnectError::Tls))
}

/// A server tells only after its side of the handshake that it does not believe the proxy.
fn refused(error: LoginError) -> ConnectError {
    let explained = match &error {
        LoginError::Io(error) => explain(error),
        _ => None,
    };
    explained.map_or(ConnectError::Login(error), ConnectError::Tls)
}

/// Chooses the database of a new connection.
pub(in crate::proxy) async fn select(transport: &mut Transport, database: u16) -> Result<(), ConnectError> {
    if database == 0 {
        return Ok(());
    }
    timeout(STEP_TIMEOUT, select_database(transport, database))
        .await
        .map_err(|_| ConnectError::Slow("SELECT"))??;
    Ok(())
}

/// Pauses between tries: none, then 50 ms doubling to 1 s, each shortened at random so that proxies do not come all at once.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next one.
    pub(in crate::proxy) fn next_pause(&mut self) -> Duration {
        let tries = self.tries;
        self.tries = tries.saturating_add(1);
        if tries == 0 {
            return Duration::ZERO;
        }
        let full = Duration::from_millis(50 << (tries - 1).min(5)).min(Duration::from_secs(1));
        full.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::{BoxFuture, pending, ready};

    use super::*;

    type Attempt = BoxFuture<'static, Result<u8, u8>>;

    async fn first_of(attempts: Vec<Attempt>) -> Option<Result<u8, u8>> {
        timeout(HEAD_START * 20, staggered(attempts.into_iter())).await.unwrap()
    }

    #[tokio::test]
    async fn next_address_is_tried_when_the_one_before_is_silent_or_failed() {
        assert_eq!(
            first_of(vec![pending().boxed(), ready(Ok(2)).boxed()]).await,
            Some(Ok(2))
        );
        let failed = || ready(Err(1)).boxed();
        assert_eq!(first_of(vec![failed(), ready(Ok(2)).boxed()]).await, Some(Ok(2)));
        assert_eq!(first_of(vec![failed(), ready(Err(2)).boxed()]).await, Some(Err(2)));
        assert_eq!(first_of(Vec::new()).await, None);
    }

    #[tokio::test]
    async fn address_that_is_slow_is_not_given_up_for_one_that_fails() {
        let slow = async {
            sleep(HEAD_START * 2).await;
            Ok(1)
        };
        assert_eq!(first_of(vec![slow.boxed(), ready(Err(2)).boxed()]).await, Some(Ok(1)));
    }

    #[tokio::test]
    async fn address_that_answers_at_once_is_the_only_one_that_is_tried() {
        let not_tried = async { unreachable!("the first one is good") };
        assert_eq!(
            first_of(vec![ready(Ok(1)).boxed(), not_tried.boxed()]).await,
            Some(Ok(1))
        );
    }

    #[tokio::test]
    async fn system_gives_a_connection_up_whose_server_vanished_in_about_two_minutes() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        watch_over(&socket, Duration::from_secs(75)).unwrap();
        let socket = SockRef::from(&socket);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(75));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(15));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(120)));
    }

    #[test]
    fn name_that_is_not_known_says_nothing_of_its_server() {
        let io = |kind: io::ErrorKind| ConnectError::Io(kind.into());
        assert!(io(io::ErrorKind::ConnectionRefused).is_silence() && ConnectError::Slow("the login").is_silence());
        assert!(!io(io::ErrorKind::Other).is_silence());
        assert!(!ConnectError::Lookup("a".to_owned(), io::ErrorKind::TimedOut.into()).is_silence());
    }

    #[test]
    fn pauses_grow_to_a_second() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next_pause(), Duration::ZERO);
        let pauses: Vec<_> = (0..40).map(|_| backoff.next_pause()).collect();
        assert!(pauses[0] <= Duration::from_millis(50) && pauses[0] >= Duration::from_millis(25));
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(1)));
        assert!(pauses[39] >= Duration::from_millis(500));
    }
}
