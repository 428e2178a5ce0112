//! A client that sends the bytes of a request as they are.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection on which something was sent, and nothing read yet.
pub async fn begun(addr: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // A server may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    stream
}

/// What comes back up to the end of the connection; `None` when it does not end in time.
pub async fn ended(stream: &mut TcpStream, within: Duration) -> Option<String> {
    let mut answer = Vec::new();
    tokio::time::timeout(within, stream.read_to_end(&mut answer))
        .await
        .ok()?
        .ok();
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// What is answered to a request that ends its connection.
pub async fn answer(addr: &str, bytes: &[u8]) -> String {
    finish(begun(addr, bytes).await, bytes).await
}

/// What is answered when the client ends its side after these bytes.
pub async fn cut_off(addr: &str, bytes: &[u8]) -> String {
    let mut stream = begun(addr, bytes).await;
    let _ = stream.shutdown().await;
    finish(stream, bytes).await
}

async fn finish(mut stream: TcpStream, bytes: &[u8]) -> String {
    ended(&mut stream, Duration::from_secs(5))
        .await
        .unwrap_or_else(|| panic!("no end: {}", String::from_utf8_lossy(&bytes[..bytes.len().min(200)])))
}
