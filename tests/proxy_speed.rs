//! What a request costs the proxy, beside nutcracker (twemproxy) and the server itself. `make bench` runs it.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::backend::Backend;
use support::certificates::{Ca, Files};
use support::nutcracker::Nutcracker;
use support::proxy::{Proxy, Setup, slots_over};
use support::wire::Wire;
use support::{Process, free_port, tool};
use tokio_rustls::rustls::ALL_VERSIONS;

/// Clients of the benchmark.
const CLIENTS: &str = "50";
/// Rounds, each with every contender.
const ROUNDS: usize = 5;

async fn our_proxy(backends: &[Backend], flags: &[&str]) -> Proxy {
    let setup = Setup {
        flags,
        toml: "proxy_max_clients = 10000",
        ..Setup::default()
    };
    Proxy::serving_with(slots_over(&Backend::addrs(backends), 1), setup).await
}

/// One that clients reach by TLS too, and the port for that.
async fn our_proxy_with_tls(backends: &[Backend], files: &Files) -> (Proxy, u16) {
    let port = free_port();
    let toml = format!(
        "proxy_max_clients = 10000\nproxy_tls_addr = \"127.0.0.1:{port}\"\nproxy_tls_cert = \"{}\"\nproxy_tls_key = \"{}\"",
        files.cert().display(),
        files.key().display()
    );
    let setup = Setup {
        flags: &["--ncpu=1"],
        toml: &toml,
        ..Setup::default()
    };
    (
        Proxy::serving_with(slots_over(&Backend::addrs(backends), 1), setup).await,
        port,
    )
}

#[tokio::test]
#[ignore = "a measurement, not a check"]
async fn cpu_per_request() {
    let (backends, files) = (Backend::several(2).await, Ca::new().files("proxy"));
    let ours = our_proxy(&backends, &["--ncpu=1"]).await;
    let (secret, tls_port) = our_proxy_with_tls(&backends, &files).await;
    let nutcracker = Nutcracker::start(&backends).await;
    let alone = Backend::start().await;
    let contenders: [(u16, &Process, &[&str]); 4] = [
        (ours.port, &ours.process, &[]),
        (nutcracker.port, &nutcracker.process, &[]),
        (alone.addr().port(), &alone.process, &[]),
        (tls_port, &secret.process, &["--tls", "--insecure"]),
    ];
    println!(
        "| pipeline | command | codis-proxy | nutcracker | the server itself | codis-proxy / nutcracker | codis-proxy by TLS | requests/s |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (pipeline, requests) in [(1, 60_000_u32), (50, 600_000)] {
        for command in ["set", "get"] {
            let mut costs = [const { Vec::new() }; 4];
            let mut rates = [const { Vec::new() }; 4];
            for _ in 0..ROUNDS {
                for (i, (port, process, flags)) in contenders.iter().enumerate() {
                    let (before, began) = (process.cpu_time(), Instant::now());
                    load(*port, command, pipeline, requests, flags);
                    let cpu = process.cpu_time() - before;
                    costs[i].push(cpu.as_secs_f64() * 1e6 / f64::from(requests));
                    rates[i].push(f64::from(requests) / began.elapsed().as_secs_f64());
                }
            }
            let [ours, theirs, server, secret] = costs.map(median);
            let rates = rates.map(|rates| format!("{:.0}k", median(rates) / 1e3)).join(" / ");
            println!(
                "| {pipeline} | {} | {ours:.2} µs | {theirs:.2} µs | {server:.2} µs | {:.2} | {secret:.2} µs | {rates} |",
                command.to_uppercase(),
                ours / theirs
            );
        }
    }
}

