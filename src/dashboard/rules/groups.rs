use super::{Refusal, Ruling, existing, not_promoting, refuse, sentinels};
use crate::dashboard::topology::{Change, Topology};
use crate::model::{Group, GroupId, GroupServer, HostPort, Leaving};

/// A new, empty group.
///
/// # Errors
/// When it exists.
pub(crate) fn create(topology: &Topology, id: GroupId) -> Ruling {
    match topology.group(id) {
        Some(_) => refuse(format!("group-[{id}] already exists")),
        None => Ok(vec![Change::PutGroup(Group::new(id))]),
    }
}

/// Removes an empty group. No slot can refer to it: the last server does not leave while one does.
///
/// # Errors
/// When it does not exist or has servers.
pub(crate) fn remove(topology: &Topology, id: GroupId) -> Ruling {
    match existing(topology, id)?.servers.is_empty() {
        true => Ok(vec![Change::RemoveGroup(id)]),
        false => refuse(format!("group-[{id}] isn't empty")),
    }
}

/// Appends a server, which is the process with this run id, if that is known. It stays what it is until a sync-action gives
/// it a role.
///
/// # Errors
/// When the server is in some group, also under another name, or the group does not exist or is promoting.
pub(crate) fn add_server(
    topology: &Topology,
    id: GroupId,
    server: &HostPort,
    datacenter: &str,
    run_id: Option<&str>,
) -> Ruling {
    if topology.group_of(server).is_some() {
        return refuse(format!("server-[{server}] already exists"));
    }
    let mut known = topology.groups().flat_map(|group| &group.servers);
    if let Some(same) = known.find(|s| run_id.is_some() && s.admitted_run_id.as_deref() == run_id) {
        return refuse(format!(
            "server-[{server}] is the same process as server-[{}]",
            same.server
        ));
    }
    let mut group = existing(topology, id)?.clone();
    not_promoting(&group)?;
    group.servers.push(GroupServer::new(server.clone(), datacenter));
    group.leaving.retain(|leaving| leaving.server != *server);
    let others = topology.groups().filter(|other| other.id != id);
    let stayed = others.filter_map(|other| without_leaving(other, server));
    Ok(sentinels::mark(topology)
        .into_iter()
        .chain(stayed)
        .chain([Change::PutGroup(group)])
        .collect())
}

/// Takes a server out of its group; the primary only as the last one, and only when no slot refers to the group.
///
/// # Errors
/// When the server is not in the group, is a primary in use, or the group is promoting.
pub(crate) fn remove_server(topology: &Topology, id: GroupId, server: &HostPort) -> Ruling {
    let mut group = existing(topology, id)?.clone();
    let Some(index) = group.servers.iter().position(|s| s.server == *server) else {
        return refuse(format!("group-[{id}] doesn't have server-[{server}]"));
    };
    not_promoting(&group)?;
    if index == 0 && (group.servers.len() > 1 || is_in_use(topology, id)) {
        return refuse(format!("group-[{id}] can't remove master, still in use"));
    }
    let removed = group.servers.remove(index);
    if index > 0 && (removed.admitted_run_id.is_some() || !removed.action.state.is_nothing()) {
        group.leaving.push(Leaving {
            server: removed.server.clone(),
            prepared: removed.prepared,
        });
    }
    group.out_of_sync |= removed.replica_group;
    group.in_sync.retain(|replica| *replica != removed.server);
    if group.servers.is_empty() {
        // Whoever joins an empty group brings its own data: nothing here knows better.
        group = Group::new(id);
    }
    Ok(sentinels::mark(topology)
        .into_iter()
        .chain([Change::PutGroup(group)])
        .collect())
}

/// Notes that a server that was taken out of this group follows nobody of it any more, or is given up.
///
/// # Errors
/// None.
pub(crate) fn left(topology: &Topology, id: GroupId, server: &HostPort) -> Ruling {
    let group = topology.group(id);
    Ok(group
        .and_then(|group| without_leaving(group, server))
        .into_iter()
        .collect())
}

fn without_leaving(group: &Group, server: &HostPort) -> Option<Change> {
    let mut changed = group.clone();
    changed.leaving.retain(|leaving| leaving.server != *server);
    (changed != *group).then_some(Change::PutGroup(changed))
}

/// Notes that every proxy knows the groups as they are. Groups that don't exist any more are passed over.
///
/// # Errors
/// None.
pub(crate) fn in_sync(topology: &Topology, groups: &[GroupId]) -> Ruling {
    let marked = groups
        .iter()
        .filter_map(|id| topology.group(*id))
        .filter(|group| group.out_of_sync);
    Ok(marked
        .map(|group| {
            Change::PutGroup(Group {
                out_of_sync: false,
                ..group.clone()
            })
        })
        .collect())
}

/// Reads a group's number as it stands in a path.
///
/// # Errors
/// When it is not a number, or not one that a group can have.
pub(crate) fn parse_id(text: &str) -> Result<GroupId, Refusal> {
    let number: i64 = text
        .parse()
        .map_err(|_| Refusal(format!("invalid group id {text:?}: it must be a number from 1 to 9999")))?;
    GroupId::new(number).map_err(|error| Refusal(error.to_string()))
}

/// Whether a slot is of this group, or moves to it.
pub(super) fn is_in_use(topology: &Topology, id: GroupId) -> bool {
    let number = i64::from(id);
    topology
        .slots()
        .any(|slot| slot.group_id == number || slot.action.target_id == number)
}

#[cfg(test)]
mod tests {
    use super::super::actions::{self, Outcome};
    use super::super::fixture::*;
    use super::*;
    use crate::model::{PromoteState, Promoting, SlotId, SlotMapping};

