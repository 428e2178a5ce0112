use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::requests::Requests;
use crate::model::SlotId;
use crate::proxy::command::CommandId;
use crate::proxy::leftovers::drop_used;
use crate::proxy::resp::{ReplyError, ReplyScanner};
use crate::proxy::session::Client;
use crate::proxy::transport::Transport;

/// The sequence number of questions about replication.
const REPLICATION: u64 = 1;
/// The sequence number of questions of which somebody hears the answer.
const QUESTION: u64 = 2;
/// The sequence number of what a transaction queues.
const QUEUED: u64 = 3;

/// Who waits for a reply.
#[derive(Debug)]
pub(in crate::proxy) struct Ticket {
    /// `None`: no client, the proxy asked.
    pub(in crate::proxy) client: Option<Rc<Client>>,
    /// Which of the client's requests.
    pub(in crate::proxy) sequence: u64,
    /// The whole of it, or one part.
    pub(in crate::proxy) part: Part,
    /// For the figures.
    pub(in crate::proxy) command: CommandId,
    /// When it was read from the client.
    pub(in crate::proxy) since: Instant,
}

/// What of a client's request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Part {
    /// All; its keys lie in this slot.
    Whole(SlotId),
    /// One part of a split request, which knows the slots.
    Split(u32),
}

impl Ticket {
    /// A ping of the proxy's own.
    pub(super) fn ping(now: Instant) -> Self {
        Self::own(0, now)
    }

    /// A question of the proxy's own how the server stands to its primary.
    pub(super) fn replication(now: Instant) -> Self {
        Self::own(REPLICATION, now)
    }

    /// Whether it is such a question.
    pub(super) fn asks_for_replication(&self) -> bool {
        self.client.is_none() && self.sequence == REPLICATION
    }

    /// A question of the proxy's own of which somebody hears the answer.
    pub(super) fn question(now: Instant) -> Self {
        Self::own(QUESTION, now)
    }

    /// Whether it is such a question.
    pub(super) fn is_question(&self) -> bool {
        self.client.is_none() && self.sequence == QUESTION
    }

    /// What a client's transaction queues, for the sake of the last of its requests.
    pub(super) fn queued(now: Instant) -> Self {
        Self::own(QUEUED, now)
    }

    /// Whether it is one of those.
    pub(super) fn is_queued(&self) -> bool {
        self.client.is_none() && self.sequence == QUEUED
    }

    /// Whether its client gets the reply as it comes, so that the beginning may go before the end is there.
    pub(super) fn takes_parts(&self) -> bool {
        self.client.is_some() && matches!(self.part, Part::Whole(_))
    }

    fn own(sequence: u64, now: Instant) -> Self {
        Self {
            client: None,
            sequence,
            part: Part::Split(0),
            command: 0,
            since: now,
        }
    }
}

/// When a request may be sent again. All but those that never may are when no byte of them was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Repeat {
    /// Never.
    Never,
    /// Also when the server refused it.
    Refused,
    /// It runs a script, whose own commands may be refused when others were carried out: also when the server says that it
    /// did not begin.
    Unbegun,
    /// `EXEC` at the end of a transaction, behind so many requests whose replies nobody waits for: also when the server
    /// refused to queue one of these.
    Unqueued {
        /// How many.
        unheard: u32,
    },
}

/// A request that waits for its reply.
#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    /// How many bytes it has.
    len: usize,
    repeat: Repeat,
}

/// What became of a request.
#[derive(Debug)]
pub(super) struct Ended<'a> {
    pub(super) ticket: Ticket,
    /// The request, unless none of it is left to be sent again.
    pub(super) request: Option<&'a [u8]>,
    /// When it may be.
    pub(super) repeat: Repeat,
    /// Whether the beginning of its reply was passed on, or thrown away, before the end came.
    pub(super) begun: bool,
}

/// Requests on their way to a server, and those that wait for its replies.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    requests: Requests,
    waiting: VecDeque<Waiting>,
    /// The beginning of a reply whose end has not arrived.
    input: Vec<u8>,
    scanner: ReplyScanner,
    /// Whether the beginning of the reply that is coming in is not in `input` any more.
    begun: bool,
    /// When the last bytes came, or the first request was sent after all were answered.
    heard: Option<Instant>,
    /// When the socket last took bytes, or the first were given to it.
    taken: Option<Instant>,
}

