//! Servers behind the proxy: stock Valkey, as nobody prepared it.

use std::process::Command;
use std::time::Duration;

use codis_operator::model::HostPort;
use tempfile::TempDir;

use super::wire::Wire;
use super::{Process, eventually, free_port, tool};

pub struct Backend {
    pub process: Process,
    port: u16,
    folder: TempDir,
    password: String,
}

impl Backend {
    pub async fn start() -> Self {
        Self::with_password("").await
    }

    pub async fn with_password(password: &str) -> Self {
        let (port, folder) = (free_port(), TempDir::new().unwrap());
        let process = Process::start(&command(port, &folder, password));
        let server = Self {
            process,
            port,
            folder,
            password: password.to_owned(),
        };
        server.wait_ready().await;
        server
    }

    /// So many of them.
    pub async fn several(count: usize) -> Vec<Self> {
        futures::future::join_all((0..count).map(|_| Self::start())).await
    }

    pub fn addr(&self) -> HostPort {
        HostPort::new("127.0.0.1", self.port).unwrap()
    }

    pub fn addrs(several: &[Self]) -> Vec<HostPort> {
        several.iter().map(Self::addr).collect()
    }

    /// So many errors it gave to clients: requests reached it.
    pub async fn errors(&self) -> u64 {
        let text = self.wire().await.call("INFO stats").await;
        let line = text.lines().find_map(|line| line.strip_prefix("total_error_replies:"));
        line.unwrap().trim().parse().unwrap()
    }

    /// Until so many clients wait there.
    pub async fn has_blocked(&self, clients: usize) {
        let (mut wire, line) = (self.wire().await, format!("\r\nblocked_clients:{clients}\r\n"));
        eventually("clients wait at the server", Duration::from_secs(5), async || {
            wire.call("INFO clients").await.contains(&line).then_some(())
        })
        .await;
    }

    /// A connection past the proxy.
    pub async fn wire(&self) -> Wire {
        Wire::connect(self.port).await
    }

    /// A new process at the same place, empty.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = Process::start(&command(self.port, &self.folder, &self.password));
        self.wait_ready().await;
    }

    async fn wait_ready(&self) {
        eventually("the server answers", Duration::from_secs(10), async || {
            let mut wire = Wire::try_connect(self.port).await?;
            wire.try_call("PING").await
        })
        .await;
    }
}

fn command(port: u16, folder: &TempDir, password: &str) -> Command {
    let mut command = Command::new(tool("valkey-server"));
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.arg("--dir").arg(folder.path());
    if !password.is_empty() {
        command.args(["--requirepass", password]);
    }
    command
}