/// What one core of the proxy's answers, and two: with the load and the servers on the same machine, which shares its cores
/// with them.
#[tokio::test]
#[ignore = "a measurement, not a check"]
async fn throughput_by_cores() {
    let backends = Backend::several(2).await;
    let proxies = [
        our_proxy(&backends, &["--ncpu=1"]).await,
        our_proxy(&backends, &["--ncpu=2"]).await,
    ];
    println!("| pipeline | requests/s with 1 core | with 2 | the proxy's CPU per request with 1 | with 2 |");
    println!("|---|---|---|---|---|");
    for (pipeline, requests) in [(1, 100_000_u32), (50, 1_000_000)] {
        let (mut costs, mut rates) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
        for _ in 0..ROUNDS {
            for (i, proxy) in proxies.iter().enumerate() {
                let (before, began) = (proxy.process.cpu_time(), Instant::now());
                load(proxy.port, "get", pipeline, requests, &["--threads", "2"]);
                let cpu = proxy.process.cpu_time() - before;
                costs[i].push(cpu.as_secs_f64() * 1e6 / f64::from(requests));
                rates[i].push(f64::from(requests) / began.elapsed().as_secs_f64() / 1e3);
            }
        }
        let ([one, two], [cost_of_one, cost_of_two]) = (rates.map(median), costs.map(median));
        println!("| {pipeline} | {one:.0}k | {two:.0}k | {cost_of_one:.2} µs | {cost_of_two:.2} µs |");
    }
}

/// `valkey-benchmark` with 50 clients and values of 256 bytes.
fn load(port: u16, command: &str, pipeline: u32, requests: u32, flags: &[&str]) {
    let mut benchmark = Command::new(tool("valkey-benchmark"));
    benchmark.args(flags);
    benchmark.args(["-p", &port.to_string(), "-t", command, "-c", CLIENTS, "-d", "256"]);
    benchmark.args([
        "-r",
        "100000",
        "-q",
        "-P",
        &pipeline.to_string(),
        "-n",
        &requests.to_string(),
    ]);
    assert!(benchmark.output().unwrap().status.success());
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

#[tokio::test]
#[ignore = "a measurement, not a check"]
async fn memory_of_idle_connections() {
    let (backends, files) = (Backend::several(2).await, Ca::new().files("proxy"));
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let proxy = our_proxy(&backends, &["--ncpu=2"]).await;
    let (before, with) = with_idle(&proxy, async || proxy.wire().await).await;
    println!(
        "resident memory: {:.1} MiB, with 1,000 idle connections {:.1} MiB (goal: 16 MiB)",
        mib(before),
        mib(with)
    );
    let (proxy, port) = our_proxy_with_tls(&backends, &files).await;
    let connector = files.connector(ALL_VERSIONS);
    let (before, with) = with_idle(&proxy, async || Wire::try_secured(port, &connector).await.unwrap()).await;
    println!(
        "by TLS: {:.1} MiB, with 1,000 idle connections {:.1} MiB, {:.1} KiB each",
        mib(before),
        mib(with),
        mib(with - before) * 1024.0 / 1000.0
    );
}

/// The bytes that the proxy holds without clients, and with 1,000 that were answered once.
async fn with_idle(proxy: &Proxy, connect: impl AsyncFn() -> Wire) -> (u64, u64) {
    let before = proxy.process.resident_bytes();
    let mut clients = Vec::new();
    for _ in 0..1000 {
        let mut client = connect().await;
        assert_eq!(client.call("SET key value").await, "+OK");
        clients.push(client);
    }
    (before, proxy.process.resident_bytes())
}

/// Clients that each send a request at fixed times, whatever the replies do, so that a late reply delays no measurement: at a
/// small rate, and at half of what the proxy reached just before.
#[tokio::test(flavor = "current_thread")]
#[ignore = "a measurement, not a check"]
async fn latency_at_half_load() {
    let backends = Backend::several(2).await;
    let proxy = our_proxy(&backends, &["--ncpu=1"]).await;
    let reached = (0..ROUNDS).map(|_| {
        let (requests, began) = (60_000_u32, Instant::now());
        load(proxy.port, "set", 1, requests, &[]);
        f64::from(requests) / began.elapsed().as_secs_f64()
    });
    let half = (median(reached.collect()) / 2.0) as u32;
    println!(
        "| clients | requests/s | p50 through the proxy | p50 direct | p99 through the proxy | p99 direct | p99 added (goal: 0.3 ms) |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (clients, rate) in [(1, 1000), (50, 10_000), (50, half)] {
        let mut seen = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            let direct = latencies(backends[0].addr().port(), clients, rate).await;
            let through = latencies(proxy.port, clients, rate).await;
            for (all, one) in seen
                .iter_mut()
                .zip([(&through, 0.5), (&direct, 0.5), (&through, 0.99), (&direct, 0.99)])
            {
                all.push(at(one.0, one.1));
            }
        }
        let [p50, p50_direct, p99, p99_direct] = seen.map(median);
        println!(
            "| {clients} | {rate} | {p50:.2} ms | {p50_direct:.2} ms | {p99:.2} ms | {p99_direct:.2} ms | {:.2} ms |",
            p99 - p99_direct
        );
    }
}

