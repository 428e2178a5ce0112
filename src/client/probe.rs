use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisConnectionInfo, cmd};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::model::{Info, ServerUser};

/// What came of asking a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Its `INFO`.
    Info(Box<Info>),
    /// Its host is there, and nobody listens.
    Refused,
    /// No answer in time, no way there, or somebody else answered; why.
    None(String),
}

/// Asks one server again and again how it is, over one connection that is kept while it works. Reads only.
#[derive(Default)]
pub struct ServerProbe {
    open: Option<Open>,
}

struct Open {
    peer: SocketAddr,
    connection: MultiplexedConnection,
    driver: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl ServerProbe {
    /// Asks the server at this address for its `INFO`, as this user, within `patience` in all.
    pub async fn ask(&mut self, peer: SocketAddr, user: &ServerUser, password: &str, patience: Duration) -> Answer {
        let asked = tokio::time::timeout(patience, self.info(peer, user, password, patience)).await;
        match asked {
            Ok(Ok(info)) => Answer::Info(Box::new(info)),
            Ok(Err(Failed::Refused)) => {
                self.open = None;
                Answer::Refused
            }
            Ok(Err(Failed::Otherwise(why))) => {
                self.open = None;
                Answer::None(why)
            }
            Err(_) => {
                self.open = None;
                Answer::None(format!("no answer within {patience:?}"))
            }
        }
    }

    async fn info(
        &mut self,
        peer: SocketAddr,
        user: &ServerUser,
        password: &str,
        patience: Duration,
    ) -> Result<Info, Failed> {
        if self.open.as_ref().is_some_and(|open| open.peer == peer) {
            match self.read().await {
                Ok(info) => return Ok(info),
                // It was restarted, perhaps: a new connection tells.
                Err(_) => self.open = None,
            }
        }
        self.open = Some(connect(peer, user, password, patience).await?);
        self.read().await
    }

    async fn read(&mut self) -> Result<Info, Failed> {
        let Some(open) = &mut self.open else {
            return Err(Failed::Otherwise("not connected".to_owned()));
        };
        let text: String = cmd("INFO").query_async(&mut open.connection).await?;
        Ok(Info::parse(&text))
    }
}

enum Failed {
    Refused,
    Otherwise(String),
}

impl From<redis::RedisError> for Failed {
    fn from(error: redis::RedisError) -> Self {
        Self::Otherwise(error.to_string())
    }
}

async fn connect(peer: SocketAddr, user: &ServerUser, password: &str, patience: Duration) -> Result<Open, Failed> {
    let stream = TcpStream::connect(peer).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Failed::Refused,
        _ => Failed::Otherwise(format!("connecting to {peer}: {error}")),
    })?;
    stream
        .set_nodelay(true)
        .map_err(|error| Failed::Otherwise(error.to_string()))?;
    let silent = RedisConnectionInfo::default().set_skip_set_lib_name();
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(patience));
    let (mut connection, driver) = MultiplexedConnection::new_with_config(&silent, stream, config).await?;
    let driver = tokio::spawn(driver);
    let login = cmd("AUTH")
        .arg(user.name())
        .arg(password)
        .query_async::<()>(&mut connection)
        .await;
    if let Err(error) = login {
        driver.abort();
        let refused = error.kind() == ErrorKind::AuthenticationFailed || error.code() == Some("WRONGPASS");
        return Err(Failed::Otherwise(if refused {
            format!("the server at {peer} does not know {}: it is another one", user.name())
        } else {
            error.to_string()
        }));
    }
    Ok(Open {
        peer,
        connection,
        driver,
    })
}
