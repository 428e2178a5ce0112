//! Whether a server may become its group's primary, from what the group's servers say just now. Pure.
//!
//! DESIGN 3, rule 5: higher epoch first, then the offset within one history; a copy older than one that can be had is not
//! promoted.

use crate::dashboard::rules::Refusal;
use crate::dashboard::server::Info;
use crate::model::{Group, HostPort};

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

/// Judges the server at `index` of the group; `asked` are all servers of the group in their order. With `planned` only a
/// hand-over will do.
///
/// # Errors
/// Why it may not lead.
pub(crate) fn judge(group: &Group, index: usize, asked: &[Asked], planned: bool) -> Result<Way, Refusal> {
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
    if info.is_primary() {
        let continues = match (info.former_history(), group.lineage.last()) {
            (Some((former, _)), Some(newest)) => former == newest.id,
            _ => false,
        };
        return if continues || group.promoting.forced {
            Ok(Way::Recorded)
        } else {
            refuse("it is a primary itself, and its history is not the group's".to_owned())
        };
    }
    let leads = |info: &&Info| info.is_primary() && !info.is_loading();
    let former = primary.answer.as_ref().ok().filter(leads);
    let forced = group.promoting.forced;
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
        None => fail_over(group, info, name, asked).map(|()| Way::FailOver),
    }
}

/// Whether the candidate has the newest copy that can be had.
fn fail_over(group: &Group, info: &Info, name: &HostPort, asked: &[Asked]) -> Result<(), Refusal> {
    let refuse = |reason: String| Err(Refusal(format!("server-[{name}] can't be promoted: {reason}")));
    if !group.in_sync.contains(name) {
        return refuse(
            "it is not in sync with the primary, as far as is recorded; take one that is, or force it and lose what it lacks"
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GroupId, GroupServer, PromoteState, Promoting};

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
            forced: false,
        };
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
        let reason = judge(group, 1, asked, false).unwrap_err().to_string();
        assert!(reason.contains(words), "{reason}");
        let forced = Group {
            promoting: Promoting {
                forced: true,
                ..group.promoting
            },
            ..group.clone()
        };
        assert!(judge(&forced, 1, asked, false).is_ok(), "{words}");
    }

    #[test]
    fn a_healthy_primary_hands_over_to_a_replica_of_its() {
        let asked = [primary(), replica("b:1", "h", 90), silent("c:1")];
        assert_eq!(judge(&group(&[]), 1, &asked, true), Ok(Way::HandOver));
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
        assert_eq!(judge(&group(&["b:1"]), 1, &asked, false), Ok(Way::FailOver));
        assert!(
            judge(&group(&["b:1"]), 1, &asked, true).is_err(),
            "that is no hand-over"
        );
        refused(&group(&["c:1"]), &asked, "not in sync");
    }

    #[test]
    fn a_primary_restarted_without_its_role_is_replaced_as_a_silent_one() {
        let asked = [said("a:1", "role:slave\nmaster_replid:x\n"), replica("b:1", "h", 90)];
        assert_eq!(judge(&group(&["b:1"]), 1, &asked, false), Ok(Way::FailOver));
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
        assert_eq!(judge(&group, 1, &asked, false), Ok(Way::FailOver));
    }

    #[test]
    fn nobody_is_promoted_who_does_not_answer_even_when_forced() {
        let mut group = group(&["b:1"]);
        group.promoting.forced = true;
        assert!(judge(&group, 1, &[primary(), silent("b:1")], false).is_err());
        assert!(judge(&group, 1, &[primary(), said("b:1", "loading:1\n")], false).is_err());
    }

    #[test]
    fn a_candidate_that_leads_already_is_recorded() {
        let leads = |former: &str| {
            let text = format!("role:master\nmaster_replid:n\nmaster_replid2:{former}\nsecond_repl_offset:101\n");
            said("b:1", &text)
        };
        assert_eq!(
            judge(&group(&[]), 1, &[primary(), leads("h")], false),
            Ok(Way::Recorded)
        );
        refused(
            &group(&["b:1"]),
            &[silent("a:1"), leads("old")],
            "history is not the group's",
        );
    }
}