/// Milliseconds, sorted; `rate` is in requests a second of all clients together, for two seconds.
async fn latencies(port: u16, clients: u32, rate: u32) -> Vec<f64> {
    let pause = Duration::from_secs(1) * clients / rate;
    let tasks = (0..clients).map(|i| async move {
        let mut client = Wire::connect(port).await;
        let mut took = Vec::new();
        let mut next = tokio::time::interval(pause);
        for _ in 0..2 * rate / clients {
            next.tick().await;
            let began = Instant::now();
            assert_eq!(client.call(&format!("SET key:{i} value")).await, "+OK");
            took.push(began.elapsed().as_secs_f64() * 1e3);
        }
        took
    });
    let mut all = futures::future::join_all(tasks).await.concat();
    all.sort_by(f64::total_cmp);
    all
}

fn at(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

/// How long a push of all slots takes from the request to its acknowledgement, and how long clients wait meanwhile. With
/// every push that moves them, all slots go to the other server: what is under way is then waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a check"]
async fn push_of_all_slots() {
    const PUSHES: usize = 201;
    let backends = Backend::several(2).await;
    let mut addrs = Backend::addrs(&backends);
    let proxy = our_proxy(&backends, &["--ncpu=1"]).await;
    let api = proxy.api().await;
    println!(
        "| push of 1024 slots (goal: <= 10 ms) | p50 | p99 | max | clients meanwhile: p50, p99, max | without pushes |"
    );
    println!("|---|---|---|---|---|---|");
    let clients = |all: &[f64]| format!("{:.2}, {:.2}, {:.2} ms", at(all, 0.5), at(all, 0.99), at(all, 1.0));
    let mut epoch = 1;
    for (name, load, moves) in [
        ("no load", 0, false),
        ("20,000 requests/s", CLIENTS_AT_WORK, false),
        ("20,000 requests/s, all slots move", CLIENTS_AT_WORK, true),
    ] {
        let at_work: Vec<_> = (0..load)
            .map(|_| Probe::start(proxy.port, CLIENTS_AT_WORK / 20))
            .collect();
        let probe = Probe::start(proxy.port, 1);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let without = probe.stop().await;
        let probe = Probe::start(proxy.port, 1);
        let mut took = Vec::new();
        for _ in 0..PUSHES {
            epoch += 1;
            if moves {
                addrs.reverse();
            }
            let slots = slots_over(&addrs, epoch);
            let began = Instant::now();
            api.fill_slots(&slots).await.unwrap();
            took.push(began.elapsed().as_secs_f64() * 1e3);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        took.sort_by(f64::total_cmp);
        let with = probe.stop().await;
        for client in at_work {
            client.stop().await;
        }
        println!(
            "| {name} | {:.2} ms | {:.2} ms | {:.2} ms | {} | {} |",
            at(&took, 0.5),
            at(&took, 0.99),
            at(&took, 1.0),
            clients(&with),
            clients(&without)
        );
    }
}

/// Clients that together make 20,000 requests a second.
const CLIENTS_AT_WORK: u64 = 40;

/// A client that asks at fixed times.
struct Probe {
    stop: Arc<AtomicBool>,
    took: tokio::task::JoinHandle<Vec<f64>>,
}

impl Probe {
    /// Every so many milliseconds.
    fn start(port: u16, pause: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let took = tokio::spawn(async move {
            let (mut client, mut took) = (Wire::connect(port).await, Vec::new());
            let mut next = tokio::time::interval(Duration::from_millis(pause));
            while !stopped.load(Ordering::Relaxed) {
                next.tick().await;
                let began = Instant::now();
                assert_eq!(client.call("SET probe value").await, "+OK");
                took.push(began.elapsed().as_secs_f64() * 1e3);
            }
            took
        });
        Self { stop, took }
    }

    /// Milliseconds, sorted.
    async fn stop(self) -> Vec<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut took = self.took.await.unwrap();
        took.sort_by(f64::total_cmp);
        took
    }
}
