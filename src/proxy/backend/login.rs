use std::collections::HashSet;
use std::io;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::model::{HostPort, ServerUser, ServerUserKind};
use crate::proxy::resp::{Protocol, ReplyError, ReplyScanner, put_request};
use crate::proxy::transport::Transport;

/// Longest reply to a login.
const MAX_REPLY: usize = 64 << 10;

/// As whom the proxy logs in.
#[derive(Clone)]
pub(in crate::proxy) struct Login {
    /// Who this process is at servers that the operator prepared.
    pub(in crate::proxy) user: ServerUserKind,
    /// The product's password.
    pub(in crate::proxy) product_auth: String,
}

/// Why a server did not let the proxy in.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum LoginError {
    /// The server's code.
    #[error("the login was refused: {0}")]
    Refused(String),
    /// It has fewer databases.
    #[error("it has no database {0}")]
    Database(u16),
    /// The network.
    #[error("the login failed: {0}")]
    Io(#[from] io::Error),
    /// It answered what is no reply.
    #[error("the login failed: {0}")]
    Reply(#[from] ReplyError),
}

/// Servers that the operator prepared: those that once knew the proxies' user, and those that a dashboard named. Such a one is never logged into as
/// its default user: it has none, so that whoever refuses the user is a server not admitted yet, or another one behind
/// its address, which may neither learn the product's password nor get its clients' requests.
#[derive(Debug, Default)]
pub(in crate::proxy) struct PreparedServers(Mutex<HashSet<HostPort>>);

impl PreparedServers {
    fn contains(&self, addr: &HostPort) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(addr)
    }

    /// A dashboard named these.
    pub(in crate::proxy) fn learn<'a>(&self, named: impl Iterator<Item = &'a HostPort>) {
        named.for_each(|addr| self.insert(addr));
    }

    fn insert(&self, addr: &HostPort) {
        let mut prepared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !prepared.contains(addr) {
            prepared.insert(addr.clone());
        }
    }
}

/// Logs in, and chooses the protocol. Servers that the operator prepared know a user for proxies, made when they were
/// admitted; every other one is logged into as its default user with the product's password, if there is one.
pub(super) async fn log_in(
    transport: &mut Transport,
    addr: &HostPort,
    protocol: Protocol,
    own: &Login,
    prepared: &PreparedServers,
) -> Result<(), LoginError> {
    let version = protocol.version().to_string();
    let product_auth = own.product_auth.as_str();
    if let Some(user) = ServerUser::at(own.user.clone(), addr) {
        let password = user.password(product_auth);
        let reply = ask(transport, &["HELLO", &version, "AUTH", user.name(), &password]).await?;
        if !reply.starts_with('-') {
            prepared.insert(addr);
            return Ok(());
        }
        let knows_no_users = reply.starts_with("-WRONGPASS") || reply.starts_with("-NOPERM") || unknown_hello(&reply);
        if !knows_no_users || prepared.contains(addr) {
            return Err(refused(&reply));
        }
    }
    let mut hello = vec!["HELLO", version.as_str()];
    if !product_auth.is_empty() {
        hello.extend(["AUTH", "default", product_auth]);
    }
    let reply = ask(transport, &hello).await?;
    if !reply.starts_with('-') {
        return Ok(());
    }
    if protocol == Protocol::Resp2 && unknown_hello(&reply) {
        return log_in_without_hello(transport, product_auth).await;
    }
    Err(refused(&reply))
}

/// Chooses a database.
pub(super) async fn select_database(transport: &mut Transport, database: u16) -> Result<(), LoginError> {
    let reply = ask(transport, &["SELECT", &database.to_string()]).await?;
    if reply.starts_with('-') {
        return Err(LoginError::Database(database));
    }
    Ok(())
}

/// Servers before Redis 6, codis-server among them, do not know `HELLO`.
async fn log_in_without_hello(transport: &mut Transport, product_auth: &str) -> Result<(), LoginError> {
    let request: &[&str] = if product_auth.is_empty() {
        &["PING"]
    } else {
        &["AUTH", product_auth]
    };
    let reply = ask(transport, request).await?;
    // They are in although the data set is not ready.
    let not_ready = reply.starts_with("-LOADING") || reply.starts_with("-MASTERDOWN");
    if reply.starts_with('-') && !not_ready {
        Err(refused(&reply))
    } else {
        Ok(())
    }
}

fn unknown_hello(reply: &str) -> bool {
    reply.starts_with("-ERR unknown command")
}

/// A server's refusal, without its words: they may repeat what it was sent.
fn refused(reply: &str) -> LoginError {
    let code = reply.trim_start_matches('-').split_whitespace().next();
    LoginError::Refused(code.unwrap_or("no reason").to_owned())
}

