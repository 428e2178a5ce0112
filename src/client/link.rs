use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A server's connection on which nothing was said yet. Closed when it is dropped.
pub(crate) struct Link {
    /// What commands go over. Each has to be answered within the patience that [`Link::over`] was given.
    pub(crate) connection: MultiplexedConnection,
    driver: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Link {
    /// Commands over this stream, each answered within `patience`. Nothing is said before the first of them: who may not be
    /// there learns nothing, and an old server is not confused.
    ///
    /// # Errors
    /// When the stream can't be used.
    pub(crate) async fn over(stream: TcpStream, patience: Duration) -> Result<Self, RedisError> {
        stream.set_nodelay(true)?;
        let silent = RedisConnectionInfo::default().set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(patience));
        let (connection, driver) = MultiplexedConnection::new_with_config(&silent, stream, config).await?;
        Ok(Self {
            connection,
            driver: tokio::spawn(driver),
        })
    }
}
