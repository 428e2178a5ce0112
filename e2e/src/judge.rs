use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use crate::Log;
use crate::faults::{Loss, Promise};

/// What a verdict says of writes that are gone.
pub const LOST: &str = "writes lost that were acknowledged";

/// How much longer than the goal something may take in a test: the machine is shared.
const GENEROUS: u32 = 3;
/// What is held up for less than this on a busy machine says nothing.
const LEAST: Duration = Duration::from_secs(1);
/// What a primary acknowledged so shortly before its end may not have left it, in ms.
const LAST_MOMENT: u64 = 100;

/// What a fault cost.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// What happened.
    pub what: String,
    /// How long writes were held up, at most.
    pub gap: Duration,
    /// What was promised.
    pub promise: Promise,
    /// How many writes were acknowledged.
    pub acknowledged: usize,
    /// How many were answered otherwise.
    pub refused: usize,
    /// How many are lost of those that were acknowledged.
    pub lost: usize,
    /// Which promises were not kept.
    pub broken: Vec<String>,
}

/// What a fault at `since` (milliseconds since 1970) cost.
pub fn judge(what: &str, log: &Log, since: u64, promise: Promise) -> Verdict {
    let gap = log.longest_gap(since);
    let mut broken = Vec::new();
    let spared = |at: u64| match promise.loss {
        Loss::Nothing => false,
        Loss::LastMoment => (since.saturating_sub(LAST_MOMENT)..since + LAST_MOMENT).contains(&at),
        Loss::All => at < since + LAST_MOMENT,
    };
    let all: HashSet<&String> = log.lost.iter().collect();
    let lost = log.acknowledged.iter();
    let lost: Vec<_> = lost.filter(|(at, key)| all.contains(key) && !spared(*at)).collect();
    if !lost.is_empty() {
        broken.push(format!("{} {LOST}: {:?}", lost.len(), &lost[..lost.len().min(5)]));
    }
    if !log.wrong.is_empty() {
        broken.push(format!("read what nobody wrote: {:?}", log.wrong));
    }
    let last: Vec<_> = log.refused.iter().rev().take(5).collect();
    if gap > (promise.goal * GENEROUS).max(LEAST) {
        broken.push(format!("writes were held up for {gap:.2?}; {last:?}"));
    }
    if !promise.errors && !log.refused.is_empty() {
        broken.push(format!("clients saw errors: {last:?}"));
    }
    Verdict {
        what: what.to_owned(),
        gap,
        promise,
        acknowledged: log.acknowledged.len(),
        refused: log.refused.len(),
        lost: log.lost.len(),
        broken,
    }
}

impl Verdict {
    /// Prints it, and fails if a promise was not kept.
    ///
    /// # Errors
    /// Which were not.
    #[allow(clippy::print_stdout)]
    pub fn check(&self) -> Result<(), String> {
        println!("{self}");
        if self.broken.is_empty() {
            Ok(())
        } else {
            Err(self.broken.join("; "))
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            gap,
            promise,
            acknowledged,
            refused,
            lost,
            ..
        } = self;
        let goal = promise.goal;
        write!(
            f,
            "{what}: writes went on after {gap:.2?} (goal {goal:?}); {acknowledged} acknowledged, {refused} refused, {lost} lost"
        )
    }
}
