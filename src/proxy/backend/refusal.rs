/// How servers begin to say that they did not look at a request, whatever it was. More than the code is compared, because
/// a script may answer with any code after having changed something.
const REFUSALS: [&[u8]; 3] = [
    b"-NOREPLICAS Not enough good ",
    b"-MASTERDOWN Link with ",
    b"-READONLY You can't write against a read only ",
];

/// Whether this error means that the request was not carried out, and may be later, or elsewhere.
pub(in crate::proxy) fn is_refusal(error: &[u8]) -> bool {
    let loading = || error.starts_with(b"-LOADING ") && memchr::memmem::find(error, b" is loading the ").is_some();
    REFUSALS.iter().any(|refusal| error.starts_with(refusal)) || loading()
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
}
