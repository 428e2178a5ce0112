//! Histories of a cluster that loses processes, nodes, networks, volumes and time, against the real decisions of operator and
//! dashboard: who leads, who is in sync, who gets a role. Time goes in tenths of a second; everything that is random comes
//! from a seed, so that a history can be played again, and be cut down to the faults that matter.
//!
//! `events`: what goes wrong; `world`, `servers`: what it happens to; `dashboard`, `promotion`, `operators`: who decides;
//! `rules`: what must hold; `spoilt`: decisions without one of the rules.
//!
//! There is one group: what is decided for one does not hang on another (`plan::ha::pair_tests`), and what another one's failover
//! does to this one, a proxy that is shut off, is a fault here.

mod dashboard;
mod events;
mod operators;
mod promotion;
mod rules;
mod servers;
mod spoilt;
mod world;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use self::events::{DASHBOARD, Event, Fault, OPERATOR, PROXY, Random, draw};
use self::world::play;

/// How many histories are played unless `CODIS_HISTORIES` says so, from seed `CODIS_SEED` (0) on.
const HISTORIES: u64 = 100_000;
/// How many may have to be played until a rule that is left out is noticed.
const MOST: u64 = 50_000;

/// Rules that are left out, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Broken {
    /// Everybody counts as in sync.
    in_sync: bool,
    /// One witness is enough.
    witness: bool,
    /// A process that was started anew counts as the one before.
    run_id: bool,
    /// Another copy than the freshest is taken.
    freshest: bool,
    /// A wish may be old.
    epoch: bool,
    /// Servers are started anew while nobody leads.
    restart: bool,
    /// Primaries do not stop by themselves.
    fence: bool,
    /// Proxies that do not hear of a lock are not shut off.
    shut_off: bool,
    /// A group may flap.
    cooldown: bool,
    /// A primary that comes back gets its role whatever it lacks.
    admission: bool,
    /// Servers are replaced without regard to each other.
    rolling: bool,
    /// Nobody looks once more before a server is ended.
    live: bool,
    /// A proxy that is heard of counts as one that heard.
    heard: bool,
    /// A primary that read anything from its volume gets its role.
    file: bool,
    /// A primary that hangs is left alone whatever its volume has.
    alone: bool,
    /// Operators go by the wall clock.
    clock: bool,
    /// A proxy that is shut off for the sake of another group counts as shut off for this one.
    elsewhere: bool,
}

/// What went wrong in the history of a seed, and the fewest faults that do it.
#[derive(Debug)]
struct Found {
    seed: u64,
    reason: String,
    events: Vec<Event>,
}

/// Plays the histories of these seeds, on all cores, until one goes wrong: the one with the least seed that was found.
/// `counts`: whether that is what is looked for.
fn find(broken: Broken, seeds: std::ops::Range<u64>, counts: impl Fn(&str) -> bool + Sync) -> Option<Found> {
    let wrong = |seed: u64, events: &[Event]| play(broken, seed, events).err().filter(|reason| counts(reason));
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let search = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return None;
            }
            let events = draw(&mut Random(!seed));
            if let Some(reason) = wrong(seed, &events) {
                stop.store(true, Ordering::Relaxed);
                return Some((seed, reason, events));
            }
        }
        None
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let found = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(search)).collect();
        let found = threads.into_iter().filter_map(|thread| thread.join().unwrap());
        found.min_by_key(|(seed, ..)| *seed)
    });
    found.map(|(seed, reason, events)| shortest(&wrong, seed, reason, events))
}

/// Leaves out faults, and shortens those that stay, while anything goes wrong.
fn shortest(
    wrong: &impl Fn(u64, &[Event]) -> Option<String>,
    seed: u64,
    mut reason: String,
    mut events: Vec<Event>,
) -> Found {
    let mut place = 0;
    while place < events.len() {
        let mut fewer = events.clone();
        fewer.remove(place);
        match wrong(seed, &fewer) {
            Some(why) => (reason, events, place) = (why, fewer, 0),
            None => place += 1,
        }
    }
    for place in 0..events.len() {
        while events[place].lasts > 1 {
            let mut shorter = events.clone();
            shorter[place].lasts /= 2;
            let Some(why) = wrong(seed, &shorter) else { break };
            (reason, events) = (why, shorter);
        }
    }
    Found { seed, reason, events }
}

