//! The little of a Redis client that a writer with an exact clock needs.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A connection through the Service. Whatever it says within its time-out is an answer; anything else ends it.
pub(crate) struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    /// Connects within this time, which each answer may take too.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn connect(addr: SocketAddr, patience: Duration) -> Result<Self, String> {
        let stream = TcpStream::connect_timeout(&addr, patience).map_err(|error| format!("connect: {error}"))?;
        let set = stream
            .set_read_timeout(Some(patience))
            .and_then(|()| stream.set_write_timeout(Some(patience)))
            .and_then(|()| stream.set_nodelay(true));
        set.map_err(|error| error.to_string())?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// One command, written inline; the answer without its type, or what it failed with. `None`: there is no such key.
    ///
    /// # Errors
    /// In words: those of an error reply, or of a broken connection.
    pub(crate) fn ask(&mut self, command: &str) -> Result<Option<String>, String> {
        let sent = self.stream.get_mut().write_all(format!("{command}\r\n").as_bytes());
        sent.map_err(|error| format!("write: {error}"))?;
        let line = self.line()?;
        match line.split_at_checked(1) {
            Some(("+" | ":", text)) => Ok(Some(text.to_owned())),
            Some(("$", "-1")) => Ok(None),
            Some(("$", _)) => self.line().map(Some),
            Some(("-", text)) => Err(text.to_owned()),
            _ => Err(format!("not an answer: {line:?}")),
        }
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Err("the connection was closed".to_owned()),
            Ok(_) if line.ends_with("\r\n") => Ok(line.trim_end().to_owned()),
            Ok(_) => Err("the connection broke off".to_owned()),
            Err(error) => Err(format!("read: {error}")),
        }
    }
}
