//! Replicas that are about to end by somebody's plan. They are no copies to count on, so their primary is told in time that it
//! goes on without them: it would stop taking writes when they end, until the loss is noticed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::Error;
use super::fences::Durability;
use super::rules::Refusal;
use super::term::Term;
use crate::model::{Group, HostPort};

/// How long a replica that did not end after all is not counted on.
const LASTS: Duration = Duration::from_secs(60);
/// How long whoever asks waits until its primary goes on without it.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Who was set aside in this term.
#[derive(Debug, Default)]
pub(crate) struct Aside(Mutex<HashMap<HostPort, (Option<String>, Instant)>>);

impl Aside {
    /// Sets a process aside, known by the run id that its record has.
    fn put(&self, server: &HostPort, process: Option<String>, now: Instant) {
        let mut all = self.lock();
        all.retain(|_, (_, since)| now.saturating_duration_since(*since) < LASTS);
        all.insert(server.clone(), (process, now));
    }

    /// Whether this process of a server was set aside, of late.
    pub(crate) fn holds(&self, server: &HostPort, process: Option<&str>, now: Instant) -> bool {
        self.lock()
            .get(server)
            .is_some_and(|(of, since)| of.as_deref() == process && now.saturating_duration_since(*since) < LASTS)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HostPort, (Option<String>, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets a replica aside, and waits until its primary does not wait for it any more.
///
/// # Errors
/// When it is no replica of a group, or the primary could not be told in time.
pub(crate) async fn set(term: &Term, server: &HostPort) -> Result<(), Error> {
    let topology = term.topology();
    let Some((group, place)) = topology.group_of(server) else {
        return Err(Refusal(format!("server-[{server}] doesn't exist")).into());
    };
    let id = group.id;
    let Some(record) = group.servers.get(place).filter(|_| place > 0) else {
        let text = format!("server-[{server}] leads group-[{id}]: hand over first");
        return Err(Refusal(text).into());
    };
    term.aside.put(server, record.admitted_run_id.clone(), Instant::now());
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let topology = term.topology();
        let waits = |group: &Group| waits_for(group, server, term.means.durability);
        if !topology.group(id).is_some_and(waits) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(Error::TimedOut(format!(
        "the primary of group-[{id}] still counts on {server}"
    )))
}

/// Whether a primary would stop taking writes without this replica.
fn waits_for(group: &Group, server: &HostPort, durability: Durability) -> bool {
    let alone = group.in_sync.iter().all(|other| other == server);
    group.in_sync.contains(server) || (alone && group.fenced && durability != Durability::Required)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::GroupId;

    fn addr(text: &str) -> HostPort {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_process_that_was_set_aside_is_and_only_for_a_while() {
        let (aside, now) = (Aside::default(), Instant::now());
        aside.put(&addr("b:1"), Some("r1".to_owned()), now);
        assert!(aside.holds(&addr("b:1"), Some("r1"), now));
        assert!(!aside.holds(&addr("b:1"), Some("r2"), now), "it was started anew");
        assert!(!aside.holds(&addr("c:1"), Some("r1"), now));
        assert!(!aside.holds(&addr("b:1"), Some("r1"), now + LASTS));
    }

    #[test]
    fn a_primary_waits_for_the_last_replica_in_sync_until_its_fence_is_down() {
        let waits = |in_sync: &[&str], fenced, durability| {
            let mut group = Group::new(GroupId::new(1).unwrap());
            (group.in_sync, group.fenced) = (in_sync.iter().map(|s| addr(s)).collect(), fenced);
            waits_for(&group, &addr("b:1"), durability)
        };
        assert!(waits(&["b:1"], true, Durability::Preferred) && waits(&["b:1", "c:1"], true, Durability::Preferred));
        assert!(waits(&[], true, Durability::Preferred));
        assert!(!waits(&["c:1"], true, Durability::Preferred) && !waits(&[], false, Durability::Preferred));
        assert!(
            !waits(&[], true, Durability::Required),
            "that it waits is what was asked for"
        );
    }
}
