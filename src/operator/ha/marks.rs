//! What people ask for by annotations.

use std::collections::BTreeMap;

use crate::api::CodisCluster;
use crate::model::GroupId;
use crate::plan::ha::Mark;

/// Names, per group, the pod of the server that is to lead: `g1=shop-g1-1,g2=shop-g2-0`. Taken away when it is done.
pub(super) const HANDOVER: &str = "codis.dev/handover";
/// Names, per group, the pod of the server that may lead although it may lack acknowledged writes.
pub(super) const ACCEPT_DATA_LOSS: &str = "codis.dev/accept-data-loss";

/// The annotation of a mark.
pub(super) fn annotation(mark: Mark) -> &'static str {
    match mark {
        Mark::HandOver => HANDOVER,
        Mark::AcceptDataLoss => ACCEPT_DATA_LOSS,
    }
}

/// The pods that an annotation names, by group; and the parts that can't be read.
pub(super) fn read(cluster: &CodisCluster, annotation: &str) -> (BTreeMap<GroupId, String>, Vec<String>) {
    let text = cluster
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(annotation));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(text: &str) -> CodisCluster {
        let mut cluster = CodisCluster::default();
        cluster.metadata.annotations = Some([(HANDOVER.to_owned(), text.to_owned())].into());
        cluster
    }

    #[test]
    fn groups_and_pods_are_read_and_nonsense_is_told() {
        let (named, unread) = read(&marked("g2=shop-g2-1, g10=shop-g10-0 ,"), HANDOVER);
        let two = GroupId::new(2).unwrap();
        assert_eq!((named.len(), named[&two].as_str(), unread.len()), (2, "shop-g2-1", 0));
        let (named, unread) = read(&marked("2=x,g0=x,g1=,gx=y,g3=ok"), HANDOVER);
        assert_eq!(
            (named.len(), unread),
            (
                1,
                vec!["2=x".to_owned(), "g0=x".to_owned(), "g1=".to_owned(), "gx=y".to_owned()]
            )
        );
        assert!(read(&CodisCluster::default(), HANDOVER).0.is_empty());
    }
}
