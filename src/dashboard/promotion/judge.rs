//! Whether a server may become its group's primary, from what the group's servers say just now. Pure.
//!
//! DESIGN 3, rule 5: higher epoch first, then the offset within one history; a copy older than one that can be had is not
//! promoted.

use crate::dashboard::rules::Refusal;
use crate::model::{Group, HostPort, Info, PromoteState, Promoting};

/// A server of the group, and what it said when it was asked just now.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Its address.
    pub(crate) server: HostPort,
    /// Its INFO, or why there is none.
    pub(crate) answer: Result<Info, String>,
}

/// How the primary is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The former primary answers: the candidate gets all that it has first.
    HandOver,
    /// The former primary is silent, or has not got its role: the candidate has what it has.
    FailOver,
    /// The candidate leads already, and that is not recorded yet.
    Recorded,
}

/// Judges the server at `index` of the group; `asked` are all servers of the group in their order.
///
/// # Errors
/// Why it may not lead.
pub(crate) fn judge(group: &Group, index: usize, asked: &[Asked]) -> Result<Way, Refusal> {
    let (Some(candidate), Some(primary)) = (asked.get(index), asked.first()) else {
        return Err(Refusal(format!("group-[{}] has no server at {index}", group.id)));
    };
    let name = &candidate.server;
    let refuse = |reason: String| Err(Refusal(format!("server-[{name}] can't be promoted: {reason}")));
    let info = match &candidate.answer {
        Ok(info) if info.is_loading() => return refuse("it is loading its data set".to_owned()),
        Ok(info) => info,
        Err(reason) => return refuse(format!("it does not answer: {reason}")),
    };
    let leads = |info: &&Info| info.is_primary() && !info.is_loading();
    let former = primary.answer.as_ref().ok().filter(leads);
    let Promoting {
        forced, planned, state, ..
    } = group.promoting;
    if info.is_primary() {
        return match continues(group, info, former) {
            // Only then it is certain that nobody wrote anywhere since.
            Ok(()) if state == PromoteState::Prepared => Ok(Way::Recorded),
            _ if forced => Ok(Way::FailOver),
            Ok(()) => refuse("it is a primary itself; ask for a sync-action first, or force it".to_owned()),
            Err(reason) => refuse(reason),
        };
    }
    match former {
        Some(former) if forced || (info.is_linked() && info.history() == former.history()) => Ok(Way::HandOver),
        Some(_) => refuse(format!(
            "it does not replicate {}, or has not copied all of its data yet; ask for a sync-action and wait, or force it",
            primary.server
        )),
        None if planned => Err(Refusal(format!(
            "the primary {} can't hand over: {}",
            primary.server,
            match &primary.answer {
                Ok(_) => "it has not got its role",
                Err(reason) => reason,
            }
        ))),
        None if forced => Ok(Way::FailOver),
        None => fail_over(group, index, info, asked).map(|()| Way::FailOver),
    }
}

/// Whether a candidate that leads already took over all that its primary had.
fn continues(group: &Group, info: &Info, former: Option<&Info>) -> Result<(), String> {
    let (Some((history, end)), Some(newest)) = (info.former_history(), group.lineage.last()) else {
        return Err("it is a primary itself, and its history is not the group's".to_owned());
    };
    if history != newest.id {
        return Err("it is a primary itself, and its history is not the group's".to_owned());
    }
    match former {
        Some(former) if former.history() == history && former.offset() >= end => {
            Err("it is a primary itself, and lacks what its primary wrote since".to_owned())
        }
        _ => Ok(()),
    }
}

/// Whether the candidate has the newest copy that can be had.
fn fail_over(group: &Group, index: usize, info: &Info, asked: &[Asked]) -> Result<(), Refusal> {
    let record = &group.servers[index];
    let name = &record.server;
    let refuse = |reason: String| Err(Refusal(format!("server-[{name}] can't be promoted: {reason}")));
    let ahead = is_ahead_of_one_in_sync(group, info, asked);
    if !ahead && !group.in_sync.contains(name) {
        return refuse(
            "it is not in sync with the primary, as far as is recorded; take one that is, or force it and lose what it lacks"
                .to_owned(),
        );
    }
    let admitted = record.admitted_run_id.as_deref();
    if !ahead && admitted.is_some_and(|run_id| run_id != info.run_id()) {
        return refuse(
            "it was restarted since it was in sync, and may have an older copy; force it if it is the one to take"
                .to_owned(),
        );
    }
    let Some(mine) = group.rank(info.history(), info.offset()) else {
        return refuse(format!(
            "its data is of history {}, which is not one of the group's; force it if it is the right one",
            info.history()
        ));
    };
    if group.lineage.last().is_some_and(|newest| newest.epoch > mine.0) {
        return refuse("its data is older than the group's last change of primary".to_owned());
    }
    for other in asked.iter().filter(|other| other.server != *name) {
        let Ok(theirs) = &other.answer else { continue };
        if !theirs.is_loading() && group.rank(theirs.history(), theirs.offset()) > Some(mine) {
            return refuse(format!(
                "server-[{}] has a newer copy (offset {} against {})",
                other.server,
                theirs.offset(),
                info.offset()
            ));
        }
    }
    Ok(())
}