#[test]
fn no_history_loses_what_need_not_be_lost_or_leaves_a_group_without_a_primary() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|told| told.parse().expect("it is a number"))
    };
    let first: u64 = number("CODIS_SEED").unwrap_or(0);
    let histories = number("CODIS_HISTORIES").unwrap_or(HISTORIES);
    if let Some(Found { seed, reason, events }) = find(Broken::default(), first..first + histories, |_| true) {
        panic!("{reason}, with seed {seed} and {events:#?}");
    }
}

/// A simulation in which little happens, or that hardly ever ends well, would find nothing.
#[test]
fn many_histories_have_a_failover_and_few_end_without_a_copy() {
    let (mut failovers, mut lost) = (0, 0);
    for seed in 0..2000 {
        let end = play(Broken::default(), seed, &draw(&mut Random(!seed))).unwrap();
        failovers += end.failovers;
        lost += u32::from(!end.whole);
    }
    assert!(
        failovers > 400 && lost < 300,
        "{failovers} failovers, {lost} without a copy"
    );
}

/// That a rule is left out is noticed, in one of these words, and not otherwise.
#[track_caller]
fn noticed(broken: Broken, words: &[&str]) {
    let Found { seed, reason, events } =
        find(broken, 0..MOST, |reason| words.iter().any(|word| reason.contains(word))).expect("nothing was noticed");
    let whole = play(Broken::default(), seed, &events);
    assert!(whole.is_ok(), "{whole:?} with the rule, seed {seed}, {events:#?}");
    assert_eq!(play(broken, seed, &events), Err(reason), "it can be played again");
}

/// Too many things have to come together for that to be found by chance: nobody but a proxy and a replica reaches the primary, the
/// operators reach that proxy and the dashboard does not.
#[test]
fn a_proxy_shut_off_for_another_group_that_still_writes_is_noticed() {
    let cut = |one, other| (20, Fault::Cut(one, other));
    let operators = [cut(0, OPERATOR), cut(0, OPERATOR + 1)];
    let faults = [cut(0, DASHBOARD), cut(DASHBOARD, PROXY), (22, Fault::Elsewhere(0))];
    let events: Vec<Event> = operators
        .into_iter()
        .chain(faults)
        .map(|(at, fault)| Event { at, lasts: 80, fault })
        .collect();
    let broken = Broken {
        elsewhere: true,
        ..Broken::default()
    };
    for seed in 0..20 {
        let whole = play(Broken::default(), seed, &events);
        assert!(whole.is_ok(), "{whole:?} with the rule, seed {seed}");
    }
    let found = (0..20).find_map(|seed| play(broken, seed, &events).err());
    assert!(found.is_some_and(|reason| reason.contains("is written to")));
}

macro_rules! noticed {
    ($($test:ident: $rule:ident, $words:expr;)*) => {$(
        #[test]
        fn $test() {
            noticed(Broken { $rule: true, ..Broken::default() }, &$words);
        }
    )*};
}

noticed! {
    a_promotion_of_one_that_is_not_in_sync_is_noticed: in_sync, ["is promoted", "lost"];
    a_promotion_on_the_word_of_one_witness_is_noticed: witness, ["only it misses"];
    a_promotion_of_one_that_was_restarted_is_noticed: run_id, ["is promoted", "lost", "wiped"];
    a_promotion_of_another_copy_than_the_freshest_is_noticed: freshest, ["an older copy", "that one in sync has"];
    a_wish_that_comes_true_late_is_noticed: epoch, ["about another primary"];
    a_process_set_aside_in_place_of_another_is_noticed: epoch, ["stands still"];
    a_restart_while_nobody_leads_is_noticed: restart, ["last copy"];
    a_primary_that_does_not_stop_is_noticed: fence, ["long after", "is written to"];
    a_proxy_that_is_not_shut_off_is_noticed: shut_off, ["is written to"];
    a_group_that_flaps_is_noticed: cooldown, ["third time"];
    an_empty_primary_that_gets_its_role_is_noticed: admission, ["wiped", "lost"];
    a_rollout_that_waits_for_nobody_is_noticed: rolling, ["last copy"];
    a_deletion_that_comes_late_is_noticed: live, ["last copy"];
    a_proxy_that_is_heard_of_and_does_not_hear_is_noticed: heard, ["is written to"];
    a_primary_that_leads_with_an_old_file_is_noticed: file, ["wiped", "lost"];
    a_hung_primary_that_is_left_alone_is_noticed: alone, ["not whole again"];
    an_operator_that_goes_by_the_wall_clock_is_noticed: clock, ["not whole again", "third time", "again and again"];
}
