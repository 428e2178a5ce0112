//! How much CPU a request costs the proxy. Run it alone:
//! `cargo test --release --test proxy_speed -- --ignored --nocapture`
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::process::Command;

use support::backend::Backend;
use support::proxy::{Proxy, Setup, slots_over};
use support::tool;

#[tokio::test]
#[ignore = "a measurement, not a check"]
async fn cpu_per_request() {
    let backends = Backend::several(2).await;
    let addrs: Vec<_> = backends.iter().map(Backend::addr).collect();
    let proxy = Proxy::serving_with(
        slots_over(&addrs, 1),
        Setup {
            flags: &["--ncpu=1"],
            ..Setup::default()
        },
    )
    .await;
    for (pipeline, requests) in [(1, 200_000_u32), (50, 2_000_000)] {
        for command in ["set", "get"] {
            let mut costs = Vec::new();
            for _ in 0..3 {
                let before = cpu_micros(&proxy);
                let mut benchmark = Command::new(tool("valkey-benchmark"));
                benchmark.args([
                    "-p",
                    &proxy.port.to_string(),
                    "-t",
                    command,
                    "-c",
                    "50",
                    "-d",
                    "256",
                    "-r",
                    "100000",
                    "-q",
                ]);
                benchmark.args(["-P", &pipeline.to_string(), "-n", &requests.to_string()]);
                assert!(benchmark.output().unwrap().status.success());
                costs.push((cpu_micros(&proxy) - before) / f64::from(requests));
            }
            costs.sort_by(f64::total_cmp);
            println!(
                "pipeline {pipeline:2} {command}: {:.2} µs of CPU per request (of 3: {costs:.2?})",
                costs[1]
            );
        }
    }
}

/// User and system time so far.
fn cpu_micros(proxy: &Proxy) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", proxy.process.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) * 10_000.0
}
