//! Servers behind the proxy: stock Valkey, as nobody prepared it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use codis_operator::model::HostPort;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ALL_VERSIONS;

use super::certificates::Files;
use super::wire::Wire;
use super::{Process, eventually, free_port, tool};

pub struct Backend {
    pub process: Process,
    port: u16,
    folder: TempDir,
    arguments: Vec<&'static str>,
    tls: Option<Tls>,
}

/// How a server is reached by TLS.
struct Tls {
    host: String,
    connector: TlsConnector,
    flags: Vec<String>,
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
        Self::launch(arguments, None).await
    }

    /// One that is reached by TLS only, with these files; `believing`: only by those who show a certificate of the authority
    /// of these files.
    pub async fn secured(files: &Files, believing: Option<&Files>) -> Self {
        let flag = |name: &str, path: PathBuf| [format!("--{name}"), path.display().to_string()];
        let mut flags = [
            flag("tls-cert-file", files.cert()),
            flag("tls-key-file", files.key()),
            flag("tls-ca-cert-file", believing.unwrap_or(files).ca()),
        ]
        .concat();
        flags.extend(["--tls-auth-clients", if believing.is_some() { "yes" } else { "no" }].map(str::to_owned));
        let connector = match believing {
            Some(shown) => files.connector_showing(shown, ALL_VERSIONS),
            None => files.connector(ALL_VERSIONS),
        };
        Self::launch(
            &[],
            Some(Tls {
                host: files.host().to_owned(),
                connector,
                flags,
            }),
        )
        .await
    }

    async fn launch(arguments: &[&'static str], tls: Option<Tls>) -> Self {
        let (port, folder) = (free_port(), TempDir::new().unwrap());
        let process = Process::start(&command(port, &folder, arguments, tls.as_ref()));
        let server = Self {
            process,
            port,
            folder,
            arguments: arguments.to_vec(),
            tls,
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
        self.try_wire().await.expect("a connection to the server")
    }

    async fn try_wire(&self) -> Option<Wire> {
        match &self.tls {
            Some(tls) => Wire::try_secured_to(&tls.host, self.port, &tls.connector).await.ok(),
            None => Wire::try_connect(self.port).await,
        }
    }

    /// A new process at the same place, empty unless it is a durable one.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = Process::start(&command(self.port, &self.folder, &self.arguments, self.tls.as_ref()));
        self.wait_ready().await;
    }

    async fn wait_ready(&self) {
        eventually("the server answers", Duration::from_secs(10), async || {
            let mut wire = self.try_wire().await?;
            wire.try_call("PING").await
        })
        .await;
    }
}

fn command(port: u16, folder: &TempDir, arguments: &[&str], tls: Option<&Tls>) -> Command {
    let mut command = Command::new(tool("valkey-server"));
    let port = port.to_string();
    match tls {
        Some(tls) => command.args(["--port", "0", "--tls-port", &port]).args(&tls.flags),
        None => command.args(["--port", &port]),
    };
    command.args(["--bind", "127.0.0.1", "--save", ""]);
    command.arg("--dir").arg(folder.path()).args(arguments);
    command
}
