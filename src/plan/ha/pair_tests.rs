//! Two groups of one cluster: nothing that is decided for one of them hangs on the other, but for servers that are replaced
//! because the spec was changed.

use super::tests::{Film, addr, answer, group, hung, replica, silent};
use super::*;
use crate::model::{GroupId, PromoteState};

/// What may be the matter with a group.
const TROUBLES: [fn(&mut GroupSight); 12] = [
    |_| {},
    |group| group.servers[0].probe = Probe::Refused,
    |group| (group.servers[0].probe, group.servers[0].polled) = (silent(), Some(false)),
    |group| group.servers[0].probe = silent(),
    |group| group.servers[0].pod = PodSight::Leaving,
    |group| group.servers[1].pod = PodSight::Leaving,
    |group| group.servers[1] = hung(group.servers[1].server.as_str()),
    |group| group.wanted_primary = Some(group.servers[2].server.clone()),
    |group| {
        group.servers[0].probe = Probe::Refused;
        group.record.in_sync.clear();
    },
    |group| {
        group.persistent = true;
        group.record.in_sync.clear();
        group.servers[0] = hung(group.servers[0].server.as_str());
    },
    |group| group.record.promoting.state = PromoteState::Preparing,
    |group| {
        group.servers[2].probe = answer("run_id:x\nrole:slave\nmaster_link_status:down\n");
        group.record.in_sync.clear();
        group.servers[1] = replica(group.servers[1].server.as_str(), 3);
    },
];

/// The same group under another number, with servers of its own.
fn second(mut group: GroupSight) -> GroupSight {
    let names = ["d:1", "e:1", "f:1"];
    for (place, name) in names.into_iter().enumerate() {
        let former = std::mem::replace(&mut group.record.servers[place].server, addr(name));
        group.servers[place].server = addr(name);
        for in_sync in &mut group.record.in_sync {
            if *in_sync == former {
                *in_sync = addr(name);
            }
        }
    }
    group.record.id = GroupId::new(2).unwrap();
    group
}

/// What is decided in each of many rounds.
fn decided(groups: &[GroupSight]) -> Vec<Decision> {
    let mut film = Film::new();
    (0..80).map(|_| film.see(groups, &[])).collect()
}

#[test]
fn what_is_decided_for_a_group_does_not_hang_on_another_one() {
    for one in TROUBLES {
        for other in TROUBLES {
            let (mut first, mut second) = (group(), second(group()));
            one(&mut first);
            other(&mut second);
            let both = decided(&[first.clone(), second.clone()]);
            let alone = decided(&[first]).into_iter().zip(decided(&[second]));
            for (round, (both, (mut first, second))) in both.into_iter().zip(alone).enumerate() {
                first.orders.extend(second.orders);
                first.notices.extend(second.notices);
                assert_eq!(both, first, "in round {round}");
            }
        }
    }
}
