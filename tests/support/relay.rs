//! Ways to a server: one on which only so many bytes pass in a second, and one whose connections can go silent.

use std::time::Duration;

use codis_operator::model::HostPort;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// As much is taken at once as passes in this time.
const STEP: Duration = Duration::from_millis(10);

/// Opens it: where it begins. Each connection has its own measure, in each direction.
pub async fn relay_to(server: HostPort, bytes_per_second: usize) -> HostPort {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = HostPort::new("127.0.0.1", listener.local_addr().unwrap().port()).unwrap();
    let step = bytes_per_second * STEP.as_millis() as usize / 1000;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect((server.host(), server.port())).await else {
                continue;
            };
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            tokio::spawn(pass(from_client, to_server, step));
            tokio::spawn(pass(from_server, to_client, step));
        }
    });
    addr
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, step: usize) {
    let mut bytes = vec![0; step];
    while let Ok(size @ 1..) = from.read(&mut bytes).await {
        if to.write_all(&bytes[..size]).await.is_err() {
            return;
        }
        tokio::time::sleep(STEP.mul_f64(size as f64 / step as f64)).await;
    }
}

/// A way to a server that vanishes as one does whose node lost its power: nothing passes any more, and no connection ends.
pub struct Vanishing {
    pub addr: HostPort,
    silenced: watch::Sender<()>,
    accepting: JoinHandle<()>,
}

impl Vanishing {
    pub async fn before(server: HostPort) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = HostPort::new("127.0.0.1", listener.local_addr().unwrap().port()).unwrap();
        let silenced = watch::Sender::new(());
        let news = silenced.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let Ok(mut server) = TcpStream::connect((server.host(), server.port())).await else {
                    continue;
                };
                let mut silenced = news.subscribe();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = silenced.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self {
            addr,
            silenced,
            accepting,
        }
    }

    /// The connections that there are pass nothing from now on. New ones do.
    pub fn silence(&self) {
        self.silenced.send_replace(());
    }

    /// Takes no new connections; those that there are go on.
    pub async fn refuse(&mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }
}
