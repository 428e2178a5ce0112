//! How much of what a primary acknowledged nobody else has, as far as was seen.

use std::collections::BTreeMap;

use super::primary::leads;
use super::sight::{GroupSight, Round};
use crate::model::{GroupId, Info};

/// What was seen of each group's copies, kept while nobody answers.
#[derive(Debug, Clone, Default)]
pub(super) struct Copies(BTreeMap<GroupId, Seen>);

/// Offsets in one history.
#[derive(Debug, Clone)]
struct Seen {
    history: String,
    primary: i64,
    /// What replicas in sync have; `None`: there was none.
    replicas: Option<i64>,
}

impl Copies {
    /// Takes a round in.
    pub(super) fn note(&mut self, round: &Round) {
        self.0
            .retain(|id, _| round.groups.iter().any(|group| group.record.id == *id));
        for group in &round.groups {
            self.note_group(group);
        }
    }

    fn note_group(&mut self, group: &GroupSight) {
        let (Some(record), Some((primary, replicas))) = (group.record.primary(), group.servers.split_first()) else {
            return;
        };
        let Some(info) = primary.info().filter(|info| leads(record, info)) else {
            return;
        };
        let in_sync = replicas.iter().filter(|s| group.record.in_sync.contains(&s.server));
        let have = in_sync.filter_map(|replica| replica.info().filter(|have| have.history() == info.history()));
        let have = have.map(Info::offset).max();
        let before = self
            .0
            .get(&group.record.id)
            .filter(|seen| seen.history == info.history());
        let seen = Seen {
            history: info.history().to_owned(),
            primary: info.offset(),
            replicas: before.and_then(|before| before.replicas).max(have),
        };
        self.0.insert(group.record.id, seen);
    }

    /// Bytes of the replication stream that a primary was seen to have, and no replica in sync; `None` where there never was one.
    pub(super) fn at_risk(&self, id: GroupId) -> Option<u64> {
        let seen = self.0.get(&id)?;
        Some(lack(seen.primary, seen.replicas?))
    }

    /// Bytes of the replication stream that a group's primary was seen to have, and this server has not; `None` where they have
    /// different histories.
    pub(super) fn behind(&self, id: GroupId, server: &Info) -> Option<u64> {
        let seen = self.0.get(&id).filter(|seen| seen.history == server.history())?;
        Some(lack(seen.primary, server.offset()))
    }
}

/// Both are asked at the same time, and the one that answers later may have more.
fn lack(primary: i64, other: i64) -> u64 {
    u64::try_from(primary.saturating_sub(other)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{addr, answer, group, one, replica, silent};
    use super::*;

    fn see(copies: &mut Copies, group: &GroupSight) -> Option<u64> {
        copies.note(&Round {
            groups: vec![group.clone()],
            ..Round::default()
        });
        copies.at_risk(one())
    }

    fn at(group: &mut GroupSight, history: &str, offset: i64) {
        let text = format!("run_id:run-a:1\nrole:master\nmaster_replid:{history}\nmaster_repl_offset:{offset}\n");
        group.servers[0].probe = answer(&text);
    }

    #[test]
    fn what_no_replica_in_sync_has_is_at_risk() {
        let (mut copies, mut group) = (Copies::default(), group());
        assert_eq!(see(&mut copies, &group), Some(10));
        // Whoever is not in sync may not lead.
        group.servers[2] = replica("c:1", 95);
        group.record.in_sync = vec![addr("b:1")];
        assert_eq!(see(&mut copies, &group), Some(10));
        group.servers[1] = replica("b:1", 200);
        assert_eq!(see(&mut copies, &group), Some(0), "it was asked a moment later");
    }

    #[test]
    fn what_is_written_while_no_replica_is_in_sync_is_at_risk() {
        let (mut copies, mut group) = (Copies::default(), group());
        see(&mut copies, &group);
        group.record.in_sync.clear();
        at(&mut group, "h", 300);
        assert_eq!(see(&mut copies, &group), Some(210));
        // While the primary is silent, as it was.
        group.servers[0].probe = silent();
        assert_eq!(see(&mut copies, &group), Some(210));
    }

    #[test]
    fn nothing_is_known_before_a_replica_was_in_sync() {
        let (mut copies, mut group) = (Copies::default(), group());
        group.record.in_sync.clear();
        assert_eq!(see(&mut copies, &group), None);
        let (mut copies, mut group) = (Copies::default(), self::group());
        see(&mut copies, &group);
        at(&mut group, "another", 5);
        assert_eq!(
            see(&mut copies, &group),
            None,
            "offsets of another history tell nothing"
        );
        copies.note(&Round::default());
        assert_eq!(copies.at_risk(one()), None, "the group is gone");
    }

    #[test]
    fn a_successor_lacks_what_its_primary_was_seen_to_have() {
        let (mut copies, group) = (Copies::default(), group());
        see(&mut copies, &group);
        let lacks = |copies: &Copies, text: &str| copies.behind(one(), &Info::parse(text));
        let have = |offset: i64| format!("master_replid:h\nmaster_repl_offset:{offset}\n");
        assert_eq!(lacks(&copies, &have(60)), Some(40));
        assert_eq!(lacks(&copies, &have(101)), Some(0));
        assert_eq!(lacks(&copies, "master_replid:x\nmaster_repl_offset:60\n"), None);
        assert_eq!(lacks(&Copies::default(), &have(60)), None);
    }
}
