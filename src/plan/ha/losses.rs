//! Groups that lost their data: every server that had it ended, and the one that leads now began without it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::primary::leads;
use super::sight::{GroupSight, Round};
use crate::model::{GroupId, HostPort};

/// What was seen counts until nobody looked for so long: while a cluster is paused, anything may be done to it. The longest
/// interval between two looks is a minute.
const MEMORY: Duration = Duration::from_secs(180);

/// A group that lost its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataLoss {
    /// The group.
    pub group: GroupId,
    /// Who leads it now.
    pub server: HostPort,
    /// The keys that the last look saw in it.
    pub keys: u64,
    /// Whether its servers keep their data on volumes.
    pub persistent: bool,
}

impl DataLoss {
    /// What happened, and the remedy, for people.
    pub fn message(&self) -> String {
        let Self {
            group, server, keys, ..
        } = self;
        let remedy = if self.persistent {
            "its volume did not have them either"
        } else {
            "volumes (spec.servers.storage) keep data although all servers of a group end at once"
        };
        format!(
            "group {group}: each server that had its data ended, and {server} leads, which began without it: the {keys} keys that \
             were there at the last look are lost; {remedy}"
        )
    }
}

/// What each group's primary was seen to hold, kept while nobody leads.
#[derive(Debug, Clone, Default)]
pub(super) struct Losses {
    looked: Duration,
    seen: BTreeMap<GroupId, Seen>,
    found: Vec<DataLoss>,
}

#[derive(Debug, Clone)]
struct Seen {
    server: HostPort,
    run_id: String,
    history: String,
    former: Option<String>,
    keys: u64,
    /// Those of its keys that do not end by themselves.
    lasting: u64,
}

impl Losses {
    /// Takes a round in.
    pub(super) fn note(&mut self, round: &Round) {
        self.found.clear();
        if round.at.saturating_sub(self.looked) > MEMORY {
            self.seen.clear();
        }
        self.looked = round.at;
        self.seen
            .retain(|id, _| round.groups.iter().any(|group| group.record.id == *id));
        for group in &round.groups {
            let id = group.record.id;
            let Some(now) = Seen::of(group) else { continue };
            let Some(keys) = self
                .seen
                .get(&id)
                .and_then(|before| before.lost(&now, group.persistent))
            else {
                self.seen.insert(id, now);
                continue;
            };
            self.found.push(DataLoss {
                group: id,
                server: now.server.clone(),
                keys,
                persistent: group.persistent,
            });
            self.seen.insert(id, now);
        }
    }

    /// What this round found.
    pub(super) fn found(&self) -> &[DataLoss] {
        &self.found
    }
}

impl Seen {
    /// Nothing, unless a server leads that was given its role.
    fn of(group: &GroupSight) -> Option<Self> {
        let record = group.record.primary()?;
        let info = group.servers.first()?.info()?;
        let admitted = record.admitted_run_id.is_some() && leads(record, info);
        let lasting = |sum: u64, keys: u64, expires: u64| sum.saturating_add(keys.saturating_sub(expires));
        (admitted && !info.is_loading()).then(|| Self {
            server: record.server.clone(),
            run_id: info.run_id().to_owned(),
            history: info.history().to_owned(),
            former: info.former_history().map(|(id, _)| id.to_owned()),
            keys: info.keys(),
            lasting: info
                .keyspace()
                .fold(0, |sum, (_, db)| lasting(sum, db.keys, db.expires)),
        })
    }

