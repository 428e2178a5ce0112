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
            let known = told.get(&group.id).cloned();
            let term = &term;
            async move { (group.id, keep(term, group, &found, known).await) }
        }))
        .await;
        for (id, result) in worked {
            match result {
                Ok(now) => drop(told.insert(id, now)),
                Err(error) => {
                    told.remove(&id);
                    tracing::debug!(group = %id, %error, "who is in sync is recorded later");
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Brings record and fence in line with what was found: the fence goes up before the record says so, and comes down after
/// the record says that it may.
async fn keep(term: &Term, group: &Group, found: &Findings, told: Option<Told>) -> Result<Told, Error> {
    let Some(record) = group.primary() else {
        return Err(Error::TimedOut("the group has no primary".to_owned()));
    };
    let (id, primary) = (group.id, &record.server);
    let wanted = match term.means.durability {
        Durability::None => false,
        Durability::Preferred => !found.in_sync.is_empty(),
        Durability::Required => group.fenced || !found.in_sync.is_empty(),
    };
    let known = told.filter(|told| told.run_id == found.run_id && told.wanted == wanted);
    let fenced = match &known {
        Some(told) => told.fenced,
        None if wanted => set_fence(term, primary, &found.run_id, true).await?,
        None => false,
    };
    term.change(|topology| replication::note(topology, id, primary, found, fenced))
        .await?;
    // What a user set at a server of his own is left as it is.
    if known.is_none() && !wanted && (group.fenced || record.prepared) {
        set_fence(term, primary, &found.run_id, false).await?;
    }
    Ok(Told {
        run_id: found.run_id.clone(),
        wanted,
        fenced,
    })
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
