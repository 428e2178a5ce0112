//! Whether a server process is given its role now: the decision behind a sync-action. Pure.
//!
//! The rules (DESIGN 3, rules 1 and 5): a process that comes back empty, or with an older copy, is not made primary over
//! servers that may know more; and a copy is replaced only by the one that the recorded, admitted primary holds.

use crate::model::{Group, HostPort, Info};

/// What is to be done with the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Make it the primary.
    Lead,
    /// Make it a replica of this server.
    Follow(HostPort),
    /// Not as things are; somebody has to act.
    Refuse(String),
    /// Not yet; ask again.
    Wait(String),
}

/// Another server of the group, and what it said when it was asked just now.
#[derive(Debug, Clone)]
pub(crate) struct Other {
    /// Its address.
    pub(crate) server: HostPort,
    /// Whether it is a server that the operator prepared, if it answered.
    pub(crate) prepared: bool,
    /// Its INFO, or why there is none.
    pub(crate) answer: Result<Info, String>,
}

/// Decides for the server at place `index` of the group, which says `info` of itself. `others` are all other servers of
/// the group.
pub(crate) fn decide(group: &Group, index: usize, info: &Info, others: &[Other]) -> Decision {
    if info.is_loading() {
        return Decision::Wait("it is loading its data set".to_owned());
    }
    if let Some(name) = other_name(group, index, info, others) {
        return Decision::Refuse(format!(
            "it is the same process as {name}; remove one of the two from the group"
        ));
    }
    if index == 0 {
        lead(group, info, others)
    } else {
        follow(group, info, others)
    }
}

/// Another server of the group that is the same process: made a replica of itself, it would serve nobody.
fn other_name<'a>(group: &'a Group, index: usize, info: &Info, others: &'a [Other]) -> Option<&'a HostPort> {
    let run_id = Some(info.run_id()).filter(|run_id| !run_id.is_empty());
    let live = others
        .iter()
        .filter_map(|other| Some((&other.server, other.answer.as_ref().ok()?.run_id())));
    let recorded = group.servers.iter().enumerate().filter(|(place, _)| *place != index);
    let recorded = recorded.filter_map(|(_, server)| Some((&server.server, server.admitted_run_id.as_deref()?)));
    live.chain(recorded)
        .find_map(|(server, other)| (Some(other) == run_id).then_some(server))
}

fn lead(group: &Group, info: &Info, others: &[Other]) -> Decision {
    let same_process = group.primary().and_then(|p| p.admitted_run_id.as_deref()) == Some(info.run_id());
    if same_process {
        return Decision::Lead;
    }
    let (mut unsure, mut refused) = (None, None);
    for other in others {
        match judge(group, info, other) {
            Judgement::NoObjection => {}
            Judgement::Unsure(reason) => unsure = unsure.or(Some(reason)),
            Judgement::KnowsMore(reason) => refused = refused.or(Some(reason)),
        }
    }
    match (refused, unsure) {
        (Some(reason), _) => Decision::Refuse(reason),
        (None, Some(reason)) => Decision::Wait(reason),
        (None, None) => Decision::Lead,
    }
}

enum Judgement {
    NoObjection,
    Unsure(String),
    KnowsMore(String),
}

/// What another server says against making the asked one, a new process, the primary.
fn judge(group: &Group, info: &Info, other: &Other) -> Judgement {
    let server = &other.server;
    let state = if info.keys() == 0 {
        "its data set is empty"
    } else {
        "it is a new process"
    };
    let heeded = !is_chosen(group, info) && !went_on_without(group, info, other);
    let theirs = match &other.answer {
        Ok(theirs) => theirs,
        Err(_) if !group.bootstrapped || !heeded => return Judgement::NoObjection,
        Err(reason) => {
            return Judgement::KnowsMore(format!(
                "{state}, and {server} can't be asked whether it knows more: {reason}"
            ));
        }
    };
    if theirs.is_loading() && heeded {
        return Judgement::Unsure(format!("{state}, and {server} is still loading its data set"));
    }
    let imported = group.bootstrapped && group.primary().is_some_and(|primary| primary.admitted_run_id.is_none());
    if imported && theirs.is_primary() && !info.is_primary() {
        return Judgement::KnowsMore(format!(
            "{state} as far as is recorded, and {server} is a primary; promote that if the records are older than it"
        ));
    }
    if info.keys() == 0 && theirs.keys() > 0 {
        return Judgement::KnowsMore(format!("{state}, while {server} has {} keys", theirs.keys()));
    }
    if !group.bootstrapped || !heeded || info.keys() == 0 || is_ahead(group, info, theirs) {
        return Judgement::NoObjection;
    }
    if theirs.keys() == 0 && !shares_history(info, theirs) {
        return Judgement::NoObjection;
    }
    let nobody_knows = is_unknown(group, info) && is_unknown(group, theirs) && !shares_history(info, theirs);
    if nobody_knows && !is_admitted(group, other) {
        return Judgement::NoObjection;
    }
    Judgement::KnowsMore(format!(
        "{state}, and {server} may hold a newer copy (offset {} of history {}, against {} of {})",
        theirs.offset(),
        short(theirs.history()),
        info.offset(),
        short(info.history())
    ))
}

