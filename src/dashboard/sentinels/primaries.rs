use std::collections::BTreeMap;

use crate::model::{GroupId, HostPort, ProductName, RedisStats};

/// The primaries that Sentinels name, by group: nothing while less than half of them answer, and where they contradict each
/// other, what the one says that knows the latest failover. Pure.
pub(crate) fn named(
    product: &ProductName,
    sentinels: usize,
    polls: &BTreeMap<String, RedisStats>,
) -> BTreeMap<String, String> {
    let answered: Vec<_> = polls.values().filter(|poll| !poll.stats.is_empty()).collect();
    if answered.len() <= sentinels / 2 {
        return BTreeMap::new();
    }
    let mut latest: BTreeMap<GroupId, (u64, HostPort)> = BTreeMap::new();
    for (name, watched) in answered.iter().flat_map(|poll| &poll.sentinel) {
        let (Some(group), Some((epoch, addr))) = (product.monitored(name), claim(&watched.master)) else {
            continue;
        };
        if latest.get(&group).is_none_or(|(known, _)| *known < epoch) {
            latest.insert(group, (epoch, addr));
        }
    }
    latest
        .into_iter()
        .map(|(group, (_, addr))| (group.to_string(), addr.to_string()))
        .collect()
}

fn claim(fields: &BTreeMap<String, String>) -> Option<(u64, HostPort)> {
    let epoch = fields.get("config-epoch")?.parse().ok()?;
    let addr = HostPort::new(fields.get("ip")?, fields.get("port")?.parse().ok()?).ok()?;
    Some((epoch, addr))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SentinelGroup;

    fn poll(watched: &[(&str, u64, &str)]) -> RedisStats {
        let group = |(name, epoch, port): &(&str, u64, &str)| {
            let fields = [("ip", "10.0.0.1"), ("port", port), ("config-epoch", &epoch.to_string())];
            let master = fields.map(|(field, value)| (field.to_owned(), value.to_owned())).into();
            (
                (*name).to_owned(),
                SentinelGroup {
                    master,
                    slaves: Vec::new(),
                },
            )
        };
        RedisStats {
            stats: [("run_id".to_owned(), "r".to_owned())].into(),
            sentinel: watched.iter().map(group).collect(),
            ..RedisStats::default()
        }
    }

    fn named(polls: &[RedisStats]) -> Vec<(String, String)> {
        let polls = polls.iter().enumerate().map(|(n, poll)| (n.to_string(), poll.clone()));
        let named = super::named(&"demo".parse().unwrap(), 3, &polls.collect());
        named.into_iter().collect()
    }

    #[test]
    fn the_latest_failover_counts_once_most_sentinels_answer() {
        let before = poll(&[("demo-1", 0, "1"), ("demo-2", 4, "3"), ("other-1", 9, "9")]);
        let after = poll(&[("demo-1", 1, "2")]);
        let silent = RedisStats {
            timeout: true,
            ..RedisStats::default()
        };
        let expected = [("1", "10.0.0.1:2"), ("2", "10.0.0.1:3")].map(|(g, a)| (g.to_owned(), a.to_owned()));
        assert_eq!(named(&[before.clone(), after.clone(), silent.clone()]), expected);
        assert_eq!(named(&[after, before.clone(), silent.clone()]), expected);
        assert_eq!(named(&[before, silent.clone(), silent]), []);
    }
}
