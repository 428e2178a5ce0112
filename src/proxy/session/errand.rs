use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use super::{Client, Session, Verdict};
use crate::proxy::command::CommandId;
use crate::proxy::worker::{Outcome, Worker};

impl Session {
    /// Answers in its turn with what `ask` finds out. For what is asked rarely: others have to be asked.
    pub(super) fn answer_later(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: CommandId,
        ask: impl Future<Output = Vec<u8>> + 'static,
    ) -> Verdict {
        let sequence = self.replies.expect();
        let (worker, client) = (worker.clone(), client.clone());
        tokio::task::spawn_local(async move {
            let reply = ask.await;
            worker.figures.record(command, Duration::ZERO, Outcome::Answered);
            client.answer_late(&worker, sequence, &reply);
        });
        Verdict::Taken
    }
}