    /// How many keys were lost from this look to that one. Only another process can have lost them, which did not go on with the
    /// history of this one, as a replica does: what a person deletes is part of a history.
    fn lost(&self, now: &Self, persistent: bool) -> Option<u64> {
        let goes_on = now.history == self.history || now.former.as_ref() == Some(&self.history);
        // What expired while nobody led is not lost to those who keep it. From memory everything went, whatever was written since.
        let (had, began_empty) = if persistent {
            (self.lasting, now.keys == 0)
        } else {
            (self.keys, now.keys == 0 || now.server == self.server)
        };
        (now.run_id != self.run_id && !goes_on && began_empty && had > 0).then_some(had)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{answer, group, one, silent};
    use super::*;

    /// Rounds of one group, one after the other.
    #[derive(Default)]
    struct Film(Losses, Duration);

    impl Film {
        fn see(&mut self, group: &GroupSight) -> Option<u64> {
            self.see_after(Duration::from_millis(500), group)
        }

        fn see_after(&mut self, time: Duration, group: &GroupSight) -> Option<u64> {
            self.1 += time;
            let groups = vec![group.clone()];
            self.0.note(&Round {
                at: self.1,
                groups,
                ..Round::default()
            });
            let [found] = self.0.found() else { return None };
            assert_eq!((found.group, &found.server), (one(), &group.record.servers[0].server));
            Some(found.keys)
        }
    }

    /// The group with a primary of this process and history, and these keys, that was given its role.
    fn led_by(run_id: &str, histories: [&str; 2], keyspace: &str) -> GroupSight {
        let mut group = group();
        let [history, former] = histories;
        group.record.servers[0].admitted_run_id = Some(run_id.to_owned());
        group.servers[0].probe = answer(&format!(
            "run_id:{run_id}\nrole:master\nmaster_replid:{history}\nmaster_replid2:{former}\nsecond_repl_offset:1\n{keyspace}\n"
        ));
        group
    }

    const FIVE: &str = "db0:keys=5,expires=1";

    #[test]
    fn group_in_memory_whose_servers_all_ended_lost_its_keys() {
        for since in ["", "db0:keys=2,expires=0"] {
            let mut film = Film::default();
            assert_eq!(film.see(&led_by("r1", ["h1", "g"], FIVE)), None);
            let mut gone = led_by("r1", ["h1", "g"], FIVE);
            gone.servers[0].probe = silent();
            assert_eq!(film.see(&gone), None);
            // It is back, and not admitted yet.
            gone.servers[0].probe = answer("run_id:r2\nrole:slave\nmaster_replid:x\n");
            assert_eq!(film.see(&gone), None);
            let back = led_by("r2", ["h2", "x"], since);
            assert_eq!(film.see(&back), Some(5), "{since}");
            assert_eq!(film.see(&back), None, "it is told once");
        }
    }

    #[test]
    fn keys_that_a_person_deletes_are_not_lost() {
        let mut film = Film::default();
        film.see(&led_by("r1", ["h1", "g"], FIVE));
        assert_eq!(film.see(&led_by("r1", ["h1", "g"], "")), None);
        assert_eq!(
            film.see(&led_by("r2", ["h2", "x"], "")),
            None,
            "there were none any more"
        );
        // Deleted just before another server took over.
        let mut film = Film::default();
        film.see(&led_by("r1", ["h1", "g"], FIVE));
        assert_eq!(film.see(&led_by("r2", ["h2", "h1"], "")), None);
        // Without replicas for long, a primary begins another history.
        let mut film = Film::default();
        film.see(&led_by("r1", ["h1", "g"], FIVE));
        assert_eq!(film.see(&led_by("r1", ["h2", "0"], "")), None);
    }

    #[test]
    fn successor_with_a_copy_lost_nothing() {
        let mut film = Film::default();
        film.see(&led_by("r1", ["h1", "g"], FIVE));
        let mut next = led_by("r2", ["h9", "h8"], FIVE);
        next.record.servers.swap(0, 1);
        next.servers.swap(0, 1);
        let [old, new] = [0, 1].map(|place| next.servers[place].probe.clone());
        (next.servers[0].probe, next.servers[1].probe) = (new, old);
        next.record.servers[0].admitted_run_id = Some("r2".to_owned());
        assert_eq!(film.see(&next), None);
    }

    #[test]
    fn group_with_volumes_lost_what_its_volumes_lost() {
        let persistent = |mut group: GroupSight| {
            group.persistent = true;
            group
        };
        let mut film = Film::default();
        film.see(&persistent(led_by("r1", ["h1", "g"], FIVE)));
        let loading = persistent(led_by("r2", ["h2", "x"], "loading:1"));
        assert_eq!(film.see(&loading), None);
        assert_eq!(film.see(&persistent(led_by("r2", ["h2", "x"], FIVE))), None);
        assert_eq!(film.see(&persistent(led_by("r3", ["h3", "x"], ""))), Some(4));
        film.see(&persistent(led_by("r3", ["h3", "x"], "db0:keys=3,expires=3")));
        assert_eq!(
            film.see(&persistent(led_by("r4", ["h4", "x"], ""))),
            None,
            "they expired"
        );
    }

    #[test]
    fn what_was_seen_before_nobody_looked_tells_nothing() {
        let mut film = Film::default();
        film.see(&led_by("r1", ["h1", "g"], FIVE));
        let paused = Duration::from_secs(600);
        assert_eq!(film.see_after(paused, &led_by("r2", ["h2", "x"], "")), None);
    }

    #[test]
    fn message_names_the_remedy() {
        let loss = |persistent| DataLoss {
            group: one(),
            server: "a:1".parse().unwrap(),
            keys: 5,
            persistent,
        };
        assert!(loss(false).message().contains("5 keys") && loss(false).message().contains("spec.servers.storage"));
        assert!(loss(true).message().contains("its volume did not have them either"));
    }
}
