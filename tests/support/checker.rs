//! Clients that know what each reply has to be, and remember what was acknowledged.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::task::JoinHandle;

use super::eventually;
use super::wire::{Wire, request};

/// How a client asks.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Keys of its own.
    pub keys: usize,
    /// Most requests that it sends at once.
    pub most: usize,
    /// Between the last reply and its next requests.
    pub pause: Duration,
}

/// Clients that ask, each one by one or in pipelines, and panic at a reply that is not theirs.
pub struct Checker {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Findings>>,
}

/// What one client was told, or all of them.
#[derive(Debug, Default)]
pub struct Findings {
    /// The keys, each with the last value that was acknowledged.
    acknowledged: Vec<(String, u64)>,
    /// Replies that were looked at.
    pub replies: u64,
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Errors, and how often each was seen.
    pub errors: BTreeMap<String, u64>,
    /// The longest time from sending requests to the last reply.
    pub slowest: Duration,
}

impl Checker {
    /// So many clients of the proxy at this port.
    pub fn start(port: u16, clients: usize, pace: Pace) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let name = |number| format!("{clients}.{number}");
        let clients = (0..clients).map(|number| tokio::spawn(check(port, name(number), pace, stop.clone())));
        Self {
            clients: clients.collect(),
            stop,
        }
    }

    /// Ends the clients: what they were told.
    pub async fn stop(self) -> Findings {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Findings::default();
        for client in self.clients {
            all.add(client.await.unwrap());
        }
        all
    }
}

impl Findings {
    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.replies += other.replies;
        self.writes += other.writes;
        self.slowest = self.slowest.max(other.slowest);
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
    }

    /// The keys that hold an older value than was acknowledged, as this proxy tells it.
    pub async fn lost(&self, port: u16) -> Vec<&str> {
        let mut wire = Wire::connect(port).await;
        let mut lost = Vec::new();
        for some in self.acknowledged.chunks(100) {
            let batch: Vec<u8> = some.iter().flat_map(|(key, _)| request(&["GET", key])).collect();
            let replies = eventually("all can be read", Duration::from_secs(20), async || {
                wire.send(&batch).await;
                let mut replies = Vec::new();
                for _ in some {
                    replies.push(wire.reply().await);
                }
                (!replies.iter().any(|reply| reply.starts_with('-') || reply == "$-")).then_some(replies)
            });
            for ((key, acknowledged), reply) in some.iter().zip(replies.await) {
                if number_in(key, &reply).is_none_or(|found| found < *acknowledged) {
                    lost.push(key.as_str());
                }
            }
        }
        lost
    }

    fn error(&mut self, reply: &str) {
        *self.errors.entry(reply.to_owned()).or_default() += 1;
    }
}

/// A key that only one client writes, with growing numbers.
struct Key {
    name: String,
    sent: u64,
    acknowledged: u64,
    /// A write was answered with an error: it may still be carried out, after later ones, too.
    doubtful: bool,
}

/// What was asked, and what the reply depends on.
enum Ask {
    Echo(u64),
    Set(usize),
    SetMany(Vec<usize>),
    /// Keys, each with the highest number that it can have.
    Get(usize, u64),
    GetMany(Vec<(usize, u64)>),
    /// `MULTI`, `SET`, `GET`, `EXEC`.
    Transaction(usize),
}

struct Client {
    name: String,
    keys: Vec<Key>,
    generations: u64,
    findings: Findings,
}

async fn check(port: u16, name: String, pace: Pace, stop: Arc<AtomicBool>) -> Findings {
    // Not all at once.
    tokio::time::sleep(pace.pause.mul_f64(rand::random())).await;
    let mut wire = Wire::connect(port).await;
    let mut client = Client {
        name,
        keys: Vec::new(),
        generations: 0,
        findings: Findings::default(),
    };
    client.keys = (0..pace.keys).map(|_| client.new_key()).collect();
    while !stop.load(Ordering::SeqCst) {
        let (asks, bytes) = client.ask(pace.most);
        let began = Instant::now();
        wire.send(bytes).await;
        for ask in asks {
            client.judge(&ask, &mut wire).await;
        }
        client.findings.slowest = client.findings.slowest.max(began.elapsed());
        client.leave_doubtful_keys();
        tokio::time::sleep(pace.pause).await;
    }
    for key in std::mem::take(&mut client.keys) {
        client.remember(&key);
    }
    client.findings
}

