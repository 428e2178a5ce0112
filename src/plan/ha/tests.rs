use std::time::Duration;

use super::*;
use crate::model::{Failover, Group, GroupId, GroupServer, HostPort, Info, PromoteState};

pub(super) const ROUND: Duration = Duration::from_millis(500);

pub(super) fn addr(text: &str) -> HostPort {
    text.parse().unwrap()
}

pub(super) fn one() -> GroupId {
    GroupId::new(1).unwrap()
}

/// A group of `a` (the primary), `b` and `c`, all in sync.
pub(super) fn group() -> GroupSight {
    let mut record = Group::new(one());
    for name in ["a:1", "b:1", "c:1"] {
        let mut server = GroupServer::new(addr(name), "");
        server.admitted_run_id = Some(format!("run-{name}"));
        record.servers.push(server);
    }
    record.in_sync = vec![addr("b:1"), addr("c:1")];
    record.bootstrapped = true;
    record.begin_lineage("h", 0);
    GroupSight {
        servers: vec![primary("a:1"), replica("b:1", 90), replica("c:1", 90)],
        record,
        epoch: 7,
        persistent: false,
        wanted_primary: None,
        accepted_loss: None,
    }
}

pub(super) fn answer(text: &str) -> Probe {
    Probe::Answered(Box::new(Info::parse(text)))
}

pub(super) fn server(name: &str, probe: Probe) -> ServerSight {
    ServerSight {
        server: addr(name),
        probe,
        pod: PodSight::Running(format!("uid-{name}")),
        uid: Some(format!("uid-{name}")),
        outdated: false,
        trouble: String::new(),
        node: NodeSight::Well,
        volume_lost: false,
        polled: Some(true),
        proxies_without: 0,
        proxies_asked: 2,
    }
}

pub(super) fn primary(name: &str) -> ServerSight {
    server(
        name,
        answer(&format!(
            "run_id:run-{name}\nrole:master\nmaster_replid:h\nmaster_repl_offset:100\n"
        )),
    )
}

pub(super) fn replica(name: &str, offset: i64) -> ServerSight {
    let text = format!(
        "run_id:run-{name}\nrole:slave\nmaster_link_status:up\nmaster_last_io_seconds_ago:0\nmaster_replid:h\n\
         slave_repl_offset:{offset}\n"
    );
    server(name, answer(&text))
}

/// A replica that heard nothing of its primary for so many seconds.
fn unheard(name: &str, seconds: i64) -> ServerSight {
    let text = format!(
        "run_id:run-{name}\nrole:slave\nmaster_link_status:up\nmaster_last_io_seconds_ago:{seconds}\nmaster_replid:h\n\
         slave_repl_offset:90\n"
    );
    server(name, answer(&text))
}

fn result(done: bool) -> Result<(), Undone> {
    done.then_some(())
        .ok_or_else(|| Undone::Failed("it was refused".to_owned()))
}

pub(super) fn silent() -> Probe {
    Probe::Silent("no answer within 500ms".to_owned())
}

/// Rounds that see the same, one after the other.
pub(super) struct Film {
    pub(super) policy: Policy,
    pub(super) history: History,
    pub(super) now: Duration,
    pub(super) interval: Duration,
    pub(super) paused: bool,
    pub(super) turn: Turn,
    pub(super) stateless: Vec<StatelessPod>,
}

impl Film {
    pub(super) fn new() -> Self {
        Self {
            policy: Policy::default(),
            history: History::default(),
            now: Duration::from_secs(100),
            interval: ROUND,
            paused: false,
            turn: Turn::Leader,
            stateless: Vec::new(),
        }
    }

    pub(super) fn see(&mut self, groups: &[GroupSight], proxies: &[ProxySight]) -> Decision {
        self.now += self.interval;
        let round = Round {
            at: self.now,
            interval: self.interval,
            paused: self.paused,
            turn: self.turn,
            dashboard: true,
            groups: groups.to_vec(),
            proxies: proxies.to_vec(),
            stateless: self.stateless.clone(),
        };
        self.history.note(&round);
        decide(&self.policy, &self.history, &round)
    }

