//! Requests and replies that are too long to be kept.

use std::time::{Duration, Instant};

use codis_operator::model::Slot;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::backend::Backend;
use crate::support::eventually;
use crate::support::proxy::{Proxy, Setup, slot_of, slots_over};
use crate::support::wire::{Wire, request};

const MB: usize = 1 << 20;

async fn serving(toml: &str) -> (Backend, Proxy) {
    let backend = Backend::start().await;
    let setup = Setup {
        toml,
        // All clients share one connection to the server.
        flags: &["--ncpu=1"],
        ..Setup::default()
    };
    let proxy = Proxy::serving_with(slots_over(&[backend.addr()], 1), setup).await;
    (backend, proxy)
}

/// What value number `seed` has in the MiB that begins at `at`.
fn piece(seed: usize, at: usize) -> Vec<u8> {
    let first = (seed * 31 + at / MB) as u8;
    let mut piece = vec![first; MB];
    piece[..8].copy_from_slice(&at.to_be_bytes());
    piece
}

/// Sets value number `seed`, reads it again and compares, never having more than a MiB of it.
async fn set_and_get(port: u16, seed: usize, len: usize) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let key = format!("big{seed}");
    let head = format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${len}\r\n", key.len());
    socket.write_all(head.as_bytes()).await.unwrap();
    for at in (0..len).step_by(MB) {
        socket.write_all(&piece(seed, at)).await.unwrap();
    }
    let get = [b"\r\n".to_vec(), request(&["GET", &key]), request(&["PING"])].concat();
    socket.write_all(&get).await.unwrap();
    let mut head = vec![0; format!("+OK\r\n${len}\r\n").len()];
    socket.read_exact(&mut head).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&head), format!("+OK\r\n${len}\r\n"));
    let mut got = vec![0; MB];
    for at in (0..len).step_by(MB) {
        socket.read_exact(&mut got).await.unwrap();
        assert!(got == piece(seed, at), "the MiB at {at}");
    }
    let mut end = [0; 9];
    socket.read_exact(&mut end).await.unwrap();
    assert_eq!(&end, b"\r\n+PONG\r\n");
}

/// The beginning of a `SET` of so many bytes, half of them there.
fn half_of_a_set(key: &str, len: usize) -> Vec<u8> {
    let mut half = request(&["SET", key, &"v".repeat(len)]);
    half.truncate(half.len() - len / 2);
    half
}

