use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::model::{HostPort, ServerUser, ServerUserKind};
use crate::proxy::resp::{Protocol, ReplyError, ReplyScanner, put_request};

/// Longest reply to a login.
const MAX_REPLY: usize = 64 << 10;

/// Why a server did not let the proxy in.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginError {
    #[error("the login was refused: {0}")]
    Refused(String),
    #[error("the login failed: {0}")]
    Io(#[from] io::Error),
    #[error("the login failed: {0}")]
    Reply(#[from] ReplyError),
}

/// Logs in, and chooses the protocol. Servers that the operator prepared know a user for proxies, made when they were
/// admitted; every other one is logged into as its default user with the product's password, if there is one.
pub(super) async fn log_in(
    socket: &mut TcpStream,
    addr: &HostPort,
    protocol: Protocol,
    product_auth: &str,
) -> Result<(), LoginError> {
    let version = protocol.version().to_string();
    if let Some(user) = ServerUser::at(ServerUserKind::Proxy, addr) {
        let password = user.password(product_auth);
        let reply = ask(socket, &["HELLO", &version, "AUTH", user.name(), &password]).await?;
        match reply.as_str() {
            text if !text.starts_with('-') => return Ok(()),
            text if text.starts_with("-WRONGPASS") || text.starts_with("-NOPERM") => {}
            text if unknown_hello(text) => {}
            text => return Err(refused(text)),
        }
    }
    let mut hello = vec!["HELLO", version.as_str()];
    if !product_auth.is_empty() {
        hello.extend(["AUTH", "default", product_auth]);
    }
    let reply = ask(socket, &hello).await?;
    if !reply.starts_with('-') {
        return Ok(());
    }
    if protocol == Protocol::Resp2 && unknown_hello(&reply) {
        return log_in_without_hello(socket, product_auth).await;
    }
    Err(refused(&reply))
}

/// Servers before Redis 6, codis-server among them, do not know `HELLO`.
async fn log_in_without_hello(socket: &mut TcpStream, product_auth: &str) -> Result<(), LoginError> {
    let request: &[&str] = if product_auth.is_empty() {
        &["PING"]
    } else {
        &["AUTH", product_auth]
    };
    let reply = ask(socket, request).await?;
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

fn refused(reply: &str) -> LoginError {
    LoginError::Refused(reply.trim_start_matches('-').trim_end().to_owned())
}

async fn ask(socket: &mut TcpStream, request: &[&str]) -> Result<String, LoginError> {
    let mut bytes = Vec::new();
    put_request(&mut bytes, request.iter().map(|arg| arg.as_bytes()));
    socket.write_all(&bytes).await?;
    let (mut scanner, mut reply) = (ReplyScanner::default(), Vec::new());
    while scanner.scan(&reply)?.is_none() {
        if reply.len() > MAX_REPLY {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the reply is too long").into());
        }
        if socket.read_buf(&mut reply).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    Ok(String::from_utf8_lossy(&reply).into_owned())
}
