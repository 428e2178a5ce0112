use std::time::Duration;

use super::tests::{Film, addr, group, hung, mute_proxy, one, only_told, silent, sound_proxy};
use super::*;

fn pod(answered: bool, node: NodeSight) -> StatelessPod {
    StatelessPod {
        pod: "shop-dashboard-0".to_owned(),
        uid: "u".to_owned(),
        answered,
        node,
    }
}

/// A replica of which nobody hears, on such a node.
fn lost(node: NodeSight) -> GroupSight {
    let mut group = group();
    group.servers[1] = hung("b:1");
    group.servers[1].node = node;
    group.record.in_sync = vec![addr("c:1")];
    group
}

fn force_deleted(decision: &Decision) -> Vec<&str> {
    let servers = decision.orders.iter().map(|order| match &order.action {
        Action::ForceDeleteServer {
            server, uid, epoch: 7, ..
        } if *uid == format!("uid-{server}") => server.as_str(),
        other => panic!("{other:?}"),
    });
    servers.collect()
}

/// Dashboards are the ones that ask for everything else.
#[test]
fn a_pod_without_data_on_a_lost_node_is_deleted_also_without_a_dashboard() {
    for node in [NodeSight::Lost, NodeSight::Gone] {
        let mut history = History::default();
        let mut orders = Vec::new();
        for second in 1..=3 {
            let round = Round {
                at: Duration::from_secs(second),
                stateless: vec![pod(false, node)],
                ..Round::default()
            };
            history.note(&round);
            orders.push(decide(&Policy::default(), &history, &round).orders);
        }
        assert_eq!((orders[0].len(), orders[1].len()), (0, 0));
        let [Order { action, reason, .. }] = &orders[2][..] else {
            panic!("{orders:?}")
        };
        let (pod, uid) = ("shop-dashboard-0".to_owned(), "u".to_owned());
        assert_eq!(*action, Action::ForceDeletePod { pod, uid }, "{reason}");
    }
}

#[test]
fn a_pod_without_data_that_answers_or_whose_node_works_is_left_alone() {
    for pod in [pod(true, NodeSight::Lost), pod(false, NodeSight::Well)] {
        let mut film = Film::new();
        film.stateless = vec![pod];
        assert!((0..100).all(|_| film.see(&[], &[]).orders.is_empty()));
    }
    let mut standby = Film::new();
    (standby.turn, standby.stateless) = (Turn::Standby, vec![pod(false, NodeSight::Lost)]);
    assert!((0..100).all(|_| standby.see(&[], &[]).orders.is_empty()));
}

#[test]
fn a_proxy_on_a_lost_node_is_dropped_though_its_pod_leaves_and_no_other_answers() {
    let on_lost_node = ProxySight {
        node: NodeSight::Lost,
        ..mute_proxy()
    };
    let leaving = ProxySight {
        pod_stays: false,
        ..on_lost_node.clone()
    };
    for proxies in [vec![on_lost_node], vec![leaving, sound_proxy()]] {
        let mut film = Film::new();
        assert!((0..2).all(|_| film.see(&[], &proxies).orders.is_empty()));
        let orders = film.see(&[], &proxies).orders;
        assert!(matches!(&orders[..], [Order { action: Action::DropProxy { uid, .. }, .. }] if uid == "uid-x"));
    }
}

#[test]
fn a_server_whose_node_is_gone_is_deleted_whatever_its_role() {
    let replica = lost(NodeSight::Gone);
    assert_eq!(force_deleted(&Film::new().group_after(3, &replica)), ["b:1"]);
    // A primary is replaced first, if it can be.
    let mut primary = group();
    primary.servers[0] = hung("a:1");
    primary.servers[0].node = NodeSight::Gone;
    let first = Film::new().group_after(3, &primary);
    assert!(matches!(first.orders[0].action, Action::Promote { .. }) && first.orders.len() == 1);
    primary.record.in_sync.clear();
    assert_eq!(force_deleted(&Film::new().group_after(3, &primary)), ["a:1"]);
}

#[test]
fn a_server_that_is_heard_of_is_not_deleted_whatever_kubernetes_says_of_its_node() {
    let mut polled = lost(NodeSight::Gone);
    polled.servers[1].polled = Some(true);
    let mut answers = group();
    answers.servers[1].node = NodeSight::Gone;
    for group in [polled, answers] {
        assert_eq!(Film::new().group_after(100, &group).orders, []);
    }
}

#[test]
fn a_server_on_a_lost_node_stays_and_that_is_told() {
    let message = Film::new().group_after(200, &lost(NodeSight::Lost));
    let message = only_told(&message, NoticeReason::NodeLost).to_owned();
    assert!(
        message.contains("b:1") && message.contains("out-of-service"),
        "{message}"
    );
}

#[test]
fn after_the_time_that_a_person_named_a_replica_on_a_lost_node_is_deleted() {
    let mut film = Film::new();
    film.policy.force_delete_after = Some(Duration::from_secs(20));
    assert_eq!(force_deleted(&film.group_after(41, &lost(NodeSight::Lost))), ["b:1"]);
}

/// It may still run and take writes: that is the dashboard's to end, by a promotion.
#[test]
fn a_primary_on_a_lost_node_is_not_deleted_before_another_one_leads() {
    let mut primary = group();
    primary.servers[0] = hung("a:1");
    primary.servers[0].node = NodeSight::Lost;
    primary.record.in_sync.clear();
    let mut film = Film::new();
    film.policy.force_delete_after = Some(Duration::from_secs(20));
    let decision = film.group_after(200, &primary);
    assert_eq!(decision.orders, []);
    let told: Vec<_> = decision.notices.iter().map(|notice| notice.reason).collect();
    assert_eq!(told, [NoticeReason::NoCopy, NoticeReason::NodeLost]);
    // Nor is a replica while nobody leads: it may have the newest copy.
    let mut replica = lost(NodeSight::Lost);
    replica.servers[0].probe = silent();
    assert_eq!(film.group_after(200, &replica).orders, []);
}

/// A replica that can start nowhere.
fn without_volume() -> GroupSight {
    let mut group = group();
    group.persistent = true;
    group.record.in_sync = vec![addr("c:1")];
    (group.servers[1].probe, group.servers[1].pod) = (Probe::Nowhere, PodSight::Pending);
    group.servers[1].volume_lost = true;
    group
}

#[test]
fn a_replica_whose_volume_is_gone_with_its_node_begins_anew() {
    let decision = Film::new().group(&without_volume());
    let given_up = Action::GiveUpVolume {
        group: one(),
        server: addr("b:1"),
        uid: "uid-b:1".to_owned(),
        epoch: 7,
    };
    assert_eq!(decision.orders.len(), 1);
    assert_eq!(decision.orders[0].action, given_up);
    let mut waits = without_volume();
    waits.servers[1].volume_lost = false;
    assert_eq!(Film::new().group_after(100, &waits).orders, [], "it waits for a place");
}

#[test]
fn a_volume_is_not_given_up_while_no_other_server_leads() {
    let mut alone = without_volume();
    alone.servers.remove(0);
    alone.record.servers.remove(0);
    alone.servers.truncate(1);
    alone.record.servers.truncate(1);
    only_told(&Film::new().group_after(100, &alone), NoticeReason::VolumeLost);
    let mut unled = without_volume();
    unled.servers[0].probe = silent();
    let decision = Film::new().group_after(100, &unled);
    assert_eq!(decision.orders, []);
    let told = |reason| decision.notices.iter().any(|notice| notice.reason == reason);
    assert!(told(NoticeReason::VolumeLost) && told(NoticeReason::OneWitness));
}
