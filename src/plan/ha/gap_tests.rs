use std::time::Duration;

use super::tests::{Film, addr, answer, group, hung, mute_proxy, only_told, promoted, replica, sound_proxy};
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// Its primary ended, and nobody is known to have all of its data.
fn without_copy() -> GroupSight {
    let mut group = group();
    group.servers[0].probe = Probe::Refused;
    group.record.in_sync.clear();
    group.servers[2] = replica("c:1", 95);
    group
}

fn aggressive() -> Film {
    let mut film = Film::new();
    film.policy.mode = Mode::Aggressive;
    film
}

#[test]
fn primary_that_had_no_time_to_come_back_since_somebody_looks_again_is_waited_for() {
    let mut film = aggressive();
    assert_eq!(film.group_after(10, &without_copy()).orders, []);
    film.now += MINUTE;
    assert_eq!(promoted(&film.group_after(61, &without_copy())), ("a:1", "c:1", true));
}

#[test]
fn cluster_that_was_paused_is_given_the_time_that_it_would_have_had() {
    let mut film = aggressive();
    film.paused = true;
    film.group_after(200, &without_copy());
    film.paused = false;
    // A person started it again, and it has nothing.
    let mut empty = without_copy();
    empty.servers[0].probe = answer("run_id:new\nrole:slave\n");
    assert_eq!(promoted(&film.group_after(61, &empty)), ("a:1", "c:1", true));
}

#[test]
fn replica_is_not_restarted_for_time_in_which_nobody_looked() {
    let mut group = group();
    group.servers[1] = hung("b:1");
    let mut film = Film::new();
    film.group(&group);
    film.now += MINUTE;
    let orders = film.group_after(61, &group).orders;
    assert!(matches!(
        &orders[..],
        [Order {
            action: Action::RestartServer { .. },
            ..
        }]
    ));
}

#[test]
fn server_on_a_lost_node_and_proxy_are_not_deleted_for_time_in_which_nobody_looked() {
    let mut lost = group();
    lost.servers[1] = hung("b:1");
    lost.servers[1].node = NodeSight::Lost;
    lost.record.in_sync = vec![addr("c:1")];
    let mut film = Film::new();
    film.policy.force_delete_after = Some(Duration::from_secs(20));
    film.group_after(3, &lost);
    film.now += MINUTE;
    let orders = film.group_after(41, &lost).orders;
    assert!(matches!(
        &orders[..],
        [Order {
            action: Action::ForceDeleteServer { .. },
            ..
        }]
    ));

    let (mut film, proxies) = (Film::new(), [mute_proxy(), sound_proxy()]);
    film.see(&[], &proxies);
    film.now += MINUTE;
    assert!((0..2).all(|_| film.see(&[], &proxies).orders.is_empty()));
    assert_eq!(film.see(&[], &proxies).orders.len(), 1);
}

#[test]
fn rounds_that_come_a_little_late_or_are_meant_to_be_rare_go_on() {
    let mut film = aggressive();
    film.group_after(30, &without_copy());
    film.now += Duration::from_secs(4);
    assert_eq!(promoted(&film.group_after(23, &without_copy())).1, "c:1");

    let mut film = aggressive();
    film.interval = Duration::from_secs(10);
    assert_eq!(promoted(&film.group_after(4, &without_copy())).1, "c:1");
}

#[test]
fn what_was_tried_before_a_gap_still_counts() {
    let mut gone = group();
    gone.servers[0].probe = Probe::Refused;
    let mut film = Film::new();
    for _ in 0..2 {
        let order = film.group(&gone).orders.remove(0);
        film.done(&order.action, true);
    }
    film.now += Duration::from_secs(6);
    only_told(&film.group(&gone), NoticeReason::Flapping);
}

#[test]
fn nothing_is_done_while_a_cluster_is_paused_and_what_would_be_is_told() {
    let mut gone = group();
    gone.servers[0].probe = Probe::Refused;
    let mut film = Film::new();
    film.paused = true;
    for _ in 0..100 {
        let decision = film.group(&gone);
        let message = only_told(&decision, NoticeReason::Paused);
        assert!(
            message.contains("nobody listens at a:1") && message.contains("spec.paused"),
            "{message}"
        );
    }
    // What is over is not told any more.
    assert_eq!(film.group(&group()), Decision::default());
    gone.record.in_sync.clear();
    only_told(&film.group(&gone), NoticeReason::NoCopy);
    film.paused = false;
    gone.record.in_sync = vec![addr("b:1")];
    assert_eq!(promoted(&film.group(&gone)).1, "b:1");
}