    pub(super) fn group(&mut self, group: &GroupSight) -> Decision {
        self.see(std::slice::from_ref(group), &[])
    }

    /// The decision of the last of so many rounds; before that nothing is ordered.
    #[track_caller]
    pub(super) fn group_after(&mut self, rounds: u32, group: &GroupSight) -> Decision {
        for round in 1..rounds {
            let early = self.group(group);
            assert_eq!(early.orders, [], "already in round {round}");
        }
        self.group(group)
    }

    pub(super) fn done(&mut self, action: &Action, done: bool) {
        self.history.begun(action);
        self.history.ended(action, self.now, result(done));
    }
}

#[track_caller]
pub(super) fn promoted(decision: &Decision) -> (&str, &str, bool) {
    match &decision.orders[..] {
        [
            Order {
                action:
                    Action::Promote {
                        from,
                        to,
                        force,
                        epoch: 7,
                        ..
                    },
                ..
            },
        ] => (from.as_str(), to.as_str(), *force),
        other => panic!("{other:?}, {:?}", decision.notices),
    }
}

#[track_caller]
pub(super) fn only_told(decision: &Decision, reason: NoticeReason) -> &str {
    assert_eq!(decision.orders, []);
    let [notice] = &decision.notices[..] else {
        panic!("{:?}", decision.notices)
    };
    assert_eq!(notice.reason, reason, "{}", notice.message);
    &notice.message
}

#[test]
fn a_whole_group_is_left_alone() {
    assert_eq!(Film::new().group_after(100, &group()), Decision::default());
}

#[test]
fn a_primary_whose_process_ended_is_replaced_at_once() {
    let probes = [
        (Probe::Refused, PodSight::Running("u".to_owned())),
        (silent(), PodSight::Ended),
        (Probe::Nowhere, PodSight::Absent),
        (Probe::Nowhere, PodSight::Pending),
    ];
    for (probe, pod) in probes {
        let mut group = group();
        (group.servers[0].probe, group.servers[0].pod) = (probe, pod);
        assert_eq!(promoted(&Film::new().group(&group)), ("a:1", "b:1", false));
    }
}

#[test]
fn a_primary_that_was_restarted_faster_than_anybody_noticed_is_replaced_at_once() {
    for role in ["master", "slave"] {
        let mut group = group();
        group.servers[0].probe = answer(&format!("run_id:another\nrole:{role}\nloading:0\n"));
        assert_eq!(promoted(&Film::new().group(&group)), ("a:1", "b:1", false));
    }
}

#[test]
fn a_frozen_primary_is_replaced_after_some_silent_rounds_that_somebody_else_confirms() {
    let mut frozen = group();
    frozen.servers[0].probe = silent();
    let witnesses: [fn(&mut GroupSight); 5] = [
        |group| group.servers[1] = unheard("b:1", 3),
        |group| group.servers[0].polled = Some(false),
        |group| group.servers[0].node = NodeSight::Lost,
        |group| group.servers[0].proxies_without = 2,
        |group| {
            let down = "run_id:run-c:1\nrole:slave\nmaster_link_status:down\nmaster_replid:h\nslave_repl_offset:90\n";
            group.servers[2].probe = answer(down);
        },
    ];
    for confirm in witnesses {
        let mut group = frozen.clone();
        confirm(&mut group);
        assert_eq!(promoted(&Film::new().group_after(3, &group)).0, "a:1");
    }
}

#[test]
fn who_is_alone_in_not_reaching_a_primary_only_tells() {
    let mut group = group();
    group.servers[0].probe = silent();
    group.servers[0].proxies_without = 1;
    group.servers[1] = unheard("b:1", 2);
    let mut film = Film::new();
    let decision = film.group_after(100, &group);
    assert!(only_told(&decision, NoticeReason::OneWitness).contains("a:1"));
    // Who is no replica in sync has no say: it may hear nothing for reasons of its own.
    group.record.in_sync = vec![addr("c:1")];
    group.servers[1] = unheard("b:1", 60);
    only_told(&film.group(&group), NoticeReason::OneWitness);
}

