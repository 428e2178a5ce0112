use std::cell::Cell;
use std::time::{Duration, Instant};

/// How often a replica is asked how it stands to its primary.
const PERIOD: Duration = Duration::from_secs(1);
/// How long its answer counts.
const VALID: Duration = Duration::from_secs(3);

/// What is known of a server as a replica: asked and heard on any connection to it.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Replication {
    /// Whether anybody wants to know.
    watched: Cell<bool>,
    asked: Cell<Option<Instant>>,
    /// When it was last seen to follow its primary closely.
    close: Cell<Option<Instant>>,
}

impl Replication {
    /// Has the server be asked from now on.
    pub(in crate::proxy) fn watch(&self) {
        self.watched.set(true);
    }

    /// Whether it has to be asked now; it counts as asked then.
    pub(in crate::proxy) fn is_due(&self, now: Instant) -> bool {
        let recently = |asked: Instant| now.saturating_duration_since(asked) < PERIOD;
        let due = self.watched.get() && !self.asked.get().is_some_and(recently);
        if due {
            self.asked.set(Some(now));
        }
        due
    }

    /// What it answered.
    pub(in crate::proxy) fn learn(&self, info: &[u8], now: Instant, max_lag: Duration) {
        self.close.set(follows_closely(info, max_lag).then_some(now));
    }

    /// Its answer counts no more.
    pub(in crate::proxy) fn forget(&self) {
        self.close.set(None);
        self.asked.set(None);
    }

    /// Whether it may be read from.
    pub(in crate::proxy) fn is_close(&self, now: Instant) -> bool {
        let valid = |seen: Instant| now.saturating_duration_since(seen) < VALID;
        self.close.get().is_some_and(valid)
    }
}

/// Whether a server with this `INFO replication` is a replica that has all of its primary's data, and heard of it at most
/// `max_lag` ago.
fn follows_closely(info: &[u8], max_lag: Duration) -> bool {
    let info = String::from_utf8_lossy(info);
    let field = |name: &str| {
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim())
    };
    let silence = field("master_last_io_seconds_ago").and_then(|seconds| seconds.parse().ok());
    field("role") == Some("slave")
        && field("master_link_status") == Some("up")
        && field("master_sync_in_progress") != Some("1")
        && silence.is_some_and(|seconds| Duration::from_secs(seconds) <= max_lag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "$99\r\n# Replication\r\nrole:slave\r\nmaster_link_status:up\r\nmaster_last_io_seconds_ago:1\r\nmaster_sync_in_progress:0\r\n\r\n";

    #[test]
    fn replicas_are_read_from_only_while_their_link_is_up() {
        let closely = |info: &str| follows_closely(info.as_bytes(), Duration::from_secs(5));
        assert!(closely(GOOD));
        for (from, to) in [
            ("role:slave", "role:master"),
            ("status:up", "status:down"),
            ("ago:1", "ago:6"),
            ("ago:1", "ago:-1"),
            ("progress:0", "progress:1"),
            ("master_last_io_seconds_ago:1", ""),
        ] {
            assert!(!closely(&GOOD.replace(from, to)), "{to}");
        }
        assert!(!closely("-NOAUTH Authentication required.\r\n"));
    }

    #[test]
    fn answers_count_for_a_while() {
        let (replication, begin) = (Replication::default(), Instant::now());
        let after = |seconds| begin + Duration::from_secs(seconds);
        assert!(!replication.is_due(begin), "nobody wants to know");
        replication.watch();
        assert!(replication.is_due(begin) && !replication.is_due(begin) && replication.is_due(after(1)));
        replication.learn(GOOD.as_bytes(), begin, Duration::from_secs(5));
        assert!(replication.is_close(after(2)) && !replication.is_close(after(3)));
        replication.learn(b"-LOADING\r\n", after(1), Duration::from_secs(5));
        assert!(!replication.is_close(after(1)));
    }
}