/// Whether a person, or the mode, chose what the primary has. That it has nothing is not meant.
fn is_chosen(group: &Group, info: &Info) -> bool {
    info.keys() > 0 && group.primary().is_some_and(|primary| primary.action.forced)
}

/// Whether the primary, which read its data from its files, went on without a server: that is recorded as one not in sync. A
/// server that dropped out a moment before may have what the files lack, the last second before a power failure; but it lacks
/// whatever was acknowledged without it, without bound, so that the primary is the one to lead.
fn went_on_without(group: &Group, info: &Info, other: &Other) -> bool {
    let recorded = group.primary().is_some_and(|primary| primary.admitted_run_id.is_some());
    let in_sync = group.in_sync.contains(&other.server);
    // Its history may be one that the primary went on with unrecorded, while nobody was in sync.
    let unknown = other.answer.as_ref().is_ok_and(|theirs| is_unknown(group, theirs));
    let lives_on = unknown && is_admitted(group, other);
    info.keys() > 0 && is_unknown(group, info) && recorded && !in_sync && !lives_on
}

/// Whether one copy certainly is the fresher one, or the same: of a later primary, or further in the history of the same.
fn is_ahead(group: &Group, one: &Info, other: &Info) -> bool {
    let rank = |info: &Info| group.rank(info.history(), info.offset());
    if let (Some(one), Some(other)) = (rank(one), rank(other)) {
        return one >= other;
    }
    if one.history().is_empty() {
        return false;
    }
    if one.history() == other.history() {
        return one.offset() >= other.offset();
    }
    one.former_history()
        .is_some_and(|(id, end)| id == other.history() && other.offset() < end)
}

/// Whether nobody can tell how new a copy is: a server that read its data from an append-only file has begun a new history.
/// Where that holds for all, as after the end of a whole group, the one that was the primary last has the newest.
fn is_unknown(group: &Group, info: &Info) -> bool {
    !group.lineage.is_empty() && group.rank(info.history(), info.offset()).is_none()
}

/// Whether a server is still the process that was given its role.
fn is_admitted(group: &Group, other: &Other) -> bool {
    let record = group.servers.iter().find(|record| record.server == other.server);
    let admitted = record.and_then(|record| record.admitted_run_id.as_deref());
    let answered = other.answer.as_ref().ok().map(Info::run_id);
    admitted.is_some() && admitted == answered
}

fn shares_history(one: &Info, other: &Info) -> bool {
    let ids = |info: &Info| {
        [
            Some(info.history().to_owned()),
            info.former_history().map(|(id, _)| id.to_owned()),
        ]
    };
    let theirs = ids(other);
    ids(one)
        .iter()
        .flatten()
        .any(|id| !id.is_empty() && theirs.iter().flatten().any(|other| other == id))
}

