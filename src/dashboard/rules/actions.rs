use super::{Refusal, Ruling, not_promoting, refuse};
use crate::dashboard::topology::{Change, Topology};
use crate::model::{ActionState, Group, GroupId, GroupServer, HostPort, ServerAction};

/// How a sync-action ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The process with this run id took its role.
    Admitted {
        /// The process.
        run_id: String,
        /// Whether it is a server that the operator prepared.
        prepared: bool,
        /// Of a primary: the history that it writes, and how far it is.
        history: Option<(String, i64)>,
    },
    /// It will not work as things are.
    Failed,
    /// Not now; it stays in the queue.
    Postponed,
}

/// Asks that a server be given its role.
///
/// # Errors
/// When no group has the server, its group is promoting, or the same was asked and not done yet.
pub(crate) fn create(topology: &Topology, server: &HostPort) -> Ruling {
    let (group, index) = find(topology, server)?;
    not_promoting(group)?;
    if group.servers[index].action.state == ActionState::Pending {
        return refuse(format!("server-[{server}] action already exist"));
    }
    let action = ServerAction::pending(next_index(topology));
    Ok(vec![with_server(group, index, |server| server.action = action)])
}

/// Asks that the primary of a group be given its role with the data that it has, whatever another server may have. Nothing
/// changes when the same is under way.
///
/// # Errors
/// When the server is no group's primary, or its group is promoting.
pub(crate) fn keep_primary(topology: &Topology, server: &HostPort) -> Ruling {
    let (group, index) = find(topology, server)?;
    not_promoting(group)?;
    if index > 0 {
        return refuse(format!(
            "server-[{server}] is not the primary of group-[{}]; promote it",
            group.id
        ));
    }
    let asked = group.servers[0].action;
    if asked.is_open() && asked.forced {
        return Ok(Vec::new());
    }
    let action = if asked.is_open() {
        asked
    } else {
        ServerAction::pending(next_index(topology))
    };
    let forced = ServerAction { forced: true, ..action };
    Ok(vec![with_server(group, index, |server| server.action = forced)])
}

/// Forgets a server's sync-action, whatever became of it.
///
/// # Errors
/// When no group has the server, its group is promoting, or there is none.
pub(crate) fn remove(topology: &Topology, server: &HostPort) -> Ruling {
    let (group, index) = find(topology, server)?;
    not_promoting(group)?;
    if group.servers[index].action.state.is_nothing() {
        return refuse(format!("server-[{server}] action doesn't exist"));
    }
    Ok(vec![with_server(group, index, |server| {
        server.action = ServerAction::default()
    })])
}

/// Notes that a role is being given; also when that was noted before and not finished. A group whose primary is being
/// given its role is bootstrapped from now on: from that moment it may hold data, whatever becomes of the answers. A new
/// process of the primary has no fence.
///
/// # Errors
/// When the records changed since this was decided: other place, other group, no longer asked for.
pub(crate) fn begin(topology: &Topology, group: GroupId, server: &HostPort, index: usize, run_id: &str) -> Ruling {
    let (found, place) = find(topology, server)?;
    not_promoting(found)?;
    let asked = found.servers[place].action;
    if found.id != group || place != index || !asked.is_open() {
        return refuse(format!("the sync-action of server-[{server}] was changed"));
    }
    let syncing = ServerAction {
        index: 0,
        state: ActionState::Syncing,
        ..asked
    };
    let mut group = found.clone();
    group.servers[place].action = syncing;
    if place == 0 {
        group.bootstrapped = true;
        group.fenced &= group.servers[0].admitted_run_id.as_deref() == Some(run_id);
    }
    Ok(vec![Change::PutGroup(group)])
}

/// Notes how it ended. An action that was removed or asked for anew meanwhile is left as it is; who was admitted is
/// recorded all the same.
///
/// # Errors
/// When the server's group is promoting; a server that no group has any more is passed over.
pub(crate) fn end(topology: &Topology, server: &HostPort, outcome: &Outcome) -> Ruling {
    let Ok((group, index)) = find(topology, server) else {
        return Ok(Vec::new());
    };
    let asked = group.servers[index].action;
    let under_way =
        asked.state == ActionState::Syncing || (asked.state == ActionState::Pending && *outcome == Outcome::Failed);
    let ended = |state| ServerAction {
        state,
        ..ServerAction::default()
    };
    let action = match outcome {
        Outcome::Admitted { .. } => ended(ActionState::Synced),
        Outcome::Failed => ended(ActionState::SyncedFailed),
        Outcome::Postponed => ServerAction {
            forced: asked.forced,
            ..ServerAction::pending(next_index(topology))
        },
    };
    let mut group = group.clone();
    if under_way {
        group.servers[index].action = action;
    }
    if let Outcome::Admitted {
        run_id,
        prepared,
        history,
    } = outcome
    {
        group.servers[index].admitted_run_id = Some(run_id.clone());
        group.servers[index].prepared |= prepared;
        group.bootstrapped |= index == 0;
        if let Some((history, offset)) = history.as_ref().filter(|_| index == 0) {
            let former = group.lineage.len();
            group.begin_lineage(history, *offset);
            if group.lineage.len() != former {
                group.in_sync.clear();
            }
        }
    }
    Ok(if topology.group(group.id) == Some(&group) {
        Vec::new()
    } else {
        vec![Change::PutGroup(group)]
    })
}

