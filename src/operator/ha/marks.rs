//! What people ask for by annotations.

use std::collections::BTreeMap;

use crate::api::CodisCluster;
use crate::model::GroupId;
use crate::plan::ha::Mark;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
