//! What waits for what in a group.

use super::tests::{Film, ROUND, addr, group, hung, one, promoted};
use super::*;

/// Its primary ended, and a replica has its data.
fn gone() -> GroupSight {
    let mut group = group();
    group.servers[0].probe = Probe::Refused;
    group
}

/// A person wants another primary.
fn wanted() -> GroupSight {
    let mut group = group();
    group.wanted_primary = Some(addr("c:1"));
    group
}

/// A replica is of no use.
fn useless() -> GroupSight {
    let mut group = group();
    group.servers[1] = hung("b:1");
    group
}

fn restart() -> Action {
    Action::RestartServer {
        group: one(),
        server: addr("b:1"),
        uid: "uid-b:1".to_owned(),
        epoch: 7,
    }
}

fn hand_over() -> Action {
    Action::HandOver {
        group: one(),
        from: addr("a:1"),
        to: addr("c:1"),
        epoch: 7,
    }
}

fn promote() -> Action {
    Action::Promote {
        group: one(),
        from: addr("a:1"),
        to: addr("c:1"),
        epoch: 7,
        force: false,
        behind: None,
    }
}

#[test]
fn dead_primary_is_replaced_while_the_deletion_of_a_pod_or_a_hand_over_hangs() {
    for hangs in [restart(), hand_over()] {
        let mut film = Film::new();
        film.history.begun(&hangs);
        assert_eq!(promoted(&film.group(&gone())), ("a:1", "b:1", false), "{hangs:?}");
    }
}

#[test]
fn dead_primary_is_replaced_however_often_something_else_failed() {
    for failed in [restart(), hand_over()] {
        let mut film = Film::new();
        (0..5).for_each(|_| film.done(&failed, false));
        assert_eq!(promoted(&film.group(&gone())), ("a:1", "b:1", false), "{failed:?}");
    }
}

#[test]
fn no_pod_is_touched_while_its_group_changes_its_primary() {
    for under_way in [promote(), hand_over(), restart()] {
        let mut film = Film::new();
        film.history.begun(&under_way);
        assert_eq!(film.group_after(200, &useless()).orders, [], "{under_way:?}");
        film.history.ended(&under_way, film.now, Ok(()));
        assert_eq!(film.group(&useless()).orders[0].action, restart());
    }
}

#[test]
fn nobody_hands_over_while_a_pod_of_the_group_is_deleted() {
    for under_way in [promote(), restart()] {
        let mut film = Film::new();
        film.history.begun(&under_way);
        assert_eq!(film.group_after(200, &wanted()).orders, [], "{under_way:?}");
        film.history.ended(&under_way, film.now, Ok(()));
        assert_eq!(film.group(&wanted()).orders[0].action, hand_over());
    }
}

#[test]
fn what_was_seen_before_a_hand_over_ended_calls_for_no_promotion() {
    let mut film = Film::new();
    film.history.begun(&hand_over());
    film.history.ended(&hand_over(), film.now + ROUND * 2, Ok(()));
    assert_eq!(film.group(&gone()).orders, []);
    assert_eq!(promoted(&film.group(&gone())).0, "a:1");
}

#[test]
fn rollout_does_not_ask_for_a_hand_over_again_and_again() {
    let mut rolling = group();
    rolling.servers[0].outdated = true;
    let mut film = Film::new();
    let order = film.group(&rolling).orders.remove(0);
    (0..3).for_each(|_| film.done(&order.action, false));
    let decisions: Vec<_> = (0..8).map(|_| film.group(&rolling)).collect();
    let asked: Vec<usize> = decisions.iter().map(|decision| decision.orders.len()).collect();
    assert_eq!(asked, [0, 0, 0, 1, 1, 1, 1, 1]);
}

#[test]
fn failed_hand_over_is_not_told_of_any_more_when_another_one_leads() {
    let mut film = Film::new();
    film.done(&hand_over(), false);
    assert_eq!(film.group(&group()).notices[0].reason, NoticeReason::NotDone);
    film.done(&promote(), true);
    assert_eq!(film.group(&group()), Decision::default());
}