fn follow(group: &Group, info: &Info, others: &[Other]) -> Decision {
    let Some(primary) = group.primary() else {
        return Decision::Refuse("its group has no primary".to_owned());
    };
    let name = &primary.server;
    let (theirs, prepared) = match others
        .iter()
        .find(|other| other.server == *name)
        .map(|other| (&other.answer, other.prepared))
    {
        Some((Ok(theirs), prepared)) => (theirs, prepared),
        Some((Err(reason), _)) => return Decision::Wait(format!("its primary {name} can't be asked: {reason}")),
        None => return Decision::Wait(format!("its primary {name} was not asked")),
    };
    if theirs.is_loading() {
        return Decision::Wait(format!("its primary {name} is loading its data set"));
    }
    let admitted = primary.admitted_run_id.as_deref();
    if admitted.is_some_and(|run_id| run_id != theirs.run_id()) {
        return Decision::Wait(format!(
            "its primary {name} is a new process that was not given its role yet; ask for a sync-action of {name}"
        ));
    }
    if !theirs.is_primary() {
        return Decision::Wait(format!(
            "its primary {name} has not got its role; ask for a sync-action of {name}"
        ));
    }
    if prepared && admitted.is_none() {
        return Decision::Wait(format!(
            "that its primary {name} has its role is not recorded yet; ask for a sync-action of {name}"
        ));
    }
    if theirs.keys() == 0 && info.keys() > 0 && !shares_history(info, theirs) {
        return Decision::Refuse(format!(
            "it holds {} keys that its empty primary {name} never had, and would lose them; remove it from the group, or \
             empty it (FLUSHALL) if they are not wanted",
            info.keys()
        ));
    }
    Decision::Follow(name.clone())
}

