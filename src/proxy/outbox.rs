use std::io;

use super::transport::Transport;

/// Capacity that an empty buffer keeps; what grew beyond is given back.
const KEEP: usize = 64 << 10;

/// Bytes on their way to a socket.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What to append to.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// One write of all there is: how many bytes went, which is 0 when it is full.
    pub(super) fn write_to(&mut self, to: &Transport) -> io::Result<usize> {
        if self.is_empty() {
            return Ok(0);
        }
        match to.write(&self.bytes[self.sent..]) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => {
                self.advance(taken);
                Ok(taken)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn advance(&mut self, taken: usize) {
        self.sent += taken;
        if self.sent == self.bytes.len() {
            self.sent = 0;
            if self.bytes.capacity() > KEEP {
                self.bytes = Vec::new()
            } else {
                self.bytes.clear()
            }
        } else if self.sent > self.bytes.len() / 2 && self.sent > KEEP {
            // Moving what is left costs less than the sending of what went.
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }
}
