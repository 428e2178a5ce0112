//! Servers that were taken out of their group: they are made to follow its primary no more. Its fence counts whoever follows
//! it, and a copy that nobody may promote must have no voice there. What they hold they keep.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::Error;
use super::fences::Durability;
use super::rules::{groups, slots};
use super::server::Server;
use super::term::Term;
use super::topology::Topology;
use super::workers::Workers;
use super::{fault, proxies};
use crate::model::{Group, GroupId, GroupServer, HostPort, Leaving};

/// How often it is looked who leaves, and how soon one that did not hear it is told again.
const LOOK: Duration = Duration::from_millis(250);
/// How long a server may take to tell whom it follows.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long one that just answered may take to do it.
const COMMAND: Duration = Duration::from_millis(300);
/// How long one that can't be reached is tried. Its process is gone, most likely, and a new one follows nobody.
const GIVE_UP: Duration = Duration::from_secs(600);

/// Works until the term ends.
pub(crate) async fn run(term: Arc<Term>) {
    let (mut workers, mut since) = (Workers::default(), HashMap::<HostPort, Instant>::new());
    term.wait_swept().await;
    loop {
        let topology = term.topology();
        let all = || topology.groups().flat_map(|group| &group.leaving);
        since.retain(|server, _| all().any(|leaving| leaving.server == *server));
        for group in topology.groups().filter(|group| !group.leaving.is_empty()) {
            let (term, id) = (Arc::clone(&term), group.id);
            let leaving: Vec<(Leaving, bool)> = group
                .leaving
                .iter()
                .map(|leaving| {
                    let began = since.entry(leaving.server.clone()).or_insert_with(Instant::now);
                    (leaving.clone(), began.elapsed() > GIVE_UP)
                })
                .collect();
            workers.begin(id, async move {
                for (leaving, is_last_try) in leaving {
                    if let Err(error) = let_go(&term, id, &leaving, is_last_try).await {
                        tracing::debug!(server = %leaving.server, %error, "the server is told later that it left");
                    }
                }
                tokio::time::sleep(LOOK).await;
            });
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            ended = workers.ended() => if let Err(error) = ended {
                return term.end(&format!("letting servers go failed: {error}"));
            }
        }
    }
}

async fn let_go(term: &Term, id: GroupId, leaving: &Leaving, is_last_try: bool) -> Result<(), Error> {
    let topology = term.topology();
    let Some(group) = topology.group(id) else { return Ok(()) };
    if !is_free(group, term.means.durability) {
        return Ok(());
    }
    if group.out_of_sync {
        // Those that read from it are to stop that first. Who does not hear it is told by its poll.
        proxies::tell_all(term, &slots::of_group(&topology, id), None).await;
    }
    match part(term, &topology, id, leaving).await {
        Ok(()) => tracing::info!(server = %leaving.server, group = %id, "the server left its group"),
        Err(error) if is_last_try => {
            tracing::warn!(server = %leaving.server, group = %id, %error, "the server left its group without hearing of it");
        }
        Err(error) => return Err(error),
    }
    fault::point("leaving.parted");
    term.change(|topology| groups::left(topology, id, &leaving.server))
        .await?;
    Ok(())
}

/// Whether the primary takes writes without it: it has another replica in sync, or no fence any more, or is to wait for one.
fn is_free(group: &Group, durability: Durability) -> bool {
    !group.in_sync.is_empty() || !group.fenced || durability == Durability::Required
}

/// Makes it follow nobody, if it follows a server of ours.
async fn part(term: &Term, topology: &Topology, id: GroupId, leaving: &Leaving) -> Result<(), Error> {
    let asked = tokio::time::timeout(PATIENCE, follower(term, topology, leaving)).await;
    let Some(mut server) = asked.map_err(|_| hangs(leaving))?? else {
        return Ok(());
    };
    // Nobody is given a role meanwhile: it may be a member again.
    let turn = term.promotions.of(&id);
    let _turn = turn.lock().await;
    let leaves = |group: &Group| group.leaving.contains(leaving);
    if !term.topology().group(id).is_some_and(leaves) {
        return Ok(());
    }
    let told = async {
        term.while_active(server.let_in(&[])).await??;
        term.while_active(server.leave()).await??;
        if !server.is_prepared() {
            // As with every change of a role.
            term.while_active(server.disconnect_clients()).await??;
        }
        Ok(())
    };
    // It answered a moment ago, and promotions wait for this.
    let told = tokio::time::timeout(COMMAND, told).await;
    told.map_err(|_| hangs(leaving))?
}

fn hangs(leaving: &Leaving) -> Error {
    Error::TimedOut(format!("{} does not answer in time", leaving.server))
}

/// A connection to it, if it follows a server of ours.
async fn follower(term: &Term, topology: &Topology, leaving: &Leaving) -> Result<Option<Server>, Error> {
    let mut server = term.connect_left(leaving).await?;
    let Some(followed) = server.info().await?.followed() else {
        return Ok(None);
    };
    let known = |(_, record): (&Group, &GroupServer)| term.means.servers.known(&record.server);
    let mut addrs = topology.servers().filter_map(known);
    if addrs.any(|addr| addr.to_string() == followed) {
        return Ok(Some(server));
    }
    match topology.servers().find(|server| known(*server).is_none()) {
        Some((_, unknown)) => Err(Error::TimedOut(format!(
            "it follows {followed}, which may be {}: where that is, is not known",
            unknown.server
        ))),
        // Whom somebody else chose, or nobody at all.
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_leaves_whom_the_primary_still_needs_to_take_writes() {
        let free = |in_sync: &[&str], fenced, durability| {
            let mut group = Group::new(GroupId::new(1).unwrap());
            group.in_sync = in_sync.iter().map(|server| server.parse().unwrap()).collect();
            group.fenced = fenced;
            is_free(&group, durability)
        };
        assert!(!free(&[], true, Durability::Preferred));
        assert!(free(&["c:1"], true, Durability::Preferred) && free(&[], false, Durability::Preferred));
        assert!(free(&[], true, Durability::Required), "that is what was asked for");
    }
}
