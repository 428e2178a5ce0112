//! Serves the HTTP APIs: whoever keeps them waiting is bounded in number and time.

mod places;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use futures::{StreamExt, stream};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use self::places::{Place, Places};

/// Connections at once. For one more, the one that kept us waiting longest is closed.
const MAX_CONNECTIONS: usize = 512;
/// How long a client may take for the TLS handshake, then to send the head of a request, or be idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what was sent may stay unacknowledged: a client that does not read is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// What takes connections over TLS, as the certificate is at the time.
pub(crate) type Acceptor = Arc<dyn Fn() -> Arc<TlsAcceptor> + Send + Sync>;

/// Serves until it is dropped. A client that is slow to send or to read holds up nobody but itself.
pub(crate) async fn serve(listener: TcpListener, tls: Option<Acceptor>, router: Router) {
    let places = Arc::new(Places::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let (router, tls) = (router.clone(), tls.clone());
                let place = places.take().await;
                connections.spawn(async move {
                    tokio::select! {
                        () = connection(stream, tls, router, Arc::clone(&place)) => {}
                        () = place.given_away() => tracing::debug!("a connection was closed to make room"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, tls: Option<Acceptor>, router: Router, place: Arc<Place>) {
    let socket = socket2::SockRef::from(&stream);
    if let Err(error) = socket
        .set_tcp_user_timeout(Some(WRITE_TIMEOUT))
        .and_then(|()| stream.set_nodelay(true))
    {
        tracing::debug!(%error, "a connection ended at once");
        return;
    }
    let Some(tls) = tls else {
        return speak(stream, router, place).await;
    };
    match tokio::time::timeout(HEAD_TIMEOUT, tls().accept(stream)).await {
        Ok(Ok(stream)) => speak(stream, router, place).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router, place: Arc<Place>) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: Request<Incoming>| {
        place.served();
        let answer = router.call(request.map(|body| watched(Body::new(body), Arc::clone(&place))));
        let place = Arc::clone(&place);
        async move {
            let answer = answer.await;
            place.answered();
            answer
        }
    });
    let spoken = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = spoken {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// The body, with its place told whether the client keeps us waiting for it.
fn watched(body: Body, place: Arc<Place>) -> Body {
    let mut parts = body.into_data_stream();
    Body::from_stream(stream::poll_fn(move |context| {
        let part = parts.poll_next_unpin(context);
        if part.is_pending() {
            place.waits();
        } else {
            place.served();
        }
        part
    }))
}