#[test]
fn a_round_without_answer_is_forgotten_after_one_with() {
    let mut hiccup = group();
    hiccup.servers[0].probe = silent();
    hiccup.servers[0].polled = Some(false);
    let mut film = Film::new();
    for _ in 0..10 {
        assert_eq!(film.group_after(2, &hiccup).orders, []);
        assert_eq!(film.group(&group()).orders, []);
    }
}

#[test]
fn the_replica_that_got_furthest_leads() {
    let mut group = group();
    group.servers[0].probe = Probe::Refused;
    group.servers[2] = replica("c:1", 91);
    assert_eq!(promoted(&Film::new().group(&group)).1, "c:1");
    // Offsets of another history tell nothing.
    let text = "run_id:run-c:1\nrole:slave\nmaster_link_status:down\nmaster_replid:other\nslave_repl_offset:9999\n";
    group.servers[2].probe = answer(text);
    assert_eq!(promoted(&Film::new().group(&group)).1, "b:1");
}

/// It came back and copied everything, and its primary ended before that was recorded; the dashboard would refuse the other.
#[test]
fn a_replica_that_is_ahead_of_one_in_sync_leads() {
    let mut gone = group();
    gone.servers[0].probe = Probe::Refused;
    gone.record.in_sync = vec![addr("b:1")];
    gone.servers[2] = replica("c:1", 91);
    assert_eq!(promoted(&Film::new().group(&gone)).1, "c:1");
    gone.servers[2] = replica("c:1", 90);
    assert_eq!(promoted(&Film::new().group(&gone)).1, "b:1");
    // Nobody tells that either has all.
    gone.servers[2] = replica("c:1", 91);
    gone.servers[1].probe = silent();
    only_told(&Film::new().group(&gone), NoticeReason::NoCopy);
}

/// It read its copy from its volume, and the primary ended before it could give it its role; the dashboard would refuse the
/// other, for ever.
#[test]
fn a_restarted_replica_that_is_ahead_of_one_in_sync_leads() {
    let mut gone = group();
    gone.servers[0].probe = Probe::Refused;
    let restarted = |history: &str, offset: i64| {
        answer(&format!(
            "run_id:another\nrole:slave\nmaster_link_status:down\nmaster_replid:{history}\nslave_repl_offset:{offset}\n"
        ))
    };
    for in_sync in [vec![addr("b:1")], vec![addr("b:1"), addr("c:1")]] {
        gone.record.in_sync = in_sync;
        gone.servers[2].probe = restarted("h", 91);
        assert_eq!(promoted(&Film::new().group(&gone)), ("a:1", "c:1", false));
        gone.servers[2].probe = restarted("h", 90);
        assert_eq!(promoted(&Film::new().group(&gone)).1, "b:1");
        gone.servers[2].probe = restarted("nobody's", 99);
        assert_eq!(promoted(&Film::new().group(&gone)).1, "b:1");
    }
    // Alone it may be older than what was acknowledged.
    gone.servers[1].probe = silent();
    gone.servers[2].probe = restarted("h", 91);
    only_told(&Film::new().group(&gone), NoticeReason::NoCopy);
}

#[test]
fn replica_that_is_not_in_sync_or_was_restarted_or_loads_is_not_promoted() {
    let mut gone = group();
    gone.servers[0].probe = Probe::Refused;
    gone.record.in_sync = vec![addr("b:1")];
    let spoil: [fn(&mut GroupSight); 5] = [
        |group| group.record.in_sync.clear(),
        |group| group.servers[1].probe = answer("run_id:new\nrole:slave\nmaster_replid:h\nslave_repl_offset:90\n"),
        |group| group.servers[1].probe = answer("run_id:run-b:1\nrole:slave\nloading:1\nmaster_replid:h\n"),
        |group| group.servers[1].probe = silent(),
        |group| group.servers[1].pod = PodSight::Leaving,
    ];
    for spoil in spoil {
        let mut group = gone.clone();
        spoil(&mut group);
        only_told(&Film::new().group_after(100, &group), NoticeReason::NoCopy);
    }
    assert_eq!(promoted(&Film::new().group(&gone)).1, "b:1");
}

