//! An etcd of one member.

use std::process::Command;
use std::time::Duration;

use etcd_client::{Client, GetOptions};
use tempfile::TempDir;

use super::{Process, eventually, free_port, tool};

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
        eventually("etcd answers", Duration::from_secs(20), async || {
            let mut client = Client::connect([self.endpoint()], None).await.ok()?;
            tokio::time::timeout(Duration::from_secs(1), client.get("x", None))
                .await
                .ok()?
                .ok()
        })
        .await;
    }
}

fn command(port: u16, peer_port: u16, folder: &TempDir) -> Command {
    let (client, peer) = (
        format!("http://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{peer_port}"),
    );
    let mut command = Command::new(tool("etcd"));
    command.arg("--data-dir").arg(folder.path());
    command.args(["--name", "one", "--log-level", "error", "--unsafe-no-fsync"]);
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("one={peer}")]);
    command
}
