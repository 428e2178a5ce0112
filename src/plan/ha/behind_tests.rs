use super::tests::{Film, addr, answer, group, only_told, server};
use super::*;

const COPYING: &str = "run_id:run-b:1\nrole:slave\nmaster_link_status:down\nmaster_sync_in_progress:1\n";
const WAITING: &str = "run_id:run-b:1\nrole:slave\nmaster_link_status:down\nmaster_sync_in_progress:0\n";

fn with_replica(text: &str) -> GroupSight {
    let mut group = group();
    group.record.in_sync = vec![addr("c:1")];
    group.servers[1] = server("b:1", answer(text));
    group
}

#[test]
fn replica_that_copies_again_and_again_is_told_of_until_it_is_in_sync() {
    let mut film = Film::new();
    for _ in 0..2 {
        assert_eq!(film.group_after(5, &with_replica(COPYING)), Decision::default());
        assert_eq!(film.group_after(5, &with_replica(WAITING)), Decision::default());
    }
    let decision = film.group(&with_replica(COPYING));
    let message = only_told(&decision, NoticeReason::ReplicaBehind);
    assert!(
        message.contains("b:1 began to copy its primary's data 3 times"),
        "{message}"
    );
    assert_eq!(film.group(&group()), Decision::default());
    assert_eq!(film.group(&with_replica(COPYING)), Decision::default());
}

#[test]
fn replica_that_copies_for_minutes_is_told_of() {
    let mut film = Film::new();
    assert_eq!(film.group_after(600, &with_replica(COPYING)), Decision::default());
    let decision = film.group(&with_replica(COPYING));
    let message = only_told(&decision, NoticeReason::ReplicaBehind);
    assert_eq!(
        message,
        "group 1: b:1 has not been in sync for 5 minutes: it copies its primary's data"
    );
}

#[test]
fn server_that_does_not_answer_while_it_copies_begins_no_other_copy() {
    let mut silent = with_replica(COPYING);
    silent.servers[1].probe = super::tests::silent();
    let mut film = Film::new();
    for _ in 0..4 {
        assert_eq!(film.group(&with_replica(COPYING)), Decision::default());
        assert_eq!(film.group(&silent), Decision::default());
    }
}

#[test]
fn replica_that_lags_for_long_is_told_of_until_it_has_what_was_missing() {
    const MB: i64 = 1 << 20;
    let at = |primary: i64, replica: i64| {
        let mut group = group();
        let info = format!("run_id:run-a:1\nrole:master\nmaster_replid:h\nmaster_repl_offset:{primary}\n");
        group.servers[0] = server("a:1", answer(&info));
        group.servers[1] = super::tests::replica("b:1", replica);
        group.servers[2] = super::tests::replica("c:1", primary);
        group
    };
    let mut film = Film::new();
    // It always gets on, and always has what there was a second before.
    for round in 0..100 {
        assert_eq!(film.group(&at(round * MB, (round - 2) * MB)), Decision::default());
    }
    let mut film = Film::new();
    for round in 0..21 {
        assert_eq!(film.group(&at(round * MB, round)), Decision::default());
    }
    let decision = film.group(&at(22 * MB, 22));
    let message = only_told(&decision, NoticeReason::ReplicaBehind);
    assert!(message.contains("b:1 is 10 s behind its primary"), "{message}");
    assert_eq!(film.group(&at(23 * MB, 23 * MB)), Decision::default());
}
