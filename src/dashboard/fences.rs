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
    /// The history that it writes: another one when it was a replica in between.
    history: String,
    /// Whether the fence was to be up.
    wanted: bool,
    /// Whether it is.
    fenced: bool,
    /// When it said so.
    at: Instant,
}

/// What is to be done about a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The fence goes up. Who is in sync is recorded by later polls.
    Raise,
    /// What was found is recorded; whether the fence is up is known.
    Note { fenced: bool },
    /// Nothing yet: what was found is older than the fence. A replica that was lost before, when nothing stopped the
    /// primary, would be recorded as one that has all.
    AwaitPolls,
    /// The fence comes down, after what was found is recorded.
    Lower,
    /// There never was a fence, and what a user set at a server of his own is left as it is.
    Leave,
}

/// Works until the term ends.
pub(crate) async fn run(term: Arc<Term>) {
    let mut told: HashMap<GroupId, Told> = HashMap::new();
    loop {
        let (topology, seen, now) = (term.topology(), term.observations.seen(), Instant::now());
        let address = |name: &HostPort| term.means.servers.known(name);
        let looks = topology.groups().filter_map(|group| {
            let mut found = in_sync::judge(group, &seen, address, now)?;
            found.in_sync.retain(|replica| !is_aside(&term, group, replica, now));
            Some((group, found))
        });
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

/// Whether a replica is about to end.
fn is_aside(term: &Term, group: &Group, replica: &HostPort, now: Instant) -> bool {
    let record = group.servers.iter().find(|record| record.server == *replica);
    record.is_some_and(|record| term.aside.holds(replica, record.admitted_run_id.as_deref(), now))
}

/// Whether the fence is to be up.
fn is_wanted(durability: Durability, group: &Group, found: &Findings) -> bool {
    match durability {
        Durability::None => false,
        Durability::Preferred => !found.in_sync.is_empty(),
        Durability::Required => group.fenced || !found.in_sync.is_empty(),
    }
}

/// Decides what is to be done. `told`: what this process was told last, while it wrote this history.
fn next(group: &Group, found: &Findings, wanted: bool, told: Option<&Told>) -> Step {
    let prepared = group.primary().is_some_and(|record| record.prepared);
    match told {
        Some(told) if told.wanted == wanted && told.fenced && found.at < told.at => Step::AwaitPolls,
        Some(told) if told.wanted == wanted => Step::Note { fenced: told.fenced },
        _ if wanted => Step::Raise,
        told if group.fenced || prepared || told.is_some_and(|told| told.fenced) => Step::Lower,
        _ => Step::Leave,
    }
}

/// Brings record and fence in line with what was found. The fence goes up before the record says that somebody is in sync,
/// and comes down only after the record says that nobody is. `told` is what is known to have been told.
async fn keep(term: &Term, group: &Group, found: &Findings, told: &mut Option<Told>) -> Result<(), Error> {
    let Some(record) = group.primary() else {
        return Ok(());
    };
    let (id, primary) = (group.id, &record.server);
    told.take_if(|told| (&told.run_id, &told.history) != (&found.run_id, &found.history));
    let wanted = is_wanted(term.means.durability, group, found);
    let note = async |fenced: bool| {
        term.change(|topology| replication::note(topology, id, primary, found, fenced))
            .await
    };
    let now = |fenced: bool| Told {
        run_id: found.run_id.clone(),
        history: found.history.clone(),
        wanted,
        fenced,
        at: Instant::now(),
    };
    match next(group, found, wanted, told.as_ref()) {
        Step::AwaitPolls => {}
        Step::Note { fenced } => drop(note(fenced).await?),
        Step::Raise => {
            let fenced = set_fence(term, primary, &found.run_id, true).await?;
            *told = Some(now(fenced));
        }
        Step::Lower => {
            note(group.fenced).await?;
            set_fence(term, primary, &found.run_id, false).await?;
            note(false).await?;
            *told = Some(now(false));
        }
        Step::Leave => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::GroupServer;

    fn group(fenced: bool) -> Group {
        let mut group = Group::new(GroupId::new(1).unwrap());
        group.servers = ["a:1", "b:1"]
            .map(|server| GroupServer::new(server.parse().unwrap(), ""))
            .into();
        group.fenced = fenced;
        group
    }

    fn found(at: Instant) -> Findings {
        Findings {
            at,
            run_id: "r".to_owned(),
            lineage: 0,
            history: "h".to_owned(),
            offset: 7,
            in_sync: vec!["b:1".parse().unwrap()],
        }
    }

    fn told(at: Instant, wanted: bool, fenced: bool) -> Told {
        Told {
            run_id: "r".to_owned(),
            history: "h".to_owned(),
            wanted,
            fenced,
            at,
        }
    }

    #[test]
    fn only_what_was_polled_after_the_fence_went_up_is_recorded() {
        let (up, second) = (Instant::now(), Duration::from_secs(1));
        let before = up.checked_sub(second).unwrap();
        let decide = |at, told: Option<&Told>| next(&group(false), &found(at), true, told);
        assert_eq!(decide(before, None), Step::Raise);
        let fenced = told(up, true, true);
        assert_eq!(decide(before, Some(&fenced)), Step::AwaitPolls);
        assert_eq!(decide(up + second, Some(&fenced)), Step::Note { fenced: true });
        // Nothing is lost by the age of a poll where there is no such setting.
        assert_eq!(
            decide(before, Some(&told(up, true, false))),
            Step::Note { fenced: false }
        );
    }

    #[test]
    fn a_fence_comes_down_only_where_one_may_be_up() {
        let at = Instant::now();
        let decide = |group: &Group, told: Option<&Told>| next(group, &found(at), false, told);
        assert_eq!(decide(&group(false), None), Step::Leave);
        assert_eq!(decide(&group(true), None), Step::Lower);
        assert_eq!(decide(&group(false), Some(&told(at, true, true))), Step::Lower);
        assert_eq!(
            decide(&group(false), Some(&told(at, false, false))),
            Step::Note { fenced: false }
        );
        let mut prepared = group(false);
        prepared.servers[0].prepared = true;
        assert_eq!(decide(&prepared, None), Step::Lower);
    }
}
