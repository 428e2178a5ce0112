use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections at once. More wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
/// How long a client may take to send the head of a request, or be idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what was sent may stay unacknowledged: a client that does not read is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves until it is dropped. A client that is slow to send or to read holds up nobody but itself.
pub(crate) async fn serve(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                connections.spawn(async move {
                    connection(stream, router).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router) {
    let socket = socket2::SockRef::from(&stream);
    if let Err(error) = socket
        .set_tcp_user_timeout(Some(WRITE_TIMEOUT))
        .and_then(|()| stream.set_nodelay(true))
    {
        tracing::debug!(%error, "a connection ended at once");
        return;
    }
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}
