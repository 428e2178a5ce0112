//! A Sentinel.

use std::process::Command;
use std::time::Duration;

use codis_operator::model::HostPort;
use redis::FromRedisValue;
use tempfile::TempDir;

use super::{Process, eventually, free_port, tool};

pub struct Sentinel {
    process: Process,
    port: u16,
    folder: TempDir,
}

impl Sentinel {
    pub async fn start() -> Self {
        let (port, folder) = (free_port(), TempDir::new().unwrap());
        let file = folder.path().join("sentinel.conf");
        let lines = format!("port {port}\nbind 127.0.0.1\ndir {}\n", folder.path().display());
        std::fs::write(&file, lines).unwrap();
        let mut command = Command::new(tool("valkey-server"));
        command.arg(file).arg("--sentinel");
        let sentinel = Self {
            process: Process::start(&command),
            port,
            folder,
        };
        eventually("the Sentinel answers", Duration::from_secs(10), async || {
            sentinel.try_run::<String>(&["PING"]).await.ok()
        })
        .await;
        sentinel
    }

    pub fn addr(&self) -> HostPort {
        HostPort::new("127.0.0.1", self.port).unwrap()
    }

    pub async fn run<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_run(command)
            .await
            .unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    pub async fn try_run<T: FromRedisValue>(&self, command: &[&str]) -> redis::RedisResult<T> {
        let client = redis::Client::open(format!("redis://{}", self.addr()))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd(command[0])
            .arg(&command[1..])
            .query_async(&mut connection)
            .await
    }

    /// What it wrote into its configuration file of what it watches.
    pub fn remembered(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("sentinel.conf")).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("sentinel "));
        lines.map(str::to_owned).collect()
    }

    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }
}