#[test]
fn a_copy_that_may_lack_writes_leads_only_where_a_person_or_the_mode_allows_it() {
    let mut group = group();
    group.servers[0].probe = Probe::Refused;
    group.record.in_sync.clear();
    group.servers[2] = replica("c:1", 95);
    let mut aggressive = Film::new();
    aggressive.policy.mode = Mode::Aggressive;
    // Not before the primary had its time to come back.
    assert_eq!(promoted(&aggressive.group_after(61, &group)), ("a:1", "c:1", true));
    group.accepted_loss = Some(addr("b:1"));
    assert_eq!(promoted(&Film::new().group(&group)), ("a:1", "b:1", true));
    // Nobody accepted that a fresher copy be passed over.
    group.record.in_sync = vec![addr("c:1")];
    assert_eq!(promoted(&Film::new().group(&group)), ("a:1", "c:1", false));
}

#[test]
fn a_group_that_never_served_gets_no_failover() {
    let mut group = group();
    group.record.bootstrapped = false;
    group.servers[0].probe = Probe::Refused;
    assert_eq!(Film::new().group_after(100, &group), Decision::default());
}

#[test]
fn nothing_is_asked_for_twice_at_a_time_and_failures_are_not_repeated_without_pause() {
    let mut group = group();
    group.servers[0].probe = Probe::Refused;
    let mut film = Film::new();
    let order = film.group(&group).orders.remove(0);
    film.history.begun(&order.action);
    assert_eq!(film.group_after(100, &group).orders, [], "it is under way");
    let mut tries = Vec::new();
    for _ in 0..120 {
        if let Some(order) = film.group(&group).orders.first() {
            tries.push(film.now);
            film.history.ended(&order.action, film.now, result(false));
        } else if tries.is_empty() {
            film.history.ended(&order.action, film.now, result(false));
        }
    }
    let pauses: Vec<u64> = tries.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert!(pauses.is_sorted() && pauses.last() == Some(&10), "{pauses:?}");
}

#[test]
fn what_came_too_late_is_decided_anew_at_once() {
    let mut group = group();
    group.servers[0].probe = Probe::Refused;
    let mut film = Film::new();
    let order = film.group(&group).orders.remove(0);
    film.history.begun(&order.action);
    let late = Undone::Late("the group was changed".to_owned());
    film.history.ended(&order.action, film.now, Err(late));
    group.epoch += 1;
    let again = film.group(&group).orders.remove(0);
    assert!(
        matches!(again.action, Action::Promote { epoch, .. } if epoch == group.epoch),
        "{again:?}"
    );
}

#[test]
fn what_was_seen_before_the_last_action_ended_calls_for_nothing() {
    let mut group = group();
    group.servers[0].probe = Probe::Refused;
    let mut film = Film::new();
    let order = film.group(&group).orders.remove(0);
    film.history.begun(&order.action);
    film.history.ended(&order.action, film.now + ROUND * 2, Ok(()));
    assert_eq!(film.group(&group).orders, []);
}

