//! Routes that show what clients ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, Json};
use super::{Proxy, Shared};
use crate::model::SlotId;
use crate::proxy::worker::Tap;

/// Lines that wait for a reader; what comes meanwhile is dropped and counted.
const MAX_LINES: usize = 4096;
/// Longest that requests are shown.
const MAX_SECONDS: u64 = 300;
/// Keys that are told.
const MAX_KEYS: usize = 100;

#[derive(Debug, Deserialize)]
pub(super) struct Show {
    seconds: Option<u64>,
}

/// Requests as they pass, for some seconds, each in a line as `MONITOR` writes it. The last line tells how many were
/// left out because they were not read in time.
pub(super) async fn monitor(State(proxy): Shared, Query(show): Query<Show>) -> Answer {
    if !proxy.config().admin_monitor {
        return Err(
            "showing requests is off; set admin_monitor = true in proxy.toml and start anew"
                .to_owned()
                .into(),
        );
    }
    let seconds = show.seconds.unwrap_or(10).min(MAX_SECONDS);
    let (lines, passing) = mpsc::channel(MAX_LINES);
    let dropped = Arc::new(AtomicU64::new(0));
    proxy.show_requests(Tap::new(lines, dropped.clone())).await;
    let passing = Passing {
        lines: Some(passing),
        until: Instant::now() + Duration::from_secs(seconds),
        dropped,
    };
    let body = Body::from_stream(futures::stream::unfold(passing, Passing::next));
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response())
}

struct Passing {
    /// `None` when the last line was written.
    lines: Option<mpsc::Receiver<String>>,
    until: Instant,
    dropped: Arc<AtomicU64>,
}

impl Passing {
    async fn next(mut self) -> Option<(Result<Bytes, std::convert::Infallible>, Self)> {
        let lines = self.lines.as_mut()?;
        if let Ok(Some(line)) = timeout_at(self.until, lines.recv()).await {
            let mut text = line;
            while let Ok(line) = lines.try_recv() {
                text.push_str(&line);
            }
            return Some((Ok(text.into()), self));
        }
        self.lines = None;
        let last = format!("# dropped: {}\n", self.dropped.load(Ordering::Relaxed));
        Some((Ok(last.into()), self))
    }
}

#[derive(Debug, Serialize)]
struct HotKeys {
    /// One of so many requests was counted.
    sample: u32,
    keys: Vec<HotKey>,
}

#[derive(Debug, Serialize)]
struct HotKey {
    key: String,
    slot: SlotId,
    count: u64,
}

/// The keys that are asked for most, since the start or the last `stats/reset`.
pub(super) async fn hot_keys(State(proxy): Shared) -> Result<Response, super::answer::Refusal> {
    let sample = proxy.config().hot_keys_sample;
    if sample == 0 {
        return Err(
            "keys are not counted; set hot_keys_sample in proxy.toml (100: one of a hundred requests) and start anew"
                .to_owned()
                .into(),
        );
    }
    let keys = proxy.hot_keys().await.into_iter().take(MAX_KEYS);
    let keys = keys
        .map(|(key, count)| HotKey {
            slot: SlotId::of_key(&key),
            key: String::from_utf8_lossy(&key).into_owned(),
            count,
        })
        .collect();
    Ok(Json(HotKeys { sample, keys }).into_response())
}

impl Proxy {
    /// Shows requests to somebody from now on.
    async fn show_requests(&self, tap: Tap) {
        let peers = &self.settings().peers;
        peers.ask(move |worker| worker.observers.add(tap.clone())).await;
    }

    /// The keys that all workers counted, those that were asked for most first.
    async fn hot_keys(&self) -> Vec<(Vec<u8>, u64)> {
        let mut sum = std::collections::HashMap::<Vec<u8>, u64>::new();
        let counted = self.settings().peers.ask(|worker| worker.observers.hot_keys()).await;
        for (key, count) in counted.into_iter().flatten() {
            *sum.entry(key).or_default() += count;
        }
        let mut keys: Vec<_> = sum.into_iter().collect();
        keys.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        keys
    }
}
