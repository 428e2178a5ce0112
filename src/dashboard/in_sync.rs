//! Which replicas hold all that the primary acknowledged, from what the last polls found. Pure.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::observations::Seen;
use crate::model::{Group, GroupServer, HostPort, Info};

/// How old a poll may be to count.
const FRESH: Duration = Duration::from_millis(1500);
/// Seconds after which a replica that heard nothing of its primary is one no more.
const SILENT: i64 = 2;

/// What was found of a group whose primary is at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Findings {
    /// When the oldest poll began that this rests upon.
    pub(crate) at: Instant,
    /// The primary's process.
    pub(crate) run_id: String,
    /// The stretch of the group's history that was recorded as the newest.
    pub(crate) lineage: i64,
    /// The history that it writes.
    pub(crate) history: String,
    /// How far it is in that.
    pub(crate) offset: i64,
    /// The replicas that may be promoted.
    pub(crate) in_sync: Vec<HostPort>,
}

/// Looks at a group. `None` when its primary can't be judged: then nothing is known to be lost, and the replicas that were
/// in sync may be all there is. `address` tells where a server was found last.
pub(crate) fn judge(
    group: &Group,
    seen: &HashMap<HostPort, Seen>,
    address: impl Fn(&HostPort) -> Option<SocketAddr>,
    now: Instant,
) -> Option<Findings> {
    if !group.promoting.state.is_nothing() {
        return None;
    }
    let record = group.primary()?;
    let poll = seen.get(&record.server)?;
    let primary = poll.info(now, FRESH)?;
    if !primary.is_primary() || primary.is_loading() || !is_admitted(record, primary) {
        return None;
    }
    // A fence that is set before the primary heard a replica stops all writes until it does.
    let is_heard = primary.fed(SILENT - 1).next().is_some();
    // When the poll began by which it stays.
    let stays = |replica: &GroupServer| {
        let was_in = group.in_sync.contains(&replica.server);
        let seen = seen.get(&replica.server);
        match seen.and_then(|seen| Some((seen, seen.info(now, FRESH)?))) {
            Some((seen, info)) if follows(replica, info, primary) => {
                (was_in || has_caught_up(info, poll) && is_heard).then_some(seen.at)
            }
            // Its primary may have died since it was asked, and then this one holds all that there is.
            Some((seen, _)) => (was_in && poll.at < seen.ended).then_some(poll.at),
            // It may be out of our reach only.
            None => {
                // Where it answers us no more either, it is let go before a fenced primary stops for it.
                let fails = seen.is_some_and(|seen| seen.answer.is_err());
                let most = if fails { SILENT - 1 } else { SILENT };
                let is_fed = |addr: SocketAddr| primary.fed(most).any(|fed| fed == addr.to_string());
                let is_fed = address(&replica.server).is_some_and(is_fed);
                (was_in && is_fed).then_some(poll.at)
            }
        }
    };
    let replicas = group.servers.iter().skip(1);
    let in_sync: Vec<(&GroupServer, Instant)> = replicas
        .filter_map(|replica| Some((replica, stays(replica)?)))
        .collect();
    Some(Findings {
        at: in_sync.iter().map(|(_, at)| *at).fold(poll.at, Instant::min),
        run_id: primary.run_id().to_owned(),
        lineage: group.lineage_epoch(),
        history: primary.history().to_owned(),
        offset: primary.offset(),
        in_sync: in_sync.into_iter().map(|(replica, _)| replica.server.clone()).collect(),
    })
}

/// A server that nobody prepared needs no admission to hold its role, as in Codis.
fn is_admitted(record: &GroupServer, info: &Info) -> bool {
    !record.prepared || record.admitted_run_id.as_deref() == Some(info.run_id())
}

fn follows(record: &GroupServer, info: &Info, primary: &Info) -> bool {
    !info.is_primary()
        && !info.is_loading()
        && is_admitted(record, info)
        && info.is_linked()
        && (0..=SILENT).contains(&info.silence())
        && info.history() == primary.history()
}

