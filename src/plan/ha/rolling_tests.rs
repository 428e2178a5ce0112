use std::time::Duration;

use super::tests::{Film, addr, group, one, only_told, primary, replica, silent};
use super::*;

/// The group of `a` (the primary), `b` and `c`, these of them made with what the spec said before.
fn outdated(servers: &[usize]) -> GroupSight {
    let mut group = group();
    for index in servers {
        group.servers[*index].outdated = true;
    }
    group
}

#[track_caller]
fn replaced(decision: &Decision) -> &str {
    match &decision.orders[..] {
        [
            Order {
                action: Action::ReplaceServer { server, uid, .. },
                ..
            },
        ] => {
            assert_eq!(*uid, format!("uid-{server}"));
            server.as_str()
        }
        other => panic!("{other:?}, {:?}", decision.notices),
    }
}

#[test]
fn replicas_are_replaced_first_and_the_primary_hands_over_to_one_that_was() {
    assert_eq!(replaced(&Film::new().group(&outdated(&[0, 1, 2]))), "c:1");
    assert_eq!(replaced(&Film::new().group(&outdated(&[0, 1]))), "b:1");
    let decision = Film::new().group(&outdated(&[0]));
    let [order] = &decision.orders[..] else {
        panic!("{decision:?}")
    };
    let Action::HandOver { from, to, epoch: 7, .. } = &order.action else {
        panic!("{order:?}")
    };
    assert_eq!((from.as_str(), to.as_str()), ("a:1", "b:1"));
}

#[test]
fn a_server_on_its_way_is_waited_for() {
    for (pod, probe) in [
        (PodSight::Leaving, silent()),
        (PodSight::Absent, Probe::Nowhere),
        (PodSight::Pending, Probe::Nowhere),
        (PodSight::Running("uid-c:1".to_owned()), Probe::Refused),
    ] {
        let mut group = outdated(&[0, 1]);
        (group.servers[2].pod, group.servers[2].probe) = (pod.clone(), probe);
        assert_eq!(Film::new().group(&group), Decision::default(), "{pod:?}");
    }
    // It runs, and its copy is not recorded as one that may lead.
    let mut group = outdated(&[0, 1]);
    group.record.in_sync.pop();
    assert_eq!(Film::new().group(&group), Decision::default());
}

#[test]
fn only_one_group_is_disturbed_at_a_time() {
    let second = || {
        let mut second = outdated(&[1, 2]);
        second.record.id = crate::model::GroupId::new(2).unwrap();
        second
    };
    assert_eq!(replaced(&Film::new().see(&[outdated(&[1]), second()], &[])), "b:1");
    assert_eq!(replaced(&Film::new().see(&[group(), second()], &[])), "c:1");
    let mut first = group();
    first.servers[1].probe = Probe::Refused;
    assert_eq!(Film::new().see(&[first, second()], &[]).orders, []);
}

#[test]
fn a_rollout_stops_and_says_so_when_a_new_server_does_not_get_well() {
    let mut group = outdated(&[0, 1]);
    group.servers[2].pod = PodSight::Pending;
    group.servers[2].probe = Probe::Nowhere;
    group.servers[2].trouble = "ErrImagePull: not found".to_owned();
    let mut film = Film::new();
    let last = film.group_after(70, &group);
    let message = only_told(&last, NoticeReason::RolloutStopped);
    assert!(message.contains("c:1") && message.contains("ErrImagePull"), "{message}");
    // Who copies a large data set is not stuck.
    let mut copying = outdated(&[0, 1]);
    copying.servers[2] = super::tests::server(
        "c:1",
        super::tests::answer("run_id:run-c:1\nrole:slave\nmaster_link_status:down\nmaster_sync_in_progress:1\n"),
    );
    assert_eq!(Film::new().group_after(70, &copying), Decision::default());
}

#[test]
fn a_new_server_that_does_not_work_is_replaced_when_the_spec_was_corrected() {
    let mut group = outdated(&[0, 1, 2]);
    (group.servers[2].pod, group.servers[2].probe) = (PodSight::Pending, Probe::Nowhere);
    assert_eq!(replaced(&Film::new().group(&group)), "c:1");
    (group.servers[2].pod, group.servers[2].probe) = (PodSight::Ended, Probe::Refused);
    assert_eq!(replaced(&Film::new().group(&group)), "c:1");
    // Also where the only server of a group never came up.
    let mut alone = outdated(&[0]);
    alone.servers.truncate(1);
    alone.record.servers.truncate(1);
    alone.record.in_sync.clear();
    (alone.servers[0].pod, alone.servers[0].probe) = (PodSight::Pending, Probe::Nowhere);
    assert_eq!(replaced(&Film::new().group(&alone)), "a:1");
}