impl Pipeline {
    /// How many requests wait for replies.
    pub(super) fn under_way(&self) -> usize {
        self.waiting.len()
    }

    /// A new connection.
    pub(super) fn restart(&mut self, now: Instant) {
        *self = Self {
            heard: Some(now),
            taken: Some(now),
            ..Self::default()
        };
    }

    /// How many bytes of requests are not answered.
    pub(super) fn bytes(&self) -> usize {
        self.requests.len()
    }

    /// How many bytes of memory it takes.
    pub(super) fn memory(&self) -> usize {
        let waiting = self.waiting.capacity() * size_of::<Waiting>();
        waiting + self.requests.memory() + self.input.capacity()
    }

    /// Appends a request: how long it is.
    pub(super) fn push(
        &mut self,
        now: Instant,
        ticket: Ticket,
        repeat: Repeat,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        if self.waiting.is_empty() {
            self.heard = Some(now);
        }
        if !self.requests.has_unsent() {
            self.taken = Some(now);
        }
        let len = self.requests.push(write);
        self.waiting.push_back(Waiting { ticket, len, repeat });
        len
    }

    /// One write of all there is: whether something is left.
    pub(super) fn write_to(&mut self, to: &Transport) -> io::Result<bool> {
        let more = self.requests.write_to(to)? > 0 && self.requests.has_unsent();
        if more {
            self.taken = Some(Instant::now());
        }
        Ok(self.requests.has_unsent())
    }

    /// Takes what came, and gives each whole reply to the one who waits for it.
    ///
    /// # Errors
    /// When it is no reply, or nobody waits for one: the connection is of no more use.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        data: &[u8],
        mut deliver: impl FnMut(Ended<'_>, &[u8]),
    ) -> Result<(), ReceiveError> {
        self.heard = Some(now);
        let (scanner, begun) = (&mut self.scanner, &mut self.begun);
        let (waiting, requests) = (&mut self.waiting, &mut self.requests);
        let mut scan = |data: &[u8]| {
            let used = scan(scanner, begun, waiting, requests, data, &mut deliver);
            requests.tidy();
            used
        };
        if self.input.is_empty() {
            let used = scan(data)?;
            self.input.extend_from_slice(&data[used..]);
        } else {
            self.input.extend_from_slice(data);
            let used = scan(&self.input)?;
            drop_used(&mut self.input, used);
        }
        Ok(())
    }

    /// Passes on what came of a reply whose end did not, as soon as that is more than `least` bytes. Where it takes the
    /// whole of a reply to know what its client gets, it is kept until it is longer than `most`, and thrown away then. Call
    /// it behind [`Pipeline::receive`]. `pass` hears whether this is the beginning.
    ///
    /// # Errors
    /// When nobody waits for the reply.
    pub(super) fn pass_on(
        &mut self,
        least: usize,
        most: usize,
        pass: impl FnOnce(&Ticket, &[u8], bool),
    ) -> Result<(), ReceiveError> {
        if self.input.len() <= least && !self.begun {
            return Ok(());
        }
        let ticket = &self.waiting.front().ok_or(ReceiveError::Unasked)?.ticket;
        if !self.begun && self.input.starts_with(b">") {
            return Err(ReceiveError::Unasked);
        }
        let passes = ticket.takes_parts();
        if !passes && !self.begun && self.input.len() <= most {
            return Ok(());
        }
        let settled = self.scanner.settled(self.input.len());
        if settled > 0 {
            if passes {
                pass(ticket, &self.input[..settled], !self.begun);
            }
            if self.begun {
                self.input.drain(..settled);
            } else {
                // What was kept up to here may have grown large.
                self.input = self.input.split_off(settled);
            }
            self.begun = true;
            self.scanner.forget(settled);
        }
        Ok(())
    }

    /// Whether someone else than the client of the reply that is coming in waits for another one.
    pub(super) fn others_wait(&self) -> bool {
        let client = |waiting: &Waiting| waiting.ticket.client.as_ref().map(Rc::as_ptr);
        let first = self.waiting.front().and_then(client);
        let mut others = self.waiting.iter().filter_map(client);
        others.any(|other| Some(other) != first)
    }