/// Whether it holds what its primary held half a second ago.
fn has_caught_up(info: &Info, primary: &Seen) -> bool {
    primary.offset_before.is_some_and(|before| info.offset() >= before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GroupId, PromoteState, Promoting};

    const FED_B: &str = "slave0:ip=10.0.0.2,port=1,state=online,offset=100,lag=0";

    fn addr(text: &str) -> HostPort {
        text.parse().unwrap()
    }

    fn group(in_sync: &[&str]) -> Group {
        let mut group = Group::new(GroupId::new(1).unwrap());
        group.servers = ["a:1", "b:1"].map(|s| GroupServer::new(addr(s), "")).into();
        group.in_sync = in_sync.iter().map(|s| addr(s)).collect();
        group
    }

    fn seen(at: Instant, text: &str) -> Seen {
        Seen {
            at,
            ended: at,
            answer: Ok(Info::parse(text)),
            offset_before: Some(90),
            answered_at: Some(at),
            heard_at: None,
        }
    }

    fn primary(at: Instant, more: &str) -> Seen {
        seen(
            at,
            &format!("role:master\nrun_id:ra\nmaster_replid:h\nmaster_repl_offset:100\n{more}"),
        )
    }

    fn replica(at: Instant, history: &str, offset: i64, more: &str) -> Seen {
        let text =
            "role:slave\nrun_id:rb\nmaster_link_status:up\nmaster_last_io_seconds_ago:0\nmaster_sync_in_progress:0";
        seen(
            at,
            &format!("{text}\nmaster_replid:{history}\nslave_repl_offset:{offset}\n{more}"),
        )
    }

    fn found(group: &Group, polls: &[(&str, Seen)], now: Instant) -> Option<Vec<HostPort>> {
        findings(group, polls, now).map(|findings| findings.in_sync)
    }

    fn findings(group: &Group, polls: &[(&str, Seen)], now: Instant) -> Option<Findings> {
        let polls = polls.iter().map(|(name, seen)| (addr(name), seen.clone())).collect();
        let address = |name: &HostPort| {
            Some(
                format!("10.0.0.{}:1", if name.host() == "a" { 1 } else { 2 })
                    .parse()
                    .unwrap(),
            )
        };
        judge(group, &polls, address, now)
    }

    #[test]
    fn a_replica_joins_when_it_has_what_the_primary_had_a_moment_ago() {
        let now = Instant::now();
        let with = |replica: Seen| found(&group(&[]), &[("a:1", primary(now, FED_B)), ("b:1", replica)], now);
        assert_eq!(with(replica(now, "h", 95, "")), Some(vec![addr("b:1")]));
        assert_eq!(with(replica(now, "h", 89, "")), Some(vec![]));
        assert_eq!(with(replica(now, "other", 100, "")), Some(vec![]));
        for not_yet in [
            "master_sync_in_progress:1",
            "master_link_status:down",
            "master_last_io_seconds_ago:3",
            "loading:1",
        ] {
            assert_eq!(with(replica(now, "h", 100, not_yet)), Some(vec![]), "{not_yet}");
        }
    }

    #[test]
    fn one_that_woke_joins_when_its_primary_heard_it_again() {
        let now = Instant::now();
        let with = |fed: &str| {
            let polls = [("a:1", primary(now, fed)), ("b:1", replica(now, "h", 100, ""))];
            found(&group(&[]), &polls, now)
        };
        assert_eq!(with(""), Some(vec![]));
        assert_eq!(with(&FED_B.replace("lag=0", "lag=5")), Some(vec![]));
        assert_eq!(with(&FED_B.replace("lag=0", "lag=1")), Some(vec![addr("b:1")]));
    }

    #[test]
    fn what_is_found_is_as_old_as_the_oldest_poll_that_it_rests_upon() {
        let now = Instant::now();
        let before = now.checked_sub(Duration::from_millis(700)).unwrap();
        let at = |polls: &[(&str, Seen)]| findings(&group(&[]), polls, now).unwrap().at;
        let of_replica = |at, offset| ("b:1", replica(at, "h", offset, ""));
        assert_eq!(at(&[("a:1", primary(now, FED_B)), of_replica(before, 100)]), before);
        assert_eq!(at(&[("a:1", primary(before, FED_B)), of_replica(now, 100)]), before);
        // One that is not in sync says nothing.
        assert_eq!(at(&[("a:1", primary(now, "")), of_replica(before, 1)]), now);
    }

    #[test]
    fn one_that_lags_stays_while_its_link_works() {
        let now = Instant::now();
        let polls = [("a:1", primary(now, "")), ("b:1", replica(now, "h", 1, ""))];
        assert_eq!(found(&group(&["b:1"]), &polls, now), Some(vec![addr("b:1")]));
        let polls = [
            ("a:1", primary(now, "")),
            ("b:1", replica(now, "h", 100, "master_link_status:down")),
        ];
        assert_eq!(found(&group(&["b:1"]), &polls, now), Some(vec![]));
    }

    #[test]
    fn one_that_lost_its_primary_stays_unless_that_was_alive_afterwards() {
        let now = Instant::now();
        let earlier = now.checked_sub(Duration::from_millis(300)).unwrap();
        let lost = |at| replica(at, "h", 100, "master_link_status:down");
        let with = |primary_at, replica_at| {
            let polls = [("a:1", primary(primary_at, "")), ("b:1", lost(replica_at))];
            found(&group(&["b:1"]), &polls, now)
        };
        assert_eq!(with(earlier, now), Some(vec![addr("b:1")]));
        assert_eq!(with(now, earlier), Some(vec![]));
        // The primary was asked before the replica had answered.
        let slow = Seen {
            ended: now,
            ..lost(earlier.checked_sub(Duration::from_millis(300)).unwrap())
        };
        let polls = [("a:1", primary(earlier, "")), ("b:1", slow)];
        assert_eq!(found(&group(&["b:1"]), &polls, now), Some(vec![addr("b:1")]));
    }

    #[test]
    fn one_that_only_we_can_not_reach_stays() {
        let now = Instant::now();
        let silent = Seen {
            answer: Err("no answer".to_owned()),
            ..replica(now, "h", 100, "")
        };
        let polls = |fed: &str| [("a:1", primary(now, fed)), ("b:1", silent.clone())];
        assert_eq!(found(&group(&["b:1"]), &polls(FED_B), now), Some(vec![addr("b:1")]));
        assert_eq!(found(&group(&["b:1"]), &polls(""), now), Some(vec![]));
        assert_eq!(found(&group(&[]), &polls(FED_B), now), Some(vec![]));
    }

    #[test]
    fn one_that_answers_nobody_goes_before_its_primary_stops_for_it_and_one_that_we_ask_too_late_does_not() {
        let now = Instant::now();
        let lagging = FED_B.replace("lag=0", "lag=2");
        let fails = Seen {
            answer: Err("no answer".to_owned()),
            ..replica(now, "h", 100, "")
        };
        let late = replica(now.checked_sub(FRESH * 2).unwrap(), "h", 100, "");
        for (seen, stays) in [(fails, vec![]), (late, vec![addr("b:1")])] {
            let polls = [("a:1", primary(now, &lagging)), ("b:1", seen)];
            assert_eq!(found(&group(&["b:1"]), &polls, now), Some(stays));
        }
    }

    #[test]
    fn nothing_is_concluded_from_a_primary_that_is_silent_or_has_not_its_role() {
        let now = Instant::now();
        let good = replica(now, "h", 100, "");
        let old = now.checked_sub(Duration::from_secs(2)).unwrap();
        for unsure in [primary(old, ""), primary(now, "role:slave"), primary(now, "loading:1")] {
            assert_eq!(
                found(&group(&["b:1"]), &[("a:1", unsure), ("b:1", good.clone())], now),
                None
            );
        }
        let mut prepared = group(&["b:1"]);
        prepared.servers[0].prepared = true;
        let polls = [("a:1", primary(now, "")), ("b:1", good)];
        assert_eq!(found(&prepared, &polls, now), None, "a process that was not admitted");
        prepared.servers[0].admitted_run_id = Some("ra".to_owned());
        assert!(found(&prepared, &polls, now).is_some());
        prepared.promoting = Promoting {
            index: 1,
            state: PromoteState::Preparing,
            ..Promoting::default()
        };
        assert_eq!(found(&prepared, &polls, now), None);
    }
}