fn rest_of_a_set(len: usize) -> Vec<u8> {
    [vec![b'v'; len / 2 - 2], b"\r\n".to_vec()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn largest_value_passes_in_bounded_memory() {
    let (_backend, proxy) = serving("").await;
    let began = Instant::now();
    set_and_get(proxy.port, 0, 512 * MB).await;
    let (took, alone) = (began.elapsed(), proxy.process.peak_bytes());
    proxy.wire().await.call("DEL big0").await;
    let several = (1..5).map(|seed| tokio::spawn(set_and_get(proxy.port, seed, 128 * MB)));
    for one in several {
        one.await.unwrap();
    }
    let together = proxy.process.peak_bytes();
    println!(
        "512 MB there and back in {took:?}; peak {} KiB, with four of 128 MB at once {} KiB",
        alone >> 10,
        together >> 10
    );
    assert!(alone < 48 << 20 && together < 64 << 20, "{alone} {together}");
}

#[tokio::test]
async fn long_requests_of_every_form_are_answered_in_order_and_right() {
    let (_backend, proxy) = serving("session_stream_threshold = \"64kb\"").await;
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut wire = proxy.wire().await;
        wire.call(hello).await;
        let big = "b".repeat(3 * MB);
        let long_script = format!("return ARGV[1] -- {big}");
        let calls: [(&[&str], &str); 24] = [
            (&["SET", "a", "1"], "+OK"),
            (&["SET", "{k}", &big], "+OK"),
            (&["INCR", "a"], ":2"),
            (&["STRLEN", "{k}"], ":3145728"),
            (&["GET", "{k}"], &format!("${big}")),
            (&["GET", "a"], "$2"),
            (&["SET", "{k}", "x", "GET"], &format!("${big}")),
            (&["SET", "{k}", &big, "GET", "EX", "100"], "$x"),
            (&["SET", "{k}", &big, "GET"], &format!("${big}")),
            (&["APPEND", "{k}", &big], ":6291456"),
            (&["SETRANGE", "{k}", "1", &big], ":6291456"),
            (&["DEL", "{k}", "h", "l"], ":1"),
            (&["HSET", "h", "f", &big, "g", "2"], ":2"),
            (&["HGET", "h", "g"], "$2"),
            (&["RPUSH", "l", &big, "x", &big, "y"], ":4"),
            (&["LRANGE", "l", "0", "-1"], &format!("*[${big} $x ${big} $y]")),
            (&["MSET", "m", &big], "+OK"),
            (&["MSET", "m", &big, "n", "1"], "+OK"),
            (&["MGET", "m", "n"], &format!("*[${big} $1]")),
            (
                &["EVAL", "return #ARGV[1] .. KEYS[1] .. ARGV[2]", "1", "{k}", &big, "z"],
                "$3145728{k}z",
            ),
            (&["EVAL", &long_script, "1", "{k}", "z"], "$z"),
            (&["SET", &big, "1"], "+OK"),
            (&["GET", &big], "$1"),
            (&["DEL", "a", "m", "n", "h", "l", &big], ":6"),
        ];
        let pipeline: Vec<u8> = calls.iter().flat_map(|(words, _)| request(words)).collect();
        let mut wire = wire.send_besides(pipeline);
        for (words, want) in calls {
            let got = wire.reply().await;
            let words: Vec<_> = words.iter().map(|word| &word[..word.len().min(20)]).collect();
            assert!(got == want, "{words:?}: {} {:.80}", got.len(), got);
        }
        wire.until_sent().await;
    }
}

#[tokio::test]
async fn long_replies_of_many_elements_come_as_the_server_sends_them() {
    let (backend, proxy) = serving("").await;
    let mut direct = backend.wire().await;
    let fill = "for n = 1, 60000 do redis.call('RPUSH', KEYS[1], string.rep('v', n % 300)) end return 1";
    direct.send(request(&["EVAL", fill, "1", "l"])).await;
    assert_eq!(direct.reply().await, ":1");
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut wire = proxy.wire().await;
        wire.call(hello).await;
        direct.call(hello).await;
        wire.send([request(&["LRANGE", "l", "0", "-1"]).repeat(3), request(&["LLEN", "l"])].concat())
            .await;
        let want = direct.call("LRANGE l 0 -1").await;
        for _ in 0..3 {
            assert!(wire.reply().await == want);
        }
        assert_eq!(wire.reply().await, ":60000");
    }
}

#[tokio::test]
async fn client_that_does_not_take_its_long_reply_holds_others_up_only_for_a_moment() {
    let (backend, proxy) = serving("session_max_output_size = \"8mb\"").await;
    backend
        .wire()
        .await
        .call(&format!("SET big {}", "v".repeat(64 * MB)))
        .await;
    let mut deaf = proxy.wire().await;
    deaf.send(request(&["GET", "big"])).await;
    let mut others = [proxy.wire().await, proxy.wire().await];
    let began = Instant::now();
    for n in 0..100 {
        for wire in &mut others {
            assert_eq!(wire.call(&format!("SET k {n}")).await, "+OK");
        }
    }
    let (took, peak) = (began.elapsed(), proxy.process.peak_bytes());
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(peak < 64 << 20, "{peak}");
    assert!(deaf.rest().await.len() < 64 * MB, "it is closed");
    // With nobody behind it, it may take its time.
    let mut slow = proxy.wire().await;
    slow.send(request(&["GET", "big"])).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(slow.reply().await.len(), 64 * MB + 1);
    assert_eq!(slow.call("GET k").await, "$99");
}

#[tokio::test]
async fn long_reply_whose_turn_has_not_come_waits_for_it() {
    let backends = Backend::several(2).await;
    let addrs: Vec<_> = backends.iter().map(Backend::addr).collect();
    let mut slots = slots_over(&addrs[..1], 1);
    let stopped = slot_of("first", &addrs[1], 1);
    let place = stopped.id.index();
    slots[place] = stopped;
    let proxy = Proxy::serving(slots).await;
    let value = "v".repeat(20 * MB);
    backends[0].wire().await.call(&format!("SET big {value}")).await;
    let mut wire = proxy.wire().await;
    wire.call("SET first 1").await;
    backends[1].process.signal("STOP");
    wire.send(
        [
            request(&["GET", "first"]),
            request(&["GET", "big"]),
            request(&["ECHO", "e"]),
        ]
        .concat(),
    )
    .await;
    proxy.took_up("echo").await;
    backends[1].process.signal("CONT");
    assert_eq!(wire.reply().await, "$1");
    assert!(wire.reply().await == format!("${value}"));
    assert_eq!(wire.reply().await, "$e");
}