/// The dashboard's record of a failover.
fn failover(at_ms: i64) -> Option<Failover> {
    let told = format!(r#"{{"from": "a:1", "to": "b:1", "at_ms": {at_ms}}}"#);
    serde_json::from_str(&told).unwrap()
}

/// The seconds until each of five failovers is asked for; what becomes of each is up to `then`.
fn waits(then: impl Fn(&mut Film, &mut GroupSight, &Action, i64)) -> Vec<u64> {
    let mut group = group();
    group.servers[0].probe = Probe::Refused;
    let mut film = Film::new();
    let mut waits = Vec::new();
    for number in 1..=5 {
        let (mut rounds, began) = (0, film.now);
        let order = loop {
            let decision = film.group(&group);
            if let Some(order) = decision.orders.first() {
                break order.clone();
            }
            only_told(&decision, NoticeReason::Flapping);
            rounds += 1;
            assert!(rounds < 1000);
        };
        waits.push((film.now - began).as_secs());
        then(&mut film, &mut group, &order.action, number);
    }
    waits
}

#[test]
fn a_group_that_flaps_waits_longer_each_time_and_says_so() {
    let recorded = |film: &mut Film, group: &mut GroupSight, action: &Action, number| {
        film.done(action, true);
        group.record.last_failover = failover(number).map(Box::new);
    };
    assert_eq!(waits(recorded), [0, 0, 10, 20, 40]);
}

#[test]
fn a_group_that_flaps_waits_whoever_asked_for_its_failovers() {
    let asked_by_another = |_: &mut Film, group: &mut GroupSight, _: &Action, number| {
        group.record.last_failover = failover(number).map(Box::new);
    };
    assert_eq!(waits(asked_by_another), [0, 0, 10, 20, 40]);
}

#[test]
fn a_group_that_flaps_waits_where_an_older_dashboard_keeps_no_record() {
    let not_recorded = |film: &mut Film, _: &mut GroupSight, action: &Action, _| film.done(action, true);
    assert_eq!(waits(not_recorded), [0, 0, 10, 20, 40]);
}

#[test]
fn a_failover_counts_once_and_not_when_it_was_before_the_first_look() {
    let mut sight = group();
    sight.record.last_failover = failover(1).map(Box::new);
    let mut film = Film::new();
    let counted = |film: &mut Film, sight: &GroupSight| {
        film.group_after(3, sight);
        film.history.failovers(one()).len()
    };
    assert_eq!(counted(&mut film, &sight), 0, "nobody knows how long ago it was");
    sight.record.last_failover = failover(2).map(Box::new);
    assert_eq!(counted(&mut film, &sight), 1);
    // Only now it is known how long it took.
    sight.record.last_failover.as_mut().unwrap().write_ms = Some(3);
    assert_eq!(counted(&mut film, &sight), 1);
    // An older dashboard drops the record when it changes the group.
    sight.record.last_failover = None;
    assert_eq!(counted(&mut film, &sight), 1);
    sight.record.last_failover = failover(3).map(Box::new);
    assert_eq!(counted(&mut film, &sight), 2);
    film.now += Policy::FLAPPING;
    assert_eq!(counted(&mut film, &sight), 0, "that is long ago");
}

#[test]
fn a_standby_asks_only_when_the_leader_does_not() {
    let mut group = group();
    group.servers[0].probe = Probe::Refused;
    let mut film = Film::new();
    film.turn = Turn::Standby;
    assert_eq!(promoted(&film.group_after(5, &group)), ("a:1", "b:1", false));
    // What needs Kubernetes, or can wait, is left to the leader.
    let mut film = Film::new();
    film.turn = Turn::Standby;
    let mut group = self::group();
    group.servers[1].probe = silent();
    group.wanted_primary = Some(addr("b:1"));
    assert_eq!(film.group_after(200, &group).orders, []);
    assert_eq!(film.see(&[], &[mute_proxy(), sound_proxy()]).orders, []);
}

#[test]
fn without_a_dashboard_nothing_is_decided() {
    let mut group = group();
    group.servers[0].probe = Probe::Refused;
    let round = Round {
        at: ROUND,
        groups: vec![group],
        ..Round::default()
    };
    let mut history = History::default();
    history.note(&round);
    assert_eq!(decide(&Policy::default(), &history, &round), Decision::default());
}

#[test]
fn a_promotion_under_way_is_left_to_the_dashboard() {
    let mut group = group();
    group.servers[0].probe = Probe::Refused;
    group.record.promoting.state = PromoteState::Preparing;
    assert_eq!(Film::new().group_after(10, &group), Decision::default());
}

#[test]
fn report_only_tells_what_it_would_do() {
    let mut group = group();
    group.servers[0].probe = Probe::Refused;
    let mut film = Film::new();
    film.policy.mode = Mode::ReportOnly;
    assert!(only_told(&film.group(&group), NoticeReason::ReportOnly).contains("nobody listens at a:1"));
}

#[test]
fn a_primary_whose_pod_is_about_to_end_hands_over() {
    let mut group = group();
    group.servers[0].pod = PodSight::Leaving;
    group.servers[1].pod = PodSight::Leaving;
    let decision = Film::new().group(&group);
    let [
        Order {
            action: Action::HandOver { from, to, .. },
            ..
        },
    ] = &decision.orders[..]
    else {
        panic!("{decision:?}")
    };
    assert_eq!((from.as_str(), to.as_str()), ("a:1", "c:1"));
    group.servers[2].node = NodeSight::Lost;
    only_told(&Film::new().group(&group), NoticeReason::NoSuccessor);
}

#[test]
fn a_primary_that_can_not_write_to_its_disk_hands_over_to_one_that_can() {
    let full = |sight: ServerSight| {
        let Probe::Answered(info) = sight.probe else { panic!() };
        let fields = info
            .into_fields()
            .into_iter()
            .map(|(name, value)| format!("{name}:{value}\n"));
        let text = fields
            .chain(["aof_last_write_status:err\n".to_owned()])
            .collect::<String>();
        ServerSight {
            probe: answer(&text),
            ..server(sight.server.as_str(), Probe::Nowhere)
        }
    };
    let mut group = group();
    group.servers[0] = full(primary("a:1"));
    group.servers[1] = full(replica("b:1", 95));
    let decision = Film::new().group(&group);
    let told: Vec<_> = decision.notices.iter().map(|notice| notice.reason).collect();
    assert_eq!(told, [NoticeReason::DiskFails, NoticeReason::DiskFails]);
    let [order] = &decision.orders[..] else {
        panic!("{decision:?}")
    };
    assert!(
        matches!(&order.action, Action::HandOver { from, to, .. } if (from.as_str(), to.as_str()) == ("a:1", "c:1"))
    );
    // Where no other can, there is nothing to be won.
    group.servers.truncate(2);
    let mut film = Film::new();
    let decision = film.group(&group);
    assert_eq!((decision.orders.len(), decision.notices.len()), (0, 2));
    // While it copies it does not say it any more, and can't be whole before there is room.
    group.servers[1] = replica("b:1", 95);
    group.record.in_sync.clear();
    assert_eq!(film.group(&group).notices.len(), 2);
    group.record.in_sync.push(addr("b:1"));
    assert_eq!(film.group(&group).notices.len(), 1);
}

#[test]
fn a_person_may_name_the_primary() {
    let mut group = group();
    group.wanted_primary = Some(addr("c:1"));
    let decision = Film::new().group(&group);
    assert!(matches!(&decision.orders[0].action, Action::HandOver { to, .. } if to.as_str() == "c:1"));
    group.servers[2] = unheard("c:1", 0);
    group.record.in_sync = vec![addr("b:1")];
    only_told(&Film::new().group(&group), NoticeReason::NoSuccessor);
}

/// Runs, and neither answers the operator nor the dashboard.
pub(super) fn hung(name: &str) -> ServerSight {
    ServerSight {
        polled: Some(false),
        ..server(name, silent())
    }
}

#[test]
fn a_replica_whose_primary_was_away_for_long_gets_time_to_follow() {
    let mut group = group();
    group.record.in_sync.clear();
    group.servers[2].probe = answer("run_id:run-c:1\nrole:slave\nmaster_link_status:down\n");
    let mut away = group.clone();
    away.servers[0].probe = Probe::Refused;
    let mut film = Film::new();
    film.group_after(200, &away);
    assert_eq!(film.group_after(50, &group).orders, []);
    let decision = film.group_after(11, &group);
    assert!(
        matches!(
            decision.orders[..],
            [Order {
                action: Action::RestartServer { .. },
                ..
            }]
        ),
        "{decision:?}"
    );
}

#[test]
fn a_replica_that_is_of_no_use_for_long_is_restarted_one_at_a_time() {
    let mut group = group();
    group.servers[1] = hung("b:1");
    group.servers[2].probe = answer("run_id:run-c:1\nrole:slave\nmaster_link_status:down\n");
    group.record.in_sync.clear();
    let mut film = Film::new();
    let decision = film.group_after(61, &group);
    let [
        Order {
            action: Action::RestartServer { server, uid, .. },
            ..
        },
    ] = &decision.orders[..]
    else {
        panic!("{decision:?}")
    };
    assert_eq!((server.as_str(), uid.as_str()), ("b:1", "uid-b:1"));
    // While one comes back the others wait.
    group.servers[1].pod = PodSight::Pending;
    assert_eq!(film.group_after(100, &group).orders, []);
}

#[test]
fn a_restart_that_did_not_help_is_repeated_ever_later() {
    let mut group = group();
    group.servers[1] = hung("b:1");
    let mut film = Film::new();
    for rounds in [61, 121, 241] {
        let decision = film.group_after(rounds, &group);
        let [order] = &decision.orders[..] else {
            panic!("{rounds}: {decision:?}")
        };
        film.done(&order.action, true);
        // The next pod of the name hangs as well.
        let running = std::mem::replace(&mut group.servers[1].pod, PodSight::Pending);
        film.group(&group);
        group.servers[1].pod = running;
    }
    // Once it was well, it is as if nothing had been.
    film.group(&super::tests::group());
    assert_eq!(film.group_after(61, &group).orders.len(), 1);
}

#[test]
fn a_replica_that_only_the_operator_does_not_reach_is_left_alone() {
    let mut group = group();
    group.servers[1].probe = silent();
    group.servers[2].probe = answer("run_id:run-c:1\nrole:slave\nmaster_link_status:down\n");
    assert_eq!(
        Film::new().group_after(200, &group).orders,
        [],
        "b is polled, c is in sync"
    );
}

#[test]
fn time_without_a_dashboard_speaks_against_nobody() {
    let mut group = group();
    group.record.in_sync.clear();
    group.servers[1].probe = answer("run_id:new\nrole:slave\nmaster_link_status:down\n");
    let mut film = Film::new();
    for _ in 0..200 {
        film.now += ROUND;
        film.history.note(&Round {
            at: film.now,
            groups: vec![group.clone()],
            proxies: vec![mute_proxy()],
            ..Round::default()
        });
    }
    assert_eq!(
        film.see(&[group], &[mute_proxy(), sound_proxy()]).orders,
        [],
        "it waits for its role"
    );
}

#[test]
fn nobody_is_restarted_who_may_have_the_last_copy_or_copies_just_now() {
    let mut group = group();
    group.servers[1] = hung("b:1");
    group.servers[0].probe = silent();
    assert_eq!(
        Film::new().group_after(200, &group).orders,
        [],
        "the primary is silent too"
    );
    let mut copying = self::group();
    copying.record.in_sync.clear();
    copying.servers[1].probe =
        answer("run_id:run-b:1\nrole:slave\nmaster_link_status:down\nmaster_sync_in_progress:1\n");
    assert_eq!(Film::new().group_after(200, &copying).orders, []);
    let mut alone = self::group();
    alone.servers.truncate(1);
    alone.record.servers.truncate(1);
    alone.servers[0].probe = silent();
    alone.servers[0].polled = Some(false);
    assert_eq!(
        Film::new().group_after(200, &alone).orders,
        [],
        "it may wake up with its data"
    );
}

pub(super) fn mute_proxy() -> ProxySight {
    ProxySight {
        token: "t1".into(),
        pod: "shop-proxy-x".to_owned(),
        uid: "uid-x".to_owned(),
        pod_stays: true,
        answered: false,
        polled: Some(false),
        epoch: 3,
        node: NodeSight::Well,
    }
}

pub(super) fn sound_proxy() -> ProxySight {
    ProxySight {
        token: "t2".into(),
        pod: "shop-proxy-y".to_owned(),
        answered: true,
        polled: Some(true),
        ..mute_proxy()
    }
}

#[test]
fn a_proxy_that_nobody_hears_of_is_dropped() {
    let mut film = Film::new();
    let proxies = [mute_proxy(), sound_proxy()];
    for _ in 0..2 {
        assert_eq!(film.see(&[], &proxies).orders, []);
    }
    let decision = film.see(&[], &proxies);
    let [Order { action, .. }] = &decision.orders[..] else {
        panic!("{decision:?}")
    };
    assert!(matches!(action, Action::DropProxy { pod, epoch: 3, .. } if pod == "shop-proxy-x"));
    // One that the dashboard did not ask yet has one witness against it.
    for (answered, polled, pod_stays) in [
        (true, Some(false), true),
        (false, Some(true), true),
        (false, None, true),
        (false, Some(false), false),
    ] {
        let proxy = ProxySight {
            answered,
            polled,
            pod_stays,
            ..mute_proxy()
        };
        let (mut film, proxies) = (Film::new(), [proxy, sound_proxy()]);
        assert!((0..100).all(|_| film.see(&[], &proxies).orders.is_empty()));
    }
}

#[test]
fn proxies_are_dropped_one_at_a_time_and_never_all() {
    let other = ProxySight {
        token: "t3".into(),
        ..mute_proxy()
    };
    let mut film = Film::new();
    assert!((0..100).all(|_| film.see(&[], &[mute_proxy(), other.clone()]).orders.is_empty()));
    let orders = film.see(&[], &[mute_proxy(), other.clone(), sound_proxy()]).orders;
    assert_eq!(orders.len(), 1);
    film.history.begun(&orders[0].action);
    assert_eq!(film.see(&[], &[mute_proxy(), other, sound_proxy()]).orders, []);
}

#[test]
fn marks_are_taken_away_when_they_came_true_or_are_not_needed() {
    let cleared = |group: &GroupSight, turn: Turn| {
        let mut film = Film::new();
        film.turn = turn;
        let orders = film.group(group).orders;
        let marks = orders.iter().map(|order| match &order.action {
            Action::ClearMark { mark, server, .. } => (*mark, server.as_str().to_owned()),
            other => panic!("{other:?}"),
        });
        marks.collect::<Vec<_>>()
    };
    let mut marked = group();
    marked.wanted_primary = Some(addr("a:1"));
    assert_eq!(cleared(&marked, Turn::Leader), [(Mark::HandOver, "a:1".to_owned())]);
    assert_eq!(cleared(&marked, Turn::Standby), []);
    marked.wanted_primary = None;
    // The loss that was accepted did not come about: the next one was not accepted.
    marked.accepted_loss = Some(addr("b:1"));
    assert_eq!(
        cleared(&marked, Turn::Leader),
        [(Mark::AcceptDataLoss, "b:1".to_owned())]
    );
}

#[test]
fn what_was_refused_is_told() {
    let mut group = group();
    group.servers[0].probe = Probe::Refused;
    let mut film = Film::new();
    let order = film.group(&group).orders.remove(0);
    film.done(&order.action, false);
    film.group(&group);
    let decision = film.group(&group);
    let told: Vec<_> = decision.notices.iter().map(|notice| notice.reason).collect();
    assert_eq!(told, [NoticeReason::NotDone]);
    assert!(decision.notices[0].message.contains("it was refused"));
}

#[test]
fn nobody_leads_for_long_without_that_being_told() {
    let mut group = group();
    group.servers[0].probe = answer("run_id:run-a:1\nrole:slave\n");
    let mut film = Film::new();
    assert_eq!(film.group_after(10, &group), Decision::default());
    only_told(&film.group_after(20, &group), NoticeReason::OneWitness);
}
