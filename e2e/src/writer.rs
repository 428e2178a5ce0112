//! Clients that write and read through the Service all the time, from the network of the client's pod, and note each write
//! that was acknowledged, with an exact clock.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::pid_in_pod;
use crate::wire::Wire;
use crate::{Codis, eventually};

/// How long a connection may take to come about, and each answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two commands of a client.
const PAUSE: Duration = Duration::from_millis(2);
/// How long the proxies may take to answer everybody at the end.
const READ_BACK: Duration = Duration::from_secs(60);

/// How a client connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Once, and again only when the connection breaks.
    Stays,
    /// Anew for each write.
    Anew,
}

/// Writers, and a reader, at work.
pub struct Writer {
    at: SocketAddr,
    network: Arc<File>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// What its keys begin with: others wrote to the same cluster before.
    run: u64,
    stop: AtomicBool,
    log: Mutex<Log>,
}

/// What was written. Times are milliseconds since 1970.
#[derive(Debug, Default, Clone)]
pub struct Log {
    /// When each write was acknowledged, by writer.
    times: BTreeMap<usize, Vec<f64>>,
    /// Each acknowledged write, in this order: its key, which is also its value, and when.
    pub acknowledged: Vec<(u64, String)>,
    /// What was answered otherwise, with the time.
    pub refused: Vec<(u64, String)>,
    /// Keys that were acknowledged and, at the end, have no or another value.
    pub lost: Vec<String>,
    /// What the reader saw that was not what had been written, with the time.
    pub wrong: Vec<(u64, String)>,
}

impl Writer {
    /// Starts to write, and returns when the first writes were acknowledged.
    pub async fn start(codis: &Codis<'_>) -> Self {
        let writers = [Manner::Stays, Manner::Stays, Manner::Anew];
        Self::begin(codis, writers.map(|manner| (manner, String::new())).into()).await
    }

    /// The same with writers of their own for the slot of each of these hash tags: where one waits, no other does.
    pub async fn start_for(codis: &Codis<'_>, tags: &[String]) -> Self {
        let of_tag = |tag: &String| [Manner::Stays, Manner::Anew].map(|manner| (manner, format!("{{{tag}}}")));
        Self::begin(codis, tags.iter().flat_map(of_tag).collect()).await
    }

    /// Starts writers of these manners, and with this at the beginning of their keys.
    async fn begin(codis: &Codis<'_>, writers: Vec<(Manner, String)>) -> Self {
        // By its address: what a node that is lost does to the cluster's DNS is not what is looked at.
        let service = format!("{}-proxy", codis.name());
        let host = codis
            .kubectl(&["get", "service", &service, "-o", "jsonpath={.spec.clusterIP}"])
            .await
            .unwrap_or_else(|failed| panic!("{failed}"));
        let host: IpAddr = host.trim().parse().expect("the address of a Service");
        let pid = pid_in_pod(codis.cluster(), codis.namespace(), "client", &["sleep"]).await;
        let network = File::open(format!("/proc/{pid}/ns/net")).expect("the network of the client's pod");
        let mut writer = Self {
            at: SocketAddr::new(host, 6379),
            network: Arc::new(network),
            shared: Arc::new(Shared {
                run: now(),
                ..Shared::default()
            }),
            threads: Vec::new(),
        };
        for (number, (manner, tag)) in writers.into_iter().enumerate() {
            writer.spawn(move |at, shared| write(at, shared, number, manner, &tag));
        }
        writer.spawn(read);
        eventually(Duration::from_secs(20), "writes are acknowledged", async || {
            let count = writer.shared.log().acknowledged.len();
            if count > 50 { Ok(()) } else { Err(format!("{count}")) }
        })
        .await;
        writer
    }

    fn spawn(&mut self, work: impl FnOnce(SocketAddr, &Shared) + Send + 'static) {
        let (at, network, shared) = (self.at, Arc::clone(&self.network), Arc::clone(&self.shared));
        self.threads.push(std::thread::spawn(move || {
            enter(&network);
            work(at, &shared);
        }));
    }

    /// Waits until every writer was acknowledged a write after `since` (milliseconds since 1970).
    pub async fn wait_for_writes_after(&self, since: u64, within: Duration) {
        eventually(within, "writes are acknowledged again", async || {
            let log = self.shared.log();
            let last = |times: &Vec<f64>| times.last().is_some_and(|at| *at > since as f64);
            let waiting = log.times.values().filter(|times| !last(times)).count();
            if waiting == 0 {
                Ok(())
            } else {
                Err(format!(
                    "{waiting} writers wait since {since}: {:?}",
                    log.refused.last()
                ))
            }
        })
        .await;
    }