    /// The slot that the reply which is coming in is about.
    pub(super) fn slot_of_first(&self) -> Option<SlotId> {
        match self.waiting.front()?.ticket.part {
            Part::Whole(slot) => Some(slot),
            Part::Split(_) => None,
        }
    }

    /// The server is not to blame for the silence up to now: nobody listened.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// How long nothing came although replies are due.
    pub(super) fn silent_for(&self, now: Instant) -> Option<Duration> {
        if self.waiting.is_empty() {
            None
        } else {
            self.heard.map(|heard| now.saturating_duration_since(heard))
        }
    }

    /// The same where only pings are due, and no request of a client that may take its time: what is read at once is
    /// answered at once, so that one behind a ping counts too.
    pub(super) fn ping_silent_for(&self, now: Instant) -> Option<Duration> {
        let pings = || self.waiting.iter().all(|waiting| waiting.ticket.client.is_none());
        let first = self.waiting.front().map(|waiting| &waiting.ticket);
        let due = first.is_some_and(|ticket| ticket.client.is_none()) && pings();
        self.silent_for(now).filter(|_| due)
    }

    /// How long the socket took nothing although there is something for it.
    pub(super) fn stuck_for(&self, now: Instant) -> Option<Duration> {
        if !self.requests.has_unsent() {
            None
        } else {
            self.taken.map(|taken| now.saturating_duration_since(taken))
        }
    }

    /// How long there was nothing to do.
    pub(super) fn idle_for(&self, now: Instant) -> Option<Duration> {
        if self.waiting.is_empty() {
            self.heard.map(|heard| now.saturating_duration_since(heard))
        } else {
            None
        }
    }

