//! What waits for all clients together takes bounded memory.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::support::backend::Backend;
use crate::support::eventually;
use crate::support::proxy::{Proxy, Setup, key_at, slots_over};
use crate::support::wire::{Wire, request};

const MB: usize = 1 << 20;
/// What may wait in the proxy.
const MEMORY: &str = "proxy_max_memory = \"32mb\"";
/// The most that the process may have then: what it has without clients, and what the allocator loses, come on top.
const PEAK: u64 = 80 << 20;

async fn serving(servers: usize) -> (Vec<Backend>, Proxy) {
    serving_with(servers, Setup::default()).await
}

async fn serving_with(servers: usize, setup: Setup<'_>) -> (Vec<Backend>, Proxy) {
    let backends = Backend::several(servers).await;
    let setup = Setup {
        toml: MEMORY,
        flags: &["--ncpu=1"],
        ..setup
    };
    let proxy = Proxy::serving_with(slots_over(&Backend::addrs(&backends), 1), setup).await;
    (backends, proxy)
}

async fn closed_for_memory(proxy: &Proxy) -> u64 {
    let metrics = proxy.get("/metrics").await.1;
    let count = metrics
        .lines()
        .find_map(|line| line.strip_prefix("codis_proxy_clients_closed_for_memory_total "));
    count.unwrap().parse().unwrap()
}

/// Asks for a value again and again, and takes nothing.
async fn never_reads(port: u16, key: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    // What the system keeps for it is not the proxy's.
    socket.set_recv_buffer_size(1 << 16).unwrap();
    let mut client = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
    client.write_all(&request(&["GET", key]).repeat(50)).await.unwrap();
    client
}

#[tokio::test]
async fn clients_that_never_read_are_closed_before_those_that_do() {
    let (_backends, proxy) = serving(1).await;
    let value = "v".repeat(500_000);
    let mut reader = proxy.wire().await;
    reader.send(request(&["SET", "big", &value])).await;
    assert_eq!(reader.reply().await, "+OK");
    let mut deaf = Vec::new();
    while closed_for_memory(&proxy).await < 100 {
        for _ in 0..10 {
            deaf.push(never_reads(proxy.port, "big").await);
        }
        // More of it at once than any of them holds.
        reader.send(request(&["GET", "big"]).repeat(20)).await;
        for _ in 0..20 {
            assert!(reader.reply().await == format!("${value}"));
        }
    }
    let peak = proxy.process.peak_bytes();
    println!("{} clients that never read; peak {} KiB", deaf.len(), peak >> 10);
    assert!(peak < PEAK, "{peak}");
}

#[tokio::test]
async fn message_for_many_takes_no_more_memory_than_there_is() {
    let (backends, proxy) = serving(1).await;
    let mut deaf = Vec::new();
    for _ in 0..50 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1 << 16).unwrap();
        let mut client = socket.connect(([127, 0, 0, 1], proxy.port).into()).await.unwrap();
        client.write_all(&request(&["SUBSCRIBE", "a"])).await.unwrap();
        client.readable().await.unwrap();
        deaf.push(client);
    }
    let mut publisher = backends[0].wire().await;
    publisher.send(request(&["PUBLISH", "a", &"x".repeat(10 * MB)])).await;
    assert_eq!(publisher.reply().await, ":1");
    eventually("most are closed", Duration::from_secs(10), async || {
        (closed_for_memory(&proxy).await >= 40).then_some(())
    })
    .await;
    let peak = proxy.process.peak_bytes();
    println!("peak {} KiB", peak >> 10);
    assert!(peak < PEAK, "{peak}");
}

#[tokio::test]
async fn long_message_leaves_no_memory_behind() {
    let setup = Setup {
        // What the proxy gives back, glibc gives back to the system, where it can be seen.
        variables: &[("MALLOC_MMAP_THRESHOLD_", "1048576")],
        ..Setup::default()
    };
    let (backends, proxy) = serving_with(1, setup).await;
    let (mut subscriber, mut publisher) = (proxy.wire().await, backends[0].wire().await);
    subscriber.call("SUBSCRIBE a").await;
    // There is room for it in the buffer that it comes into, and once more for its subscriber.
    let before = proxy.process.resident_bytes();
    publisher.send(request(&["PUBLISH", "a", &"x".repeat(12 * MB)])).await;
    assert!(subscriber.reply().await.len() > 12 * MB);
    eventually("it is given back", Duration::from_secs(10), async || {
        (proxy.process.resident_bytes() < before + 8 * MB as u64).then_some(())
    })
    .await;
}

#[tokio::test]
async fn requests_that_are_kept_until_they_are_whole_are_bounded_too() {
    let (_backends, proxy) = serving(2).await;
    let mut other = proxy.wire().await;
    let (one, another) = (key_at(0, 2), key_at(1, 2));
    let mut whole = request(&["MSET", &one, &"v".repeat(10 * MB), &another, "1"]);
    let last = whole.split_off(whole.len() - 4);
    let mut waiting: Vec<Wire> = Vec::new();
    for _ in 0..10 {
        let mut wire = proxy.wire().await;
        wire.try_send(&whole).await;
        waiting.push(wire);
        assert_eq!(other.call("SET k 1").await, "+OK");
    }
    eventually("there is room again", Duration::from_secs(10), async || {
        (closed_for_memory(&proxy).await >= 7).then_some(())
    })
    .await;
    let mut taken = 0;
    for wire in &mut waiting {
        let sent = wire.try_send(&last).await;
        if sent && wire.try_reply().await.is_some_and(|reply| reply == "+OK") {
            taken += 1;
        }
    }
    let peak = proxy.process.peak_bytes();
    println!("{taken} of 10 requests of 10 MB each taken; peak {} KiB", peak >> 10);
    assert!(taken > 0 && peak < PEAK, "{taken} {peak}");
}

#[tokio::test]
async fn long_replies_that_have_to_be_whole_fail_when_memory_is_short() {
    let (backends, proxy) = serving(2).await;
    let (one, another) = (key_at(0, 2), key_at(1, 2));
    let value = "v".repeat(60 * MB);
    backends[0].wire().await.call(&format!("SET {one} {value}")).await;
    let mut wire = proxy.wire().await;
    let reply = wire.call(&format!("MGET {one} {another}")).await;
    assert!(
        reply.starts_with("-ERR handle response, the reply is too long"),
        "{reply:.80}"
    );
    // Over a connection of the client's own.
    for command in [&format!("WATCH {one}"), "MULTI", &format!("GET {one}")] {
        wire.call(command).await;
    }
    let reply = wire.call("EXEC").await;
    assert!(
        reply.starts_with("-ERR handle response, there is no memory"),
        "{reply:.80}"
    );
    // What is passed on as it comes needs none.
    assert!(wire.call(&format!("GET {one}")).await == format!("${value}"));
    let peak = proxy.process.peak_bytes();
    println!("peak {} KiB", peak >> 10);
    assert!(peak < 2 * PEAK, "{peak}");
}
