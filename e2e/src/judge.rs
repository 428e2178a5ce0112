use std::time::Duration;

use crate::Log;

/// How much longer than the goal something may take in a test: the machine is shared.
const GENEROUS: u32 = 3;
/// What is held up for less than this on a busy machine says nothing.
const LEAST: Duration = Duration::from_secs(1);
/// What a primary acknowledged so shortly before its end may not have left it, in ms.
const LAST_MOMENT: u64 = 100;

/// What a fault at `since` (milliseconds since 1970) cost: prints it, and fails when it was three times the goal, anything is
/// lost but what was acknowledged in the last moment, or anything wrong was read.
///
/// # Panics
/// When it fails.
#[track_caller]
#[allow(clippy::print_stdout)]
pub fn judge(what: &str, log: &Log, since: u64, goal: Duration) {
    let gap = log.longest_gap(since);
    println!(
        "{what}: {gap:.2?} until writes went on (goal {goal:?}), {} acknowledged, {} refused, {} lost",
        log.acknowledged.len(),
        log.refused.len(),
        log.lost.len()
    );
    let spared = |at: u64| (since.saturating_sub(LAST_MOMENT)..since + LAST_MOMENT).contains(&at);
    let lost = log
        .acknowledged
        .iter()
        .filter(|(at, key)| !spared(*at) && log.lost.contains(key));
    let lost: Vec<_> = lost.collect();
    assert!(lost.is_empty(), "{lost:?} lost");
    assert!(log.wrong.is_empty(), "{:?}", log.wrong);
    let most = (goal * GENEROUS).max(LEAST);
    let last: Vec<_> = log.refused.iter().rev().take(10).collect();
    assert!(gap <= most, "{gap:?}; {last:?}");
}
