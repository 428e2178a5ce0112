use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, RedisError, cmd};
use tokio::net::TcpStream;

use super::{Resolver, ServerError, Standing};
use crate::client::Link;
use crate::dashboard::config::Secret;
use crate::model::{HostPort, Info, ServerUser, ServerUserKind};

/// How long a connection may take to come about, and each command to be answered.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Opens connections to servers.
#[derive(Clone)]
pub(crate) struct Servers {
    product_auth: Secret,
    resolver: Resolver,
    /// The revision of the lock that everything is done under.
    revision: i64,
}

/// A connection that is logged in. Closed when it is dropped.
pub(crate) struct Server {
    pub(super) addr: HostPort,
    peer: SocketAddr,
    pub(super) prepared: bool,
    run_id: Option<String>,
    link: Link,
    pub(super) product_auth: Secret,
}

/// Where replicas of a server find it, and as whom they log in.
#[derive(Debug, Clone)]
pub(crate) struct ReplicationSource {
    pub(super) addr: HostPort,
    pub(super) peer: SocketAddr,
    pub(super) prepared: bool,
}

impl ReplicationSource {
    /// Whether the operator prepared it.
    pub(crate) fn is_prepared(&self) -> bool {
        self.prepared
    }
}

impl Servers {
    /// Logs in with what derives from the product's secret.
    pub(crate) fn new(product_auth: Secret, resolver: Resolver) -> Self {
        Self {
            product_auth,
            resolver,
            revision: 0,
        }
    }

    /// The same for the holder of the lock of this revision.
    pub(crate) fn under_lock(&self, revision: i64) -> Self {
        Self {
            revision,
            ..self.clone()
        }
    }

    /// Where this server was found last.
    pub(crate) fn known(&self, addr: &HostPort) -> Option<SocketAddr> {
        self.resolver.known(addr)
    }

    /// Where this server is.
    ///
    /// # Errors
    /// [`ServerError::Lookup`] when nobody knows.
    pub(crate) async fn resolve(&self, addr: &HostPort, standing: Standing) -> Result<SocketAddr, ServerError> {
        self.resolver.resolve(addr, standing).await
    }

    /// It may be elsewhere now.
    pub(crate) fn forget(&self, addr: &HostPort) {
        self.resolver.forget(addr);
    }

    /// Has the address of this server asked for now and then, and waits for nothing.
    pub(crate) fn keep_fresh(&self, addr: &HostPort) {
        self.resolver.refresh([addr]);
    }

    /// Forgets the addresses of hosts that are not among these.
    pub(crate) fn retain(&self, hosts: &HashSet<&str>) {
        self.resolver.retain(hosts);
    }

    /// Connects and logs in: at a server that the operator prepared as the user of our lock, which is created there first
    /// when it is missing, and then those of earlier locks are deleted; at another one as its default user with the
    /// product's password, or without a password when there is none.
    ///
    /// A server that does not know the admin user is treated as one that nobody prepared only when it never was known as
    /// prepared, and when its name still leads there: behind a reused IP is a stranger, who is not told the password.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub(crate) async fn connect(&self, addr: &HostPort, standing: Standing) -> Result<Server, ServerError> {
        let opened = self.open(addr, standing).await;
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
    pub(crate) async fn ask(
        &self,
        addr: &HostPort,
        standing: Standing,
    ) -> Result<(Info, ReplicationSource), ServerError> {
        let mut server = self.connect(addr, standing).await?;
        Ok((server.info().await?, server.source()))
    }

    async fn open(&self, addr: &HostPort, standing: Standing) -> Result<Server, ServerError> {
        let mut server = self.dial(addr, self.resolver.resolve(addr, standing).await?).await?;
        let Some(pod) = addr.pod() else {
            return server.log_in_as_default(String::new()).await;
        };
        let admin = ServerUser::new(ServerUserKind::Admin, pod);
        let Err(mut refusal) = server.log_in_under_lock(pod, &admin, self.revision).await? else {
            return Ok(server);
        };
        let peer = self.resolver.resolve_anew(addr, standing).await?;
        if peer != server.peer {
            server = self.dial(addr, peer).await?;
            match server.log_in_under_lock(pod, &admin, self.revision).await? {
                Ok(()) => return Ok(server),
                Err(again) => refusal = again,
            }
        }
        let tried = format!("as {}: {}", admin.name(), refusal.code);
        if standing == Standing::Prepared || !refusal.is_unknown_user() {
            let reason = match standing {
                Standing::Prepared => format!(
                    "{tried}; it let this user in before, so that nothing else is tried: another server may be at its \
                     address, or product_auth was changed"
                ),
                _ => tried,
            };
            let addr = addr.clone();
            return Err(ServerError::Login { addr, reason });
        }
        server.log_in_as_default(tried + "; ").await
    }

