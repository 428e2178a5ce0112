//! Who leads when a copy may yet wake up, when the primary comes back with data, and when it is about to go.

use super::tests::{Film, addr, answer, group, one, only_told, promoted, replica, silent};
use super::*;

/// A process of `a` that was started anew, holds no role, and read keys from its files.
fn back(keys: u64) -> Probe {
    let keyspace = if keys == 0 {
        String::new()
    } else {
        format!("db0:keys={keys},expires=0\n")
    };
    answer(&format!(
        "run_id:another\nrole:slave\nloading:0\nmaster_replid:new\nmaster_repl_offset:0\n{keyspace}"
    ))
}

/// `a` went on alone, and was started anew; `b` and `c` have what it had before.
fn gone_on_alone() -> GroupSight {
    let mut group = group();
    group.record.in_sync.clear();
    group.persistent = true;
    group.servers[0].probe = back(7);
    group
}

fn aggressive() -> Film {
    let mut film = Film::new();
    film.policy.mode = Mode::Aggressive;
    film
}

#[track_caller]
fn kept(decision: &Decision) {
    let [
        Order {
            action:
                Action::KeepPrimary {
                    group,
                    server,
                    epoch: 7,
                },
            ..
        },
    ] = &decision.orders[..]
    else {
        panic!("{decision:?}")
    };
    assert_eq!((*group, server.as_str()), (one(), "a:1"));
}

#[track_caller]
fn handed_over(decision: &Decision) -> (&str, &str) {
    let [
        Order {
            action: Action::HandOver { to, .. },
            reason,
            ..
        },
    ] = &decision.orders[..]
    else {
        panic!("{decision:?}")
    };
    (to.as_str(), reason)
}

#[test]
fn a_copy_in_sync_that_is_silent_for_a_moment_is_waited_for() {
    let mut gone = group();
    gone.servers[0].probe = Probe::Refused;
    gone.servers[2] = replica("c:1", 80);
    let mut pauses = gone.clone();
    pauses.servers[1].probe = silent();
    // It wakes, and has more.
    let mut film = Film::new();
    assert_eq!(film.group_after(2, &pauses), Decision::default());
    assert_eq!(promoted(&film.group(&gone)), ("a:1", "b:1", false));
    // It does not, and is waited for no longer than a primary is.
    assert_eq!(promoted(&Film::new().group_after(3, &pauses)).1, "c:1");
    // One that was silent before is not waited for.
    let mut film = Film::new();
    let mut before = group();
    before.servers[1].probe = silent();
    film.group_after(3, &before);
    assert_eq!(promoted(&film.group(&pauses)).1, "c:1");
}

#[test]
fn nobody_waits_for_a_copy_that_is_gone_or_not_in_sync_or_where_all_answer() {
    let mut gone = group();
    gone.servers[0].probe = Probe::Refused;
    gone.servers[2] = replica("c:1", 80);
    assert_eq!(promoted(&Film::new().group(&gone)).1, "b:1");
    gone.servers[1].probe = silent();
    let settled: [fn(&mut GroupSight); 4] = [
        |group| group.servers[1].pod = PodSight::Ended,
        |group| group.servers[1].node = NodeSight::Lost,
        |group| group.servers[1].probe = Probe::Refused,
        |group| group.record.in_sync = vec![addr("c:1")],
    ];
    for settle in settled {
        let mut group = gone.clone();
        settle(&mut group);
        assert_eq!(promoted(&Film::new().group(&group)).1, "c:1");
    }
}

#[test]
fn a_primary_that_is_back_with_data_leads_again_when_a_person_says_so() {
    let mut group = gone_on_alone();
    only_told(&Film::new().group(&group), NoticeReason::NoCopy);
    group.accepted_loss = Some(addr("a:1"));
    kept(&Film::new().group(&group));
    // Asked once.
    group.record.servers[0].action.forced = true;
    assert_eq!(Film::new().group_after(5, &group), Decision::default());
    group.record.servers[0].action.forced = false;
    // It has nothing, or not all of it yet, or is about to end; and nobody else is taken for it.
    let loads = answer("run_id:another\nrole:slave\nloading:1\ndb0:keys=7,expires=0\n");
    for probe in [back(0), loads, Probe::Refused] {
        group.servers[0].probe = probe;
        let decision = aggressive().group_after(200, &group);
        only_told(&decision, NoticeReason::NoCopy);
    }
    // A copy in sync is no loss at all.
    group.servers[0].probe = back(7);
    group.record.in_sync = vec![addr("b:1")];
    assert_eq!(promoted(&Film::new().group(&group)), ("a:1", "b:1", false));
}

