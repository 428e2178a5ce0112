//! What a request costs in allocations once everything is warm: nothing. A binary of its own: the allocator counts for the
//! whole process, in which the proxy runs here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed expectation is a failed test"
)]

#[path = "support/mod.rs"]
mod support;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use codis_operator::proxy::{self, Config, LogLevel, Options, Source};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::support::backend::Backend;
use crate::support::proxy::{key_at, slots_over};
use crate::support::wire::{Wire, request};
use crate::support::{eventually, free_port};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const VALUE: usize = 256;
/// How often each batch is sent to see what it costs.
const FEW: usize = 1_000;
const MANY: usize = 10 * FEW;

/// A client with nothing of its own: one batch of requests, and the length of its replies.
struct Batch {
    name: &'static str,
    stream: TcpStream,
    requests: Vec<u8>,
    replies: Vec<u8>,
}

impl Batch {
    fn new(name: &'static str, port: u16, requests: &[(&[&str], usize)]) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self {
            name,
            stream,
            requests: requests.iter().flat_map(|(words, _)| request(words)).collect(),
            replies: vec![0; requests.iter().map(|(_, reply)| reply).sum()],
        }
    }

    /// How many allocations there were in the process while the batch was sent and answered so often.
    fn allocations(&mut self, times: usize) -> usize {
        let region = Region::new(&INSTRUMENTED_SYSTEM);
        for _ in 0..times {
            self.stream.write_all(&self.requests).unwrap();
            self.stream.read_exact(&mut self.replies).unwrap();
            assert_ne!(self.replies[0], b'-');
        }
        let change = region.change();
        change.allocations + change.reallocations
    }
}

/// Serves these servers' slots from this process, at this port.
fn serve(backends: &[Backend], port: u16) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slots.json");
    let slots = slots_over(&Backend::addrs(backends), 1);
    std::fs::write(&file, serde_json::to_vec(&slots).unwrap()).unwrap();
    let toml = format!(
        "product_name = \"test\"\nadmin_addr = \"127.0.0.1:{}\"\nproxy_addr = \"127.0.0.1:{port}\"",
        free_port()
    );
    let config = Config::parse(&toml).unwrap();
    let options = Options {
        workers: 1,
        host_admin: None,
        host_proxy: None,
        source: Source::File(file),
    };
    let log = proxy::start_log(None, "ERROR".parse::<LogLevel>().unwrap()).unwrap();
    // It ends with the process.
    std::thread::spawn(move || proxy::run(config, options, log));
    folder
}

#[tokio::test]
async fn requests_allocate_nothing_once_everything_is_warm() {
    let backends = Backend::several(2).await;
    let port = free_port();
    let _folder = serve(&backends, port);
    let keys = [key_at(0, 2), key_at(1, 2)];
    let value = "v".repeat(VALUE);
    eventually("the proxy serves both servers", Duration::from_secs(20), async || {
        let mut wire = Wire::try_connect(port).await?;
        for key in &keys {
            wire.send(request(&["SET", key, &value])).await;
            (wire.try_reply().await? == "+OK").then_some(())?;
        }
        Some(())
    })
    .await;
    let ok = "+OK\r\n".len();
    let bulk = format!("${VALUE}\r\n{value}\r\n").len();
    let [get, other_get] = [&keys[0], &keys[1]].map(|key| ["GET", key.as_str()]);
    let [set, other_set] = [&keys[0], &keys[1]].map(|key| ["SET", key.as_str(), value.as_str()]);
    let one_server = [(get.as_slice(), bulk), (set.as_slice(), ok)];
    let both = [
        (get.as_slice(), bulk),
        (other_set.as_slice(), ok),
        (set.as_slice(), ok),
        (other_get.as_slice(), bulk),
    ];
    let mut batches = [
        Batch::new("GET", port, &one_server[..1]),
        Batch::new("SET", port, &one_server[1..]),
        Batch::new("50 x GET", port, &one_server[..1].repeat(50)),
        Batch::new("50 x SET", port, &one_server[1..].repeat(50)),
        Batch::new("48 of both at two servers", port, &both.repeat(12)),
    ];
    for batch in &mut batches {
        batch.allocations(FEW);
        let (few, many) = (batch.allocations(FEW), batch.allocations(MANY));
        println!("{}: {few} allocations in {FEW} batches, {many} in {MANY}", batch.name);
        // The rest of the process looks at itself once a second.
        assert!(many < few + (MANY - FEW) / 50, "{}: {few}, then {many}", batch.name);
    }
    // What has to be merged does allocate: it would be seen.
    let mget = ["MGET", &keys[0], &keys[1]];
    let merged = format!("*2\r\n${VALUE}\r\n{value}\r\n${VALUE}\r\n{value}\r\n").len();
    let seen = Batch::new("MGET", port, &[(&mget, merged)]).allocations(FEW);
    assert!(seen >= FEW, "{seen}");
}
