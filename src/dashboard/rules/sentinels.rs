use std::collections::BTreeMap;

use super::{Refusal, Ruling, refuse};
use crate::dashboard::topology::{Change, Topology};
use crate::model::{GroupId, HostPort, Sentinel};

/// What Sentinels and proxies are told: which Sentinels there are, and the primary of each group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// The Sentinels.
    pub(crate) servers: Vec<String>,
    /// The primaries.
    pub(crate) primaries: BTreeMap<GroupId, HostPort>,
}

/// Records a Sentinel. It is told nothing yet.
///
/// # Errors
/// When it is recorded already.
pub(crate) fn add(topology: &Topology, addr: &HostPort) -> Ruling {
    let mut sentinel = topology.sentinel().clone();
    if sentinel.servers.iter().any(|known| known == addr.as_str()) {
        return refuse(format!("sentinel-[{addr}] already exists"));
    }
    sentinel.servers.push(addr.to_string());
    sentinel.out_of_sync = true;
    Ok(vec![Change::PutSentinel(sentinel)])
}

/// Whether this Sentinel is recorded.
///
/// # Errors
/// When it is not.
pub(crate) fn existing(topology: &Topology, addr: &str) -> Result<(), Refusal> {
    if topology.sentinel().servers.iter().any(|known| known == addr) {
        Ok(())
    } else {
        refuse(format!("sentinel-[{addr}] not found"))
    }
}

/// Notes that a Sentinel is being removed: what it watches may not be what is recorded.
///
/// # Errors
/// When it is not recorded.
pub(crate) fn begin_removal(topology: &Topology, addr: &str) -> Ruling {
    existing(topology, addr)?;
    Ok(mark(topology).into_iter().collect())
}

/// Forgets a Sentinel.
///
/// # Errors
/// When it is not recorded.
pub(crate) fn remove(topology: &Topology, addr: &str) -> Ruling {
    existing(topology, addr)?;
    let mut sentinel = topology.sentinel().clone();
    sentinel.servers.retain(|known| known != addr);
    sentinel.out_of_sync = true;
    Ok(vec![Change::PutSentinel(sentinel)])
}

/// Notes that Sentinels may know less than the records: to go with every change of the servers of a group. Nothing
/// changes where there are no Sentinels, or it is noted already.
pub(crate) fn mark(topology: &Topology) -> Option<Change> {
    let sentinel = topology.sentinel();
    let news = !sentinel.servers.is_empty() && !sentinel.out_of_sync;
    news.then(|| {
        Change::PutSentinel(Sentinel {
            out_of_sync: true,
            ..sentinel.clone()
        })
    })
}

/// Notes that Sentinels are being told what is recorded.
///
/// # Errors
/// When that can't be right, see [`told`].
pub(crate) fn begin_resync(topology: &Topology) -> Ruling {
    told(topology)?;
    Ok(mark(topology).into_iter().collect())
}

/// What Sentinels have to be told.
///
/// # Errors
/// When there are Sentinels, and servers that the operator prepared: a Sentinel would need the secret that all their
/// passwords derive from, and would promote behind the back of the one who must decide.
pub(crate) fn told(topology: &Topology) -> Result<Told, Refusal> {
    let servers = topology.sentinel().servers.clone();
    let prepared = topology
        .groups()
        .find(|group| group.servers.iter().any(|server| server.prepared));
    if let Some(group) = prepared.filter(|_| !servers.is_empty()) {
        return refuse(format!(
            "the servers of group-[{}] were prepared by the operator, which promotes them itself: Sentinels can't log in \
             there; remove them with sentinels/del",
            group.id
        ));
    }
    let primary = topology
        .groups()
        .filter_map(|group| Some((group.id, group.primary()?.server.clone())));
    Ok(Told {
        servers,
        primaries: primary.collect(),
    })
}

