use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use crate::Log;
use crate::faults::{Loss, Promise};

/// How much longer than the goal something may take in a test: the machine is shared.
pub(crate) const GENEROUS: u32 = 3;
/// What is held up for less than this on a busy machine says nothing.
const LEAST: Duration = Duration::from_secs(1);
/// What a primary acknowledged so shortly before its end may not have left it, in ms.
const LAST_MOMENT: u64 = 100;

/// A promise that was not kept, and what shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// Writes are gone that were acknowledged.
    Lost(String),
    /// Something was read that nobody wrote.
    Wrong(String),
    /// Writes were held up for too long, which may be the machine's fault.
    HeldUp(String),
    /// Clients saw errors that they should not see; one that waits for a second is one.
    Errors(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Lost(what) | Self::Wrong(what) | Self::HeldUp(what) | Self::Errors(what)) = self;
        f.write_str(what)
    }
}

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
    pub broken: Vec<Broken>,
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
        let some = &lost[..lost.len().min(5)];
        broken.push(Broken::Lost(format!(
            "{} writes lost that were acknowledged: {some:?}",
            lost.len()
        )));
    }
    if !log.wrong.is_empty() {
        broken.push(Broken::Wrong(format!("read what nobody wrote: {:?}", log.wrong)));
    }
    let last: Vec<_> = log.refused.iter().rev().take(5).collect();
    if gap > (promise.goal * GENEROUS).max(LEAST) {
        broken.push(Broken::HeldUp(format!("writes were held up for {gap:.2?}; {last:?}")));
    }
    if !promise.errors && !log.refused.is_empty() {
        broken.push(Broken::Errors(format!("clients saw errors: {last:?}")));
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
            let all: Vec<String> = self.broken.iter().map(Broken::to_string).collect();
            Err(all.join("; "))
        }
    }

    /// Whether a busy machine may be why promises were not kept: then it may be tried again.
    pub fn may_be_the_machine(&self) -> bool {
        let late = |broken: &Broken| matches!(broken, Broken::HeldUp(_) | Broken::Errors(_));
        !self.broken.is_empty() && self.broken.iter().all(late)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Loss;

    fn verdict(broken: &[Broken]) -> Verdict {
        Verdict {
            what: "a fault".to_owned(),
            gap: Duration::from_secs(9),
            promise: Promise {
                goal: Duration::from_secs(1),
                loss: Loss::Nothing,
                errors: false,
            },
            acknowledged: 1,
            refused: 0,
            lost: 0,
            broken: broken.to_vec(),
        }
    }

    #[test]
    fn what_was_lost_or_read_wrongly_is_not_tried_again() {
        let late = || Broken::HeldUp("for 9 s".to_owned());
        assert!(verdict(&[late(), Broken::Errors("one".to_owned())]).may_be_the_machine());
        assert!(!verdict(&[]).may_be_the_machine(), "there is nothing to try again");
        for other in [Broken::Lost("one".to_owned()), Broken::Wrong("one".to_owned())] {
            assert!(!verdict(std::slice::from_ref(&other)).may_be_the_machine());
            assert!(!verdict(&[late(), other]).may_be_the_machine());
        }
    }
}
