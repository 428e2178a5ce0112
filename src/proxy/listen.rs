//! The sockets that the proxy listens on, and the dealing of clients to workers.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use super::config::ProtoType;
use super::state::{Phase, Proxy};
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

/// Deals clients to the workers in turn, until the process is about to end.
pub(super) async fn accept(proxy: Arc<Proxy>, listener: TcpListener) {
    let mut phases = proxy.phases();
    let mut next_id: u64 = 1;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phases.wait_for(|phase| *phase != Phase::Serving) => return,
        };
        match accepted {
            Ok((socket, _)) => {
                deal(&proxy, socket, next_id);
                next_id += 1;
            }
            Err(error) => {
                // Too many open files, mostly: it passes, or not, but trying at once would only burn a core.
                warn!(%error, "can't accept a client");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn deal(proxy: &Proxy, socket: TcpStream, id: u64) {
    let sessions = &proxy.settings().sessions;
    let alive = sessions.came();
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
        // A fresh socket takes a line; whoever is gone already does not mind.
        let _ = socket.try_write(format!("-{text}\r\n").as_bytes());
        debug!(client = id, text, "client refused");
        sessions.left();
        return;
    }
    match socket.into_std() {
        Ok(socket) => proxy.worker_for(id).send(Control::Client { socket, id }),
        Err(error) => {
            warn!(%error, "a client's connection can't be used");
            sessions.left();
        }
    }
}
