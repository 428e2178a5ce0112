use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::login::{LoginError, log_in, select_database};
use crate::model::HostPort;
use crate::proxy::resp::Protocol;
use crate::proxy::tls::{ServerTls, explain};
use crate::proxy::transport::Transport;
use crate::proxy::worker::Settings;

/// Most that each of looking up, connecting and logging in may take.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(1);
/// How many of a name's addresses are tried.
const MAX_ADDRESSES: usize = 4;

/// Why a server can't be used now. Each is worth another try.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum ConnectError {
    /// Its address is not known.
    #[error("the name {0} can't be resolved: {1}")]
    Lookup(String, io::Error),
    /// It took too long.
    #[error("no answer within {STEP_TIMEOUT:?} to {0}")]
    Slow(&'static str),
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

/// Opens a connection and logs in. The name is resolved anew each time, because pods change their addresses.
pub(in crate::proxy) async fn connect(
    addr: &HostPort,
    protocol: Protocol,
    settings: &Settings,
) -> Result<Transport, ConnectError> {
    let no_lookup = |error| ConnectError::Lookup(addr.host().to_owned(), error);
    let tls = settings.tls.servers.as_deref();
    let port = tls.map_or_else(|| addr.port(), |tls| tls.port(addr));
    let found = settings.addresses.of(addr.host()).await?;
    let addresses = found
        .into_iter()
        .take(MAX_ADDRESSES)
        .map(|ip| SocketAddr::new(ip, port));
    let mut last = no_lookup(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
    for address in addresses {
        let socket = match timeout(STEP_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => {
                last = error.into();
                continue;
            }
            Err(_) => {
                last = ConnectError::Slow("connecting");
                continue;
            }
        };
        socket.set_nodelay(true)?;
        if let Some(period) = settings.backend_keepalive {
            SockRef::from(&socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(period))?;
        }
        let mut transport = secure(socket, addr, tls).await?;
        timeout(
            STEP_TIMEOUT,
            log_in(
                &mut transport,
                addr,
                protocol,
                &settings.login,
                &settings.prepared_servers,
            ),
        )
        .await
        .map_err(|_| ConnectError::Slow("the login"))?
        .map_err(refused)?;
        return Ok(transport);
    }
    Err(last)
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
    use super::*;

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
