use std::sync::OnceLock;

use futures::future::join_all;

use super::{Worker, WorkerHandle};

/// All workers, for what clients ask that concerns all of them.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Peers(OnceLock<Vec<WorkerHandle>>);

impl Peers {
    /// Makes them known, once.
    pub(in crate::proxy) fn introduce(&self, workers: &[WorkerHandle]) {
        let _ = self.0.set(workers.to_vec());
    }

    /// What each of them answers; those that do not answer in time are missing.
    pub(in crate::proxy) async fn ask<T: Send + 'static>(
        &self,
        question: impl Fn(&Worker) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let peers = self.0.get().into_iter().flatten();
        let answers = join_all(peers.map(|worker| worker.ask(question.clone()))).await;
        answers.into_iter().flatten().collect()
    }
}
