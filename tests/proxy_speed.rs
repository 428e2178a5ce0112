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
use support::nutcracker::Nutcracker;
use support::proxy::{Proxy, Setup, slots_over};
use support::wire::Wire;
use support::{Process, tool};

/// Clients of the benchmark.
const CLIENTS: &str = "50";
/// Rounds, each with every contender.
const ROUNDS: usize = 5;

async fn our_proxy(backends: &[Backend], flags: &[&str]) -> Proxy {
    let addrs: Vec<_> = backends.iter().map(Backend::addr).collect();
    let setup = Setup {
        flags,
        toml: "proxy_max_clients = 10000",
        ..Setup::default()
    };
    Proxy::serving_with(slots_over(&addrs, 1), setup).await
}

#[tokio::test]
#[ignore = "a measurement, not a check"]
async fn cpu_per_request() {
    let backends = Backend::several(2).await;
    let ours = our_proxy(&backends, &["--ncpu=1"]).await;
    let nutcracker = Nutcracker::start(&backends).await;
    let alone = Backend::start().await;
    let contenders: [(&str, u16, &Process); 3] = [
        ("codis-proxy", ours.port, &ours.process),
        ("nutcracker", nutcracker.port, &nutcracker.process),
        ("the server itself", alone.addr().port(), &alone.process),
    ];
    println!(
        "| pipeline | command | codis-proxy | nutcracker | the server itself | codis-proxy / nutcracker | requests/s |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (pipeline, requests) in [(1, 200_000_u32), (50, 2_000_000)] {
        for command in ["set", "get"] {
            let mut costs = [const { Vec::new() }; 3];
            let mut rates = [const { Vec::new() }; 3];
            for _ in 0..ROUNDS {
                for (i, (_, port, process)) in contenders.iter().enumerate() {
                    let (before, began) = (process.cpu_time(), Instant::now());
                    load(*port, command, pipeline, requests);
                    let cpu = process.cpu_time() - before;
                    costs[i].push(cpu.as_secs_f64() * 1e6 / f64::from(requests));
                    rates[i].push(f64::from(requests) / began.elapsed().as_secs_f64());
                }
            }
            let [ours, theirs, server] = costs.map(median);
            let rates = rates.map(|rates| format!("{:.0}k", median(rates) / 1e3)).join(" / ");
            println!(
                "| {pipeline} | {} | {ours:.2} µs | {theirs:.2} µs | {server:.2} µs | {:.2} | {rates} |",
                command.to_uppercase(),
                ours / theirs
            );
        }
    }
}

/// `valkey-benchmark` with 50 clients and values of 256 bytes.
fn load(port: u16, command: &str, pipeline: u32, requests: u32) {
    let mut benchmark = Command::new(tool("valkey-benchmark"));
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
    let backends = Backend::several(2).await;
    let proxy = our_proxy(&backends, &["--ncpu=2"]).await;
    let before = proxy.process.resident_bytes();
    let mut clients = Vec::new();
    for _ in 0..1000 {
        let mut client = proxy.wire().await;
        assert_eq!(client.call("SET key value").await, "+OK");
        clients.push(client);
    }
    let with = proxy.process.resident_bytes();
    println!(
        "resident memory: {:.1} MiB, with 1,000 idle connections {:.1} MiB (goal: 16 MiB)",
        before as f64 / (1 << 20) as f64,
        with as f64 / (1 << 20) as f64
    );
}

/// Clients that each send a request at fixed times, whatever the replies do, so that a late reply delays no measurement.
#[tokio::test(flavor = "current_thread")]
#[ignore = "a measurement, not a check"]
async fn latency_at_half_load() {
    let backends = Backend::several(2).await;
    let proxy = our_proxy(&backends, &["--ncpu=1"]).await;
    for clients in [1, 50] {
        let direct = latencies(backends[0].addr().port(), clients).await;
        let through = latencies(proxy.port, clients).await;
        println!(
            "{clients} clients, 10,000 requests/s in all: p50 {:.3} ms through the proxy, {:.3} ms direct; p99 {:.3} ms, {:.3} ms",
            at(&through, 0.50),
            at(&direct, 0.50),
            at(&through, 0.99),
            at(&direct, 0.99),
        );
    }
}

/// Milliseconds, sorted.
async fn latencies(port: u16, clients: u32) -> Vec<f64> {
    // One client alone waits for each reply before the next request, and so can't send as many.
    let pause = Duration::from_micros(100) * clients;
    let tasks = (0..clients).map(|i| async move {
        let mut client = Wire::connect(port).await;
        let mut took = Vec::new();
        let mut next = tokio::time::interval(if clients == 1 { Duration::from_millis(1) } else { pause });
        for _ in 0..(if clients == 1 { 3000 } else { 1000 }) {
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

/// How long a push of all slots takes from the request to its acknowledgement, and how long clients of slots that stay as
/// they are wait meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a check"]
async fn push_of_all_slots() {
    let backends = Backend::several(2).await;
    let addrs: Vec<_> = backends.iter().map(Backend::addr).collect();
    let proxy = our_proxy(&backends, &["--ncpu=1"]).await;
    let api = proxy.api().await;
    println!("| push of 1024 slots | goal | median | p90 | max | clients meanwhile: p50, p99, max | without pushes |");
    println!("|---|---|---|---|---|---|---|");
    let mut epoch = 1;
    for load in [false, true] {
        let benchmark = load.then(|| {
            let mut benchmark = Command::new(tool("valkey-benchmark"));
            benchmark.args(["-p", &proxy.port.to_string(), "-t", "set", "-c", CLIENTS, "-d", "256"]);
            benchmark.args(["-r", "100000", "-q", "-n", "1000000000"]);
            Process::start(&benchmark)
        });
        let without = Probe::start(proxy.port);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let without = without.stop().await;
        let probe = Probe::start(proxy.port);
        let mut took = Vec::new();
        for _ in 0..101 {
            epoch += 1;
            let slots = slots_over(&addrs, epoch);
            let began = Instant::now();
            api.fill_slots(&slots).await.unwrap();
            took.push(began.elapsed().as_secs_f64() * 1e3);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        took.sort_by(f64::total_cmp);
        let with = probe.stop().await;
        let clients = |all: &[f64]| format!("{:.2}, {:.2}, {:.2} ms", at(all, 0.5), at(all, 0.99), at(all, 1.0));
        println!(
            "| {} | <= 10 ms | {:.2} ms | {:.2} ms | {:.2} ms | {} | {} |",
            if load { "under load" } else { "idle" },
            at(&took, 0.5),
            at(&took, 0.9),
            at(&took, 1.0),
            clients(&with),
            clients(&without)
        );
        drop(benchmark);
    }
}

/// A client that asks again and again.
struct Probe {
    stop: Arc<AtomicBool>,
    took: tokio::task::JoinHandle<Vec<f64>>,
}

impl Probe {
    fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let took = tokio::spawn(async move {
            let (mut client, mut took) = (Wire::connect(port).await, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                assert_eq!(client.call("SET probe value").await, "+OK");
                took.push(began.elapsed().as_secs_f64() * 1e3);
                tokio::time::sleep(Duration::from_millis(1)).await;
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
