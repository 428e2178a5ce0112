//! How long a server has not heard of its primary: long enough, and that has stopped by itself.

use std::time::{Duration, Instant};

use crate::model::Info;

/// How long a replica must have heard nothing of a fenced primary until that certainly takes no writes: 2 s of lag, counted
/// in whole seconds and looked at once a second.
const STOPPED: i64 = 4;

/// Seconds since a replica may have heard of its primary for the last time. Of a process that never had one: since it began, for
/// the one before it may have followed until then. One whose clock was put back can't tell: it may have heard of it just now.
pub(super) fn quiet(info: &Info) -> i64 {
    match info.silence() {
        heard @ 0.. => heard,
        -1 if !info.is_linked() => info.uptime(),
        _ => 0,
    }
}

/// Whether a primary that this server followed, if it was fenced, certainly takes no writes any more. `heard_at`: when the server had
/// heard of it at the latest, as far as polls tell, by our clock: that of the server may have been put on.
pub(crate) fn is_certain(info: &Info, heard_at: Option<Instant>, now: Instant) -> bool {
    let lasts = |at: Instant| now.saturating_duration_since(at) >= Duration::from_secs(STOPPED.unsigned_abs());
    info.is_primary() || (quiet(info) >= STOPPED && heard_at.is_none_or(lasts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::observations::Seen;

    #[track_caller]
    fn is_quiet_for(seconds: i64, text: &str) {
        assert_eq!(quiet(&Info::parse(&format!("{text}uptime_in_seconds:7\n"))), seconds);
    }

    #[test]
    fn a_process_that_never_heard_of_a_primary_is_quiet_since_it_began() {
        is_quiet_for(7, "master_last_io_seconds_ago:-1\nmaster_link_down_since_seconds:-1\n");
        is_quiet_for(2, "master_last_io_seconds_ago:2\n");
        is_quiet_for(3, "master_last_io_seconds_ago:-1\nmaster_link_down_since_seconds:3\n");
    }

    #[test]
    fn replica_whose_clock_was_put_back_may_have_heard_of_its_primary_just_now() {
        for back in [-1, -5, -3600] {
            is_quiet_for(
                0,
                &format!("master_link_status:up\nmaster_last_io_seconds_ago:{back}\n"),
            );
        }
        let down = "master_link_status:down\nmaster_last_io_seconds_ago:-1\nmaster_link_down_since_seconds:-3590\n";
        is_quiet_for(0, down);
    }

    #[test]
    fn replica_whose_clock_was_put_on_is_not_believed_to_have_heard_nothing_for_long() {
        let began = Instant::now();
        let poll = |before: Option<&Seen>, after: u64, silence: i64| {
            let info = Info::parse(&format!(
                "run_id:b\nrole:slave\nmaster_link_status:up\nmaster_last_io_seconds_ago:{silence}\n"
            ));
            let at = began + Duration::from_millis(after);
            Seen::after(before, (at, at), Ok(info))
        };
        let certain = |seen: &Seen| is_certain(seen.answer.as_ref().unwrap(), seen.heard_at, seen.at);
        let heard = poll(None, 10_000, 0);
        // Its clock is put on by half a minute.
        let jumped = poll(Some(&heard), 10_500, 30);
        assert!(!certain(&jumped));
        assert!(certain(&poll(Some(&jumped), 14_000, 34)));
        // It hears again.
        let again = poll(Some(&jumped), 13_900, 0);
        assert!(!certain(&poll(Some(&again), 17_800, 4)));
        // Of a server that was not polled yet, its word counts.
        assert!(certain(&poll(None, 10_000, 4)) && !certain(&poll(None, 10_000, 3)));
    }
}
