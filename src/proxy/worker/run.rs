use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use super::turn::end_turns;
use super::{Control, Settings, Worker, WorkerHandle};
use crate::proxy::session;

/// How often time-outs are looked for.
const TICK: Duration = Duration::from_millis(50);

/// Starts a worker on a thread of its own. `died` is told when it ends, which it never should.
///
/// # Errors
/// When the system gives no thread.
pub(in crate::proxy) fn spawn(
    number: usize,
    settings: Arc<Settings>,
    died: mpsc::UnboundedSender<usize>,
) -> io::Result<WorkerHandle> {
    let (handle, controls) = WorkerHandle::new();
    std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || {
            // Sockets are looked at when all that were ready have had their turn, not in between.
            let built = Builder::new_current_thread()
                .enable_all()
                .event_interval(1024)
                .global_queue_interval(256)
                .max_blocking_threads(8)
                .build_local(LocalOptions::default());
            match built {
                Ok(runtime) => runtime.block_on(work(settings, controls)),
                Err(error) => error!(worker = number, %error, "no event loop for a worker"),
            }
            let _ = died.send(number);
        })?;
    Ok(handle)
}

async fn work(settings: Arc<Settings>, mut controls: mpsc::UnboundedReceiver<Control>) {
    let worker = Rc::new(Worker::new(settings));
    let mut turns = tokio::task::spawn_local(end_turns(worker.clone()));
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut drained: Option<oneshot::Sender<()>> = None;
    loop {
        tokio::select! {
            control = controls.recv() => match control {
                Some(Control::Drain { begun, ended }) => {
                    worker.draining.set(true);
                    worker.clients.borrow().values().for_each(|client| client.drain());
                    let _ = begun.send(());
                    drained = Some(ended);
                }
                Some(control) => obey(&worker, control),
                None => return,
            },
            // It never ends but by a bug, and without it nobody is answered.
            _ = &mut turns => return,
            _ = tick.tick() => {
                let now = worker.refresh_now();
                worker.router.tick(&worker, now);
                worker.clients.borrow().values().for_each(|client| client.tick(&worker, now));
            }
        }
        if worker.clients.borrow().is_empty()
            && let Some(ended) = drained.take()
        {
            let _ = ended.send(());
        }
    }
}

fn obey(worker: &Rc<Worker>, control: Control) {
    match control {
        Control::Client { connection, id } => {
            if worker.draining.get() {
                worker.settings.sessions.left();
                return;
            }
            match session::Client::new(worker, connection, id) {
                Ok(client) => {
                    worker.clients.borrow_mut().insert(id, client.clone());
                    tokio::task::spawn_local(session::serve(worker.clone(), client));
                }
                Err(error) => {
                    warn!(client = id, %error, "a client's connection can't be used");
                    worker.settings.sessions.left();
                }
            }
        }
        Control::Fill { slots, drop_at, done } => worker.router.fill(worker, &slots, drop_at, done),
        Control::Ask(question) => question.answer(worker),
        Control::Drain { .. } => {}
    }
}
