//! A load that remembers what was acknowledged, and counts what was lost of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::eventually;
use super::wire::Wire;

/// Keys of each client.
const KEYS: usize = 16;

/// Clients that write all the time, each its own keys, one request after the other.
pub struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Log>>,
}

/// What one client was told, or all of them.
#[derive(Debug, Default)]
pub struct Log {
    /// The last value of each key that was acknowledged.
    acknowledged: HashMap<String, u64>,
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Errors, and how often each was seen.
    pub errors: HashMap<String, u64>,
    /// The longest time that a write took.
    pub slowest: Duration,
}

impl Writer {
    /// So many clients at each of these proxies.
    pub fn start(ports: &[u16], clients: usize) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let each = |(number, port): (usize, u16)| tokio::spawn(write(number, port, stop.clone(), written.clone()));
        let ports = ports.iter().cycle().take(ports.len() * clients).copied();
        let clients = ports.enumerate().map(each).collect();
        Self { stop, written, clients }
    }

    /// Returns when so many writes more were acknowledged.
    pub async fn wait_for(&self, more: u64) {
        let goal = self.written.load(Ordering::SeqCst) + more;
        eventually("writes go on", Duration::from_secs(15), async || {
            (self.written.load(Ordering::SeqCst) >= goal).then_some(())
        })
        .await;
    }

    /// Ends the load: all that the clients were told.
    pub async fn stop(self) -> Log {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Log::default();
        for client in self.clients {
            let log = client.await.unwrap();
            all.acknowledged.extend(log.acknowledged);
            all.writes += log.writes;
            all.slowest = all.slowest.max(log.slowest);
            for (error, count) in log.errors {
                *all.errors.entry(error).or_default() += count;
            }
        }
        all
    }
}

impl Log {
    /// How many keys hold an older value than was acknowledged, as this proxy tells it.
    pub async fn lost(&self, port: u16) -> usize {
        let mut wire = Wire::connect(port).await;
        let mut lost = 0;
        for (key, acknowledged) in &self.acknowledged {
            let value = eventually("the value can be read", Duration::from_secs(10), async || {
                let reply = wire.call(&format!("GET {key}")).await;
                if reply.starts_with('-') { None } else { Some(reply) }
            })
            .await;
            let value = value.trim_start_matches('$').parse::<u64>().unwrap_or(0);
            lost += usize::from(value < *acknowledged);
        }
        lost
    }
}

async fn write(number: usize, port: u16, stop: Arc<AtomicBool>, written: Arc<AtomicU64>) -> Log {
    let mut log = Log::default();
    let mut wire = None;
    for value in 1_u64.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let key = format!("w{number}-{}", value as usize % KEYS);
        let Some(connection) = &mut wire else {
            wire = Wire::try_connect(port).await;
            if wire.is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            continue;
        };
        let began = Instant::now();
        match connection.try_call(&format!("SET {key} {value}")).await {
            Some(reply) if reply == "+OK" => {
                log.acknowledged.insert(key, value);
                log.writes += 1;
                written.fetch_add(1, Ordering::SeqCst);
            }
            Some(error) => {
                *log.errors.entry(error).or_default() += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            None => {
                *log.errors.entry("the connection was closed".to_owned()).or_default() += 1;
                wire = None;
            }
        }
        log.slowest = log.slowest.max(began.elapsed());
    }
    log
}