#[tokio::test]
async fn what_is_published_does_not_come_in_the_middle_of_a_long_reply() {
    let (backend, proxy) = serving("").await;
    let (mut direct, mut other) = (backend.wire().await, proxy.wire().await);
    direct.call(&format!("SET big {}", "v".repeat(32 * MB))).await;
    let mut reader = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
    let asked = [
        request(&["HELLO", "3"]),
        request(&["SUBSCRIBE", "c"]),
        request(&["GET", "big"]),
    ];
    reader.write_all(&asked.concat()).await.unwrap();
    let head = format!("${}\r\n", 32 * MB);
    let mut got = Vec::new();
    while !got.ends_with(head.as_bytes()) {
        got.push(reader.read_u8().await.unwrap());
    }
    assert_eq!(other.call("PUBLISH c message").await, ":1");
    let mut value = vec![0; 32 * MB];
    reader.read_exact(&mut value).await.unwrap();
    assert!(value.iter().all(|byte| *byte == b'v'));
    let want = "\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$7\r\nmessage\r\n";
    let mut end = vec![0; want.len()];
    reader.read_exact(&mut end).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&end), want);
}

#[tokio::test]
async fn upload_that_stops_or_is_killed_half_way_leaves_no_trace_and_harms_nobody() {
    let (backend, proxy) = serving("session_recv_timeout = \"1s\"").await;
    let mut other = proxy.wire().await;
    let (mut stopped, mut killed) = (proxy.wire().await, proxy.wire().await);
    stopped.send(half_of_a_set("a", 8 * MB)).await;
    killed.send(half_of_a_set("b", 8 * MB)).await;
    for n in 0..100 {
        assert_eq!(other.call(&format!("SET k {n}")).await, "+OK");
    }
    drop(killed);
    let closed = async {
        assert!(stopped.is_closed().await, "whoever sends nothing for long is closed");
    };
    let busy = async {
        for n in 0..60 {
            assert_eq!(other.call(&format!("SET k {n}")).await, "+OK");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    tokio::join!(closed, busy);
    assert_eq!(backend.wire().await.call("EXISTS a b").await, ":0");
}

#[tokio::test]
async fn server_that_is_lost_half_way_fails_the_request_and_cuts_the_reply() {
    let (mut backend, proxy) = serving("").await;
    let mut wire = proxy.wire().await;
    wire.send(half_of_a_set("a", 32 * MB)).await;
    proxy.took_up("set").await;
    backend.process.kill();
    assert_eq!(wire.reply().await, "-ERR handle response, backend conn reset");
    wire.send(rest_of_a_set(32 * MB)).await;
    assert_eq!(wire.call("PING").await, "+PONG", "the rest was thrown away");
    backend.restart().await;
    eventually("the server is used again", Duration::from_secs(5), async || {
        (wire.call("EXISTS a").await == ":0").then_some(())
    })
    .await;
    wire.send(request(&["SET", "a", &"v".repeat(64 * MB)])).await;
    assert_eq!(wire.reply().await, "+OK");
    let mut reader = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
    reader.write_all(&request(&["GET", "a"])).await.unwrap();
    let mut got = vec![0; MB];
    reader.read_exact(&mut got).await.unwrap();
    backend.process.kill();
    let _ = reader.read_to_end(&mut got).await;
    assert!(got.len() < 64 * MB && got.ends_with(b"vvv"), "{}", got.len());
}

#[tokio::test]
async fn locked_slot_does_not_wait_for_an_upload() {
    let (backend, proxy) = serving("").await;
    let mut wire = proxy.wire().await;
    wire.send(half_of_a_set("a", 8 * MB)).await;
    proxy.took_up("set").await;
    let api = proxy.api().await;
    let lock = |locked, epoch| Slot {
        locked,
        ..slot_of("a", &backend.addr(), epoch)
    };
    api.fill_slots(&[lock(true, 2)]).await.unwrap();
    assert!(
        wire.reply()
            .await
            .starts_with("-ERR handle request, its slot was locked or moved")
    );
    wire.send([rest_of_a_set(8 * MB), request(&["PING"])].concat()).await;
    assert_eq!(wire.reply().await, "+PONG");
    // One that comes while the slot is locked waits.
    let whole = request(&["SET", "a", &"w".repeat(8 * MB)]);
    let mut wire = wire.send_besides(whole);
    assert_eq!(proxy.wire().await.call("SET other 1").await, "+OK");
    api.fill_slots(&[lock(false, 3)]).await.unwrap();
    assert_eq!(wire.reply().await, "+OK");
    wire.until_sent().await;
    assert_eq!(backend.wire().await.call("STRLEN a").await, ":8388608");
}

#[tokio::test]
async fn requests_that_are_too_long_or_malformed_half_way_are_refused_and_not_carried_out() {
    let (backend, proxy) = serving("session_max_request_size = \"4mb\"").await;
    let value = |len: usize| "v".repeat(len);
    let mut announced = request(&["SET", "a", &value(5 * MB)]);
    announced.truncate(100);
    let mut endless = request(&["RPUSH", "a", &value(2 * MB), &value(3 * MB)]);
    endless.truncate(4 * MB + 1);
    let mut malformed = request(&["RPUSH", "a", &value(2 * MB), "x"]);
    let end = 2 * MB + malformed.iter().position(|byte| *byte == b'v').unwrap();
    malformed[end] = b'!';
    for (bytes, want) in [
        (announced, "-ERR Protocol error: too big request\r\n"),
        (endless, "-ERR Protocol error: too big request\r\n"),
        (malformed, "-ERR Protocol error: expected CRLF after a bulk\r\n"),
    ] {
        let mut wire = proxy.wire().await;
        wire.try_send(&bytes).await;
        assert_eq!(wire.rest().await, want);
    }
    assert_eq!(backend.wire().await.call("EXISTS a").await, ":0");
}

#[tokio::test]
async fn refusal_of_a_long_request_is_shown_and_an_upload_ends_before_the_process_does() {
    let (backend, mut proxy) = serving("").await;
    let (mut direct, mut wire) = (backend.wire().await, proxy.wire().await);
    direct.call("REPLICAOF 127.0.0.1 1").await;
    wire.send(request(&["SET", "a", &"v".repeat(4 * MB)])).await;
    assert!(wire.reply().await.starts_with("-READONLY"));
    direct.call("REPLICAOF NO ONE").await;
    wire.send(half_of_a_set("a", 8 * MB)).await;
    proxy.took_up("set").await;
    proxy.process.signal("TERM");
    eventually("there are no new clients", Duration::from_secs(5), async || {
        Wire::try_connect(proxy.port).await.is_none().then_some(())
    })
    .await;
    wire.send([rest_of_a_set(8 * MB), request(&["PING"])].concat()).await;
    assert_eq!(wire.reply().await, "+OK");
    assert!(wire.is_closed().await, "nothing new begins");
    assert_eq!(proxy.process.exit_code(Duration::from_secs(5)).await, Some(0));
}

#[tokio::test]
async fn reply_that_has_to_be_kept_whole_may_be_no_longer_than_replies_may() {
    let (_backend, proxy) = serving("session_max_output_size = \"4mb\"").await;
    let mut wire = proxy.wire().await;
    let big = "b".repeat(3 * MB);
    wire.call(&format!("SET {{k}} {big}")).await;
    for call in ["WATCH {k}", "MULTI", "GET {k}", "GET {k}", "INCR {k}done"] {
        wire.call(call).await;
    }
    let reply = wire.call("EXEC").await;
    let too_long = "longer than session_max_output_size allows (4194304 bytes), though the request was carried out";
    assert!(reply.starts_with("-ERR") && reply.contains(too_long), "{reply:.200}");
    assert_eq!(wire.call("GET {k}done").await, "$1");
    for (element, fits) in [(big.repeat(2), false), (big, true)] {
        wire.call(&format!("RPUSH {{k}}list {element}")).await;
        let reply = wire.call("BLPOP {k}list 1").await;
        assert!(reply.contains(if fits { &element } else { too_long }), "{reply:.200}");
        assert_eq!(wire.call("LLEN {k}list").await, ":0");
    }
}
