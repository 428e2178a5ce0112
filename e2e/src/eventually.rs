//! Awaiting what a cluster does in its own time.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(150);

/// Looks again and again until `look` returns `Ok`, and returns that.
///
/// # Panics
/// After `deadline`, with `what` and the last `Err`, which therefore should say what was seen.
pub async fn eventually<T, E, F>(deadline: Duration, what: &str, mut look: F) -> T
where
    E: Display,
    F: AsyncFnMut() -> Result<T, E>,
{
    let end = Instant::now() + deadline;
    let mut last = "nothing yet".to_owned();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, look()).await {
            Ok(Ok(found)) => return found,
            Ok(Err(seen)) => last = seen.to_string(),
            Err(_) => last.push_str(" (and the last look did not come back)"),
        }
        assert!(
            Instant::now() < end,
            "{what}: not within {deadline:?}; last seen: {last}"
        );
        tokio::time::sleep(PAUSE.min(left)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn first_success_is_returned() {
        let mut looks = 0;
        let found = eventually(Duration::from_secs(5), "third look", async || {
            looks += 1;
            if looks == 3 {
                Ok(looks)
            } else {
                Err(format!("look {looks}"))
            }
        })
        .await;
        assert_eq!(found, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "a pony: not within 200ms; last seen: only horses")]
    async fn what_was_last_seen_is_told() {
        eventually(Duration::from_millis(200), "a pony", async || {
            Err::<(), _>("only horses")
        })
        .await;
    }

    #[tokio::test]
    #[should_panic(expected = "the last look did not come back")]
    async fn look_that_hangs_is_given_up() {
        eventually(Duration::from_millis(100), "an answer", async || {
            std::future::pending::<()>().await;
            Err::<(), _>("never said")
        })
        .await;
    }
}