/// Whether a copy got further, in the group's newest history, than a replica in sync that answers: then it holds all that
/// has to be held, although that is not recorded yet, or it was restarted since and read it from its volume.
fn is_ahead_of_one_in_sync(group: &Group, info: &Info, asked: &[Asked]) -> bool {
    let mine = group.rank(info.history(), info.offset());
    let replicas = group.servers.iter().zip(asked).skip(1);
    let mut in_sync = replicas.filter_map(|(record, other)| {
        let theirs = other.answer.as_ref().ok().filter(|theirs| !theirs.is_loading())?;
        let admitted = record
            .admitted_run_id
            .as_deref()
            .is_none_or(|run_id| run_id == theirs.run_id());
        let counts = admitted && group.in_sync.contains(&record.server);
        counts.then(|| group.rank(theirs.history(), theirs.offset()))?
    });
    in_sync.any(|theirs| theirs.0 == group.lineage_epoch() && mine > Some(theirs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GroupId, GroupServer};

    fn addr(text: &str) -> HostPort {
        text.parse().unwrap()
    }

    fn group(in_sync: &[&str]) -> Group {
        let mut group = Group::new(GroupId::new(1).unwrap());
        group.servers = ["a:1", "b:1", "c:1"].map(|s| GroupServer::new(addr(s), "")).into();
        group.in_sync = in_sync.iter().map(|s| addr(s)).collect();
        group.begin_lineage("old", 0);
        group.begin_lineage("h", 50);
        group.promoting = Promoting {
            index: 1,
            state: PromoteState::Preparing,
            ..Promoting::default()
        };
        group
    }

    fn planned(mut group: Group) -> Group {
        group.promoting.planned = true;
        group
    }

    fn prepared(mut group: Group) -> Group {
        group.promoting.state = PromoteState::Prepared;
        group
    }

    fn said(server: &str, text: &str) -> Asked {
        Asked {
            server: addr(server),
            answer: Ok(Info::parse(text)),
        }
    }

    fn silent(server: &str) -> Asked {
        Asked {
            server: addr(server),
            answer: Err("connection refused".to_owned()),
        }
    }

    fn primary() -> Asked {
        said("a:1", "role:master\nmaster_replid:h\nmaster_repl_offset:100\n")
    }

    fn replica(server: &str, history: &str, offset: i64) -> Asked {
        let text = format!("role:slave\nmaster_link_status:up\nmaster_replid:{history}\nslave_repl_offset:{offset}\n");
        said(server, &text)
    }

    #[track_caller]
    fn refused(group: &Group, asked: &[Asked], words: &str) {
        let reason = judge(group, 1, asked).unwrap_err().to_string();
        assert!(reason.contains(words), "{reason}");
        let forced = Group {
            promoting: Promoting {
                forced: true,
                ..group.promoting.clone()
            },
            ..group.clone()
        };
        assert!(judge(&forced, 1, asked).is_ok(), "{words}");
    }

    #[test]
    fn a_healthy_primary_hands_over_to_a_replica_of_its() {
        let asked = [primary(), replica("b:1", "h", 90), silent("c:1")];
        assert_eq!(judge(&planned(group(&[])), 1, &asked), Ok(Way::HandOver));
        refused(
            &group(&["b:1"]),
            &[primary(), replica("b:1", "old", 90)],
            "does not replicate a:1",
        );
        let copying = said("b:1", "role:slave\nmaster_link_status:down\nmaster_replid:h\n");
        refused(&group(&["b:1"]), &[primary(), copying], "does not replicate a:1");
    }

    #[test]
    fn a_silent_primary_is_replaced_by_one_that_was_in_sync() {
        let asked = [silent("a:1"), replica("b:1", "h", 90), replica("c:1", "h", 90)];
        assert_eq!(judge(&group(&["b:1"]), 1, &asked), Ok(Way::FailOver));
        assert!(
            judge(&planned(group(&["b:1"])), 1, &asked).is_err(),
            "that is no hand-over"
        );
        refused(&group(&["c:1"]), &asked, "not in sync");
    }

    #[test]
    fn a_primary_restarted_without_its_role_is_replaced_as_a_silent_one() {
        let asked = [said("a:1", "role:slave\nmaster_replid:x\n"), replica("b:1", "h", 90)];
        assert_eq!(judge(&group(&["b:1"]), 1, &asked), Ok(Way::FailOver));
    }

    #[test]
    fn replica_with_older_history_is_not_promoted() {
        let group = group(&["b:1"]);
        refused(
            &group,
            &[silent("a:1"), replica("b:1", "old", 900)],
            "older than the group's last change",
        );
        refused(
            &group,
            &[silent("a:1"), replica("b:1", "nobody's", 900)],
            "not one of the group's",
        );
    }

    #[test]
    fn replica_behind_another_that_answers_is_not_promoted() {
        let group = group(&["b:1", "c:1"]);
        let asked = [silent("a:1"), replica("b:1", "h", 90), replica("c:1", "h", 91)];
        refused(&group, &asked, "c:1] has a newer copy");
        let asked = [silent("a:1"), replica("b:1", "h", 90), replica("c:1", "old", 910)];
        assert_eq!(judge(&group, 1, &asked), Ok(Way::FailOver));
    }

    /// It came back and copied everything, and its primary ended before that was recorded.
    #[test]
    fn a_replica_ahead_of_one_in_sync_is_promoted() {
        let asked = |b: i64, c: Asked| [silent("a:1"), replica("b:1", "h", b), c];
        let in_sync = group(&["c:1"]);
        assert_eq!(
            judge(&in_sync, 1, &asked(91, replica("c:1", "h", 90))),
            Ok(Way::FailOver)
        );
        refused(&in_sync, &asked(89, replica("c:1", "h", 90)), "not in sync");
        refused(&in_sync, &asked(91, silent("c:1")), "not in sync");
        refused(&in_sync, &asked(91, replica("c:1", "old", 90)), "not in sync");
        let mut restarted = in_sync;
        restarted.servers[2].admitted_run_id = Some("before".to_owned());
        refused(&restarted, &asked(91, replica("c:1", "h", 90)), "not in sync");
    }

    /// It read its copy from its volume, and the primary ended before it got its role; nobody else would be promoted past it.
    #[test]
    fn a_restarted_replica_ahead_of_one_in_sync_is_promoted() {
        for in_sync in [&["c:1"][..], &["b:1", "c:1"]] {
            let mut group = group(in_sync);
            group.servers[1].admitted_run_id = Some("before".to_owned());
            let asked = |b: i64, c: Asked| {
                let text = format!("run_id:now\nrole:slave\nmaster_replid:h\nslave_repl_offset:{b}\n");
                [silent("a:1"), said("b:1", &text), c]
            };
            assert_eq!(judge(&group, 1, &asked(91, replica("c:1", "h", 90))), Ok(Way::FailOver));
            assert!(judge(&group, 2, &asked(91, replica("c:1", "h", 90))).is_err());
            let words = if in_sync.len() == 1 {
                "not in sync"
            } else {
                "was restarted"
            };
            refused(&group, &asked(90, replica("c:1", "h", 90)), words);
            refused(&group, &asked(91, silent("c:1")), words);
        }
    }

    #[test]
    fn nobody_is_promoted_who_does_not_answer_even_when_forced() {
        let mut group = group(&["b:1"]);
        group.promoting.forced = true;
        assert!(judge(&group, 1, &[primary(), silent("b:1")]).is_err());
        assert!(judge(&group, 1, &[primary(), said("b:1", "loading:1\n")]).is_err());
    }

    #[test]
    fn replica_restarted_since_it_was_in_sync_is_not_promoted() {
        let mut group = group(&["b:1"]);
        group.servers[1].admitted_run_id = Some("before".to_owned());
        let restarted = said("b:1", "role:slave\nrun_id:now\nmaster_replid:h\nslave_repl_offset:90\n");
        refused(&group, &[silent("a:1"), restarted], "restarted since it was in sync");
    }

    #[test]
    fn a_candidate_that_leads_already_is_recorded_only_when_nobody_wrote_since() {
        let leads = |former: &str, end: i64| {
            let text = format!("role:master\nmaster_replid:n\nmaster_replid2:{former}\nsecond_repl_offset:{end}\n");
            said("b:1", &text)
        };
        let all = prepared(group(&[]));
        assert_eq!(judge(&all, 1, &[primary(), leads("h", 101)]), Ok(Way::Recorded));
        assert_eq!(judge(&all, 1, &[silent("a:1"), leads("h", 101)]), Ok(Way::Recorded));
        refused(
            &all,
            &[primary(), leads("h", 100)],
            "lacks what its primary wrote since",
        );
        refused(&group(&["b:1"]), &[primary(), leads("h", 101)], "is a primary itself");
        refused(
            &prepared(group(&["b:1"])),
            &[silent("a:1"), leads("old", 101)],
            "history is not the group's",
        );
    }
}
