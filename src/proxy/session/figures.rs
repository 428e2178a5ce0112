use super::{Client, Wait};

/// What clients have waiting now: one client's, or several's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::proxy) struct ClientFigures {
    /// How many clients.
    pub(in crate::proxy) clients: u64,
    /// Those whose next request waits for its slot or its server.
    pub(in crate::proxy) held: u64,
    /// Requests that wait for a reply.
    pub(in crate::proxy) under_way: u64,
    /// Bytes that were read and not taken up.
    pub(in crate::proxy) input: u64,
    /// Bytes of replies that clients have to take.
    pub(in crate::proxy) output: u64,
    /// The most of these that one client has.
    pub(in crate::proxy) largest_output: u64,
}

impl ClientFigures {
    /// Adds another client's.
    pub(in crate::proxy) fn add(&mut self, other: Self) {
        self.clients += other.clients;
        self.held += other.held;
        self.under_way += other.under_way;
        self.input += other.input;
        self.output += other.output;
        self.largest_output = self.largest_output.max(other.largest_output);
    }
}

impl Client {
    /// What it has waiting now.
    pub(in crate::proxy) fn figures(&self) -> ClientFigures {
        let session = self.session.borrow();
        let output = session.replies.backlog() as u64;
        ClientFigures {
            clients: 1,
            held: (session.waits == Some(Wait::Route)).into(),
            under_way: session.replies.under_way() as u64,
            input: session.input.len() as u64,
            output,
            largest_output: output,
        }
    }
}
