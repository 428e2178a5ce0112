//! Keeps the records of who is in sync, and with them the fence of each primary: where a replica is in sync, the primary
//! stops taking writes by itself when it hears of no replica any more, so that it can be replaced although nobody reaches it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::error::Error;
use super::in_sync::{self, Findings};
use super::rules::replication;
use super::server::ServerError;
use super::term::Term;
use crate::model::{Group, GroupId, HostPort};

/// How often the polls are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// When primaries stop by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Never: a primary that is cut off goes on taking writes, which are lost when another one is promoted.
    None,
    /// While a replica is in sync; without any they go on alone.
    #[default]
    Preferred,
    /// Always, once a replica was in sync: without any, writes wait.
    Required,
}

/// What a primary was told of its fence in this term.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    /// The process.
    run_id: String,
    /// Whether the fence was to be up.
    wanted: bool,
    /// Whether it is.
    fenced: bool,
}

/// Works until the term ends.
pub(crate) async fn run(term: Arc<Term>) {
    let mut told: HashMap<GroupId, Told> = HashMap::new();
    loop {
        let (topology, seen, now) = (term.topology(), term.observations.seen(), Instant::now());
        let address = |name: &HostPort| term.means.servers.known(name);
        let looks = topology
            .groups()
            .filter_map(|group| Some((group, in_sync::judge(group, &seen, address, now)?)));
        let worked = join_all(looks.map(|(group, found)| {
            let mut known = told.get(&group.id).cloned();
            let term = &term;
            async move {
                if let Err(error) = keep(term, group, &found, &mut known).await {
                    tracing::debug!(group = %group.id, %error, "who is in sync is recorded later");
                }
                (group.id, known)
            }
        }))
        .await;
        told = worked
            .into_iter()
            .filter_map(|(id, known)| Some((id, known?)))
            .collect();
        tokio::time::sleep(LOOK).await;
    }
}

/// Brings record and fence in line with what was found. The fence goes up before the record says that somebody is in sync,
/// and comes down only after the record says that nobody is. `told` is what is known to have been told.
async fn keep(term: &Term, group: &Group, found: &Findings, told: &mut Option<Told>) -> Result<(), Error> {
    let Some(record) = group.primary() else {
        return Ok(());
    };
    let (id, primary) = (group.id, &record.server);
    let wanted = match term.means.durability {
        Durability::None => false,
        Durability::Preferred => !found.in_sync.is_empty(),
        Durability::Required => group.fenced || !found.in_sync.is_empty(),
    };
    let same = told.take_if(|told| told.run_id != found.run_id).is_none();
    let known = told
        .as_ref()
        .filter(|told| same && told.wanted == wanted && told.fenced == group.fenced);
    let note = async |fenced: bool| {
        term.change(|topology| replication::note(topology, id, primary, found, fenced))
            .await
    };
    let now = |fenced: bool| Told {
        run_id: found.run_id.clone(),
        wanted,
        fenced,
    };
    match known.map(|told| told.fenced) {
        Some(fenced) => {
            note(fenced).await?;
        }
        None if wanted => {
            let fenced = set_fence(term, primary, &found.run_id, true).await?;
            *told = Some(now(fenced));
            note(fenced).await?;
        }
        // What a user set at a server of his own is left as it is.
        None if group.fenced || record.prepared || told.as_ref().is_some_and(|told| told.fenced) => {
            note(group.fenced).await?;
            set_fence(term, primary, &found.run_id, false).await?;
            note(false).await?;
            *told = Some(now(false));
        }
        None => {
            note(false).await?;
            *told = Some(now(false));
        }
    }
    Ok(())
}

/// Whether the fence is as it should be. Servers that know no such setting have none.
async fn set_fence(term: &Term, primary: &HostPort, run_id: &str, on: bool) -> Result<bool, Error> {
    let mut server = term.connect(primary).await?;
    if server.info().await?.run_id() != run_id {
        return Err(Error::TimedOut(format!("{primary} was restarted")));
    }
    match term.while_active(server.set_fence(on)).await? {
        Ok(()) => {
            tracing::info!(server = %primary, on, "the fence of the primary is set");
            Ok(on)
        }
        Err(ServerError::Refused { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
