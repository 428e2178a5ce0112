//! The sockets that the proxy listens on, and the dealing of clients to workers.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, error, warn};

use super::config::ProtoType;
use super::state::{Phase, Proxy};
use super::tls::ClientTls;
use super::transport::Detached;
use super::worker::Control;

/// Clients that wait to be accepted.
const BACKLOG: i32 = 4096;

/// Why the proxy can't listen.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {addr} ({proto}): {source}")]
pub struct ListenError {
    addr: String,
    proto: &'static str,
    source: io::Error,
}

/// Listens on `addr`, at once, so that a used port is seen before anything else is begun.
///
/// # Errors
/// When the address is not this host's, or taken.
pub(super) fn bind(addr: &str, proto: ProtoType) -> Result<std::net::TcpListener, ListenError> {
    let listen = || -> io::Result<std::net::TcpListener> {
        let fits = |candidate: &SocketAddr| match proto {
            ProtoType::Tcp => true,
            ProtoType::Tcp4 => candidate.is_ipv4(),
            ProtoType::Tcp6 => candidate.is_ipv6(),
        };
        let found = addr.to_socket_addrs()?.find(fits);
        let found = found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no address of this kind"))?;
        let socket = Socket::new(Domain::for_address(found), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if found.is_ipv6() {
            socket.set_only_v6(proto == ProtoType::Tcp6)?;
        }
        socket.bind(&found.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    listen().map_err(|source| ListenError {
        addr: addr.to_owned(),
        proto: proto.as_str(),
        source,
    })
}

/// How the clients of a port are met.
#[derive(Debug, Clone)]
pub(super) enum Door {
    /// They are dealt to workers as they come.
    Plain,
    /// They are dealt when their TLS handshake is done.
    Tls(Arc<ClientTls>),
}

/// Deals clients to the workers in turn, until the process is about to end.
pub(super) async fn accept(proxy: Arc<Proxy>, listener: TcpListener, door: Door) {
    let mut phases = proxy.phases();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phases.wait_for(|phase| *phase != Phase::Serving) => return,
        };
        match accepted {
            Ok((socket, _)) => receive(&proxy, socket, &door),
            Err(error) => {
                // Too many open files, mostly: it passes, or not, but trying at once would only burn a core.
                warn!(%error, "can't accept a client");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// The same by TLS, on a thread of its own: one handshake costs as much as hundreds of requests, for which neither clients
/// nor the admin API should wait.
///
/// # Errors
/// When the system gives no thread or no event loop.
pub(super) fn accept_tls(proxy: Arc<Proxy>, listener: std::net::TcpListener, tls: Arc<ClientTls>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .name("handshakes".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                match TcpListener::from_std(listener) {
                    Ok(listener) => accept(proxy, listener, Door::Tls(tls)).await,
                    Err(error) => error!(%error, "no client can connect by TLS"),
                }
            });
        })?;
    Ok(())
}

fn receive(proxy: &Arc<Proxy>, socket: TcpStream, door: &Door) {
    let sessions = &proxy.settings().sessions;
    let (id, alive) = sessions.came();
    let refusal = if proxy.is_closed() {
        Some("ERR the proxy is shutting down")
    } else if !proxy.is_online() {
        Some("ERR router is not online")
    } else if alive > i64::from(proxy.config().proxy_max_clients) {
        Some("ERR max number of clients reached")
    } else {
        None
    };
    if let Some(text) = refusal {
        // A fresh socket takes a line; whoever is gone already does not mind. By TLS nobody would understand it.
        if matches!(door, Door::Plain) {
            let _ = socket.try_write(format!("-{text}\r\n").as_bytes());
        }
        debug!(client = id, text, "client refused");
        sessions.left();
        return;
    }
    match door {
        Door::Plain => {
            let connection = socket.into_std().map(Detached::from);
            deal(proxy, id, connection.map_err(|error| error.to_string()));
        }
        Door::Tls(tls) => {
            let (proxy, tls) = (proxy.clone(), tls.clone());
            tokio::spawn(async move { deal(&proxy, id, tls.greet(socket).await) });
        }
    }
}

fn deal(proxy: &Proxy, id: u64, connection: Result<Detached, String>) {
    match connection {
        Ok(connection) => proxy.worker_for(id).send(Control::Client { connection, id }),
        Err(error) => {
            debug!(client = id, error, "a client's connection can't be used");
            proxy.settings().sessions.left();
        }
    }
}