impl Client {
    fn new_key(&mut self) -> Key {
        self.generations += 1;
        Key {
            name: format!("checked:{}:{}", self.name, self.generations),
            sent: 0,
            acknowledged: 0,
            doubtful: false,
        }
    }

    fn remember(&mut self, key: &Key) {
        if key.acknowledged > 0 {
            self.findings.acknowledged.push((key.name.clone(), key.acknowledged));
        }
    }

    /// A key is not written any more when it is unknown what a write of it comes to.
    fn leave_doubtful_keys(&mut self) {
        for place in 0..self.keys.len() {
            if self.keys[place].doubtful {
                let next = self.new_key();
                let left = std::mem::replace(&mut self.keys[place], next);
                self.remember(&left);
            }
        }
    }

    /// Requests for one go, no key written twice.
    fn ask(&mut self, most: usize) -> (Vec<Ask>, Vec<u8>) {
        let mut rng = rand::rng();
        let (mut asks, mut bytes, mut written) = (Vec::new(), Vec::new(), HashSet::new());
        for _ in 0..rng.random_range(1..=most) {
            let mut some: Vec<usize> = (0..rng.random_range(1..=4))
                .map(|_| rng.random_range(0..self.keys.len()))
                .collect();
            some.sort_unstable();
            some.dedup();
            let one = some[0];
            let unwritten = some.iter().all(|place| !written.contains(place));
            match rng.random_range(0..8) {
                0 | 1 if unwritten => {
                    written.insert(one);
                    bytes.extend(request(&[
                        "SET".to_owned(),
                        self.keys[one].name.clone(),
                        self.next_value(one),
                    ]));
                    asks.push(Ask::Set(one));
                }
                2 if unwritten => {
                    written.extend(&some);
                    let mut words = vec!["MSET".to_owned()];
                    for place in &some {
                        words.extend([self.keys[*place].name.clone(), self.next_value(*place)]);
                    }
                    bytes.extend(request(&words));
                    asks.push(Ask::SetMany(some));
                }
                3 if unwritten => {
                    written.insert(one);
                    let (name, value) = (self.keys[one].name.clone(), self.next_value(one));
                    bytes.extend(request(&["MULTI"]));
                    bytes.extend(request(&["SET", &name, &value]));
                    bytes.extend(request(&["GET", &name]));
                    bytes.extend(request(&["EXEC"]));
                    asks.push(Ask::Transaction(one));
                }
                4 => {
                    let mut words = vec!["MGET".to_owned()];
                    words.extend(some.iter().map(|place| self.keys[*place].name.clone()));
                    bytes.extend(request(&words));
                    asks.push(Ask::GetMany(
                        some.iter().map(|place| (*place, self.keys[*place].sent)).collect(),
                    ));
                }
                5 => {
                    let tag: u64 = rng.random();
                    bytes.extend(request(&["ECHO".to_owned(), format!("echo:{tag}")]));
                    asks.push(Ask::Echo(tag));
                }
                _ => {
                    bytes.extend(request(&["GET", &self.keys[one].name]));
                    asks.push(Ask::Get(one, self.keys[one].sent));
                }
            }
        }
        (asks, bytes)
    }

    fn next_value(&mut self, place: usize) -> String {
        let key = &mut self.keys[place];
        key.sent += 1;
        value(&key.name, key.sent)
    }

