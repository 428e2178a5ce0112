use std::io;

use crate::proxy::transport::Transport;

/// Capacity that an empty buffer keeps; what grew beyond is given back.
const KEEP: usize = 256 << 10;

/// The bytes of requests until they are answered: those that were sent are kept, because a server may refuse one without
/// having looked at it, and it is sent again then.
#[derive(Debug, Default)]
pub(super) struct Requests {
    bytes: Vec<u8>,
    /// Where the first unanswered request begins.
    answered: usize,
    sent: usize,
}

impl Requests {
    /// How many bytes were not answered, sent or not.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.answered
    }

    /// How many bytes of memory they take.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether some wait to be sent.
    pub(super) fn has_unsent(&self) -> bool {
        self.sent < self.bytes.len()
    }

    /// Appends a request: how long it is.
    pub(super) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let before = self.bytes.len();
        write(&mut self.bytes);
        self.bytes.len() - before
    }

    /// The first unanswered request, which is `len` bytes long, and whether any byte of it was sent.
    pub(super) fn first(&self, len: usize) -> (&[u8], bool) {
        let request = self.bytes.get(self.answered..self.answered + len);
        (request.unwrap_or_default(), self.sent > self.answered)
    }

    /// The first request, which is `len` bytes long, was answered.
    pub(super) fn answer(&mut self, len: usize) {
        self.answered += len;
    }

    /// Gives back what answered requests took.
    pub(super) fn tidy(&mut self) {
        // A server may answer what it has not read to its end; the end has to be sent all the same.
        let done = self.answered.min(self.sent);
        if done == self.bytes.len() {
            if self.bytes.capacity() > KEEP {
                self.bytes = Vec::new()
            } else {
                self.bytes.clear()
            }
            (self.answered, self.sent) = (0, 0);
        } else if done > KEEP && done > self.bytes.len() / 2 {
            // Moving what is left costs less than the sending of what went.
            self.bytes.drain(..done);
            self.answered -= done;
            self.sent -= done;
        }
    }

    /// One write of all there is: how many bytes went, which is 0 when it is full.
    pub(super) fn write_to(&mut self, to: &Transport) -> io::Result<usize> {
        if !self.has_unsent() {
            return Ok(0);
        }
        match to.write(&self.bytes[self.sent..]) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => {
                self.sent += taken;
                Ok(taken)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    #[cfg(test)]
    pub(super) fn mark_sent(&mut self, bytes: usize) {
        self.sent += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn memory_of_answered_requests_is_given_back() {
        let mut requests = Requests::default();
        let len = requests.push(|out| out.extend(vec![b'x'; 4 * KEEP]));
        requests.push(|out| out.push(b'y'));
        requests.mark_sent(len);
        requests.answer(len);
        requests.tidy();
        assert_eq!((requests.first(1), requests.len()), ((b"y".as_slice(), false), 1));
        requests.mark_sent(1);
        requests.answer(1);
        requests.tidy();
        assert!(requests.bytes.capacity() <= KEEP && requests.len() == 0);
    }

    proptest! {
        #[test]
        fn requests_are_kept_until_they_are_answered(
            steps in proptest::collection::vec((0_u8..3, 1_usize..400_000), 1..60),
        ) {
            let mut requests = Requests::default();
            let (mut waiting, mut number) = (std::collections::VecDeque::new(), 0_u8);
            for (kind, size) in steps {
                match kind {
                    0 => {
                        number = number.wrapping_add(1);
                        let len = requests.push(|out| out.extend(vec![number; size]));
                        waiting.push_back((number, len));
                    }
                    1 => requests.mark_sent(size.min(requests.bytes.len() - requests.sent)),
                    _ => if let Some((number, len)) = waiting.pop_front() {
                        let (request, _) = requests.first(len);
                        prop_assert!(request.len() == len && request.iter().all(|byte| *byte == number));
                        requests.answer(len);
                        requests.tidy();
                    }
                }
                prop_assert_eq!(requests.len(), waiting.iter().map(|(_, len)| len).sum::<usize>());
            }
        }
    }
}
