use super::pipeline::Repeat;

/// How servers begin to say that they did not look at a request, whatever it was. More than the code is compared, because
/// a script may answer with any code after having changed something.
const REFUSALS: [&[u8]; 3] = [
    b"-NOREPLICAS Not enough good ",
    PRIMARY_DOWN,
    b"-READONLY You can't write against a read only ",
];
/// That it has no data to show: said before anything begins.
const PRIMARY_DOWN: &[u8] = b"-MASTERDOWN Link with ";

/// How `EXEC` says that it carried out nothing because something was not queued, and because it was refused itself.
const NOT_EXECUTED: &[u8] = b"-EXECABORT Transaction discarded because of";
const REFUSED_AT_THE_END: &[u8] = b"-EXECABORT Transaction discarded because of: ";

/// Whether this error means that the request was not carried out, and may be later, or elsewhere.
pub(in crate::proxy) fn is_refusal(error: &[u8]) -> bool {
    REFUSALS.iter().any(|refusal| error.starts_with(refusal)) || is_loading(error)
}

/// The same of a script: it may be refused to write when it did something already. That the server has no data to show
/// is said before a script begins.
fn is_refusal_to_begin(error: &[u8]) -> bool {
    error.starts_with(PRIMARY_DOWN) || is_loading(error)
}

fn is_loading(error: &[u8]) -> bool {
    error.starts_with(b"-LOADING ") && memchr::memmem::find(error, b" is loading the ").is_some()
}

/// What became of the requests that the transaction which is being answered queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::proxy) enum Queueing {
    /// All were queued.
    #[default]
    Whole,
    /// Some were refused, which they may not be later.
    Refused,
    /// One is wrong.
    Wrong,
}

impl Queueing {
    /// One more got an error.
    pub(in crate::proxy) fn after(self, error: &[u8]) -> Self {
        if self != Self::Wrong && is_refusal(error) {
            Self::Refused
        } else {
            Self::Wrong
        }
    }

    /// Whether nothing but refusals kept the transaction from being carried out whose `EXEC` got this error.
    pub(in crate::proxy) fn is_refused_by(self, error: &[u8]) -> bool {
        match error.strip_prefix(REFUSED_AT_THE_END) {
            Some(why) => self != Self::Wrong && is_refusal(&[b"-".as_slice(), why].concat()),
            None => self == Self::Refused && error.starts_with(NOT_EXECUTED),
        }
    }
}

impl Repeat {
    /// Whether a request that was answered with this error may be sent again. `queueing` tells of those before `EXEC`.
    pub(super) fn is_due(self, error: &[u8], queueing: Queueing) -> bool {
        match self {
            Self::Never => false,
            Self::Refused => is_refusal(error),
            Self::Unbegun => is_refusal_to_begin(error),
            Self::Unqueued { .. } => queueing.is_refused_by(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_from_other_errors() {
        for refusal in [
            "-NOREPLICAS Not enough good replicas to write.",
            "-NOREPLICAS Not enough good slaves to write.",
            "-LOADING Redis is loading the dataset in memory",
            "-LOADING Valkey is loading the dataset in memory",
            "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "-READONLY You can't write against a read only replica.",
        ] {
            assert!(is_refusal(refusal.as_bytes()), "{refusal}");
        }
        for other in [
            "-WRONGTYPE Operation against a key holding the wrong kind of value",
            "-ERR LOADING",
            "-NOREPLICAS of ours",
            "-LOADING the truck",
            "-EXECABORT Transaction discarded because of previous errors.",
            "-NOAUTH Authentication required.",
        ] {
            assert!(!is_refusal(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn script_is_repeated_only_when_it_did_not_begin() {
        let is_due = |error: &str| Repeat::Unbegun.is_due(error.as_bytes(), Queueing::Whole);
        assert!(is_due("-LOADING Valkey is loading the dataset in memory"));
        assert!(is_due(
            "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
        ));
        assert!(!is_due("-NOREPLICAS Not enough good replicas to write."));
        assert!(!is_due("-READONLY You can't write against a read only replica."));
        assert!(!is_due("-ERR LOADING"));
    }

    #[test]
    fn transaction_is_repeated_only_when_nothing_but_refusals_kept_it_from_being_queued() {
        let (refusal, wrong) = (
            b"-NOREPLICAS Not enough good replicas to write.",
            b"-ERR unknown command",
        );
        let after = |errors: &[&[u8]]| errors.iter().fold(Queueing::Whole, |so_far, error| so_far.after(error));
        let is_due = |error: &str, queueing| Repeat::Unqueued { unheard: 2 }.is_due(error.as_bytes(), queueing);
        let aborted = "-EXECABORT Transaction discarded because of previous errors.";
        assert!(is_due(aborted, after(&[refusal, refusal])));
        for errors in [&[wrong.as_slice(), refusal] as &[&[u8]], &[refusal, wrong], &[]] {
            assert!(!is_due(aborted, after(errors)), "{errors:?}");
        }
        let at_the_end = "-EXECABORT Transaction discarded because of: NOREPLICAS Not enough good replicas to write.";
        assert!(is_due(at_the_end, Queueing::Whole) && !is_due(at_the_end, Queueing::Wrong));
        assert!(!is_due(
            "-EXECABORT Transaction discarded because of: ERR other",
            Queueing::Whole
        ));
        assert!(!is_due(
            "-NOREPLICAS Not enough good replicas to write.",
            Queueing::Refused
        ));
    }
}