    /// A connection on which nothing was said.
    async fn dial(&self, addr: &HostPort, peer: SocketAddr) -> Result<Server, ServerError> {
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
        let link = Link::over(stream, TIMEOUT)
            .await
            .map_err(|error| dial(error.to_string()))?;
        Ok(Server {
            addr: addr.clone(),
            peer,
            prepared: false,
            run_id: None,
            link,
            product_auth: self.product_auth.clone(),
        })
    }
}

/// A server's error, in its words. These may repeat what it was sent.
#[derive(Debug)]
struct Refusal {
    code: String,
    words: String,
}

impl Refusal {
    /// Whether a login failed because there is no such user, or no users at all; as far as the server tells.
    fn is_unknown_user(&self) -> bool {
        match self.code.as_str() {
            "WRONGPASS" | "NOPERM" => true,
            "ERR" => {
                self.words.contains("without any password configured")
                    || self.words.starts_with("wrong number of arguments")
            }
            _ => false,
        }
    }

    /// The same, with words that repeat nothing.
    fn in_our_words(self, words: &str) -> Self {
        let words = words.to_owned();
        Self { words, ..self }
    }
}

/// Why a command has no result.
enum Failure {
    Refused(Refusal),
    /// No answer, or none that makes sense.
    Lost(String),
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
        let info = Info::parse(&text);
        self.run_id = Some(info.run_id().to_owned());
        Ok(info)
    }

    /// The process at the other end, once it was asked. A connection never leads to another one.
    pub(crate) fn run_id(&self) -> Option<&str> {
        self.run_id.as_deref()
    }

    /// Lets in these proxies and no others. Only prepared servers know proxies apart.
    pub(crate) async fn let_in(&mut self, proxies: &[ServerUserKind]) -> Result<(), ServerError> {
        let Some(pod) = self.addr.pod().filter(|_| self.prepared).map(str::to_owned) else {
            return Ok(());
        };
        let known = self.users(&pod).await?;
        let is_proxy = |user: &&ServerUser| matches!(user.kind(), ServerUserKind::Proxy { .. });
        let surplus: Vec<&ServerUser> = known
            .iter()
            .filter(is_proxy)
            .filter(|user| !proxies.contains(user.kind()))
            .collect();
        self.delete_users(&surplus).await?;
        for kind in proxies {
            let user = ServerUser::new(kind.clone(), &pod);
            if !known.contains(&user) {
                self.set_user(&user, &[]).await?;
            }
        }
        Ok(())
    }

    /// All users of ours.
    async fn users(&mut self, pod: &str) -> Result<Vec<ServerUser>, ServerError> {
        let names: Vec<String> = self.query("ACL USERS", cmd("ACL").arg("USERS")).await?;
        Ok(names.iter().filter_map(|name| ServerUser::parse(name, pod)).collect())
    }

    /// Creates a user, or makes it what it is to be; `more`: rules that come last.
    async fn set_user(&mut self, user: &ServerUser, more: &[&str]) -> Result<(), ServerError> {
        let mut command = cmd("ACL");
        command
            .arg("SETUSER")
            .arg(user.name())
            .arg(user.rules(self.product_auth.reveal()))
            .arg(more);
        let words = "it does not know the rules of our users; Valkey or Redis 7 or newer is needed";
        self.query_secret("ACL SETUSER", &command, words).await
    }

    /// Ends the connections of these users, and refuses them from now on.
    async fn delete_users(&mut self, users: &[&ServerUser]) -> Result<(), ServerError> {
        if users.is_empty() {
            return Ok(());
        }
        let mut command = cmd("ACL");
        command.arg("DELUSER");
        for user in users {
            command.arg(user.name());
        }
        self.query::<i64>("ACL DELUSER", &command).await.map(drop)
    }

    /// Logs in as the user of our lock; where there is none, or another product secret, `admin` is asked to create it.
    async fn log_in_under_lock(
        &mut self,
        pod: &str,
        admin: &ServerUser,
        revision: i64,
    ) -> Result<Result<(), Refusal>, ServerError> {
        let topom = ServerUser::new(ServerUserKind::Topom { revision }, pod);
        if self.log_in_as(&topom).await?.is_ok() {
            return Ok(Ok(()));
        }
        if let Err(refusal) = self.log_in_as(admin).await? {
            return Ok(Err(refusal));
        }
        let known = self.users(pod).await?;
        let mut former = Vec::new();
        for user in &known {
            if let ServerUserKind::Topom { revision: other } = user.kind() {
                if *other > revision {
                    return Err(ServerError::Superseded {
                        addr: self.addr.clone(),
                        theirs: *other,
                        ours: revision,
                    });
                }
                former.push(user);
            }
        }
        // Only who may log in counts as done: should this be dropped half way, it is done again.
        self.set_user(&topom, &["off"]).await?;
        self.delete_users(&former).await?;
        self.set_user(&topom, &[]).await?;
        self.log_in_as(&topom).await
    }

    async fn log_in_as(&mut self, user: &ServerUser) -> Result<Result<(), Refusal>, ServerError> {
        let password = user.password(self.product_auth.reveal());
        let answer = self.auth(cmd("AUTH").arg(user.name()).arg(password)).await?;
        self.prepared = answer.is_ok();
        Ok(answer)
    }

    /// `tried`: what was tried before, for the error.
    async fn log_in_as_default(mut self, tried: String) -> Result<Self, ServerError> {
        if self.product_auth.reveal().is_empty() {
            return Ok(self);
        }
        let password = self.product_auth.clone();
        match self.auth(cmd("AUTH").arg(password.reveal())).await? {
            Ok(()) => Ok(self),
            Err(refusal) => Err(ServerError::Login {
                addr: self.addr,
                reason: format!("{tried}as default user with product_auth: {}", refusal.code),
            }),
        }
    }

    /// A login: the inner error is the server's refusal.
    async fn auth(&mut self, command: &Cmd) -> Result<Result<(), Refusal>, ServerError> {
        match self.send::<()>(command).await {
            Ok(()) => Ok(Ok(())),
            Err(Failure::Refused(refusal)) if !is_passing(&refusal.code) => Ok(Err(refusal)),
            Err(Failure::Refused(refusal)) => {
                let refusal = refusal.in_our_words("it answers no login yet");
                Err(self.error("AUTH", Failure::Refused(refusal)))
            }
            Err(failure) => Err(self.error("AUTH", failure)),
        }
    }

    pub(super) async fn query<T: FromRedisValue>(
        &mut self,
        name: &'static str,
        command: &Cmd,
    ) -> Result<T, ServerError> {
        let answer = self.send(command).await;
        answer.map_err(|failure| self.error(name, failure))
    }

    /// A command that holds a secret. Servers may repeat what they were sent, so only the code of a refusal is kept, with
    /// words of ours.
    pub(super) async fn query_secret(
        &mut self,
        name: &'static str,
        command: &Cmd,
        words: &str,
    ) -> Result<(), ServerError> {
        let answer = self.send::<()>(command).await;
        answer.map_err(|failure| match failure {
            Failure::Refused(refusal) => self.error(name, Failure::Refused(refusal.in_our_words(words))),
            lost => self.error(name, lost),
        })
    }

    fn error(&self, command: &'static str, failure: Failure) -> ServerError {
        let addr = self.addr.clone();
        match failure {
            Failure::Lost(reason) => ServerError::Lost { addr, command, reason },
            Failure::Refused(refusal) => {
                let reason = format!("{} {}", refusal.code, refusal.words).trim_end().to_owned();
                if is_passing(&refusal.code) {
                    ServerError::Lost { addr, command, reason }
                } else {
                    ServerError::Refused { addr, command, reason }
                }
            }
        }
    }

    async fn send<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, Failure> {
        let answer = command.query_async(&mut self.link.connection).await;
        answer.map_err(|error: RedisError| match error.code() {
            Some(code) => Failure::Refused(Refusal {
                code: code.to_owned(),
                words: error.detail().unwrap_or_default().to_owned(),
            }),
            None if error.is_timeout() => Failure::Lost(format!("no answer within {TIMEOUT:?}")),
            None if error.is_io_error() => Failure::Lost(error.to_string()),
            // What it holds may be what was sent, when whoever is there sends everything back.
            None => Failure::Lost(format!("an answer that makes no sense ({})", error.category())),
        })
    }
}

/// Whether an error with this code goes away by itself.
fn is_passing(code: &str) -> bool {
    matches!(code, "LOADING" | "BUSY")
}
