//! Which proxies the servers let in: shutting one off, and letting one in again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;

use super::error::Error;
use super::rules::{self, epochs::Expected};
use super::server::Server;
use super::term::Term;
use crate::model::{HostPort, ProxyToken, ServerUserKind};

/// How long a server may take to hear which proxies it lets in. Its poller tells it later otherwise.
const PATIENCE: Duration = Duration::from_millis(700);

/// Which proxies each server may let in, as far as it was told in this term.
#[derive(Default)]
pub(crate) struct Told(Mutex<HashMap<HostPort, Vec<ServerUserKind>>>);

impl Told {
    /// It is being told to let these in; until it says so, those of before may still come.
    fn begin(&self, server: &HostPort, proxies: &[ServerUserKind]) {
        let mut told = self.guard();
        let known = told.entry(server.clone()).or_default();
        let new: Vec<_> = proxies.iter().filter(|proxy| !known.contains(proxy)).cloned().collect();
        known.extend(new);
    }

    /// It lets these in, and no others.
    fn done(&self, server: &HostPort, proxies: &[ServerUserKind]) {
        self.guard().insert(server.clone(), proxies.to_vec());
    }

    /// What is known of these servers.
    fn of(&self, servers: &[HostPort]) -> Vec<(HostPort, Vec<ServerUserKind>)> {
        let told = self.guard();
        let known = servers.iter().filter_map(|server| told.get_key_value(server));
        known
            .map(|(server, proxies)| (server.clone(), proxies.clone()))
            .collect()
    }

    fn guard(&self) -> MutexGuard<'_, HashMap<HostPort, Vec<ServerUserKind>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has all servers that hold their roles let in the proxies that may come, and no others. Those that were told now.
pub(crate) async fn tell_servers(term: &Term) -> Vec<HostPort> {
    let topology = term.topology();
    let admitted = topology.servers().filter(|(_, server)| server.prepared);
    let told = join_all(admitted.map(|(_, server)| {
        let (name, run_id) = (&server.server, server.admitted_run_id.as_deref());
        async move {
            let told = tokio::time::timeout(PATIENCE, tell(term, name, run_id)).await;
            match told {
                Ok(Ok(())) => Some(name.clone()),
                Ok(Err(error)) => {
                    tracing::warn!(server = %name, %error, "the server can't be told which proxies to let in yet");
                    None
                }
                Err(_) => {
                    tracing::warn!(server = %name, "the server does not answer, and lets in the proxies that it knows");
                    None
                }
            }
        }
    }))
    .await;
    told.into_iter().flatten().collect()
}

/// A process that was started anew knows no proxies, and is told when it gets its role.
async fn tell(term: &Term, name: &HostPort, run_id: Option<&str>) -> Result<(), Error> {
    let mut server = term.connect(name).await?;
    if Some(server.info().await?.run_id()) == run_id {
        let_in(term, name, &mut server).await?;
        return Ok(());
    }
    Err(Error::TimedOut(
        "it was restarted, and is told when it gets its role".to_owned(),
    ))
}

/// Has a server let in the proxies that may come now, and no others. Which these were. One at a time for each server, so
/// that nobody is let in again by who knew less.
///
/// # Errors
/// What the server says, and [`Error::NotActive`].
pub(crate) async fn let_in(term: &Term, name: &HostPort, server: &mut Server) -> Result<Vec<ServerUserKind>, Error> {
    let turn = term.users.of(name);
    let _turn = turn.lock().await;
    let proxies = term.topology().admitted_proxies();
    term.told.begin(name, &proxies);
    term.while_active(server.let_in(&proxies)).await??;
    term.told.done(name, &proxies);
    Ok(proxies)
}

/// Shuts a proxy off at all servers: from then on nothing waits for it. It is let in again when it acknowledged the whole
/// slot map. Servers that don't answer are marked until they heard of it.
///
/// # Errors
/// When it is not registered, was changed since the caller saw it, or is one that servers do not know apart, and what the
/// store says.
pub(crate) async fn shut_off(term: &Term, token: &ProxyToken, expected: &Expected) -> Result<(), Error> {
    term.change(|topology| {
        expected.check(topology)?;
        rules::proxies::shut_off(topology, token)
    })
    .await?;
    tracing::warn!(proxy = %token, "the proxy is shut off");
    tighten(term).await;
    Ok(())
}

/// Tells the servers, and records which of those that may let a former proxy in do so no more.
pub(crate) async fn tighten(term: &Term) {
    let told = tell_servers(term).await;
    note_tight(term, &told).await;
}

/// Records which of these servers, all of which were told, let in nobody who was shut off. What counts is what they know
/// when it is recorded: somebody may have been let in and shut off since they were told.
pub(crate) async fn note_tight(term: &Term, servers: &[HostPort]) {
    let noted = term.change(|topology| Ok(rules::proxies::tight(topology, &term.told.of(servers))));
    if let Err(error) = noted.await {
        tracing::debug!(%error, "that servers were told is recorded later");
    }
}