async fn ask(transport: &mut Transport, request: &[&str]) -> Result<String, LoginError> {
    let mut bytes = Vec::new();
    put_request(&mut bytes, request.iter().map(|arg| arg.as_bytes()));
    transport.write_all(&bytes).await?;
    let (mut scanner, mut reply) = (ReplyScanner::default(), Vec::new());
    while scanner.scan(&reply)?.is_none() {
        if reply.len() > MAX_REPLY {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the reply is too long").into());
        }
        if transport.read_buf(&mut reply).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream};

    fn user() -> ServerUserKind {
        ServerUserKind::Proxy {
            token: "t".into(),
            incarnation: "i".to_owned(),
        }
    }

    /// Logs in at a server that gives these answers: what it was asked, and what came of it.
    async fn login_at(
        addr: &str,
        protocol: Protocol,
        auth: &str,
        answers: &'static [&'static str],
    ) -> (Vec<String>, Result<(), String>) {
        login_again_at(addr, protocol, auth, answers, &PreparedServers::default()).await
    }

    async fn login_again_at(
        addr: &str,
        protocol: Protocol,
        auth: &str,
        answers: &'static [&'static str],
        prepared: &PreparedServers,
    ) -> (Vec<String>, Result<(), String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut transport = Transport::Plain(socket);
        let server = tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            for answer in answers {
                let mut buffer = vec![0; 4096];
                let read = peer.read(&mut buffer).await.unwrap();
                let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                asked.push(
                    text.lines()
                        .skip(1)
                        .filter(|line| !line.starts_with('$'))
                        .collect::<Vec<_>>()
                        .join(" "),
                );
                peer.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
            }
            asked
        });
        let own = Login {
            user: user(),
            product_auth: auth.to_owned(),
        };
        let came = log_in(&mut transport, &addr.parse().unwrap(), protocol, &own, prepared)
            .await
            .map_err(|error| error.to_string());
        drop(transport);
        (server.await.unwrap(), came)
    }

    #[tokio::test]
    async fn prepared_servers_are_logged_into_as_their_own_user() {
        let addr = "shop-g1-0.shop.ns.svc:6379";
        let user = ServerUser::new(user(), "shop-g1-0");
        let password = user.password("secret");
        let (asked, came) = login_at(addr, Protocol::Resp3, "secret", &["%0"]).await;
        assert_eq!(
            (asked, came),
            (vec![format!("HELLO 3 AUTH proxy-t-i@shop-g1-0 {password}")], Ok(()))
        );
        let (asked, came) = login_at(addr, Protocol::Resp2, "secret", &["-WRONGPASS no", "*0"]).await;
        assert_eq!((asked[1].as_str(), came), ("HELLO 2 AUTH default secret", Ok(())));
        let (_, came) = login_at(addr, Protocol::Resp2, "secret", &["-WRONGPASS no", "-WRONGPASS never"]).await;
        assert_eq!(came, Err("the login was refused: WRONGPASS".to_owned()));
        let (asked, came) = login_at(addr, Protocol::Resp2, "secret", &["-ERR max number of clients reached"]).await;
        assert!(
            asked.len() == 1 && came.is_err(),
            "only a refused user is a reason to try another"
        );
    }

    #[tokio::test]
    async fn secret_is_never_offered_where_the_proxies_user_was_once_known() {
        let (addr, prepared) = ("shop-g1-0.shop.ns.svc:6379", PreparedServers::default());
        let (_, came) = login_again_at(addr, Protocol::Resp2, "secret", &["*0"], &prepared).await;
        assert_eq!(came, Ok(()));
        for refusal in [&["-WRONGPASS no"], &["-NOPERM no"], &["-ERR unknown command 'HELLO'"]] {
            let (asked, came) = login_again_at(addr, Protocol::Resp3, "secret", refusal, &prepared).await;
            assert!(asked.len() == 1 && came.is_err(), "{refusal:?}: {asked:?}");
        }
        let (asked, _) = login_again_at(
            "shop-g2-0.shop.ns.svc:6379",
            Protocol::Resp2,
            "secret",
            &["-WRONGPASS no", "*0"],
            &prepared,
        )
        .await;
        assert_eq!(asked.len(), 2, "others are not meant");
    }

    #[tokio::test]
    async fn secret_is_never_offered_to_who_stands_at_a_prepared_servers_place_when_the_proxy_starts() {
        let (addr, prepared) = ("shop-g1-0.shop.ns.svc:6379", PreparedServers::default());
        prepared.learn([addr.parse().unwrap()].iter());
        let (asked, came) = login_again_at(addr, Protocol::Resp2, "secret", &["-WRONGPASS no"], &prepared).await;
        assert!(asked.len() == 1 && came.is_err(), "{asked:?}");
    }

    #[tokio::test]
    async fn other_servers_are_logged_into_as_their_default_user() {
        let (asked, came) = login_at("10.0.0.1:6379", Protocol::Resp2, "", &["*0"]).await;
        assert_eq!((asked, came), (vec!["HELLO 2".to_owned()], Ok(())));
        let (_, came) = login_at("10.0.0.1:6379", Protocol::Resp2, "", &["-NOAUTH HELLO must"]).await;
        assert!(came.is_err());
    }

    #[tokio::test]
    async fn servers_without_hello_speak_resp2() {
        let (asked, came) = login_at(
            "codis:6379",
            Protocol::Resp2,
            "pw",
            &["-ERR unknown command 'HELLO'", "+OK"],
        )
        .await;
        assert_eq!((asked[1].as_str(), came), ("AUTH pw", Ok(())));
        let (asked, came) = login_at(
            "codis:6379",
            Protocol::Resp2,
            "",
            &["-ERR unknown command 'HELLO'", "-LOADING data"],
        )
        .await;
        assert_eq!((asked[1].as_str(), came), ("PING", Ok(())));
        // Such a server repeats what it was sent, passwords included.
        const REPEATS: &str =
            "-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `secret`";
        let (_, came) = login_at("codis:6379", Protocol::Resp3, "secret", &[REPEATS]).await;
        assert_eq!(came, Err("the login was refused: ERR".to_owned()));
    }
}
