//! The executor of sync-actions: gives servers the role that their group says.
//!
//! Groups are worked on at the same time, so that one that can't go on holds nobody up; inside a group the actions go in
//! the order of asking, and one that has to wait lets the next pass.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::admission::{self, Decision, Other};
use super::error::Error;
use super::rules::actions::{self, Outcome};
use super::server::{ReplicationSource, Server, ServerError};
use super::term::Term;
use super::workers::Workers;
use super::{fault, users};
use crate::model::{Group, GroupId, HostPort, Info};

/// How soon an action that had to wait is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Works until the term ends.
pub(crate) async fn run(term: Arc<Term>) {
    let mut workers = Workers::default();
    term.wait_swept().await;
    loop {
        if let Err(error) = term.catch_up().await {
            tracing::warn!(%error, "the records can't be read again yet");
        }
        // What a former term, or a worker of this one that lost the store's answer, left half done is waiting, too.
        let topology = term.topology();
        for group in topology.groups().filter(|group| !actions::waiting(group).is_empty()) {
            let (term, id) = (Arc::clone(&term), group.id);
            workers.begin(id, async move { work_on(&term, id).await });
        }
        tokio::select! {
            () = term.actions_asked.notified() => {}
            () = tokio::time::sleep(RETRY) => {}
            ended = workers.ended() => if let Err(error) = ended {
                return term.end(&format!("giving roles failed: {error}"));
            }
        }
    }
}

/// Tries each waiting action of a group once; after one that was done, the others again, because they may have waited
/// for it.
async fn work_on(term: &Term, id: GroupId) {
    let mut postponed: HashSet<HostPort> = HashSet::new();
    loop {
        let topology = term.topology();
        let waiting = topology.group(id).map(actions::waiting).unwrap_or_default();
        let Some(server) = waiting.into_iter().find(|server| !postponed.contains(server)) else {
            break;
        };
        match give_role(term, id, &server).await {
            Ok(()) => {
                postponed.clear();
                note(term, &server, None);
            }
            Err(Trouble::Postponed(reason)) => {
                note(term, &server, Some(&reason));
                postponed.insert(server);
            }
            Err(Trouble::Failed(reason)) => {
                note(term, &server, Some(&reason));
                if let Err(error) = term
                    .change(|topology| actions::end(topology, &server, &Outcome::Failed))
                    .await
                {
                    tracing::warn!(%server, %error, "the failed sync-action can't be recorded yet");
                    postponed.insert(server);
                }
            }
        }
    }
    // So that a group whose only action waits is not tried without pause.
    tokio::time::sleep(if postponed.is_empty() { Duration::ZERO } else { RETRY }).await;
}

fn note(term: &Term, server: &HostPort, reason: Option<&str>) {
    if term.observations.note_admission(server, reason)
        && let Some(reason) = reason
    {
        tracing::warn!(%server, reason, "the server is not given its role");
    }
}

/// Why a server did not get its role.
enum Trouble {
    Postponed(String),
    Failed(String),
}

impl From<ServerError> for Trouble {
    fn from(error: ServerError) -> Self {
        if error.is_transient() {
            Self::Postponed(error.to_string())
        } else {
            Self::Failed(error.to_string())
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        match error {
            Error::Server(error) => error.into(),
            other => Self::Postponed(other.to_string()),
        }
    }
}

async fn give_role(term: &Term, id: GroupId, addr: &HostPort) -> Result<(), Trouble> {
    let topology = term.topology();
    let Some((group, index)) = topology.group_of(addr).filter(|(group, _)| group.id == id) else {
        return Err(Trouble::Postponed("its group was changed".to_owned()));
    };
    let mut server = term.connect(addr).await?;
    let info = server.info().await?;
    let asked = join_all(
        group
            .servers
            .iter()
            .filter(|s| s.server != *addr)
            .map(|s| ask(term, &s.server)),
    )
    .await;
    let source_of = |name: &HostPort| {
        asked
            .iter()
            .find(|(other, _)| other.server == *name)
            .and_then(|(_, source)| source.clone())
    };
    let others: Vec<Other> = asked.iter().map(|(other, _)| other.clone()).collect();
    let role = match admission::decide(group, index, &info, &others) {
        Decision::Wait(reason) => return Err(Trouble::Postponed(reason)),
        Decision::Refuse(reason) => return Err(Trouble::Failed(reason)),
        Decision::Lead => None,
        Decision::Follow(primary) => match source_of(&primary) {
            Some(source) => Some(source),
            None => return Err(Trouble::Postponed(format!("its primary {primary} can't be asked"))),
        },
    };
    // Nobody is promoted meanwhile: a late command would undo that.
    let turn = term.promotions.of(&id);
    let _turn = turn.lock().await;
    let same = |now: &Group| {
        now.servers
            .iter()
            .map(|s| &s.server)
            .eq(group.servers.iter().map(|s| &s.server))
    };
    if !term.topology().group(id).is_some_and(same) {
        return Err(Trouble::Postponed("its group was changed".to_owned()));
    }
    term.change(|topology| actions::begin(topology, id, addr, index, info.run_id()))
        .await?;
    let outcome = match command(term, addr, &mut server, &info, role.as_ref()).await {
        Ok(history) => Outcome::Admitted {
            run_id: info.run_id().to_owned(),
            prepared: server.is_prepared(),
            history,
        },
        // Nothing can be recorded any more. The successor takes it up again.
        Err(error @ Error::NotActive(_)) => return Err(error.into()),
        Err(error) => {
            let trouble = Trouble::from(error);
            let outcome = match trouble {
                Trouble::Postponed(_) => Outcome::Postponed,
                Trouble::Failed(_) => Outcome::Failed,
            };
            term.change(|topology| actions::end(topology, addr, &outcome)).await?;
            return Err(trouble);
        }
    };
    term.change(|topology| actions::end(topology, addr, &outcome)).await?;
    tracing::info!(server = %addr, group = %id, role = if role.is_some() { "replica" } else { "primary" }, "role given");
    Ok(())
}

async fn ask(term: &Term, server: &HostPort) -> (Other, Option<ReplicationSource>) {
    let (answer, source) = match term.ask(server).await {
        Ok((info, source)) => (Ok(info), Some(source)),
        Err(error) => (Err(error.to_string()), None),
    };
    (
        Other {
            server: server.clone(),
            prepared: source.as_ref().is_some_and(ReplicationSource::is_prepared),
            answer,
        },
        source,
    )
}

/// The commands themselves. All go over the connection on which the server was asked: so they reach the process that was
/// judged, or none. Each is sent only while the lock is ours; the connection ends with it. Returns the history that a
/// primary writes from now on, and how far it is.
async fn command(
    term: &Term,
    addr: &HostPort,
    server: &mut Server,
    info: &Info,
    follow: Option<&ReplicationSource>,
) -> Result<Option<(String, i64)>, Error> {
    fault::point("admission.begun");
    users::let_in(term, addr, server).await?;
    fault::point("admission.users");
    match follow {
        Some(source) => {
            term.while_active(server.set_source_login(source)).await??;
            term.while_active(server.follow(source)).await??;
        }
        None => term.while_active(server.lead()).await??,
    }
    // As in Codis: clients of a server whose role changed have to notice. Prepared servers let nobody in before.
    if !server.is_prepared() && info.is_primary() == follow.is_some() {
        term.while_active(server.disconnect_clients()).await??;
    }
    fault::point("admission.commanded");
    if follow.is_some() {
        return Ok(None);
    }
    let now = term.while_active(server.info()).await??;
    Ok(Some((now.history().to_owned(), now.offset())))
}
