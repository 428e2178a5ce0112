//! Histories of any API calls, restarts and failures, against a model: real records, rules, terms of dashboards and slot
//! maps of proxies, a store that loses answers, and everything else as far as it matters to who writes where. After every
//! step each slot has one owner and is written to one server, whatever was lost, late, frozen or restarted; and when
//! nothing fails any more, everything gets done.
//!
//! `steps`: what may happen; `work`: what dashboards do in several pieces; `world`, `outside`, `known`: what it happens
//! to, and what must hold; `history`: from the beginning to the end.

mod history;
mod known;
mod outside;
mod steps;
mod work;
mod world;

use std::sync::OnceLock;

use proptest::collection::vec;
use proptest::test_runner::{Config, TestError, TestRng, TestRunner};
use tokio::runtime::Runtime;

use self::history::play;
use self::steps::{Step, step};
use self::world::Broken;

/// How many histories are played.
const HISTORIES: u32 = 4000;
/// How long the longest is.
const STEPS: usize = 60;

/// Changes of a term are bounded in time, though nothing takes any here.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap())
}

/// Plays histories until one goes wrong: the shortest one like it, and what went wrong.
fn find(broken: Broken, histories: u32, rng: Option<TestRng>) -> Result<(), (String, Vec<Step>)> {
    let _inside = runtime().enter();
    let config = Config {
        cases: histories,
        // The shortest one matters where a fault is not expected.
        max_shrink_iters: if rng.is_some() { 0 } else { 3000 },
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = match rng {
        Some(rng) => TestRunner::new_with_rng(config, rng),
        None => TestRunner::new(config),
    };
    let played = runner.run(&vec(step(), 1..STEPS), |steps| {
        play(broken, &steps).map_err(proptest::test_runner::TestCaseError::fail)
    });
    match played {
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, steps)) => Err((reason.to_string(), steps)),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn no_history_leaves_a_slot_with_two_owners_or_none_or_a_group_in_a_promotion() {
    if let Err((reason, steps)) = find(Broken::default(), HISTORIES, None) {
        panic!("{reason}, after {steps:#?}");
    }
}

/// That a rule is left out is noticed, in these words.
#[track_caller]
fn noticed(broken: Broken, words: &[&str]) {
    let rng = TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    let (reason, steps) = find(broken, HISTORIES, Some(rng)).expect_err("nothing was noticed");
    assert!(
        words.iter().any(|word| reason.contains(word)),
        "{reason}, after {steps:#?}"
    );
}

#[test]
fn a_lock_that_not_everybody_acknowledged_is_noticed() {
    let broken = Broken {
        voters: true,
        ..Broken::default()
    };
    noticed(broken, &["writes to the former primary", "is written to"]);
}

#[test]
fn a_proxy_that_takes_every_push_is_noticed() {
    let broken = Broken {
        map: true,
        ..Broken::default()
    };
    noticed(
        broken,
        &["went back", "writes to the former primary", "is written to", "holds"],
    );
}

#[test]
fn a_promotion_that_nobody_goes_on_with_is_noticed() {
    let broken = Broken {
        resume: true,
        ..Broken::default()
    };
    noticed(broken, &["is stuck in its promotion"]);
}

#[test]
fn a_change_that_nobody_finishes_is_noticed() {
    let broken = Broken {
        unfinished: true,
        ..Broken::default()
    };
    noticed(broken, &["neither what was before a change nor what it was to be"]);
}

#[test]
fn slots_that_are_not_locked_are_noticed() {
    let broken = Broken {
        lock: true,
        ..Broken::default()
    };
    noticed(broken, &["writes to the former primary", "is written to"]);
}

/// One piece of work of the active dashboard at this operation, in which all goes well.
fn work(op: u8) -> Step {
    Step::Work {
        asleep: false,
        op,
        fates: steps::GOOD,
        insist: true,
    }
}

const FORMER: &str = "writes to the former primary";

/// The second server of group 1 is to lead.
const PROMOTE: Step = Step::Promote {
    group: 1,
    place: 1,
    forced: false,
    shut_off: false,
};

/// With the rule left out this history goes wrong, as it would not otherwise.
#[track_caller]
fn noticed_in(broken: Broken, words: &str, steps: &[Step]) {
    let _inside = runtime().enter();
    let reason = play(broken, steps).unwrap_err();
    assert!(reason.contains(words), "{reason}");
    assert_eq!(play(Broken::default(), steps), Ok(()));
}

#[test]
fn a_primary_that_hangs_and_did_not_hear_of_a_shut_off_is_noticed() {
    let broken = Broken {
        leaks: true,
        ..Broken::default()
    };
    let begun = [Step::ServerHangs(0), Step::ShutOff(2), PROMOTE];
    noticed_in(
        broken,
        FORMER,
        &[&begun[..], &[work(1), work(1), work(1), work(1)]].concat(),
    );
}

/// A proxy is shut off, let in again while servers are being told, and shut off anew when the primary hangs: the primary
/// lets it in, whatever was recorded of the first time.
#[test]
fn a_server_that_was_told_of_an_earlier_shut_off_only_is_noticed() {
    let broken = Broken {
        notes: true,
        ..Broken::default()
    };
    let let_in_again = [
        Step::ShutOff(2),
        work(0),
        Step::PollProxy(2),
        work(1),
        work(1),
        work(1),
        work(0),
    ];
    let shut_off_anew = [Step::ServerHangs(0), Step::ShutOff(2), work(0)];
    let promoted = [PROMOTE, work(2), work(2), work(2), work(2)];
    noticed_in(broken, FORMER, &[&let_in_again[..], &shut_off_anew, &promoted].concat());
}

/// A proxy is shut off, and before any server hears of it the slot map is replaced: nobody knows any more which processes the
/// servers are, and the one that leads may let the proxy in.
#[test]
fn a_primary_that_was_imported_is_not_taken_for_one_that_was_started_anew() {
    let _inside = runtime().enter();
    let imported = [Step::ShutOff(0), Step::Export, Step::Import];
    let promote = Step::Promote {
        group: 2,
        place: 1,
        forced: false,
        shut_off: false,
    };
    let promoted = vec![work(0); 5];
    assert_eq!(
        play(Broken::default(), &[&imported[..], &[promote], &promoted].concat()),
        Ok(())
    );
}

/// A proxy that was restarted is told all slots, and before it is let in the group has another primary.
#[test]
fn a_proxy_that_is_let_in_with_an_old_map_is_noticed() {
    let broken = Broken {
        let_in: true,
        ..Broken::default()
    };
    let told = [Step::RestartProxy(2), Step::PollProxy(2), work(0), work(0), PROMOTE];
    let promoted = vec![work(1); 7];
    noticed_in(
        broken,
        FORMER,
        &[&told[..], &promoted, &[work(0), work(0), work(0)]].concat(),
    );
}

/// A proxy that does not hear that a slot is locked writes to it after it was seen to be empty, and is shut off only then.
#[test]
fn a_slot_that_is_seen_to_be_empty_too_early_is_noticed() {
    let broken = Broken {
        looks: true,
        ..Broken::default()
    };
    let looked = [
        Step::FreezeProxy(2),
        Step::Move(0, 1, 2),
        Step::Look,
        work(0),
        work(0),
        work(0),
    ];
    let shut_off = [Step::ShutOff(2), work(1), work(1), work(1), work(0)];
    noticed_in(
        broken,
        "after it was seen to be empty",
        &[&looked[..], &shut_off].concat(),
    );
}