#[test]
fn the_only_copy_in_memory_is_not_replaced_unless_a_person_accepts_that() {
    let mut alone = outdated(&[0]);
    alone.servers.truncate(1);
    alone.record.servers.truncate(1);
    alone.record.in_sync.clear();
    let decision = Film::new().group(&alone);
    let message = only_told(&decision, NoticeReason::RolloutStopped);
    assert!(message.contains("accept-data-loss"), "{message}");
    alone.accepted_loss = Some(addr("a:1"));
    assert_eq!(replaced(&Film::new().group(&alone)), "a:1");
    (alone.accepted_loss, alone.persistent) = (None, true);
    assert_eq!(replaced(&Film::new().group(&alone)), "a:1");
}

#[test]
fn nobody_is_replaced_while_the_group_is_busy_or_another_instance_leads() {
    let mut standby = Film::new();
    standby.turn = Turn::Standby;
    assert_eq!(standby.group(&outdated(&[0, 1, 2])), Decision::default());
    let mut film = Film::new();
    let failed = Action::ReplaceServer {
        group: one(),
        server: addr("c:1"),
        uid: "u".to_owned(),
        epoch: 7,
    };
    film.done(&failed, false);
    film.done(&failed, false);
    assert_eq!(film.group(&outdated(&[1])).orders, []);
    let mut promoting = outdated(&[1]);
    promoting.record.promoting.state = crate::model::PromoteState::Preparing;
    assert_eq!(Film::new().group(&promoting), Decision::default());
}

#[test]
fn a_failover_comes_before_a_rollout() {
    let mut group = outdated(&[0, 1, 2]);
    group.servers[0].probe = Probe::Refused;
    let decision = Film::new().group(&group);
    assert!(
        matches!(
            &decision.orders[..],
            [Order {
                action: Action::Promote { .. },
                ..
            }]
        ),
        "{decision:?}"
    );
}

#[test]
fn a_rollout_comes_to_an_end_with_every_server_replaced_once() {
    let mut sight = outdated(&[0, 1, 2]);
    let mut film = Film::new();
    let mut replaced = Vec::new();
    for _ in 0..12 {
        let decision = film.group(&sight);
        for order in &decision.orders {
            film.done(&order.action, true);
            match &order.action {
                Action::ReplaceServer { server, .. } => {
                    replaced.push(server.to_string());
                    let server = sight.servers.iter_mut().find(|s| s.server == *server).unwrap();
                    server.outdated = false;
                }
                Action::HandOver { to, .. } => {
                    let to = sight.record.servers.iter().position(|s| s.server == *to).unwrap();
                    sight.record.servers.swap(0, to);
                    sight.servers.swap(0, to);
                    let [leads, follows] = [0, to].map(|i| sight.servers[i].server.to_string());
                    sight.record.in_sync = sight.record.servers[1..].iter().map(|s| s.server.clone()).collect();
                    sight.servers[0].probe = primary(&leads).probe;
                    sight.servers[to].probe = replica(&follows, 100).probe;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(replaced, ["c:1", "b:1", "a:1"]);
    assert_eq!(film.group(&sight), Decision::default());
    assert!(film.policy.restart_after > Duration::ZERO);
}

#[test]
fn a_replica_whose_pod_is_about_to_end_is_set_aside_once() {
    let mut group = group();
    group.servers[1].pod = PodSight::Leaving;
    let mut film = Film::new();
    let decision = film.group(&group);
    let [Order { action, .. }] = &decision.orders[..] else {
        panic!("{decision:?}")
    };
    let aside = Action::SetAside {
        group: one(),
        server: addr("b:1"),
        uid: "uid-b:1".to_owned(),
        // It may arrive late, when the replica's next process is in sync.
        epoch: group.epoch,
    };
    assert_eq!(*action, aside);
    film.done(&aside, false);
    film.done(&aside, false);
    assert_eq!(
        film.group(&group),
        Decision::default(),
        "it is tried again a little later"
    );
    assert_eq!(film.group(&group).orders[0].action, aside);
    film.done(&aside, true);
    assert_eq!(film.group(&group), Decision::default());
    // The next pod of the name is another one.
    group.servers[1].uid = Some("next".to_owned());
    assert_eq!(film.group(&group).orders.len(), 1);
}
