use std::rc::Rc;

use tracing::warn;

use super::Worker;
use super::memory::to_close;

/// Closes clients if what waits takes more memory than there is for it.
pub(super) fn relieve(worker: &Rc<Worker>) {
    let memory = &worker.memory;
    let (before, excess) = (memory.bytes(), memory.excess());
    if excess == 0 {
        return;
    }
    let now = worker.refresh_now();
    let clients = worker.clients.borrow();
    let chosen = to_close(clients.values().map(|client| client.holder(now)).collect(), excess);
    for client in chosen.iter().filter_map(|id| clients.get(id)) {
        client.evict(worker);
    }
    worker.figures.closed_for_memory(chosen.len());
    warn!(
        clients = chosen.len(),
        before,
        after = memory.bytes(),
        most = memory.most(),
        "clients are closed, because what waits for them takes more memory than a worker has for it"
    );
}