    #[test]
    fn groups_are_created_once_and_removed_empty() {
        let t = topology();
        assert_eq!(refused(create(&t, gid(1))), "group-[1] already exists");
        assert!(after(&t, &create(&t, gid(4)).unwrap()).group(gid(4)).is_some());
        assert_eq!(refused(remove(&t, gid(1))), "group-[1] isn't empty");
        assert_eq!(refused(remove(&t, gid(9))), "group-[9] doesn't exist");
        assert!(after(&t, &remove(&t, gid(3)).unwrap()).group(gid(3)).is_none());
    }

    #[test]
    fn a_server_is_in_one_group_only() {
        let t = topology();
        assert_eq!(
            refused(add_server(&t, gid(2), &addr("a:1"), "", None)),
            "server-[a:1] already exists"
        );
        assert_eq!(
            refused(add_server(&t, gid(9), &addr("d:1"), "", None)),
            "group-[9] doesn't exist"
        );
        let admitted = Outcome::Admitted {
            run_id: "r1".to_owned(),
            prepared: false,
            history: None,
        };
        let t = after(&t, &actions::end(&t, &addr("a:1"), &admitted).unwrap());
        assert_eq!(
            refused(add_server(&t, gid(2), &addr("d:1"), "", Some("r1"))),
            "server-[d:1] is the same process as server-[a:1]"
        );
        let t = after(&t, &add_server(&t, gid(2), &addr("d:1"), "dc1", Some("r2")).unwrap());
        let added = &t.group(gid(2)).unwrap().servers[1];
        assert_eq!((added.server.as_str(), added.datacenter.as_str()), ("d:1", "dc1"));
    }

    #[test]
    fn a_primary_leaves_last_and_only_when_no_slot_needs_it() {
        let t = topology();
        assert_eq!(
            refused(remove_server(&t, gid(1), &addr("a:1"))),
            "group-[1] can't remove master, still in use"
        );
        let slot = SlotMapping {
            group_id: 2,
            ..SlotMapping::offline(SlotId::new(0).unwrap())
        };
        let used = after(&t, &[Change::PutSlot(slot)]);
        assert_eq!(
            refused(remove_server(&used, gid(2), &addr("c:1"))),
            "group-[2] can't remove master, still in use"
        );
        assert!(
            after(&t, &remove_server(&t, gid(2), &addr("c:1")).unwrap())
                .group(gid(2))
                .unwrap()
                .servers
                .is_empty()
        );
        assert_eq!(
            refused(remove_server(&t, gid(2), &addr("a:1"))),
            "group-[2] doesn't have server-[a:1]"
        );
        assert_eq!(
            after(&t, &remove_server(&t, gid(1), &addr("b:1")).unwrap())
                .group(gid(1))
                .unwrap()
                .servers
                .len(),
            1
        );
    }

    #[test]
    fn a_replica_that_was_given_its_role_is_told_to_leave_unless_it_comes_back() {
        let admitted = Outcome::Admitted {
            run_id: "rb".to_owned(),
            prepared: true,
            history: None,
        };
        let t = after(
            &topology(),
            &actions::end(&topology(), &addr("b:1"), &admitted).unwrap(),
        );
        let leaving = |t: &Topology| t.group(gid(1)).unwrap().leaving.clone();
        let t = after(&t, &remove_server(&t, gid(1), &addr("b:1")).unwrap());
        let expected = Leaving {
            server: addr("b:1"),
            prepared: true,
        };
        assert_eq!(leaving(&t), [expected]);
        assert_eq!(leaving(&after(&t, &left(&t, gid(1), &addr("b:1")).unwrap())), []);
        assert_eq!(left(&t, gid(1), &addr("d:1")).unwrap(), []);
        for group in [1, 2] {
            let back = after(&t, &add_server(&t, gid(group), &addr("b:1"), "", None).unwrap());
            assert_eq!(leaving(&back), [], "it is in group {group} now");
        }
        // Whom nobody gave a role follows whom somebody else chose.
        let never = after(&topology(), &remove_server(&topology(), gid(1), &addr("b:1")).unwrap());
        assert_eq!(leaving(&never), []);
    }

    #[test]
    fn an_emptied_group_is_as_new() {
        let mut group = topology().group(gid(2)).unwrap().clone();
        (group.bootstrapped, group.out_of_sync) = (true, true);
        let t = after(&topology(), &[Change::PutGroup(group)]);
        let t = after(&t, &remove_server(&t, gid(2), &addr("c:1")).unwrap());
        assert_eq!(t.group(gid(2)), Some(&Group::new(gid(2))));
    }

    #[test]
    fn nothing_changes_in_a_promoting_group() {
        let mut group = topology().group(gid(1)).unwrap().clone();
        group.promoting = Promoting {
            index: 1,
            state: PromoteState::Preparing,
            ..Promoting::default()
        };
        let t = after(&topology(), &[Change::PutGroup(group)]);
        assert_eq!(
            refused(add_server(&t, gid(1), &addr("d:1"), "", None)),
            "group-[1] is promoting"
        );
        assert_eq!(
            refused(remove_server(&t, gid(1), &addr("b:1"))),
            "group-[1] is promoting"
        );
    }

    #[test]
    fn group_numbers_in_paths_are_checked() {
        assert_eq!(
            parse_id("0").unwrap_err().to_string(),
            "invalid group id = 0, out of range"
        );
        assert!(parse_id("x").is_err() && parse_id("").is_err() && parse_id("10000").is_err());
        assert_eq!(parse_id("12").unwrap(), gid(12));
    }
}
