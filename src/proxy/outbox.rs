use std::collections::VecDeque;
use std::io;

use super::transport::Transport;

/// Capacity that an empty buffer keeps; what grew beyond is given back.
const KEEP: usize = 64 << 10;
/// The most that lies in one piece, where it did not come in one.
const BLOCK: usize = 128 << 10;

/// Bytes on their way to a socket. Where they are many they lie in blocks of one size: one piece that grows and shrinks
/// would leave holes in the memory, and be twice as large as what is in it.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// What goes first: of few, all.
    first: Vec<u8>,
    /// How much of `first` went.
    sent: usize,
    /// What follows. None is empty.
    blocks: VecDeque<Vec<u8>>,
    /// How many bytes `blocks` hold.
    behind: usize,
}

impl Outbox {
    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.first.len() - self.sent + self.behind
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes of memory it takes.
    pub(super) fn memory(&self) -> usize {
        self.first.capacity() + self.behind.max(self.blocks.len() * BLOCK)
    }

    /// Appends.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        if self.behind == 0 && self.first.len() + bytes.len() <= BLOCK {
            self.first.extend_from_slice(bytes);
        } else {
            self.put_behind(bytes);
        }
    }

    fn put_behind(&mut self, mut bytes: &[u8]) {
        self.behind += bytes.len();
        if let Some(last) = self.blocks.back_mut() {
            let (fits, rest) = bytes.split_at(bytes.len().min(BLOCK.saturating_sub(last.len())));
            last.extend_from_slice(fits);
            bytes = rest;
        }
        for chunk in bytes.chunks(BLOCK) {
            let mut block = Vec::with_capacity(BLOCK);
            block.extend_from_slice(chunk);
            self.blocks.push_back(block);
        }
    }

    /// Appends what `write` appends.
    pub(super) fn put_by(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        match self.blocks.back_mut() {
            None => write(&mut self.first),
            Some(last) => {
                let before = last.len();
                write(last);
                self.behind += last.len() - before;
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Writes until the socket is full, or all is gone: how many bytes went.
    pub(super) fn write_to(&mut self, to: &Transport) -> io::Result<usize> {
        let mut went = 0;
        while self.sent < self.first.len() || self.begin_next() {
            match to.write(&self.first[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => {
                    self.sent += taken;
                    went += taken;
                    if self.sent < self.first.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(went)
    }

    /// All of `first` went: whether there is more.
    fn begin_next(&mut self) -> bool {
        self.sent = 0;
        if let Some(block) = self.blocks.pop_front() {
            self.behind -= block.len();
            self.first = block;
            return true;
        }
        if self.first.capacity() > KEEP {
            self.first = Vec::new();
        } else {
            self.first.clear();
        }
        false
    }

    /// All that waits.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> Vec<u8> {
        let behind = self.blocks.iter().flatten();
        self.first[self.sent..].iter().chain(behind).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[tokio::test]
    async fn much_goes_in_order_and_takes_little_more_memory_than_it_is() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let connection = crate::proxy::transport::Detached::from(listener.accept().unwrap().0);
        let transport = connection.attach().unwrap();
        let (mut outbox, mut want) = (Outbox::default(), Vec::new());
        for (number, size) in [10, 70_000, 70_000, 5, 400_000, 131_072, 20_000_000, 3]
            .into_iter()
            .enumerate()
        {
            let bytes = vec![number as u8; size];
            if number % 2 == 0 {
                outbox.put(&bytes);
            } else {
                outbox.put_by(|out| out.extend_from_slice(&bytes));
            }
            want.extend(bytes);
            assert!(outbox.len() == want.len() && outbox.bytes() == want);
        }
        assert!(outbox.memory() < want.len() * 5 / 4, "{}", outbox.memory());
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            peer.read_to_end(&mut got).unwrap();
            got
        });
        while !outbox.is_empty() {
            std::future::poll_fn(|cx| transport.poll_write_ready(cx)).await;
            outbox.write_to(&transport).unwrap();
        }
        assert!(outbox.memory() <= KEEP);
        transport.close();
        assert!(reader.join().unwrap() == want);
    }
}
