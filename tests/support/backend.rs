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
    arguments: Vec<&'static str>,
}

impl Backend {
    pub async fn start() -> Self {
        Self::with_arguments(&[]).await
    }

    pub async fn with_password(password: &'static str) -> Self {
        Self::with_arguments(&["--requirepass", password]).await
    }

    /// One that forgets nothing that it acknowledged, however it ends.
    pub async fn durable() -> Self {
        Self::with_arguments(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    async fn with_arguments(arguments: &[&'static str]) -> Self {
        let (port, folder) = (free_port(), TempDir::new().unwrap());
        let process = Process::start(&command(port, &folder, arguments));
        let server = Self {
            process,
            port,
            folder,
            arguments: arguments.to_vec(),
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

    /// A connection past the proxy.
    pub async fn wire(&self) -> Wire {
        Wire::connect(self.port).await
    }

    /// A new process at the same place, empty unless it is a durable one.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = Process::start(&command(self.port, &self.folder, &self.arguments));
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

fn command(port: u16, folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(tool("valkey-server"));
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.arg("--dir").arg(folder.path()).args(arguments);
    command
}
