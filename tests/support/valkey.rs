//! A Valkey server: one that nobody prepared, or one as the operator prepares it.

use std::process::Command;
use std::time::Duration;

use codis_operator::model::{HostPort, ServerUser, ServerUserKind};
use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;

use super::{Process, eventually, free_port, tool};

/// The domain of the names that prepared servers get in tests; [`super::dashboard::LocalNames`] knows them.
pub const DOMAIN: &str = "servers.test";
/// The domain of those that every resolver knows.
const ANYWHERE: &str = "1";

pub struct Valkey {
    process: Process,
    port: u16,
    folder: TempDir,
    pod: Option<String>,
    domain: &'static str,
    secret: String,
    arguments: Vec<String>,
}

impl Valkey {
    /// A stock server without a password.
    pub async fn start() -> Self {
        Self::launch(None, "", &[]).await
    }

    /// A stock server with this password.
    pub async fn with_password(password: &str) -> Self {
        Self::launch(None, password, &[]).await
    }

    /// A stock server with this password, started with these further arguments.
    pub async fn with_arguments(password: &str, arguments: &[&str]) -> Self {
        Self::launch(None, password, arguments).await
    }

    /// A server as the operator starts it: guarded, no default user, users that derive from the product's secret.
    pub async fn prepared(pod: &str, secret: &str) -> Self {
        Self::launch(Some(pod), secret, &[]).await
    }

    /// The same with a volume: what it acknowledged is there again after a restart.
    pub async fn durable(pod: &str, secret: &str) -> Self {
        Self::launch(Some(pod), secret, &["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// A prepared one with a name that programs of their own find, too: the old way to write 127.0.0.1 as `127.1`, the first
    /// number as an octal one with so many zeros before it.
    pub async fn prepared_anywhere(number: usize, secret: &str) -> Self {
        let mut server = Self::launch(Some(&format!("{}177", "0".repeat(number + 1))), secret, &[]).await;
        server.domain = ANYWHERE;
        server
    }

    async fn launch(pod: Option<&str>, secret: &str, arguments: &[&str]) -> Self {
        let (port, folder) = (free_port(), TempDir::new().unwrap());
        let (pod, secret) = (pod.map(str::to_owned), secret.to_owned());
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let process = Process::start(&command(port, &folder, pod.as_deref(), &secret, &arguments));
        let server = Self {
            process,
            port,
            folder,
            pod,
            domain: DOMAIN,
            secret,
            arguments,
        };
        server.wait_ready().await;
        server
    }

    /// The address that the dashboard is told.
    pub fn addr(&self) -> HostPort {
        let host = self
            .pod
            .as_ref()
            .map_or("127.0.0.1".to_owned(), |pod| format!("{pod}.{}", self.domain));
        HostPort::new(&host, self.port).unwrap()
    }

    /// The address to connect to.
    pub fn ip_port(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A power cut, and a new process at the same place: it comes back empty, unless it is durable.
    pub async fn restart(&mut self) {
        self.kill();
        self.process = Process::start(&command(
            self.port,
            &self.folder,
            self.pod.as_deref(),
            &self.secret,
            &self.arguments,
        ));
        self.wait_ready().await;
    }

    /// From now on somebody else's server is at its place, who has the same secret as password.
    pub async fn give_way_to_a_stranger(&mut self) {
        self.pod = None;
        self.restart().await;
    }

    /// The port that it listens at.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// Runs a command as the one who may do everything.
    pub async fn run<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_run(command)
            .await
            .unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    pub async fn try_run<T: FromRedisValue>(&self, command: &[&str]) -> redis::RedisResult<T> {
        let user = self.pod.as_ref().map(|pod| ServerUser::new(ServerUserKind::Admin, pod));
        self.run_as(user.as_ref(), command).await
    }

    /// Runs a command as this user; as the default one without.
    pub async fn run_as<T: FromRedisValue>(
        &self,
        user: Option<&ServerUser>,
        command: &[&str],
    ) -> redis::RedisResult<T> {
        let mut connection = self.connect(user).await?;
        redis::cmd(command[0])
            .arg(&command[1..])
            .query_async(&mut connection)
            .await
    }

    pub async fn info(&self, field: &str) -> String {
        let text: String = self.run(&["INFO"]).await;
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{field}:")).map(str::to_owned));
        found.unwrap_or_default()
    }

    async fn connect(&self, user: Option<&ServerUser>) -> redis::RedisResult<MultiplexedConnection> {
        let client = redis::Client::open(format!("redis://{}", self.ip_port()))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut auth = redis::cmd("AUTH");
        match user {
            Some(user) => auth.arg(user.name()).arg(user.password(&self.secret)),
            None if self.secret.is_empty() => return Ok(connection),
            None => auth.arg(&self.secret),
        };
        auth.query_async::<()>(&mut connection).await?;
        Ok(connection)
    }

    async fn wait_ready(&self) {
        eventually("the server answers", Duration::from_secs(10), async || {
            self.try_run::<String>(&["INFO", "server"]).await.ok()
        })
        .await;
    }
}

/// A server that nobody prepared has no configuration file; the other's is written anew at each start.
fn command(port: u16, folder: &TempDir, pod: Option<&str>, secret: &str, arguments: &[String]) -> Command {
    let mut command = Command::new(tool("valkey-server"));
    if let Some(pod) = pod {
        let kinds = [ServerUserKind::Admin, ServerUserKind::Probe, ServerUserKind::Replica];
        let users = kinds.map(|kind| ServerUser::new(kind, pod));
        let users = users.map(|user| format!("user {} {}\n", user.name(), user.rules(secret).join(" ")));
        let file = folder.path().join("server.conf");
        std::fs::write(&file, format!("user default off\n{}", users.concat())).unwrap();
        command
            .arg(file)
            .args(["--replicaof", "127.0.0.1", "1", "--replica-serve-stale-data", "no"]);
    } else if !secret.is_empty() {
        command.args(["--requirepass", secret, "--masterauth", secret]);
    }
    command.args([
        "--port",
        &port.to_string(),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--repl-diskless-sync-delay",
        "0",
    ]);
    command.arg("--dir").arg(folder.path()).args(arguments);
    command
}
