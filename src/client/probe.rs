use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use redis::{ErrorKind, cmd};
use tokio::net::TcpStream;

use super::Link;
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
    link: Link,
}

impl ServerProbe {
    /// Asks the server at this address for its `INFO`, as this user, within `patience` in all.
    pub async fn ask(&mut self, peer: SocketAddr, user: &ServerUser, password: &str, patience: Duration) -> Answer {
        let asked = tokio::time::timeout(patience, self.info(peer, user, password, patience)).await;
        let answer = match asked {
            Ok(Ok(info)) => return Answer::Info(Box::new(info)),
            Ok(Err(Failed::Refused)) => Answer::Refused,
            Ok(Err(Failed::Otherwise(why))) => Answer::None(why),
            Err(_) => Answer::None(format!("no answer within {patience:?}")),
        };
        self.open = None;
        answer
    }

    async fn info(
        &mut self,
        peer: SocketAddr,
        user: &ServerUser,
        password: &str,
        patience: Duration,
    ) -> Result<Info, Failed> {
        if let Some(open) = self.open.as_mut().filter(|open| open.peer == peer)
            && let Ok(info) = read(&mut open.link).await
        {
            return Ok(info);
        }
        // A link that fails tells that the server was restarted, perhaps: a new one shows.
        let mut link = connect(peer, user, password, patience).await?;
        let info = read(&mut link).await;
        self.open = Some(Open { peer, link });
        info
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

async fn connect(peer: SocketAddr, user: &ServerUser, password: &str, patience: Duration) -> Result<Link, Failed> {
    let stream = TcpStream::connect(peer).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Failed::Refused,
        _ => Failed::Otherwise(format!("connecting to {peer}: {error}")),
    })?;
    let mut link = Link::over(stream, patience).await?;
    cmd("AUTH")
        .arg(user.name())
        .arg(password)
        .query_async::<()>(&mut link.connection)
        .await
        .map_err(|error| {
            let refused = error.kind() == ErrorKind::AuthenticationFailed || error.code() == Some("WRONGPASS");
            Failed::Otherwise(if refused {
                format!("the server at {peer} does not know {}: it is another one", user.name())
            } else {
                error.to_string()
            })
        })?;
    Ok(link)
}

async fn read(link: &mut Link) -> Result<Info, Failed> {
    let text: String = cmd("INFO").query_async(&mut link.connection).await?;
    Ok(Info::parse(&text))
}
