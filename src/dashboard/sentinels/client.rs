use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, cmd,
};

use crate::dashboard::config::Secret;
use crate::dashboard::server::{ServerError, Servers, Standing};
use crate::model::{HostPort, Info, SentinelGroup};

/// What a Sentinel tells of one server.
type Fields = BTreeMap<String, String>;

/// A connection to a Sentinel. Nobody logs in there: as in Codis, Sentinels have no password.
pub(crate) struct SentinelClient {
    addr: HostPort,
    patience: Duration,
    connection: MultiplexedConnection,
}

impl SentinelClient {
    /// Connects. `patience` is how long that may take, and each answer.
    ///
    /// # Errors
    /// See [`ServerError`]; this holds for every call here.
    pub(crate) async fn connect(
        servers: &Servers,
        addr: &HostPort,
        standing: Standing,
        patience: Duration,
    ) -> Result<Self, ServerError> {
        let peer = servers.resolve(addr, standing).await?;
        let opened = open(peer, patience).await;
        let connection = opened.map_err(|error| {
            servers.forget(addr);
            let reason = match &error {
                error if error.is_connection_refusal() => "connect: connection refused".to_owned(),
                error if error.is_timeout() => "i/o timeout".to_owned(),
                error => format!("connect: {error}"),
            };
            let addr = addr.clone();
            ServerError::Dial { addr, reason }
        })?;
        Ok(Self {
            addr: addr.clone(),
            patience,
            connection,
        })
    }

    /// Makes it write its configuration: whoever can do that is a Sentinel, and able to remember.
    pub(crate) async fn flush_config(&mut self) -> Result<(), ServerError> {
        self.query("SENTINEL FLUSHCONFIG", &sentinel("FLUSHCONFIG")).await
    }

    /// `INFO` as a flat map.
    pub(crate) async fn info(&mut self) -> Result<Fields, ServerError> {
        let text: String = self.query("INFO", &cmd("INFO")).await?;
        Ok(Info::parse(&text).into_fields())
    }

    /// The primaries that it watches under such names, with their replicas.
    pub(crate) async fn watched(
        &mut self,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, SentinelGroup>, ServerError> {
        let all: Vec<Fields> = self.query("SENTINEL MASTERS", &sentinel("MASTERS")).await?;
        let named = all
            .into_iter()
            .filter_map(|master| Some((master.get("name")?.clone(), master)));
        let named: Vec<_> = named.filter(|(name, _)| wanted(name)).collect();
        let mut asked = redis::pipe();
        for (name, _) in &named {
            // The word that the oldest Sentinels know, too.
            asked.cmd("SENTINEL").arg("SLAVES").arg(name);
        }
        let replicas: Vec<Vec<Fields>> = match named.is_empty() {
            true => Vec::new(),
            false => asked
                .query_async(&mut self.connection)
                .await
                .map_err(|error| self.error("SENTINEL SLAVES", &error))?,
        };
        let group = |((name, master), slaves)| (name, SentinelGroup { master, slaves });
        Ok(named.into_iter().zip(replicas).map(group).collect())
    }

    /// Makes it watch a primary.
    pub(crate) async fn monitor(&mut self, name: &str, primary: SocketAddr, quorum: i64) -> Result<(), ServerError> {
        let mut command = sentinel("MONITOR");
        command
            .arg(name)
            .arg(primary.ip().to_string())
            .arg(primary.port())
            .arg(quorum);
        self.query("SENTINEL MONITOR", &command).await
    }

    /// Sets how it watches a primary.
    pub(crate) async fn set(&mut self, name: &str, options: &[(&str, String)]) -> Result<(), ServerError> {
        let mut command = sentinel("SET");
        command.arg(name);
        for (option, value) in options {
            command.arg(option).arg(value);
        }
        self.query("SENTINEL SET", &command).await
    }

    /// Sets the password that it gives to a primary and its replicas; nothing where there is none.
    pub(crate) async fn set_password(&mut self, name: &str, password: &Secret) -> Result<(), ServerError> {
        if password.reveal().is_empty() {
            return Ok(());
        }
        let mut command = sentinel("SET");
        command.arg(name).arg("auth-pass").arg(password.reveal());
        let words = "it does not take a password for what it watches";
        match command.query_async(&mut self.connection).await {
            Ok(()) => Ok(()),
            // Its own words may repeat the password.
            Err(error) => Err(match self.error("SENTINEL SET auth-pass", &error) {
                ServerError::Refused { addr, command, .. } => ServerError::Refused {
                    addr,
                    command,
                    reason: words.to_owned(),
                },
                other => other,
            }),
        }
    }

    /// Makes it watch this primary no more.
    pub(crate) async fn remove(&mut self, name: &str) -> Result<(), ServerError> {
        let mut command = sentinel("REMOVE");
        command.arg(name);
        self.query("SENTINEL REMOVE", &command).await
    }

    async fn query<T: FromRedisValue>(&mut self, name: &'static str, command: &Cmd) -> Result<T, ServerError> {
        let answer = command.query_async(&mut self.connection).await;
        answer.map_err(|error| self.error(name, &error))
    }

    fn error(&self, command: &'static str, error: &RedisError) -> ServerError {
        let addr = self.addr.clone();
        match error.code() {
            Some(code) => {
                let words = error.detail().unwrap_or_default();
                let reason = format!("{code} {words}").trim_end().to_owned();
                ServerError::Refused { addr, command, reason }
            }
            None => {
                let reason = match error {
                    error if error.is_timeout() => format!("no answer within {:?}", self.patience),
                    error if error.is_io_error() => error.to_string(),
                    error => format!("an answer that makes no sense ({})", error.category()),
                };
                ServerError::Lost { addr, command, reason }
            }
        }
    }
}

async fn open(peer: SocketAddr, patience: Duration) -> Result<MultiplexedConnection, RedisError> {
    let silent = RedisConnectionInfo::default().set_skip_set_lib_name();
    let info = ConnectionAddr::Tcp(peer.ip().to_string(), peer.port())
        .into_connection_info()?
        .set_redis_settings(silent);
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(patience))
        .set_response_timeout(Some(patience));
    Client::open(info)?
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

fn sentinel(what: &str) -> Cmd {
    let mut command = cmd("SENTINEL");
    command.arg(what);
    command
}
