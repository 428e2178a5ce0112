use super::{Refusal, Ruling, existing, not_promoting};
use crate::dashboard::in_sync::Findings;
use crate::dashboard::topology::{Change, Topology};
use crate::model::{Group, GroupId, HostPort};

/// Records what was found of a group: who is in sync, whether the primary's fence is up, and the history that it writes.
///
/// # Errors
/// When the group has another primary by now, or is promoting.
pub(crate) fn note(topology: &Topology, id: GroupId, primary: &HostPort, found: &Findings, fenced: bool) -> Ruling {
    let group = existing(topology, id)?;
    not_promoting(group)?;
    let goes_on =
        group.lineage_epoch() == found.lineage || group.lineage.last().is_some_and(|newest| newest.id == found.history);
    if group.primary().map(|primary| &primary.server) != Some(primary) || !goes_on {
        return Err(Refusal(format!(
            "group-[{id}] has another primary by now, or had meanwhile"
        )));
    }
    let mut changed = Group {
        in_sync: found.in_sync.clone(),
        fenced,
        ..group.clone()
    };
    changed
        .in_sync
        .retain(|server| group.servers.iter().skip(1).any(|known| known.server == *server));
    // It matters to who has copies of it.
    if !changed.in_sync.is_empty() {
        changed.begin_lineage(&found.history, found.offset);
    }
    Ok(if changed == *group {
        Vec::new()
    } else {
        vec![Change::PutGroup(changed)]
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;

    fn found(in_sync: &[&str]) -> Findings {
        Findings {
            at: std::time::Instant::now(),
            run_id: "r".to_owned(),
            lineage: 0,
            history: "h".to_owned(),
            offset: 7,
            in_sync: in_sync.iter().map(|server| addr(server)).collect(),
        }
    }

    #[test]
    fn what_was_found_is_recorded_once() {
        let t = topology();
        let t = after(&t, &note(&t, gid(1), &addr("a:1"), &found(&["b:1"]), true).unwrap());
        let group = t.group(gid(1)).unwrap();
        assert!(group.fenced && group.in_sync == [addr("b:1")] && group.lineage[0].id == "h");
        assert_eq!(note(&t, gid(1), &addr("a:1"), &found(&["b:1"]), true).unwrap(), []);
        let before = Findings {
            history: "older".to_owned(),
            ..found(&["b:1"])
        };
        assert!(refused(note(&t, gid(1), &addr("a:1"), &before, true)).contains("meanwhile"));
    }

    #[test]
    fn what_was_found_of_a_former_primary_or_member_is_not_recorded() {
        let t = topology();
        assert!(refused(note(&t, gid(1), &addr("b:1"), &found(&[]), false)).contains("another primary"));
        let t = after(
            &t,
            &note(&t, gid(1), &addr("a:1"), &found(&["c:1", "a:1"]), false).unwrap(),
        );
        assert!(t.group(gid(1)).unwrap().in_sync.is_empty());
    }
}