/// Notes that Sentinels and proxies know this. The mark stays where it is not what is recorded any more.
///
/// # Errors
/// None.
pub(crate) fn in_sync(topology: &Topology, known: &Told) -> Ruling {
    let sentinel = topology.sentinel();
    if !sentinel.out_of_sync || told(topology).as_ref() != Ok(known) {
        return Ok(Vec::new());
    }
    Ok(vec![Change::PutSentinel(Sentinel {
        out_of_sync: false,
        ..sentinel.clone()
    })])
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::super::groups;
    use super::*;

    /// With Sentinels s:1 and s:2, which know everything.
    fn watched() -> Topology {
        let t = topology();
        let t = after(&t, &add(&t, &addr("s:1")).unwrap());
        let t = after(&t, &add(&t, &addr("s:2")).unwrap());
        after(&t, &in_sync(&t, &told(&t).unwrap()).unwrap())
    }

    fn shown(t: &Topology) -> (Vec<&str>, bool) {
        let sentinel = t.sentinel();
        (
            sentinel.servers.iter().map(String::as_str).collect(),
            sentinel.out_of_sync,
        )
    }

    #[test]
    fn sentinels_come_and_go_and_each_time_the_record_is_marked() {
        let t = watched();
        assert_eq!(shown(&t), (vec!["s:1", "s:2"], false));
        assert_eq!(refused(add(&t, &addr("s:1"))), "sentinel-[s:1] already exists");
        assert_eq!(refused(begin_removal(&t, "s:3")), "sentinel-[s:3] not found");
        assert_eq!(refused(remove(&t, "s:3")), "sentinel-[s:3] not found");
        let t = after(&t, &begin_removal(&t, "s:1").unwrap());
        assert_eq!(shown(&t), (vec!["s:1", "s:2"], true));
        let t = after(&t, &remove(&t, "s:1").unwrap());
        assert_eq!(shown(&t), (vec!["s:2"], true));
        assert_eq!(
            shown(&after(&t, &add(&t, &addr("s:3")).unwrap())),
            (vec!["s:2", "s:3"], true)
        );
    }

    #[test]
    fn the_primaries_of_groups_with_servers_are_told() {
        let told = told(&watched()).unwrap();
        let primaries: Vec<_> = told
            .primaries
            .iter()
            .map(|(id, primary)| (id.get(), primary.as_str()))
            .collect();
        assert_eq!(primaries, [(1, "a:1"), (2, "c:1")]);
    }

    #[test]
    fn servers_that_come_or_go_mark_the_record() {
        let t = watched();
        let added = after(&t, &groups::add_server(&t, gid(2), &addr("d:1"), "", None).unwrap());
        assert!(shown(&added).1);
        let removed = after(&t, &groups::remove_server(&t, gid(1), &addr("b:1")).unwrap());
        assert!(shown(&removed).1);
        // Without Sentinels there is nothing to mark.
        let t = topology();
        let t = after(&t, &groups::remove_server(&t, gid(1), &addr("b:1")).unwrap());
        assert_eq!(shown(&t), (vec![], false));
    }

    #[test]
    fn the_mark_stays_when_something_changed_while_sentinels_were_told() {
        let t = watched();
        let t = after(&t, &begin_resync(&t).unwrap());
        let known = told(&t).unwrap();
        let other = after(&t, &add(&t, &addr("s:3")).unwrap());
        assert_eq!(in_sync(&other, &known).unwrap(), []);
        let other = after(&t, &groups::add_server(&t, gid(3), &addr("d:1"), "", None).unwrap());
        assert_eq!(in_sync(&other, &known).unwrap(), []);
        assert!(!shown(&after(&t, &in_sync(&t, &known).unwrap())).1);
    }

    #[test]
    fn sentinels_are_not_let_near_prepared_servers() {
        let mut group = watched().group(gid(2)).unwrap().clone();
        group.servers[0].prepared = true;
        let prepare = [Change::PutGroup(group)];
        let cause = refused(begin_resync(&after(&watched(), &prepare)));
        assert!(cause.starts_with("the servers of group-[2] were prepared"), "{cause}");
        // Without Sentinels a resync only tells the proxies that there are none.
        assert_eq!(begin_resync(&after(&topology(), &prepare)).unwrap(), []);
    }
}
