//! What people ask for by annotations.

use std::collections::BTreeMap;

use crate::api::CodisCluster;
use crate::model::GroupId;
use crate::plan::ha::{GroupSight, Mark, Notice, NoticeReason, Round};

/// The annotation of a mark. It names pods, per group: `g1=shop-g1-1,g2=shop-g2-0`.
pub(super) fn annotation(mark: Mark) -> &'static str {
    match mark {
        Mark::HandOver => "codis.dev/handover",
        Mark::AcceptDataLoss => "codis.dev/accept-data-loss",
    }
}

/// The pods that a mark names, by group; and the parts that can't be read.
pub(super) fn read(cluster: &CodisCluster, mark: Mark) -> (BTreeMap<GroupId, String>, Vec<String>) {
    let text = cluster
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(annotation(mark)));
    let (mut named, mut unread) = (BTreeMap::new(), Vec::new());
    let parts = text.map(String::as_str).unwrap_or_default().split(',').map(str::trim);
    for part in parts.filter(|part| !part.is_empty()) {
        let pair = part.split_once('=').and_then(|(group, pod)| {
            let number: i64 = group.trim().strip_prefix('g')?.parse().ok()?;
            Some((GroupId::new(number).ok()?, pod.trim().to_owned()))
        });
        match pair {
            Some((group, pod)) if !pod.is_empty() => drop(named.insert(group, pod)),
            _ => unread.push(part.to_owned()),
        }
    }
    (named, unread)
}

/// What is wrong with the marks of a cluster. Who is there is known only while a dashboard tells it.
pub(super) fn complaints(cluster: &CodisCluster, round: &Round) -> Vec<Notice> {
    let mut notices = Vec::new();
    for mark in [Mark::HandOver, Mark::AcceptDataLoss] {
        let (annotation, (named, unread)) = (annotation(mark), read(cluster, mark));
        let unread = unread
            .iter()
            .map(|part| format!("{part:?}; write gN=POD, several separated by commas"));
        let strange = named
            .iter()
            .filter(|_| round.dashboard)
            .filter_map(|(id, pod)| Some(format!("g{id}={pod}, {}", names_nobody(*id, pod, &round.groups)?)));
        notices.extend(unread.chain(strange).map(|what| Notice {
            reason: NoticeReason::BadAnnotation,
            message: format!("the annotation {annotation} holds {what}"),
        }));
    }
    notices
}

/// Why no server is meant by this pod of this group, if none is.
fn names_nobody(id: GroupId, pod: &str, groups: &[GroupSight]) -> Option<String> {
    let Some(group) = groups.iter().find(|group| group.record.id == id) else {
        let known: Vec<String> = groups.iter().map(|group| format!("g{}", group.record.id)).collect();
        return Some(format!(
            "and there is no group {id}; the groups are: {}",
            known.join(", ")
        ));
    };
    let pods: Vec<&str> = group.record.servers.iter().filter_map(|s| s.server.pod()).collect();
    (!pods.contains(&pod)).then(|| format!("and group {id} has no such pod; its pods are: {}", pods.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Group, GroupServer};

    fn marked(text: &str) -> CodisCluster {
        let mut cluster = CodisCluster::default();
        cluster.metadata.annotations = Some([(annotation(Mark::HandOver).to_owned(), text.to_owned())].into());
        cluster
    }

    #[test]
    fn groups_and_pods_are_read_and_nonsense_is_told() {
        let (named, unread) = read(&marked("g2=shop-g2-1, g10=shop-g10-0 ,"), Mark::HandOver);
        let two = GroupId::new(2).unwrap();
        assert_eq!((named.len(), named[&two].as_str(), unread.len()), (2, "shop-g2-1", 0));
        let (named, unread) = read(&marked("2=x,g0=x,g1=,gx=y,g3=ok"), Mark::HandOver);
        assert_eq!(
            (named.len(), unread),
            (
                1,
                vec!["2=x".to_owned(), "g0=x".to_owned(), "g1=".to_owned(), "gx=y".to_owned()]
            )
        );
        assert!(read(&CodisCluster::default(), Mark::HandOver).0.is_empty());
    }

    /// Groups 1 and 2 of two servers each, as a dashboard tells them.
    fn round() -> Round {
        let group = |number: i64| {
            let mut record = Group::new(GroupId::new(number).unwrap());
            let servers = (0..2).map(|index| format!("shop-g{number}-{index}.shop-servers:6379").parse().unwrap());
            record
                .servers
                .extend(servers.map(|server| GroupServer::new(server, "")));
            GroupSight {
                record,
                epoch: 1,
                servers: Vec::new(),
                persistent: false,
                wanted_primary: None,
                accepted_loss: None,
            }
        };
        Round {
            dashboard: true,
            groups: vec![group(1), group(2)],
            ..Round::default()
        }
    }

    fn told(text: &str, round: &Round) -> Vec<String> {
        let notices = complaints(&marked(text), round).into_iter().map(|notice| {
            assert_eq!(notice.reason, NoticeReason::BadAnnotation);
            notice.message
        });
        notices.collect()
    }

    #[test]
    fn marks_that_name_nobody_are_told_of_with_who_is_there() {
        let round = round();
        assert_eq!(told("g1=shop-g1-1,g2=shop-g2-0", &round), [""; 0]);
        assert_eq!(
            told("g1=shop-g2-0,g7=shop-g7-0,g2", &round),
            [
                "the annotation codis.dev/handover holds \"g2\"; write gN=POD, several separated by commas",
                "the annotation codis.dev/handover holds g1=shop-g2-0, and group 1 has no such pod; its pods are: shop-g1-0, shop-g1-1",
                "the annotation codis.dev/handover holds g7=shop-g7-0, and there is no group 7; the groups are: g1, g2",
            ]
        );
    }

    #[test]
    fn without_a_dashboard_nobody_knows_whom_a_mark_may_name() {
        let round = Round {
            dashboard: false,
            groups: Vec::new(),
            ..round()
        };
        assert_eq!(told("g1=shop-g1-1", &round), [""; 0]);
        assert_eq!(told("g1", &round).len(), 1);
    }
}
