use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, RedisConnectionInfo, RedisError, cmd};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{Info, Resolver, ServerError};
use crate::dashboard::config::Secret;
use crate::model::{HostPort, ServerUser, ServerUserKind};

/// How long a connection may take to come about, and each command to be answered.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Opens connections to servers.
#[derive(Clone)]
pub(crate) struct Servers {
    product_auth: Secret,
    resolver: Resolver,
}

/// A connection that is logged in. Closed when it is dropped.
pub(crate) struct Server {
    addr: HostPort,
    peer: SocketAddr,
    prepared: bool,
    connection: MultiplexedConnection,
    _driver: Driver,
    product_auth: Secret,
}

/// Where replicas of a server find it, and as whom they log in.
#[derive(Debug, Clone)]
pub(crate) struct ReplicationSource {
    addr: HostPort,
    peer: SocketAddr,
    prepared: bool,
}

/// The task behind a connection.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Servers {
    /// Logs in with what derives from the product's secret.
    pub(crate) fn new(product_auth: Secret, resolver: Resolver) -> Self {
        Self { product_auth, resolver }
    }

    /// Where this server was found last.
    pub(crate) fn known(&self, addr: &HostPort) -> Option<SocketAddr> {
        self.resolver.known(addr)
    }

    /// It may be elsewhere now.
    pub(crate) fn forget(&self, addr: &HostPort) {
        self.resolver.forget(addr);
    }

    /// Connects and logs in: as the admin user of the pod in the address if the server has one, else as its default
    /// user with the product's password, or without a password when there is none.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub(crate) async fn connect(&self, addr: &HostPort) -> Result<Server, ServerError> {
        let opened = self.open(addr).await;
        if matches!(
            opened,
            Err(ServerError::Dial { .. } | ServerError::Lost { .. } | ServerError::Login { .. })
        ) {
            self.resolver.forget(addr);
        }
        opened
    }

    /// `INFO` over a connection of its own.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub(crate) async fn ask(&self, addr: &HostPort) -> Result<(Info, ReplicationSource), ServerError> {
        let mut server = self.connect(addr).await?;
        Ok((server.info().await?, server.source()))
    }

    async fn open(&self, addr: &HostPort) -> Result<Server, ServerError> {
        let peer = self.resolver.resolve(addr).await?;
        let dial = |reason: String| ServerError::Dial {
            addr: addr.clone(),
            reason,
        };
        let stream = match tokio::time::timeout(TIMEOUT, TcpStream::connect(peer)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(dial("connect: connection refused".to_owned()));
            }
            Ok(Err(error)) => return Err(dial(format!("connect: {error}"))),
            Err(_) => return Err(dial("i/o timeout".to_owned())),
        };
        stream.set_nodelay(true).map_err(|error| dial(error.to_string()))?;
        // Nothing is said before the login: who may not be there learns nothing, and an old server is not confused.
        let silent = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(TIMEOUT));
        let (connection, driver) = MultiplexedConnection::new_with_config(&silent, stream, config)
            .await
            .map_err(|error| dial(error.to_string()))?;
        let driver = Driver(tokio::spawn(driver));
        let product_auth = self.product_auth.clone();
        let mut server = Server {
            addr: addr.clone(),
            peer,
            prepared: false,
            connection,
            _driver: driver,
            product_auth,
        };
        server.log_in().await?;
        Ok(server)
    }
}

impl Server {
    /// Whether the operator prepared it: it has users of its own, and no default user.
    pub(crate) fn is_prepared(&self) -> bool {
        self.prepared
    }

    /// Where its replicas find it.
    pub(crate) fn source(&self) -> ReplicationSource {
        ReplicationSource {
            addr: self.addr.clone(),
            peer: self.peer,
            prepared: self.prepared,
        }
    }

    /// `INFO`.
    ///
    /// # Errors
    /// See [`ServerError`]; this holds for every call here.
    pub(crate) async fn info(&mut self) -> Result<Info, ServerError> {
        let text: String = self.query("INFO", &cmd("INFO")).await?;
        Ok(Info::parse(&text))
    }

