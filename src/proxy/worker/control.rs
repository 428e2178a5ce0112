use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::Worker;
use crate::model::Slot;
use crate::proxy::transport::Detached;

/// What the rest of the process asks of a worker. Commands are carried out in the order in which they were sent.
#[derive(Debug)]
pub(in crate::proxy) enum Control {
    /// Serve this client.
    Client {
        /// Its connection.
        connection: Detached,
        /// Its number, unique in the process.
        id: u64,
    },
    /// Route these slots so; tell when nothing is under way any more by their former routing.
    Fill {
        /// The slots.
        slots: Arc<Vec<Slot>>,
        /// When what is still under way is failed; `None`: never.
        drop_at: Option<Instant>,
        /// Told then.
        done: oneshot::Sender<()>,
    },
    /// Answer a question.
    Ask(Question),
    /// Begin nothing new; close clients as soon as what they asked for was answered.
    Drain {
        /// Told when it is certain that nothing new begins.
        begun: oneshot::Sender<()>,
        /// Told when the last client left.
        ended: oneshot::Sender<()>,
    },
}

/// Something that is asked rarely enough to be carried out as a whole between two requests.
pub(in crate::proxy) struct Question(Box<dyn FnOnce(&Worker) + Send>);

impl Question {
    /// Finds the answer, and tells it.
    pub(super) fn answer(self, worker: &Worker) {
        (self.0)(worker);
    }
}

impl std::fmt::Debug for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Question")
    }
}

/// A way to a worker.
#[derive(Debug, Clone)]
pub(in crate::proxy) struct WorkerHandle(mpsc::UnboundedSender<Control>);

impl WorkerHandle {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Control>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Asks. A worker that is gone takes the process with it, so that nothing has to be done about it here.
    pub(in crate::proxy) fn send(&self, control: Control) {
        let _ = self.0.send(control);
    }

    /// What the worker answers to a question; `None` when it does not answer in time.
    pub(in crate::proxy) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Worker) -> T + Send + 'static,
    ) -> Option<T> {
        let (told, hear) = oneshot::channel();
        self.send(Control::Ask(Question(Box::new(move |worker| {
            let _ = told.send(question(worker));
        }))));
        tokio::time::timeout(Duration::from_secs(1), hear).await.ok()?.ok()
    }
}