    /// Stops, and reads back everything that was acknowledged.
    pub async fn stop(mut self) -> Log {
        self.shared.stop.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut self.threads);
        let (at, network, shared) = (self.at, Arc::clone(&self.network), Arc::clone(&self.shared));
        let work = tokio::task::spawn_blocking(move || {
            for thread in threads {
                thread.join().expect("a writer");
            }
            let mut log = shared.log().clone();
            let keys: Vec<String> = log.acknowledged.iter().map(|(_, key)| key.clone()).collect();
            let reader = std::thread::spawn(move || {
                enter(&network);
                read_back(at, keys)
            });
            log.lost = reader.join().expect("the reader");
            log
        });
        work.await.expect("the read-back")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

impl Log {
    /// The longest time that any writer was without an acknowledged write, from `since` on (milliseconds since 1970).
    pub fn longest_gap(&self, since: u64) -> Duration {
        let since = since as f64;
        let of_one = |times: &Vec<f64>| {
            // From the last one before: a fault may fall between two writes.
            let all = times.iter().copied().filter(|at| *at > since - 1000.0);
            let pairs: Vec<f64> = all.collect();
            let gaps = pairs.windows(2).filter(|pair| pair[1] > since);
            gaps.map(|pair| pair[1] - pair[0].max(since)).fold(0.0, f64::max)
        };
        let longest = self.times.values().map(of_one).fold(0.0, f64::max);
        Duration::from_secs_f64(longest / 1000.0)
    }
}

/// Now, in milliseconds since 1970.
pub fn now() -> u64 {
    exact() as u64
}

fn exact() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock");
    since.as_secs_f64() * 1000.0
}

/// From here on this thread's connections are made in that network.
fn enter(network: &File) {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).expect("entering the pod's network");
}

fn write(at: SocketAddr, shared: &Shared, writer: usize, manner: Manner, tag: &str) {
    let mut wire = None;
    let mut number = 0;
    shared.log().times.entry(writer).or_default();
    while shared.goes_on() {
        number += 1;
        let key = format!("{tag}w:{}:{writer}:{number}", shared.run);
        let answer = match &mut wire {
            Some(wire) => Ok(wire),
            None => Wire::connect(at, PATIENCE).map(|new| wire.insert(new)),
        };
        let answer = answer.and_then(|wire| wire.ask(&format!("SET {key} {key}")));
        let when = exact();
        if answer.as_ref().is_ok_and(|said| said.as_deref() == Some("OK")) {
            let mut log = shared.log();
            log.times.entry(writer).or_default().push(when);
            log.acknowledged.push((when as u64, key));
        } else {
            let said = answer.map_or_else(|error| error, |said| format!("{said:?}"));
            shared.log().refused.push((when as u64, format!("{key}: {said}")));
            wire = None;
        }
        if manner == Manner::Anew {
            wire = None;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Reads what was acknowledged last, and what was acknowledged long ago.
fn read(at: SocketAddr, shared: &Shared) {
    let mut wire = None;
    let mut round = 0_usize;
    while shared.goes_on() {
        std::thread::sleep(PAUSE);
        round += 1;
        let key = {
            let log = shared.log();
            let count = log.acknowledged.len();
            let place = if round.is_multiple_of(2) {
                count.saturating_sub(1)
            } else {
                round * 7919 % count.max(1)
            };
            log.acknowledged.get(place).map(|(_, key)| key.clone())
        };
        let Some(key) = key else { continue };
        let answer = match &mut wire {
            Some(wire) => Ok(wire),
            None => Wire::connect(at, PATIENCE).map(|new| wire.insert(new)),
        };
        match answer.and_then(|wire| wire.ask(&format!("GET {key}"))) {
            Ok(Some(value)) if value == key => {}
            // It may be one that the end of a primary took along: the read-back at the end tells.
            Ok(None) => {}
            Ok(Some(value)) => shared.log().wrong.push((now(), format!("{key} is {value:?}"))),
            Err(_) => wire = None,
        }
    }
}

/// The keys that don't have their value.
fn read_back(at: SocketAddr, keys: Vec<String>) -> Vec<String> {
    let end = now() + READ_BACK.as_millis() as u64;
    let mut wire = None;
    let mut values: HashMap<String, Option<String>> = HashMap::new();
    for key in &keys {
        loop {
            let answer = match &mut wire {
                Some(wire) => Ok(wire),
                None => Wire::connect(at, PATIENCE).map(|new| wire.insert(new)),
            };
            match answer.and_then(|wire| wire.ask(&format!("GET {key}"))) {
                Ok(value) => {
                    values.insert(key.clone(), value);
                    break;
                }
                Err(error) => {
                    assert!(now() < end, "reading back {key}: {error}");
                    wire = None;
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }
    let is_lost = |key: &String| values.get(key).is_none_or(|value| value.as_ref() != Some(key));
    keys.into_iter().filter(is_lost).collect()
}