    /// Gives everything up: tells who waited, with the requests of which no byte was sent, and how many they were.
    pub(super) fn abandon(&mut self, mut tell: impl FnMut(Ended<'_>)) -> usize {
        let Self {
            mut requests,
            waiting,
            mut begun,
            ..
        } = std::mem::take(self);
        let lost = waiting.len();
        for Waiting { ticket, len, repeat } in waiting {
            let (request, sent) = requests.first(len);
            tell(Ended {
                ticket,
                request: (repeat != Repeat::Never && !sent).then_some(request),
                repeat,
                begun: std::mem::take(&mut begun),
            });
            requests.answer(len);
        }
        lost
    }
}

/// Why what a server sent can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReceiveError {
    #[error(transparent)]
    NoReply(#[from] ReplyError),
    #[error("the server sent a reply that nobody asked for")]
    Unasked,
}

fn scan(
    scanner: &mut ReplyScanner,
    begun: &mut bool,
    waiting: &mut VecDeque<Waiting>,
    requests: &mut Requests,
    data: &[u8],
    deliver: &mut impl FnMut(Ended<'_>, &[u8]),
) -> Result<usize, ReceiveError> {
    let mut used = 0;
    while used < data.len() {
        let Some(len) = scanner.scan(&data[used..])? else { break };
        let reply = &data[used..used + len];
        used += len;
        // Pushes answer nothing. Nobody on a shared connection asked for one.
        if *begun || reply.first() != Some(&b'>') {
            let Waiting { ticket, len, repeat } = waiting.pop_front().ok_or(ReceiveError::Unasked)?;
            let request = (repeat != Repeat::Never).then(|| requests.first(len).0);
            let begun = std::mem::take(begun);
            let ended = Ended {
                ticket,
                request,
                repeat,
                begun,
            };
            deliver(ended, reply);
            requests.answer(len);
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline_of(requests: usize) -> Pipeline {
        let mut pipeline = Pipeline::default();
        for sequence in 0..requests {
            let ticket = Ticket {
                sequence: sequence as u64,
                ..Ticket::ping(Instant::now())
            };
            pipeline.push(Instant::now(), ticket, Repeat::Refused, |out| {
                out.extend_from_slice(b"x")
            });
        }
        pipeline
    }

    #[test]
    fn replies_go_to_those_who_wait_in_order_however_they_arrive() {
        let data = b"+a\r\n>1\r\n+push\r\n$3\r\nb\r\n\r\n*1\r\n:7\r\n";
        for step in 1..data.len() {
            let (mut pipeline, mut got) = (pipeline_of(3), Vec::new());
            for chunk in data.chunks(step) {
                pipeline
                    .receive(Instant::now(), chunk, |ended, reply| {
                        assert_eq!(ended.request, Some(b"x".as_slice()));
                        got.push((ended.ticket.sequence, reply.to_vec()))
                    })
                    .unwrap();
            }
            assert_eq!(
                got,
                [
                    (0, b"+a\r\n".to_vec()),
                    (1, b"$3\r\nb\r\n\r\n".to_vec()),
                    (2, b"*1\r\n:7\r\n".to_vec())
                ]
            );
            assert_eq!(pipeline.under_way(), 0);
        }
    }

    #[test]
    fn reply_that_is_too_long_to_be_kept_ends_where_it_ends() {
        let data = [b"$40\r\n".as_slice(), &b">1\r\n".repeat(10), b"\r\n+b\r\n"].concat();
        for step in 1..20 {
            let (mut pipeline, mut got) = (pipeline_of(2), Vec::new());
            for chunk in data.chunks(step) {
                let received = pipeline.receive(Instant::now(), chunk, |ended, reply| {
                    got.push((ended.ticket.sequence, ended.begun, reply.to_vec()));
                });
                received.unwrap();
                pipeline.pass_on(0, 10, |_, _, _| {}).unwrap();
                assert!(pipeline.input.len() <= 10 + step, "{}", pipeline.input.len());
            }
            let [(0, true, _), (1, false, last)] = got.as_slice() else {
                panic!("{step}: {got:?}")
            };
            assert_eq!(last, b"+b\r\n");
        }
    }

    #[test]
    fn replies_that_nobody_asked_for_are_an_error() {
        let result = pipeline_of(1).receive(Instant::now(), b"+a\r\n+b\r\n", |_, _| {});
        assert_eq!(result, Err(ReceiveError::Unasked));
    }

    #[test]
    fn only_requests_that_were_never_sent_are_handed_back_by_a_lost_connection() {
        let mut pipeline = pipeline_of(3);
        let mut push = |repeat| {
            pipeline.push(Instant::now(), Ticket::ping(Instant::now()), repeat, |out| {
                out.push(b'x')
            })
        };
        push(Repeat::Never);
        push(Repeat::Unbegun);
        pipeline.requests.mark_sent(1);
        let mut told = Vec::new();
        let lost = pipeline.abandon(|ended| told.push((ended.ticket.sequence, ended.request.is_some())));
        let expected = vec![(0, false), (1, true), (2, true), (0, false), (0, true)];
        assert_eq!((lost, told), (5, expected));
    }

    #[test]
    fn transaction_of_which_nothing_was_sent_is_handed_back_whole_and_otherwise_not_at_all() {
        for (sent, back) in [(1, Some(b"abc".as_slice())), (2, None), (4, None)] {
            let mut pipeline = pipeline_of(1);
            pipeline.push(Instant::now(), Ticket::queued(Instant::now()), Repeat::Never, |_| {});
            let (last, repeat) = (Ticket::ping(Instant::now()), Repeat::Unqueued { unheard: 1 });
            pipeline.push(Instant::now(), last, repeat, |out| out.extend_from_slice(b"abc"));
            pipeline.requests.mark_sent(sent);
            let mut handed = Vec::new();
            pipeline.abandon(|ended| handed.push(ended.request.map(<[u8]>::to_vec)));
            assert_eq!(handed, [None, None, back.map(<[u8]>::to_vec)], "{sent} bytes were sent");
        }
    }

    #[test]
    fn silence_counts_only_while_a_reply_is_due() {
        let mut pipeline = Pipeline::default();
        let begin = Instant::now();
        pipeline.restart(begin);
        let later = begin + Duration::from_secs(9);
        assert_eq!(
            (pipeline.silent_for(later), pipeline.idle_for(later)),
            (None, Some(Duration::from_secs(9)))
        );
        pipeline.push(later, Ticket::ping(later), Repeat::Never, |out| out.push(b'x'));
        assert_eq!(
            pipeline.silent_for(later + Duration::from_secs(1)),
            Some(Duration::from_secs(1))
        );
        assert_eq!(pipeline.idle_for(later), None);
    }
}