#[test]
fn primary_that_is_refused_its_role_again_and_again_is_asked_to_lead_ever_later() {
    let mut group = gone_on_alone_with_consent();
    let (mut film, mut asked) = (Film::new(), Vec::new());
    for _ in 0..200 {
        let decision = film.group(&group);
        if let Some(order) = decision.orders.first() {
            kept(&decision);
            assert_eq!(film.history.tries(&order.action), asked.len() as u32);
            asked.push(film.now);
            film.done(&order.action, true);
        }
    }
    let pauses: Vec<u64> = asked.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert!(pauses.is_sorted() && pauses.last() == Some(&10), "{pauses:?}");
    // Another one that can lead does not wait for that.
    group.record.in_sync = vec![addr("b:1")];
    assert_eq!(promoted(&film.group(&group)).1, "b:1");
    // Once it led, it is as if nothing had been.
    film.group(&super::tests::group());
    kept(&film.group(&gone_on_alone_with_consent()));
}

fn gone_on_alone_with_consent() -> GroupSight {
    GroupSight {
        accepted_loss: Some(addr("a:1")),
        ..gone_on_alone()
    }
}

#[test]
fn the_remedy_names_a_primary_that_is_back_with_data() {
    let mut group = gone_on_alone();
    let name = addr("shop-g1-0.shop-servers.ns.svc:6379");
    group.record.servers[0].server = name.clone();
    group.servers[0].server = name;
    let decision = Film::new().group(&group);
    let message = only_told(&decision, NoticeReason::NoCopy);
    assert!(message.contains("accept-data-loss=g1=shop-g1-0"), "{message}");
    group.servers[0].probe = back(0);
    let decision = Film::new().group(&group);
    let message = only_told(&decision, NoticeReason::NoCopy);
    assert!(message.contains("accept-data-loss=g1=POD"), "{message}");
}

#[test]
fn no_mode_forces_an_older_copy_past_a_primary_that_has_data() {
    let mut group = gone_on_alone();
    // It is given its role by itself, unless somebody may have more: then what it has is taken.
    assert_eq!(aggressive().group_after(50, &group).orders, []);
    kept(&aggressive().group_after(61, &group));
    group.servers[1].probe = silent();
    group.servers[2].probe = silent();
    kept(&aggressive().group_after(61, &group));
    // While it loads it may have everything.
    group.servers[1] = replica("b:1", 90);
    group.servers[0].probe = answer("run_id:another\nrole:slave\nloading:1\n");
    assert_eq!(aggressive().group_after(200, &group).orders, []);
    // Without anything it has nothing to lose, and with less of the same history it is the older one.
    let old = "run_id:another\nrole:slave\nmaster_replid:h\nmaster_repl_offset:50\ndb0:keys=7,expires=0\n";
    for probe in [back(0), answer(old)] {
        group.servers[0].probe = probe;
        assert_eq!(promoted(&aggressive().group_after(61, &group)), ("a:1", "b:1", true));
    }
}

#[test]
fn a_primary_that_is_to_go_does_not_wait_for_the_one_that_a_person_wants() {
    let mut group = group();
    group.wanted_primary = Some(addr("c:1"));
    group.record.in_sync = vec![addr("b:1")];
    only_told(&Film::new().group(&group), NoticeReason::NoSuccessor);
    let full = "run_id:run-a:1\nrole:master\nmaster_replid:h\nmaster_repl_offset:100\naof_last_write_status:err\n";
    let (mut leaves, mut fails) = (group.clone(), group.clone());
    leaves.servers[0].pod = PodSight::Leaving;
    fails.servers[0].probe = answer(full);
    for (mut group, words) in [(leaves, "about to end"), (fails, "can't write")] {
        let decision = Film::new().group(&group);
        let (to, reason) = handed_over(&decision);
        assert_eq!(to, "b:1");
        assert!(reason.contains(words), "{reason}");
        // Who is wanted and can, does.
        group.record.in_sync.push(addr("c:1"));
        assert_eq!(
            handed_over(&Film::new().group(&group)),
            ("c:1", "a person asked for it")
        );
    }
}

#[test]
fn that_the_only_copy_goes_with_its_pod_is_told_where_it_is_in_memory() {
    let mut alone = group();
    alone.servers.truncate(1);
    alone.record.servers.truncate(1);
    alone.record.in_sync.clear();
    alone.servers[0].pod = PodSight::Leaving;
    for wanted in [None, Some(addr("b:1"))] {
        alone.wanted_primary = wanted;
        let decision = Film::new().group(&alone);
        let message = only_told(&decision, NoticeReason::NoSuccessor);
        assert!(
            message.contains("the only copy") && message.contains("replicasPerGroup"),
            "{message}"
        );
        assert!(!message.contains("  "), "{message}");
    }
    alone.persistent = true;
    assert_eq!(Film::new().group(&alone), Decision::default());
}