    async fn judge(&mut self, ask: &Ask, wire: &mut Wire) {
        let reply = self.next(wire).await;
        match ask {
            Ask::Echo(tag) => assert_eq!(reply, format!("$echo:{tag}")),
            Ask::Set(place) => self.judge_write(&[*place], &reply, "+OK"),
            Ask::SetMany(places) => self.judge_write(places, &reply, "+OK"),
            Ask::Get(place, highest) => self.judge_read(*place, *highest, &reply),
            Ask::GetMany(asked) if is_error(&reply) => self.judge_read(asked[0].0, asked[0].1, &reply),
            Ask::GetMany(asked) => {
                // Values have no blanks.
                let values = reply.strip_prefix("*[").and_then(|rest| rest.strip_suffix(']'));
                let values: Vec<&str> = values.unwrap_or_default().split(' ').collect();
                assert_eq!(values.len(), asked.len(), "{reply}");
                for ((place, highest), value) in asked.iter().zip(values) {
                    self.judge_read(*place, *highest, value);
                }
            }
            Ask::Transaction(place) => {
                assert_eq!(reply, "+OK");
                for _ in 0..2 {
                    let queued = self.next(wire).await;
                    assert!(queued == "+QUEUED" || is_error(&queued), "{queued}");
                }
                let key = &self.keys[*place];
                let want = format!("*[+OK ${}]", value(&key.name, key.sent));
                let reply = self.next(wire).await;
                self.judge_write(&[*place], &reply, &want);
            }
        }
    }

    async fn next(&mut self, wire: &mut Wire) -> String {
        let reply = wire.try_reply().await;
        self.findings.replies += 1;
        reply.unwrap_or_else(|| panic!("client {}: the proxy closed the connection", self.name))
    }

    fn judge_write(&mut self, places: &[usize], reply: &str, want: &str) {
        let failed = is_error(reply);
        assert!(
            failed || reply == want,
            "{} instead of {}",
            start_of(reply),
            start_of(want)
        );
        if failed {
            self.findings.error(reply);
        }
        for place in places {
            let key = &mut self.keys[*place];
            if failed {
                key.doubtful = true;
            } else {
                key.acknowledged = key.sent;
                self.findings.writes += 1;
            }
        }
    }

    fn judge_read(&mut self, place: usize, highest: u64, reply: &str) {
        let key = &self.keys[place];
        if is_error(reply) {
            self.findings.error(reply);
            return;
        }
        let found = if reply == "$-" {
            Some(0)
        } else {
            number_in(&key.name, reply)
        };
        let right = found.is_some_and(|found| (key.acknowledged..=highest).contains(&found));
        assert!(
            right,
            "{} is {}, which is none of {}..={highest}",
            key.name,
            start_of(reply),
            key.acknowledged
        );
    }
}

fn start_of(reply: &str) -> &str {
    reply.get(..100).unwrap_or(reply)
}

/// An error that says that something was not done. Any other is a wrong reply.
fn is_error(reply: &str) -> bool {
    const KNOWN: [&str; 6] = [
        "-ERR handle response, backend conn reset",
        "-ERR handle request, the slot was locked, or its server full, for too long",
        "-ERR handle request, too many requests are held back",
        "-EXECABORT ",
        "-LOADING ",
        "-MISCONF ",
    ];
    KNOWN.iter().any(|known| reply.starts_with(known))
}

/// What a key holds after its write `number`: of any length, and no other key's or number's.
fn value(key: &str, number: u64) -> String {
    let len = if number % 50 == 7 { 20_000 } else { number * 37 % 300 };
    format!("{key}={number}:{}", "v".repeat(len as usize))
}

/// The number of the write that this value is of; `None` when it is none of this key, or not whole.
fn number_in(key: &str, reply: &str) -> Option<u64> {
    let text = reply.strip_prefix('$')?;
    let (number, _) = text.strip_prefix(key)?.strip_prefix('=')?.split_once(':')?;
    let number = number.parse().ok()?;
    (text == value(key, number)).then_some(number)
}
