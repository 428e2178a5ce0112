//! Places at which tests end or freeze the process. They do nothing in a release build.

/// All places, so that a test can go through them.
#[cfg(debug_assertions)]
pub const POINTS: [&str; 24] = [
    "commit.part",
    "online.recorded",
    "online.pushed",
    "online.let_in",
    "admission.begun",
    "admission.users",
    "admission.commanded",
    "promote.preparing",
    "promote.unwatched",
    "promote.locked",
    "promote.prepared",
    "promote.commanded",
    "promote.finished",
    "promote.unlocked",
    "move.preparing",
    "move.locked",
    "move.finished",
    "sentinels.reached",
    "sentinels.leaving",
    "sentinels.stopped",
    "sentinels.begun",
    "sentinels.watching",
    "sentinels.told",
    "leaving.parted",
];

/// Ends the process as a power cut would, or freezes it until it is woken, when the environment says so:
/// `CODIS_FAULT=kill@promote.locked`, or `stop@…`, where `…:3` means the third time that it comes there. Each process does
/// it once.
#[cfg(debug_assertions)]
pub(crate) fn point(name: &'static str) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    debug_assert!(POINTS.contains(&name), "{name} is in no list");
    let Ok(wanted) = std::env::var("CODIS_FAULT") else {
        return;
    };
    let Some((what, place)) = wanted.split_once('@') else {
        return;
    };
    let (place, time) = place.split_once(':').unwrap_or((place, "1"));
    if place != name || (COUNT.fetch_add(1, Ordering::SeqCst) + 1).to_string() != time {
        return;
    }
    tracing::warn!(what, name, "a fault was asked for");
    let signal = if what == "stop" { "-STOP" } else { "-KILL" };
    let pid = std::process::id().to_string();
    // It returns when the process is woken.
    let _ = std::process::Command::new("kill").args([signal, &pid]).status();
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub(crate) fn point(_: &'static str) {}