/// The servers of a group that wait for their role, in the order of asking. Those whose role was being given come first:
/// whoever asks does not work on the group, so that was interrupted, and nobody else will finish it.
pub(crate) fn waiting(group: &Group) -> Vec<HostPort> {
    let mut waiting: Vec<_> = group.servers.iter().filter(|s| s.action.is_open()).collect();
    waiting.sort_by_key(|server| server.action.index);
    waiting.into_iter().map(|server| server.server.clone()).collect()
}

fn find<'a>(topology: &'a Topology, server: &HostPort) -> Result<(&'a Group, usize), Refusal> {
    topology
        .group_of(server)
        .ok_or_else(|| Refusal(format!("server-[{server}] doesn't exist")))
}

/// The place behind all actions that wait.
pub(crate) fn next_index(topology: &Topology) -> i64 {
    let pending = topology
        .groups()
        .flat_map(|group| &group.servers)
        .filter(|s| s.action.state == ActionState::Pending);
    pending.map(|server| server.action.index).max().unwrap_or(0) + 1
}

fn with_server(group: &Group, index: usize, change: impl FnOnce(&mut GroupServer)) -> Change {
    let mut group = group.clone();
    change(&mut group.servers[index]);
    Change::PutGroup(group)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;

    fn action(t: &Topology, server: &str) -> ServerAction {
        let (group, index) = t.group_of(&addr(server)).unwrap();
        group.servers[index].action
    }

    fn admitted(run_id: &str) -> Outcome {
        Outcome::Admitted {
            run_id: run_id.to_owned(),
            prepared: true,
            history: Some((format!("h-{run_id}"), 5)),
        }
    }

    fn asked(servers: &[&str]) -> Topology {
        servers
            .iter()
            .fold(topology(), |t, server| after(&t, &create(&t, &addr(server)).unwrap()))
    }

    #[test]
    fn actions_queue_up_and_are_asked_once() {
        let t = asked(&["b:1", "c:1"]);
        assert_eq!(action(&t, "b:1"), ServerAction::pending(1));
        assert_eq!(action(&t, "c:1").index, 2);
        assert_eq!(refused(create(&t, &addr("b:1"))), "server-[b:1] action already exist");
        assert_eq!(refused(create(&t, &addr("x:1"))), "server-[x:1] doesn't exist");
        assert_eq!(refused(remove(&t, &addr("a:1"))), "server-[a:1] action doesn't exist");
        let t = after(&t, &remove(&t, &addr("b:1")).unwrap());
        assert_eq!(action(&t, "b:1"), ServerAction::default());
    }

    #[test]
    fn the_order_of_asking_is_kept_within_a_group() {
        let t = asked(&["b:1", "a:1"]);
        assert_eq!(waiting(t.group(gid(1)).unwrap()), [addr("b:1"), addr("a:1")]);
    }

    #[test]
    fn an_admitted_primary_makes_its_group_bootstrapped() {
        let t = asked(&["a:1"]);
        let t = after(&t, &begin(&t, gid(1), &addr("a:1"), 0, "r1").unwrap());
        assert_eq!(
            action(&t, "a:1"),
            ServerAction {
                state: ActionState::Syncing,
                ..ServerAction::default()
            }
        );
        let t = after(&t, &end(&t, &addr("a:1"), &admitted("r1")).unwrap());
        let group = t.group(gid(1)).unwrap();
        assert!(group.bootstrapped && group.servers[0].admitted_run_id.as_deref() == Some("r1"));
        assert_eq!((group.lineage.len(), group.lineage[0].id.as_str()), (1, "h-r1"));
        assert_eq!(
            action(&t, "a:1"),
            ServerAction {
                state: ActionState::Synced,
                ..ServerAction::default()
            }
        );
    }

    #[test]
    fn a_group_is_bootstrapped_before_its_primary_is_commanded() {
        let t = asked(&["a:1", "b:1"]);
        let t = after(&t, &begin(&t, gid(1), &addr("b:1"), 1, "r1").unwrap());
        assert!(!t.group(gid(1)).unwrap().bootstrapped);
        let t = after(&t, &begin(&t, gid(1), &addr("a:1"), 0, "r1").unwrap());
        assert!(t.group(gid(1)).unwrap().bootstrapped);
    }

    #[test]
    fn a_new_process_of_the_primary_has_no_fence_and_nobody_in_sync() {
        let t = asked(&["a:1"]);
        let t = after(&t, &begin(&t, gid(1), &addr("a:1"), 0, "r1").unwrap());
        let t = after(&t, &end(&t, &addr("a:1"), &admitted("r1")).unwrap());
        let mut group = t.group(gid(1)).unwrap().clone();
        (group.fenced, group.in_sync) = (true, vec![addr("b:1")]);
        let t = after(&t, &[Change::PutGroup(group)]);
        let again = |run_id: &str| {
            let t = after(&t, &create(&t, &addr("a:1")).unwrap());
            let t = after(&t, &begin(&t, gid(1), &addr("a:1"), 0, run_id).unwrap());
            let t = after(&t, &end(&t, &addr("a:1"), &admitted(run_id)).unwrap());
            let group = t.group(gid(1)).unwrap();
            (group.fenced, group.in_sync.len())
        };
        assert_eq!((again("r1"), again("r2")), ((true, 1), (false, 0)));
    }

    #[test]
    fn an_admitted_replica_does_not() {
        let t = asked(&["b:1"]);
        let t = after(&t, &begin(&t, gid(1), &addr("b:1"), 1, "r1").unwrap());
        let t = after(&t, &end(&t, &addr("b:1"), &admitted("r2")).unwrap());
        assert!(!t.group(gid(1)).unwrap().bootstrapped);
    }

    #[test]
    fn a_role_is_not_given_when_the_records_changed_since_it_was_decided() {
        let t = asked(&["b:1"]);
        for (group, index) in [(1, 0), (2, 1)] {
            assert!(begin(&t, gid(group), &addr("b:1"), index, "r1").is_err());
        }
        assert!(begin(&topology(), gid(1), &addr("b:1"), 1, "r1").is_err());
    }

    #[test]
    fn a_failed_action_may_be_asked_again() {
        let t = asked(&["a:1"]);
        let t = after(&t, &end(&t, &addr("a:1"), &Outcome::Failed).unwrap());
        assert_eq!(action(&t, "a:1").state, ActionState::SyncedFailed);
        assert_eq!(
            action(&after(&t, &create(&t, &addr("a:1")).unwrap()), "a:1").state,
            ActionState::Pending
        );
    }

    #[test]
    fn an_interrupted_action_is_taken_up_again_before_the_others() {
        let t = asked(&["b:1", "a:1"]);
        let t = after(&t, &begin(&t, gid(1), &addr("a:1"), 0, "r1").unwrap());
        assert_eq!(waiting(t.group(gid(1)).unwrap()), [addr("a:1"), addr("b:1")]);
        let t = after(&t, &begin(&t, gid(1), &addr("a:1"), 0, "r1").unwrap());
        assert_eq!(action(&t, "a:1").state, ActionState::Syncing);
        let t = after(&t, &end(&t, &addr("a:1"), &Outcome::Postponed).unwrap());
        assert_eq!(action(&t, "a:1"), ServerAction::pending(2));
    }

    #[test]
    fn that_a_primary_leads_with_what_it_has_is_asked_once_and_stays_asked_until_it_does() {
        let keep = |t: &Topology| keep_primary(t, &addr("a:1")).unwrap();
        let forced = |t: &Topology| action(t, "a:1").forced;
        let t = topology();
        assert!(refused(keep_primary(&t, &addr("b:1"))).contains("not the primary"));
        let t = after(&t, &keep(&t));
        assert!(forced(&t) && action(&t, "a:1").state == ActionState::Pending);
        assert_eq!(keep(&t), []);
        let t = after(&t, &begin(&t, gid(1), &addr("a:1"), 0, "r1").unwrap());
        let t = after(&t, &end(&t, &addr("a:1"), &Outcome::Postponed).unwrap());
        let t = after(&t, &begin(&t, gid(1), &addr("a:1"), 0, "r1").unwrap());
        assert!(forced(&t) && keep(&t).is_empty());
        for outcome in [admitted("r1"), Outcome::Failed] {
            assert!(
                !forced(&after(&t, &end(&t, &addr("a:1"), &outcome).unwrap())),
                "{outcome:?}"
            );
        }
        // What waits already keeps its turn.
        let t = asked(&["a:1", "b:1"]);
        let t = after(&t, &keep(&t));
        assert!(forced(&t) && action(&t, "a:1").index == 1);
    }

    #[test]
    fn what_was_removed_meanwhile_stays_removed() {
        let t = asked(&["b:1"]);
        let t = after(&t, &begin(&t, gid(1), &addr("b:1"), 1, "r1").unwrap());
        let t = after(&t, &remove(&t, &addr("b:1")).unwrap());
        let t = after(&t, &end(&t, &addr("b:1"), &Outcome::Failed).unwrap());
        assert_eq!(action(&t, "b:1"), ServerAction::default());
        assert_eq!(end(&t, &addr("gone:1"), &Outcome::Failed).unwrap(), []);
    }
}
