//! How many keys all servers hold together, as `INFO keyspace` tells.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::model::Info;
use crate::proxy::resp::Protocol;
use crate::proxy::worker::Worker;

/// How long servers may take: whoever asks for all figures does not wait for one that hangs.
const PATIENCE: Duration = Duration::from_millis(500);

/// The sums over all servers, by database.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Keyspace {
    databases: BTreeMap<u32, Keys>,
    /// Servers that did not tell.
    silent: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Keys {
    keys: u64,
    expires: u64,
    /// Milliseconds that keys which expire have left, together.
    left: u64,
}

/// Asks all servers; the answer comes when it is awaited.
pub(super) fn ask(worker: &Rc<Worker>) -> impl Future<Output = Keyspace> + use<> {
    let primaries = worker.router.primaries();
    let asked: Vec<Option<oneshot::Receiver<Vec<u8>>>> = primaries
        .iter()
        .map(|primary| {
            let backend = primary.server.backend(worker, Protocol::Resp2, 0);
            backend.ask(worker, &[b"INFO", b"keyspace"])
        })
        .collect();
    async move {
        let mut sums = Keyspace::default();
        let answers = join_all(
            asked
                .into_iter()
                .map(async |answer| timeout(PATIENCE, answer?).await.ok()?.ok()),
        );
        for answer in answers.await {
            match answer {
                Some(text) if text.starts_with(b"$") => sums.add(&String::from_utf8_lossy(&text)),
                _ => sums.silent += 1,
            }
        }
        sums
    }
}

impl Keyspace {
    /// Adds what a server told: lines like `db0:keys=3,expires=1,avg_ttl=500`.
    fn add(&mut self, text: &str) {
        for (number, database) in Info::parse(text).keyspace() {
            let keys = self.databases.entry(number).or_default();
            keys.keys = keys.keys.saturating_add(database.keys);
            keys.expires = keys.expires.saturating_add(database.expires);
            keys.left = keys
                .left
                .saturating_add(database.average_ttl.saturating_mul(database.expires));
        }
    }

    /// The lines of the section. Where servers did not tell, one says how many.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self
            .databases
            .iter()
            .map(|(database, Keys { keys, expires, left })| {
                let ttl = left / (*expires).max(1);
                format!("db{database}:keys={keys},expires={expires},avg_ttl={ttl}")
            })
            .collect();
        if self.silent > 0 {
            lines.push(format!("servers_missing:{}", self.silent));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_all_servers_are_summed_by_database() {
        let mut sums = Keyspace::default();
        sums.add("$99\r\n# Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=400\r\ndb2:keys=1,expires=0,avg_ttl=0\r\n\r\n");
        sums.add("$99\r\n# Keyspace\r\ndb0:keys=5,expires=3,avg_ttl=800,new=1\r\n\r\n");
        sums.add("$14\r\n# Keyspace\r\n\r\n");
        let lines = ["db0:keys=8,expires=4,avg_ttl=700", "db2:keys=1,expires=0,avg_ttl=0"];
        assert_eq!(sums.lines(), lines);
        sums.silent = 2;
        assert_eq!(sums.lines()[2], "servers_missing:2");
    }
}
