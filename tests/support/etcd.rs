//! An etcd of one member.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use etcd_client::{Client, GetOptions};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{Process, START, eventually, free_port, tool};

pub struct Etcd {
    process: Process,
    port: u16,
    peer_port: u16,
    folder: TempDir,
}

impl Etcd {
    pub async fn start() -> Self {
        let (port, peer_port, folder) = (free_port(), free_port(), TempDir::new().unwrap());
        let process = Process::start(&command(port, peer_port, &folder));
        let etcd = Self {
            process,
            port,
            peer_port,
            folder,
        };
        etcd.wait_ready().await;
        etcd
    }

    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn stop(&mut self) {
        self.process.kill();
    }

    pub async fn restart(&mut self) {
        self.process = Process::start(&command(self.port, self.peer_port, &self.folder));
        self.wait_ready().await;
    }

    /// It loses everything that it holds.
    pub async fn empty(&mut self) {
        self.stop();
        self.folder = TempDir::new().unwrap();
        self.restart().await;
    }

    /// Freezes it, so that calls hang instead of failing; and wakes it.
    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    pub async fn client(&self) -> Client {
        Client::connect([self.endpoint()], None).await.unwrap()
    }

    /// All keys below a prefix, with value and revision.
    pub async fn dump(&self, prefix: &str) -> Vec<(String, String, i64)> {
        let options = GetOptions::new().with_prefix();
        let found = self.client().await.get(prefix, Some(options)).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        found
            .kvs()
            .iter()
            .map(|kv| (text(kv.key()), text(kv.value()), kv.mod_revision()))
            .collect()
    }

    pub async fn get(&self, key: &str) -> Option<String> {
        self.dump(key)
            .await
            .into_iter()
            .find(|(found, ..)| found == key)
            .map(|(_, value, _)| value)
    }

    async fn wait_ready(&self) {
        eventually("etcd answers", START, async || {
            let mut client = Client::connect([self.endpoint()], None).await.ok()?;
            tokio::time::timeout(Duration::from_secs(1), client.get("x", None))
                .await
                .ok()?
                .ok()
        })
        .await;
    }
}

/// A way to etcd that can be frozen: connections stay, and nothing passes any more.
pub struct Gate {
    addr: String,
    frozen: watch::Sender<bool>,
}

impl Gate {
    pub async fn before(etcd: &Etcd) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let (target, frozen) = (etcd.endpoint(), watch::Sender::new(false));
        let gate = frozen.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&target).await else {
                    continue;
                };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(pass(from_client, to_server, gate.subscribe()));
                tokio::spawn(pass(from_server, to_client, gate.subscribe()));
            }
        });
        Self { addr, frozen }
    }

    pub fn endpoint(&self) -> &str {
        &self.addr
    }

    pub fn freeze(&self) {
        self.frozen.send_replace(true);
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut frozen: watch::Receiver<bool>) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(size @ 1..) = from.read(&mut bytes).await {
        if frozen.wait_for(|frozen| !frozen).await.is_err() || to.write_all(&bytes[..size]).await.is_err() {
            return;
        }
    }
}

/// How one member is started.
pub(super) struct Member<'a> {
    pub(super) name: &'a str,
    /// `http` or `https`, for clients.
    pub(super) scheme: &'a str,
    pub(super) port: u16,
    pub(super) peer_port: u16,
    pub(super) folder: &'a Path,
    /// All members.
    pub(super) cluster: &'a str,
}

impl Member<'_> {
    pub(super) fn command(&self) -> Command {
        let (client, peer) = (
            format!("{}://127.0.0.1:{}", self.scheme, self.port),
            format!("http://127.0.0.1:{}", self.peer_port),
        );
        let mut command = Command::new(tool("etcd"));
        command.arg("--data-dir").arg(self.folder);
        command.args(["--name", self.name, "--log-level", "error", "--unsafe-no-fsync"]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", self.cluster]);
        command
    }
}

fn command(port: u16, peer_port: u16, folder: &TempDir) -> Command {
    let member = Member {
        name: "one",
        scheme: "http",
        port,
        peer_port,
        folder: folder.path(),
        cluster: &format!("one=http://127.0.0.1:{peer_port}"),
    };
    member.command()
}
