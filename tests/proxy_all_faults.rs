//! All faults at once, while clients judge every reply: servers killed, frozen and slow, the slot map pushed all the time,
//! clients in thousands, and clients that never read.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use codis_operator::model::{HostPort, Slot};
use rand::RngExt;
use support::backend::Backend;
use support::checker::{Checker, Pace};
use support::eventually;
use support::proxy::{Proxy, Setup, slots_over};
use support::relay::relay_to;
use support::wire::request;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

/// What passes to the slow server, and from it, on each connection.
const SLOW: usize = 4 << 20;
/// The key and the size of what clients ask for that do not read.
const BIG: (&str, usize) = ("big", 500_000);
/// How many of it each of them asks for at a time.
const BIG_REQUESTS: usize = 5;

struct Scale {
    time: Duration,
    /// Clients that ask without a pause.
    busy: usize,
    /// Clients that ask now and then.
    calm: usize,
    /// Clients that never read.
    deaf: usize,
    /// The most memory that the proxy may have had.
    memory: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reply_is_wrong_and_no_acknowledged_write_lost_in_a_few_faults() {
    all_faults(Scale {
        time: Duration::from_secs(10),
        busy: 10,
        calm: 500,
        deaf: 20,
        memory: 256 << 20,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes, and ten thousand connections"]
async fn no_reply_is_wrong_and_no_acknowledged_write_lost_in_many_faults() {
    all_faults(Scale {
        time: Duration::from_secs(180),
        busy: 30,
        calm: 10_000,
        deaf: 200,
        // What may wait, what ten thousand clients that are still take, and what the allocator can't give back.
        memory: 512 << 20,
    })
    .await;
}

async fn all_faults(scale: Scale) {
    let (mut killed, frozen) = (Backend::durable().await, Backend::start().await);
    let (slow, sound) = (Backend::start().await, Backend::start().await);
    let servers = [
        killed.addr(),
        frozen.addr(),
        relay_to(slow.addr(), SLOW).await,
        sound.addr(),
    ];
    let setup = Setup {
        toml: "proxy_max_clients = 20000\nproxy_max_memory = \"128mb\"",
        ..Setup::default()
    };
    let proxy = Proxy::serving_with(with_big_value_at(slots_over(&servers, 1), &sound.addr()), setup).await;
    let mut wire = proxy.wire().await;
    wire.send(request(&["SET", BIG.0, &"b".repeat(BIG.1)])).await;
    assert_eq!(wire.reply().await, "+OK");

    let always = Pace {
        keys: 40,
        most: 20,
        pause: Duration::ZERO,
    };
    let now_and_then = Pace {
        keys: 1,
        most: 2,
        pause: Duration::from_secs(5),
    };
    let checkers = [
        Checker::start(proxy.port, scale.busy, always),
        Checker::start(proxy.port, scale.calm, now_and_then),
    ];
    let deaf: Vec<_> = (0..scale.deaf).map(|_| tokio::spawn(never_read(proxy.port))).collect();
    let pushes = Pushes::new(&proxy, with_big_value_at(slots_over(&servers, 1), &sound.addr())).await;
    tokio::select! {
        () = kill_again_and_again(&mut killed) => {}
        () = freeze_again_and_again(&frozen) => {}
        () = pushes.push_again_and_again() => {}
        () = tokio::time::sleep(scale.time) => {}
    }
    killed.restart().await;
    frozen.process.signal("CONT");
    pushes.unlock_all().await;

    let [busy, calm] = checkers;
    let mut findings = busy.stop().await;
    findings.add(calm.stop().await);
    deaf.iter().for_each(|client| client.abort());
    let lost = findings.lost(proxy.port).await;
    let peak = proxy.process.peak_bytes();
    println!(
        "{} replies, {} acknowledged writes, {} lost; slowest {:?}; {} pushes taken of {}; peak memory {} MiB; errors:",
        findings.replies,
        findings.writes,
        lost.len(),
        findings.slowest,
        pushes.taken.load(Ordering::Relaxed),
        pushes.sent.load(Ordering::Relaxed),
        peak >> 20
    );
    findings
        .errors
        .iter()
        .for_each(|(error, count)| println!("{count:8} {error}"));
    assert!(lost.is_empty(), "{lost:?}");
    assert!(peak < scale.memory, "the proxy took {} MiB", peak >> 20);
}

/// The sound server has the big value, so that those who ask for it hinder nobody but each other.
fn with_big_value_at(mut slots: Vec<Slot>, server: &HostPort) -> Vec<Slot> {
    let slot = support::proxy::slot_of(BIG.0, server, 1);
    let place = slot.id.index();
    slots[place] = slot;
    slots
}

async fn pause(millis: std::ops::Range<u64>) {
    let millis = rand::rng().random_range(millis);
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

async fn kill_again_and_again(server: &mut Backend) {
    loop {
        pause(500..3000).await;
        server.process.kill();
        pause(0..2500).await;
        server.restart().await;
    }
}

async fn freeze_again_and_again(server: &Backend) {
    loop {
        pause(500..3000).await;
        server.process.signal("STOP");
        pause(10..5000).await;
        server.process.signal("CONT");
    }
}

/// Asks for more and more, a few at a time so that the server is not kept busy by it, and takes nothing.
async fn never_read(port: u16) {
    loop {
        pause(1..100).await;
        let socket = TcpSocket::new_v4().unwrap();
        // What the system keeps for it is not the proxy's.
        socket.set_recv_buffer_size(1 << 16).unwrap();
        let mut taken = socket.connect(([127, 0, 0, 1], port).into()).await;
        while let Ok(mut client) = taken {
            pause(100..300).await;
            let sent = client.write_all(&request(&["GET", BIG.0]).repeat(BIG_REQUESTS)).await;
            // The proxy closes whoever takes nothing for long.
            taken = sent.map(|()| client);
        }
    }
}

/// A dashboard that pushes the whole map a hundred times a second, each second time with some slots locked.
struct Pushes {
    api: codis_operator::client::ProxyClient,
    slots: Vec<Slot>,
    sent: AtomicU64,
    taken: Arc<AtomicU64>,
}

impl Pushes {
    async fn new(proxy: &Proxy, slots: Vec<Slot>) -> Self {
        Self {
            api: proxy.api().await,
            slots,
            sent: AtomicU64::new(1),
            taken: Arc::default(),
        }
    }

    fn next(&self, locked: impl Fn(usize) -> bool) -> Vec<Slot> {
        let epoch = 1 + self.sent.fetch_add(1, Ordering::Relaxed) as i64;
        let mut slots = self.slots.clone();
        for slot in &mut slots {
            slot.epoch = epoch;
            slot.locked = locked(slot.id.index());
        }
        slots
    }

    async fn push_again_and_again(&self) {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        loop {
            tick.tick().await;
            let part = rand::rng().random_range(0..32);
            let slots = self.next(|slot| part < 16 && slot / 4 % 16 == part);
            let (api, taken) = (self.api.clone(), self.taken.clone());
            // It does not wait for the answer: what a frozen server has to answer holds one up, and a later one may come
            // first, which makes it stale.
            tokio::spawn(async move {
                if api.fill_slots(&slots).await.is_ok() {
                    taken.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }

    async fn unlock_all(&self) {
        eventually("nothing is locked", Duration::from_secs(20), async || {
            self.api.fill_slots(&self.next(|_| false)).await.ok()
        })
        .await;
    }
}
