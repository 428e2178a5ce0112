//! A client that sends and sees bytes, and nothing of its own.

use std::time::Duration;

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf,
};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Longer than any reply may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Wire {
    socket: Socket,
}

type Socket = BufReader<Box<dyn Stream>>;

/// A connection, plain or by TLS.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl Stream for TcpStream {}
impl Stream for TlsStream<TcpStream> {}

/// A connection by TLS to who has to be at `host`, which is at loopback.
pub async fn secured(host: &str, port: u16, connector: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.set_nodelay(true)?;
    connector.connect(host.to_owned().try_into().unwrap(), socket).await
}

impl Wire {
    pub async fn connect(port: u16) -> Self {
        Self::try_connect(port)
            .await
            .unwrap_or_else(|| panic!("connecting to port {port}"))
    }

    pub async fn try_connect(port: u16) -> Option<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        socket.set_nodelay(true).ok()?;
        Some(Self::over(socket))
    }

    /// By TLS.
    pub async fn try_secured(port: u16, connector: &TlsConnector) -> std::io::Result<Self> {
        Self::try_secured_to("127.0.0.1", port, connector).await
    }

    /// By TLS to who has to be at `host`.
    pub async fn try_secured_to(host: &str, port: u16, connector: &TlsConnector) -> std::io::Result<Self> {
        Ok(Self::over(secured(host, port, connector).await?))
    }

    fn over(stream: impl Stream + 'static) -> Self {
        Self {
            socket: BufReader::with_capacity(1 << 16, Box::new(stream)),
        }
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        assert!(self.try_send(bytes.as_ref()).await);
    }

    /// The same; whether the other side still took them.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).await.is_ok() && self.socket.flush().await.is_ok()
    }

    /// Sends these words as one request, without waiting for its reply.
    pub async fn ask(&mut self, words: &str) {
        self.send(request_of(words)).await;
    }

    /// Sends these words as one request and gives its reply.
    pub async fn call(&mut self, words: &str) -> String {
        self.ask(words).await;
        self.reply().await
    }

    pub async fn try_call(&mut self, words: &str) -> Option<String> {
        let sent = self.try_send(&request_of(words)).await;
        if sent { self.try_reply().await } else { None }
    }

    /// Sends these requests at once, without waiting for their replies.
    pub async fn ask_all(&mut self, requests: &[&str]) {
        let bytes: Vec<u8> = requests.iter().flat_map(|words| request_of(words)).collect();
        self.send(bytes).await;
    }

    /// Sends these requests at once and gives all replies.
    pub async fn pipeline(&mut self, requests: &[&str]) -> Vec<String> {
        self.ask_all(requests).await;
        self.replies(requests.len()).await
    }

    /// The next replies, or what comes between them.
    pub async fn replies(&mut self, count: usize) -> Vec<String> {
        let mut replies = Vec::new();
        for _ in 0..count {
            replies.push(self.reply().await);
        }
        replies
    }

    /// The next reply, each type with its sign: `+OK`, `:1`, `$value`, `$-`, `*[…]`, `%[…]`.
    pub async fn reply(&mut self) -> String {
        self.try_reply().await.expect("a reply, not the end of the connection")
    }

    /// The same; `None` at the end of the connection.
    pub async fn try_reply(&mut self) -> Option<String> {
        timeout(PATIENCE, read_reply(&mut self.socket))
            .await
            .expect("a reply in time")
    }

    /// Sends these bytes while replies are read: more than both sides' buffers hold would stop otherwise.
    pub fn send_besides(self, bytes: Vec<u8>) -> Listener {
        let (reader, mut writer) = tokio::io::split(self.socket.into_inner());
        Listener {
            socket: BufReader::new(reader),
            sent: tokio::spawn(async move {
                writer.write_all(&bytes).await.unwrap();
                writer
            }),
        }
    }

    /// Bytes until the other side closes.
    pub async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, self.socket.read_to_end(&mut rest))
            .await
            .expect("the end in time");
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Whether the other side closed, everything before having been read.
    pub async fn is_closed(&mut self) -> bool {
        matches!(
            timeout(Duration::from_secs(5), self.socket.read(&mut [0; 1])).await,
            Ok(Ok(0) | Err(_))
        )
    }

    /// Ends the sending half.
    pub async fn finish(&mut self) {
        assert!(self.try_finish().await);
    }

    /// The same; whether the connection was still there.
    pub async fn try_finish(&mut self) -> bool {
        self.socket.shutdown().await.is_ok()
    }
}

/// A request of words that hold no blanks.
fn request_of(words: &str) -> Vec<u8> {
    request(&words.split(' ').collect::<Vec<_>>())
}

/// A client that reads while it sends.
pub struct Listener {
    socket: BufReader<ReadHalf<Box<dyn Stream>>>,
    /// Kept open to the end.
    sent: JoinHandle<WriteHalf<Box<dyn Stream>>>,
}

impl Listener {
    /// As [`Wire::reply`].
    pub async fn reply(&mut self) -> String {
        let reply = timeout(PATIENCE, read_reply(&mut self.socket)).await;
        reply
            .expect("a reply in time")
            .expect("a reply, not the end of the connection")
    }

    /// Until everything was sent.
    pub async fn until_sent(self) {
        self.sent.await.unwrap();
    }
}

/// A request as clients send it.
pub fn request(words: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend_from_slice(word);
        bytes.extend(b"\r\n");
    }
    bytes
}

async fn read_reply<S: AsyncBufRead + Unpin>(socket: &mut S) -> Option<String> {
    let mut line = Vec::new();
    socket.read_until(b'\n', &mut line).await.ok()?;
    let line = String::from_utf8_lossy(line.strip_suffix(b"\r\n")?).into_owned();
    let (sign, text) = line.split_at(1);
    match (sign, text) {
        ("$" | "*", "-1") => Some(format!("{sign}-")),
        ("$" | "=", len) => {
            let mut body = vec![0; len.parse::<usize>().unwrap() + 2];
            socket.read_exact(&mut body).await.ok()?;
            Some(format!("${}", String::from_utf8_lossy(&body[..body.len() - 2])))
        }
        ("*" | "~" | "%" | ">", len) => {
            let len: usize = len.parse().unwrap();
            let mut elements = Vec::new();
            for _ in 0..if sign == "%" { 2 * len } else { len } {
                elements.push(Box::pin(read_reply(socket)).await?);
            }
            Some(format!("{sign}[{}]", elements.join(" ")))
        }
        _ => Some(line),
    }
}