fn short(history: &str) -> &str {
    history.get(..8).unwrap_or(history)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GroupId, GroupServer};

    fn addr(text: &str) -> HostPort {
        text.parse().unwrap()
    }

    /// A group with primary a:1 (whose process r1 was admitted, if `bootstrapped`) and replicas b:1, c:1.
    fn group(bootstrapped: bool) -> Group {
        let mut group = Group::new(GroupId::new(1).unwrap());
        group.servers = ["a:1", "b:1", "c:1"].map(|s| GroupServer::new(addr(s), "")).into();
        group.bootstrapped = bootstrapped;
        group.servers[0].admitted_run_id = bootstrapped.then(|| "r1".to_owned());
        group
    }

    fn info(run_id: &str, role: &str, keys: u64, history: &str, offset: i64) -> Info {
        let keyspace = if keys == 0 {
            String::new()
        } else {
            format!("db0:keys={keys},expires=0\n")
        };
        Info::parse(&format!(
            "run_id:{run_id}\nrole:{role}\nloading:0\nmaster_replid:{history}\nmaster_repl_offset:{offset}\n{keyspace}"
        ))
    }

    fn empty(run_id: &str) -> Info {
        info(run_id, "slave", 0, &format!("h-{run_id}"), 0)
    }

    fn loading() -> Info {
        Info::parse("run_id:x\nrole:slave\nloading:1\n")
    }

    fn said(server: &str, info: Info) -> Other {
        Other {
            server: addr(server),
            prepared: false,
            answer: Ok(info),
        }
    }

    fn silent(server: &str) -> Other {
        Other {
            server: addr(server),
            prepared: false,
            answer: Err("connection refused".to_owned()),
        }
    }

    #[track_caller]
    fn refused(decision: Decision, words: &str) {
        match decision {
            Decision::Refuse(reason) => assert!(reason.contains(words), "{reason}"),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn waits(decision: Decision, words: &str) {
        match decision {
            Decision::Wait(reason) => assert!(reason.contains(words), "{reason}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_fresh_group_gets_its_primary_although_replicas_are_not_there_yet() {
        let others = [silent("b:1"), said("c:1", empty("r3"))];
        assert_eq!(decide(&group(false), 0, &empty("r1"), &others), Decision::Lead);
        assert_eq!(
            decide(&group(false), 0, &info("r1", "master", 5, "h", 9), &others),
            Decision::Lead
        );
    }

    #[test]
    fn an_empty_server_is_not_made_primary_of_a_group_whose_record_was_lost_but_not_its_data() {
        let others = [said("b:1", info("r2", "slave", 7, "h", 9))];
        refused(decide(&group(false), 0, &empty("r1"), &others), "b:1 has 7 keys");
    }

    #[test]
    fn a_primary_that_never_stopped_gets_its_role_again() {
        let others = [said("b:1", info("r2", "slave", 7, "h", 9)), silent("c:1")];
        assert_eq!(
            decide(&group(true), 0, &info("r1", "master", 0, "h", 9), &others),
            Decision::Lead
        );
    }

    #[test]
    fn a_primary_restarted_empty_is_refused_while_a_replica_has_data() {
        let others = [said("b:1", empty("r2")), said("c:1", info("r3", "slave", 7, "h", 9))];
        refused(
            decide(&group(true), 0, &empty("r9"), &others),
            "its data set is empty, while c:1 has 7 keys",
        );
    }

    #[test]
    fn a_primary_restarted_empty_is_refused_while_a_replica_cannot_be_asked() {
        let others = [said("b:1", empty("r2")), silent("c:1")];
        refused(decide(&group(true), 0, &empty("r9"), &others), "c:1 can't be asked");
    }

    #[test]
    fn a_primary_restarted_empty_leads_when_everyone_is_empty_or_it_is_alone() {
        let others = [said("b:1", empty("r2")), said("c:1", empty("r3"))];
        assert_eq!(decide(&group(true), 0, &empty("r9"), &others), Decision::Lead);
        assert_eq!(decide(&group(true), 0, &empty("r9"), &[]), Decision::Lead);
        assert_eq!(
            decide(&group(true), 0, &info("r9", "slave", 3, "h", 9), &[]),
            Decision::Lead
        );
    }

    #[test]
    fn loading_servers_are_waited_for() {
        waits(decide(&group(true), 0, &loading(), &[]), "loading");
        waits(decide(&group(true), 1, &loading(), &[]), "loading");
        waits(
            decide(&group(true), 0, &empty("r9"), &[said("b:1", loading())]),
            "b:1 is still loading",
        );
    }

    #[test]
    fn a_primary_restarted_with_data_leads_only_with_the_newest_copy() {
        let mine = info("r9", "slave", 5, "h", 100);
        let behind = said("b:1", info("r2", "slave", 5, "h", 90));
        let ahead = said("c:1", info("r3", "slave", 5, "h", 101));
        let fresh = said("c:1", empty("r3"));
        assert_eq!(decide(&group(true), 0, &mine, &[behind.clone(), fresh]), Decision::Lead);
        refused(
            decide(&group(true), 0, &mine, &[behind.clone(), ahead]),
            "c:1 may hold a newer copy",
        );
        refused(
            decide(&group(true), 0, &mine, &[behind, silent("c:1")]),
            "c:1 can't be asked",
        );
    }

    #[test]
    fn copies_of_unknown_histories_are_not_overwritten() {
        let mine = info("r9", "slave", 5, "new", 0);
        refused(
            decide(&group(true), 0, &mine, &[said("b:1", info("r2", "slave", 5, "h", 90))]),
            "newer copy",
        );
    }

    #[test]
    fn a_replica_emptied_in_the_same_history_counts_as_newer() {
        let mine = info("r9", "slave", 5, "h", 100);
        refused(
            decide(&group(true), 0, &mine, &[said("b:1", info("r2", "slave", 0, "h", 120))]),
            "newer copy",
        );
    }

    #[test]
    fn a_promoted_copy_is_ahead_of_those_of_its_former_history_up_to_the_promotion() {
        let promoted = |end: i64| {
            Info::parse(&format!(
                "run_id:r9\nrole:slave\nmaster_replid:n\nmaster_replid2:h\nsecond_repl_offset:{end}\nmaster_repl_offset:200\ndb0:keys=1\n"
            ))
        };
        let others = [said("b:1", info("r2", "slave", 5, "h", 150))];
        // The first offset that is not shared.
        assert_eq!(decide(&group(true), 0, &promoted(151), &others), Decision::Lead);
        refused(decide(&group(true), 0, &promoted(150), &others), "newer copy");
    }

    #[test]
    fn where_all_copies_came_from_files_the_recorded_primary_leads() {
        let mut group = group(true);
        group.begin_lineage("h", 0);
        group.servers[1].admitted_run_id = Some("r2".to_owned());
        let (read, as_well) = (info("r9", "slave", 5, "n1", 0), info("r8", "slave", 7, "n2", 0));
        assert_eq!(
            decide(&group, 0, &read, &[said("b:1", as_well.clone())]),
            Decision::Lead
        );
        // A file that is empty is not a copy.
        refused(
            decide(&group, 0, &empty("r9"), &[said("b:1", as_well)]),
            "b:1 has 7 keys",
        );
        // And one that was never out of memory is newer than a file.
        let alive = info("r2", "slave", 5, "other", 100);
        refused(decide(&group, 0, &read, &[said("b:1", alive)]), "newer copy");
        group.in_sync = vec![addr("b:1")];
        let alive = info("r2", "slave", 5, "h", 100);
        refused(decide(&group, 0, &read, &[said("b:1", alive)]), "newer copy");
    }

    /// The group of a:1, b:1 and c:1 that wrote history h, with b:1 in sync and c:1 fallen behind, after a:1 read its files.
    fn gone_on_without_c() -> (Group, Info) {
        let mut group = group(true);
        group.begin_lineage("h", 0);
        group.servers[2].admitted_run_id = Some("r3".to_owned());
        group.in_sync = vec![addr("b:1")];
        (group, info("r9", "slave", 5, "n1", 0))
    }

    #[test]
    fn a_primary_that_went_on_without_a_replica_leads_with_what_its_files_hold() {
        let (group, read) = gone_on_without_c();
        let fellow = said("b:1", info("r8", "slave", 5, "n2", 0));
        let stale = said("c:1", info("r3", "slave", 4, "h", 90));
        for behind in [silent("c:1"), stale, said("c:1", loading())] {
            assert_eq!(
                decide(&group, 0, &read, &[fellow.clone(), behind.clone()]),
                Decision::Lead
            );
            // Emptiness is no copy.
            let others = [fellow.clone(), behind];
            assert_ne!(decide(&group, 0, &empty("r9"), &others), Decision::Lead);
        }
    }

    #[test]
    fn a_primary_that_read_its_files_does_not_pass_over_a_replica_in_sync() {
        let (group, read) = gone_on_without_c();
        let behind = silent("c:1");
        refused(
            decide(&group, 0, &read, &[silent("b:1"), behind.clone()]),
            "b:1 can't be asked",
        );
        waits(
            decide(&group, 0, &read, &[said("b:1", loading()), behind.clone()]),
            "loading",
        );
        let alive = said("b:1", info("r2", "slave", 5, "h", 90));
        refused(decide(&group, 0, &read, &[alive, behind]), "b:1 may hold a newer copy");
    }

    #[test]
    fn a_replica_that_is_not_in_sync_is_heeded_where_it_certainly_or_possibly_has_more() {
        let (mut group, read) = gone_on_without_c();
        group.in_sync.clear();
        let other = |text: Info| [said("c:1", text)];
        // Its history is known, so that offsets tell.
        let older = info("r9", "slave", 5, "h", 50);
        refused(
            decide(&group, 0, &older, &other(info("r3", "slave", 5, "h", 90))),
            "newer copy",
        );
        // It follows a history that was not recorded because nobody was in sync.
        refused(
            decide(&group, 0, &read, &other(info("r3", "slave", 5, "x", 90))),
            "newer copy",
        );
        // The records may be old.
        group.servers[0].admitted_run_id = None;
        refused(decide(&group, 0, &read, &[silent("c:1")]), "can't be asked");
    }

    #[test]
    fn a_primary_whose_data_were_chosen_leads_whatever_others_have() {
        let (mut group, read) = gone_on_without_c();
        let newer = said("b:1", info("r2", "slave", 9, "h", 90));
        group.servers[0].action.forced = true;
        for other in [newer.clone(), silent("b:1"), said("b:1", loading())] {
            assert_eq!(decide(&group, 0, &read, &[other]), Decision::Lead);
        }
        // It has nothing, or not all of it yet; or somebody else leads.
        refused(
            decide(&group, 0, &empty("r9"), std::slice::from_ref(&newer)),
            "b:1 has 9 keys",
        );
        refused(decide(&group, 0, &empty("r9"), &[silent("b:1")]), "can't be asked");
        waits(decide(&group, 0, &loading(), &[newer]), "loading");
        group.servers[0].admitted_run_id = None;
        let leads = said("b:1", info("r2", "master", 9, "h", 90));
        refused(decide(&group, 0, &read, &[leads]), "b:1 is a primary");
    }

    #[test]
    fn the_copy_of_the_later_primary_is_the_fresher_one_however_far_the_former_got() {
        let mut group = group(true);
        group.begin_lineage("h1", 0);
        group.begin_lineage("h2", 100);
        let (newer, older) = (info("r9", "slave", 5, "h2", 120), info("r8", "slave", 5, "h1", 900));
        assert_eq!(decide(&group, 0, &newer, &[said("b:1", older.clone())]), Decision::Lead);
        refused(decide(&group, 0, &older, &[said("b:1", newer)]), "newer copy");
    }

    #[test]
    fn where_the_records_may_be_old_nobody_leads_beside_a_primary() {
        let mut group = group(true);
        group.servers[0].admitted_run_id = None;
        let replica = info("r1", "slave", 5, "h", 100);
        let other = |role| said("b:1", info("r2", role, 5, "h", 100));
        refused(decide(&group, 0, &replica, &[other("master")]), "b:1 is a primary");
        assert_eq!(decide(&group, 0, &replica, &[other("slave")]), Decision::Lead);
        assert_eq!(
            decide(&group, 0, &info("r1", "master", 5, "h", 100), &[other("slave")]),
            Decision::Lead
        );
    }

    #[test]
    fn a_replica_follows_the_admitted_primary() {
        let primary = info("r1", "master", 5, "h", 100);
        assert_eq!(
            decide(&group(true), 1, &empty("r2"), &[said("a:1", primary)]),
            Decision::Follow(addr("a:1"))
        );
    }

    #[test]
    fn a_second_primary_of_a_group_is_told_to_follow_the_recorded_one() {
        let leads = said("a:1", info("r1", "master", 5, "h", 100));
        for (keys, history) in [(7, "h2"), (0, "h2"), (5, "h")] {
            let second = info("r2", "master", keys, history, 200);
            assert_eq!(
                decide(&group(true), 1, &second, std::slice::from_ref(&leads)),
                Decision::Follow(addr("a:1"))
            );
        }
    }

    #[test]
    fn a_replica_waits_for_a_primary_that_is_gone_restarted_or_without_its_role() {
        waits(
            decide(&group(true), 1, &empty("r2"), &[silent("a:1")]),
            "can't be asked",
        );
        waits(
            decide(&group(true), 1, &empty("r2"), &[said("a:1", loading())]),
            "loading",
        );
        waits(
            decide(
                &group(true),
                1,
                &empty("r2"),
                &[said("a:1", info("r9", "master", 0, "x", 0))],
            ),
            "new process",
        );
        waits(
            decide(
                &group(true),
                1,
                &empty("r2"),
                &[said("a:1", info("r1", "slave", 0, "x", 0))],
            ),
            "not got its role",
        );
        waits(
            decide(&group(false), 1, &empty("r2"), &[said("a:1", empty("r1"))]),
            "not got its role",
        );
    }

    #[test]
    fn a_server_that_nobody_prepared_is_followed_without_admission_as_in_codis() {
        let primary = info("r1", "master", 0, "h", 0);
        assert_eq!(
            decide(&group(false), 2, &empty("r2"), &[said("a:1", primary)]),
            Decision::Follow(addr("a:1"))
        );
    }

    #[test]
    fn a_prepared_primary_is_followed_only_once_its_admission_is_recorded() {
        let primary = Other {
            prepared: true,
            ..said("a:1", info("r1", "master", 0, "h", 0))
        };
        waits(
            decide(&group(false), 1, &empty("r2"), std::slice::from_ref(&primary)),
            "not recorded yet",
        );
        assert_eq!(
            decide(&group(true), 1, &empty("r2"), &[primary]),
            Decision::Follow(addr("a:1"))
        );
    }

    #[test]
    fn one_process_under_two_names_gets_no_second_role() {
        let primary = info("r1", "master", 5, "h", 100);
        refused(
            decide(&group(false), 1, &primary, &[said("a:1", primary.clone())]),
            "same process as a:1",
        );
        refused(
            decide(&group(true), 2, &primary, &[silent("a:1"), said("b:1", empty("r2"))]),
            "same process as a:1",
        );
        refused(
            decide(&group(false), 0, &primary, &[said("b:1", primary.clone())]),
            "same process as b:1",
        );
    }

    #[test]
    fn data_is_not_replaced_by_the_emptiness_of_a_primary_that_never_had_it() {
        let mine = info("r2", "slave", 7, "old", 90);
        refused(
            decide(&group(true), 1, &mine, &[said("a:1", info("r1", "master", 0, "h", 0))]),
            "7 keys",
        );
        let flushed = info("r1", "master", 0, "old", 99);
        assert_eq!(
            decide(&group(true), 1, &mine, &[said("a:1", flushed)]),
            Decision::Follow(addr("a:1"))
        );
    }
}