    /// The limit of its memory, in bytes, as text. `None` when it does not tell.
    pub(crate) async fn max_memory(&mut self) -> Result<Option<String>, ServerError> {
        let asked: Result<Vec<String>, _> = self
            .query("CONFIG GET", cmd("CONFIG").arg("GET").arg("maxmemory"))
            .await;
        match asked {
            Ok(pair) => Ok(pair.into_iter().nth(1)),
            Err(ServerError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lets the proxies in. Only prepared servers need it.
    pub(crate) async fn create_proxy_user(&mut self) -> Result<(), ServerError> {
        let Some(user) = ServerUser::at(ServerUserKind::Proxy, &self.addr).filter(|_| self.prepared) else {
            return Ok(());
        };
        let mut command = cmd("ACL");
        command
            .arg("SETUSER")
            .arg(user.name())
            .arg(user.rules(self.product_auth.reveal()));
        // What it says about a rule may hold the rule, and so the password's hash.
        self.query::<()>("ACL SETUSER", &command)
            .await
            .map_err(|error| match error {
                ServerError::Refused { addr, command, .. } => ServerError::Refused {
                    addr,
                    command,
                    reason: "it does not know the rules of our users; Valkey or Redis 7 or newer is needed".to_owned(),
                },
                other => other,
            })
    }

    /// Makes it a primary; its data set stays.
    pub(crate) async fn lead(&mut self) -> Result<(), ServerError> {
        self.query("REPLICAOF NO ONE", cmd("REPLICAOF").arg("NO").arg("ONE"))
            .await
    }

    /// Makes it a replica. The address is given as an IP, because the server would resolve a name on its main thread.
    pub(crate) async fn follow(&mut self, source: &ReplicationSource) -> Result<(), ServerError> {
        let user = ServerUser::at(ServerUserKind::Replica, &source.addr).filter(|_| source.prepared);
        let mut login = cmd("CONFIG");
        login.arg("SET");
        match &user {
            Some(user) => {
                let password = user.password(self.product_auth.reveal());
                login.arg("masteruser").arg(user.name()).arg("masterauth").arg(password);
            }
            None => {
                login.arg("masterauth").arg(self.product_auth.reveal());
            }
        }
        self.query::<()>("CONFIG SET masterauth", &login).await?;
        let (ip, port) = (source.peer.ip().to_string(), source.peer.port());
        self.query("REPLICAOF", cmd("REPLICAOF").arg(ip).arg(port)).await
    }

    /// Ends the connections of all clients but replicas and this one, so that they notice that the role changed.
    pub(crate) async fn disconnect_clients(&mut self) -> Result<(), ServerError> {
        let mut command = cmd("CLIENT");
        command.arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes");
        self.query::<redis::Value>("CLIENT KILL", &command).await.map(drop)
    }

    async fn log_in(&mut self) -> Result<(), ServerError> {
        let mut tried = Vec::new();
        if let Some(admin) = ServerUser::at(ServerUserKind::Admin, &self.addr) {
            let password = admin.password(self.product_auth.reveal());
            match self.auth(cmd("AUTH").arg(admin.name()).arg(password)).await? {
                Ok(()) => {
                    self.prepared = true;
                    return Ok(());
                }
                Err(reason) => tried.push(format!("as {}: {reason}", admin.name())),
            }
        }
        if self.product_auth.reveal().is_empty() {
            return Ok(());
        }
        let password = self.product_auth.clone();
        match self.auth(cmd("AUTH").arg(password.reveal())).await? {
            Ok(()) => Ok(()),
            Err(reason) => {
                tried.push(format!("as default user with product_auth: {reason}"));
                Err(ServerError::Login {
                    addr: self.addr.clone(),
                    reason: tried.join("; "),
                })
            }
        }
    }

    /// A login: the inner error is the server's refusal.
    async fn auth(&mut self, command: &Cmd) -> Result<Result<(), String>, ServerError> {
        match self.query::<()>("AUTH", command).await {
            Ok(()) => Ok(Ok(())),
            Err(ServerError::Refused { reason, .. }) => Ok(Err(reason)),
            Err(error) => Err(error),
        }
    }

    async fn query<T: FromRedisValue>(&mut self, name: &'static str, command: &Cmd) -> Result<T, ServerError> {
        command
            .query_async(&mut self.connection)
            .await
            .map_err(|error: RedisError| {
                let (addr, command) = (self.addr.clone(), name);
                match error.code() {
                    Some(code) => {
                        let reason = format!("{code} {}", error.detail().unwrap_or_default())
                            .trim_end()
                            .to_owned();
                        match code {
                            "LOADING" | "BUSY" => ServerError::Lost { addr, command, reason },
                            _ => ServerError::Refused { addr, command, reason },
                        }
                    }
                    None if error.is_timeout() => ServerError::Lost {
                        addr,
                        command,
                        reason: format!("no answer within {TIMEOUT:?}"),
                    },
                    None => ServerError::Lost {
                        addr,
                        command,
                        reason: error.to_string(),
                    },
                }
            })
    }
}
