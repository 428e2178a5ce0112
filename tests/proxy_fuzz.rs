//! Clients that send nonsense, whole and in pieces: nothing breaks, and nobody gets another one's reply.
//! `make fuzz` does it for five minutes; `CODIS_SEED` repeats a run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redis::Value;

use support::backend::Backend;
use support::eventually;
use support::grammar::{Form, forms};
use support::proxy::{Proxy, Setup, slots_over};
use support::wire::{Wire, request};

/// How long, unless `CODIS_FUZZ_SECONDS` says otherwise.
const SECONDS: u64 = 30;

/// Requests that the grammar has not, or seldom.
const MORE: [&str; 16] = [
    "MULTI",
    "EXEC",
    "DISCARD",
    "WATCH {a}string0",
    "UNWATCH",
    "SUBSCRIBE news",
    "PSUBSCRIBE n*",
    "UNSUBSCRIBE",
    "PUBLISH news 1",
    "BLPOP {a}list0 0.01",
    "HELLO 3",
    "HELLO 2",
    "RESET",
    "SCAN 0",
    "SCRIPT EXISTS a",
    "PING",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_breaks_nothing_and_reaches_nobody_else() {
    let backends = Backend::several(3).await;
    let addrs: Vec<_> = backends.iter().map(Backend::addr).collect();
    let setup = Setup {
        toml: "proxy_max_clients = 10000",
        ..Setup::default()
    };
    let mut proxy = Proxy::serving_with(slots_over(&addrs, 1), setup).await;
    let forms = known_forms(&backends[0]).await;
    let variable = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = variable("CODIS_SEED").unwrap_or_else(rand::random);
    println!("CODIS_SEED={seed}");
    let until = Instant::now() + Duration::from_secs(variable("CODIS_FUZZ_SECONDS").unwrap_or(SECONDS));
    let over = AtomicBool::new(false);
    let (port, forms, over) = (proxy.port, &forms, &over);
    let fuzzers = (0..4).map(|number| async move {
        let mut rng = StdRng::seed_from_u64(seed.wrapping_add(number));
        let mut streams = 0_u64;
        while Instant::now() < until {
            if rng.random_ratio(1, 2) {
                sensible(port, forms, &mut rng).await;
            } else {
                nonsense(port, forms, &mut rng).await;
            }
            streams += 1;
        }
        over.store(true, Ordering::Relaxed);
        streams
    });
    let (streams, neighbours) = futures::join!(futures::future::join_all(fuzzers), neighbour(port, over));
    println!(
        "{} streams, {neighbours} requests of a neighbour",
        streams.iter().sum::<u64>()
    );
    assert!(proxy.process.is_running(), "the proxy ended");
    // Nothing is counted as under way for ever; that nothing ends more often than it began the proxy asserts itself.
    let mut locked = slots_over(&addrs, 2);
    locked.iter_mut().for_each(|slot| slot.locked = true);
    let api = proxy.api().await;
    eventually("all slots are free of requests", Duration::from_secs(20), async || {
        api.fill_slots(&locked).await.ok()
    })
    .await;
    let resident = proxy.process.resident_bytes() >> 20;
    assert!(resident < 200, "the proxy holds {resident} MiB");
}

async fn known_forms(server: &Backend) -> Vec<Form> {
    let client = redis::Client::open(format!("redis://{}/?protocol=resp3", server.addr())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let docs: Value = redis::cmd("COMMAND")
        .arg("DOCS")
        .query_async(&mut connection)
        .await
        .unwrap();
    // Who ends others' connections is meant to reach them.
    forms(&docs)
        .into_values()
        .filter(|form| form.name != "client|kill")
        .collect()
}

/// Well-formed requests, however they are cut: as many replies, each at its place.
async fn sensible(port: u16, forms: &[Form], rng: &mut StdRng) {
    let mut client = Wire::connect(port).await;
    let count = rng.random_range(1..40);
    let mut stream = Vec::new();
    for i in 0..count {
        stream.extend(request(&["ECHO".to_owned(), format!("mark {i}")]));
        // Only reads: what others write meanwhile does not matter, and none answers more or less than once.
        let reads = [
            "get", "mget", "lrange", "hgetall", "exists", "zrange", "xlen", "sort_ro", "eval_ro",
        ];
        let reads: Vec<_> = forms
            .iter()
            .filter(|form| reads.contains(&form.name.as_str()))
            .collect();
        stream.extend(request(&reads[rng.random_range(0..reads.len())].request(rng)));
    }
    send_in_pieces(&mut client, &stream, rng).await;
    for i in 0..count {
        assert_eq!(client.reply().await, format!("$mark {i}"));
        client.reply().await;
    }
}

/// Anything. What comes back are replies, or the end.
async fn nonsense(port: u16, forms: &[Form], rng: &mut StdRng) {
    let mut client = Wire::connect(port).await;
    let mut stream = Vec::new();
    for _ in 0..rng.random_range(1..20) {
        let words = if rng.random_ratio(1, 3) {
            MORE[rng.random_range(0..MORE.len())]
                .split(' ')
                .map(str::to_owned)
                .collect()
        } else {
            forms[rng.random_range(0..forms.len())].request(rng)
        };
        let mut bytes = if rng.random_ratio(1, 8) {
            (words.join(" ") + "\r\n").into_bytes()
        } else {
            request(&words)
        };
        if rng.random_ratio(1, 4) {
            break_something(&mut bytes, rng);
        }
        stream.extend(bytes);
    }
    if client_left(send_in_pieces(&mut client, &stream, rng).await, rng) {
        return;
    }
    let _ = client.try_finish().await;
    // Who waits for ever, or for the rest of a request, is closed by nobody.
    let _ = tokio::time::timeout(Duration::from_millis(300), async {
        while client.try_reply().await.is_some() {}
    })
    .await;
}

/// Whether it is gone, or leaves now, with replies under way.
fn client_left(sent: bool, rng: &mut StdRng) -> bool {
    !sent || rng.random_ratio(1, 4)
}

fn break_something(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    let at = rng.random_range(0..bytes.len());
    match rng.random_range(0..6) {
        0 => bytes[at] = rng.random(),
        1 => bytes.truncate(at),
        2 => bytes.insert(at, rng.random()),
        3 => {
            bytes.remove(at);
        }
        4 => {
            let part = bytes[at..].to_vec();
            bytes.extend(part);
        }
        _ => {
            let lengths = [
                "-1",
                "0",
                "4294967296",
                "9223372036854775807",
                "1048576",
                "536870912",
                "x",
                "07",
            ];
            let number = lengths[rng.random_range(0..lengths.len())];
            // In the place of a length, if there is one behind.
            if let Some(place) = bytes[at..].iter().position(|byte| b"*$".contains(byte)) {
                bytes.splice(at + place + 1..(at + place + 2).min(bytes.len()), number.bytes());
            }
        }
    }
}

/// Whole, byte by byte, or in pieces of any size. Whether all was taken.
async fn send_in_pieces(client: &mut Wire, stream: &[u8], rng: &mut StdRng) -> bool {
    let largest = match rng.random_range(0..3) {
        0 => stream.len().max(1),
        1 if stream.len() < 1000 => 1,
        _ => 64,
    };
    let mut rest = stream;
    while !rest.is_empty() {
        let size = rng.random_range(1..=largest.min(rest.len()));
        if !client.try_send(&rest[..size]).await {
            return false;
        }
        rest = &rest[size..];
        tokio::task::yield_now().await;
    }
    true
}

/// A client that does nothing wrong, and sees nothing of the others.
async fn neighbour(port: u16, over: &AtomicBool) -> u64 {
    let mut client = Wire::connect(port).await;
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        let key = format!("neighbour:{}", count % 100);
        assert_eq!(client.call(&format!("SET {key} {count}")).await, "+OK");
        assert_eq!(client.call(&format!("GET {key}")).await, format!("${count}"));
        count += 1;
    }
    2 * count
}
