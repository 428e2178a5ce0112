//! A primary that hangs while nobody can lead in its place.

use super::tests::{Film, addr, answer, group, hung, one, only_told, promoted, replica};
use super::*;

/// `a` keeps its data on a volume and hangs: nobody can use it.
fn in_company() -> GroupSight {
    let mut group = group();
    group.persistent = true;
    group.servers[0] = hung_primary();
    group
}

/// The same without any other server.
fn alone() -> GroupSight {
    let mut group = in_company();
    group.servers.truncate(1);
    group.record.servers.truncate(1);
    group.record.in_sync.clear();
    group
}

fn hung_primary() -> ServerSight {
    ServerSight {
        proxies_without: 2,
        ..hung("a:1")
    }
}

#[track_caller]
fn restarted(decision: &Decision) {
    let [Order { action, .. }] = &decision.orders[..] else {
        panic!("{decision:?}")
    };
    let restart = Action::RestartServer {
        group: one(),
        server: addr("a:1"),
        uid: "uid-a:1".to_owned(),
        epoch: 7,
    };
    assert_eq!(*action, restart);
}

#[test]
fn hung_primary_with_a_volume_is_restarted_when_nobody_can_lead_in_its_place() {
    let mut film = Film::new();
    let message = only_told(&film.group_after(3, &alone()), NoticeReason::PrimaryHung).to_owned();
    assert!(message.contains("restarted when that lasts for 30s"), "{message}");
    restarted(&film.group_after(58, &alone()));
    // A replica that lacks data, or was restarted since it was in sync, is no help.
    for in_sync in [vec![], vec![addr("b:1")]] {
        let mut group = in_company();
        group.record.in_sync = in_sync;
        group.servers[1].probe = answer("run_id:new\nrole:slave\nmaster_replid:x\nslave_repl_offset:0\n");
        let mut film = Film::new();
        only_told(&film.group_after(3, &group), NoticeReason::NoCopy);
        restarted(&film.group_after(58, &group));
    }
}

#[test]
fn hung_primary_whose_data_is_only_in_memory_is_left_alone_and_told_of() {
    let mut group = alone();
    group.persistent = false;
    let decision = Film::new().group_after(500, &group);
    let message = only_told(&decision, NoticeReason::PrimaryHung);
    assert!(message.contains("kubectl delete pod"), "{message}");
}

#[test]
fn hung_primary_is_not_restarted_where_another_one_can_lead() {
    let (mut film, group) = (Film::new(), in_company());
    let order = film.group_after(3, &group).orders.remove(0);
    assert!(matches!(order.action, Action::Promote { .. }), "{order:?}");
    film.history.begun(&order.action);
    assert_eq!(film.group_after(200, &group).orders, []);
}

#[test]
fn hung_primary_with_a_volume_is_restarted_when_whoever_could_lead_in_its_place_is_refused() {
    let (mut film, group) = (Film::new(), in_company());
    for round in 1..61 {
        for order in film.group(&group).orders {
            assert!(
                matches!(order.action, Action::Promote { .. }),
                "in round {round}: {order:?}"
            );
            film.done(&order.action, false);
        }
    }
    let decision = (0..20)
        .map(|_| film.group(&group))
        .find(|decision| !decision.orders.is_empty());
    restarted(&decision.unwrap());
}

#[test]
fn primary_that_may_work_or_loads_or_just_began_is_not_restarted() {
    let spare: [fn(&mut GroupSight); 7] = [
        |group| group.servers[0].polled = Some(true),
        |group| group.servers[0].polled = None,
        |group| group.servers[0].proxies_without = 1,
        |group| group.servers[0].node = NodeSight::Lost,
        |group| group.servers[0].pod = PodSight::Pending,
        |group| group.servers[0].pod = PodSight::Leaving,
        |group| group.servers[0].probe = answer("run_id:new\nrole:slave\nloading:1\n"),
    ];
    for spare in spare {
        let mut group = alone();
        spare(&mut group);
        assert_eq!(Film::new().group_after(500, &group).orders, []);
    }
}

#[test]
fn restart_of_a_hung_primary_that_did_not_help_is_repeated_ever_later() {
    let (mut film, mut group) = (Film::new(), alone());
    for rounds in [61, 121, 241] {
        let decision = film.group_after(rounds, &group);
        restarted(&decision);
        film.done(&decision.orders[0].action, true);
        let running = std::mem::replace(&mut group.servers[0].pod, PodSight::Pending);
        film.group(&group);
        // Loading its file, however long that takes, is not hanging.
        group.servers[0].pod = running;
        let loads = answer("run_id:new\nrole:slave\nloading:1\n");
        let hangs = std::mem::replace(&mut group.servers[0].probe, loads);
        film.group_after(500, &group);
        group.servers[0].probe = hangs;
    }
}

#[test]
fn standby_and_report_only_restart_no_hung_primary() {
    let mut film = Film::new();
    film.turn = Turn::Standby;
    assert_eq!(film.group_after(500, &alone()).orders, []);
    let mut film = Film::new();
    film.policy.mode = Mode::ReportOnly;
    let decision = film.group_after(61, &alone());
    assert!(only_told(&decision, NoticeReason::ReportOnly).contains("on its volume"));
}

#[test]
fn restart_of_a_hung_primary_waits_for_whatever_is_under_way_in_its_group() {
    let mut group = in_company();
    group.record.in_sync.clear();
    group.servers[1] = replica("b:1", 95);
    group.accepted_loss = Some(addr("b:1"));
    let mut film = Film::new();
    assert_eq!(promoted(&film.group_after(3, &group)), ("a:1", "b:1", true));
    let order = film.group(&group).orders.remove(0);
    film.history.begun(&order.action);
    assert_eq!(film.group_after(100, &group).orders, []);
}
