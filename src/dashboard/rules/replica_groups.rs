use super::groups::is_in_use;
use super::{Refusal, Ruling, existing, not_promoting, refuse};
use crate::dashboard::topology::{Change, Topology};
use crate::model::{Group, GroupId, HostPort};

/// Says whether a server may answer reads. Proxies are not told: the group is marked until it is resynced.
///
/// # Errors
/// When the group does not exist, has no such server, or is promoting.
pub(crate) fn set(topology: &Topology, id: GroupId, server: &HostPort, member: bool) -> Ruling {
    let group = existing(topology, id)?;
    if !group.servers.iter().any(|s| s.server == *server) {
        return refuse(format!("group-[{id}] doesn't have server-[{server}]"));
    }
    Ok(with_members(topology, group, member, |s| s == server)?
        .into_iter()
        .collect())
}

/// Says the same of all servers of all groups.
///
/// # Errors
/// When a group is promoting; then nothing changes.
pub(crate) fn set_all(topology: &Topology, member: bool) -> Ruling {
    let changes = topology
        .groups()
        .map(|group| with_members(topology, group, member, |_| true));
    Ok(changes.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// The changed group, if anything changes.
fn with_members(
    topology: &Topology,
    group: &Group,
    member: bool,
    meant: impl Fn(&HostPort) -> bool,
) -> Result<Option<Change>, Refusal> {
    not_promoting(group)?;
    let mut changed = group.clone();
    for server in changed.servers.iter_mut().filter(|s| meant(&s.server)) {
        server.replica_group = member;
    }
    if changed == *group {
        return Ok(None);
    }
    changed.out_of_sync |= group.servers.len() > 1 && is_in_use(topology, group.id);
    Ok(Some(Change::PutGroup(changed)))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use crate::model::{PromoteState, SlotId, SlotMapping};

    fn members(t: &Topology) -> Vec<(&str, bool)> {
        let servers = t.groups().flat_map(|group| &group.servers);
        servers.map(|s| (s.server.as_str(), s.replica_group)).collect()
    }

    /// Group 1 and group 2 own a slot each.
    fn used() -> Topology {
        let slot = |id, group_id| {
            Change::PutSlot(SlotMapping {
                group_id,
                ..SlotMapping::offline(SlotId::new(id).unwrap())
            })
        };
        after(&topology(), &[slot(0, 1), slot(1, 2)])
    }

    #[test]
    fn one_server_joins_and_leaves() {
        let t = after(&used(), &set(&used(), gid(1), &addr("b:1"), true).unwrap());
        assert_eq!(members(&t), [("a:1", false), ("b:1", true), ("c:1", false)]);
        assert!(t.group(gid(1)).unwrap().out_of_sync);
        assert_eq!(set(&t, gid(1), &addr("b:1"), true).unwrap(), []);
        let t = after(&t, &set(&t, gid(1), &addr("b:1"), false).unwrap());
        assert_eq!(members(&t)[1], ("b:1", false));
    }

    #[test]
    fn all_join_and_only_groups_whose_proxies_see_a_difference_are_marked() {
        let t = after(&used(), &set_all(&used(), true).unwrap());
        assert!(members(&t).iter().all(|(_, member)| *member));
        let marked: Vec<_> = t.groups().map(|group| group.out_of_sync).collect();
        // Group 2 has one server, group 3 has none.
        assert_eq!(marked, [true, false, false]);
        let unused = after(&topology(), &set_all(&topology(), true).unwrap());
        assert!(unused.groups().all(|group| !group.out_of_sync));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let t = used();
        assert_eq!(refused(set(&t, gid(9), &addr("a:1"), true)), "group-[9] doesn't exist");
        assert_eq!(
            refused(set(&t, gid(2), &addr("a:1"), true)),
            "group-[2] doesn't have server-[a:1]"
        );
        let mut group = t.group(gid(2)).unwrap().clone();
        group.promoting.state = PromoteState::Preparing;
        let t = after(&t, &[Change::PutGroup(group)]);
        assert_eq!(refused(set(&t, gid(2), &addr("c:1"), true)), "group-[2] is promoting");
        assert_eq!(refused(set_all(&t, true)), "group-[2] is promoting");
    }
}
