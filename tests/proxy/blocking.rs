//! Commands that wait, through the proxy.

use std::time::{Duration, Instant};

use codis_operator::model::Slot;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::backend::Backend;
use crate::support::eventually;
use crate::support::proxy::{Proxy, cluster, slot_of, slots_over};
use crate::support::relay::Vanishing;
use crate::support::wire::{Wire, request};

#[tokio::test]
async fn commands_that_wait_answer_as_a_server_does() {
    let (backends, proxy) = cluster(1, "").await;
    for hello in ["HELLO 2", "HELLO 3"] {
        let (mut through, mut direct) = (proxy.wire().await, backends[0].wire().await);
        through.call(hello).await;
        direct.call(hello).await;
        for words in [
            "BLPOP {t}l 0.01",
            "BRPOP {t}l {t}m 0.01",
            "BLMOVE {t}l {t}m LEFT RIGHT 0.01",
            "BRPOPLPUSH {t}l {t}m 0.01",
            "BLMPOP 0.01 1 {t}l LEFT",
            "BZPOPMIN {t}z 0.01",
            "BZPOPMAX {t}z 0.01",
            "BZMPOP 0.01 1 {t}z MIN",
            "XREAD BLOCK 10 STREAMS {t}s $",
            "BLPOP {t}l -1",
            "BLPOP {t}l x",
            "BLMPOP x 1 {t}l LEFT",
            "XREAD BLOCK -1 STREAMS {t}s $",
            "BLPOP {t}l",
            "BLMPOP 0.01 0 LEFT",
        ] {
            assert_eq!(through.call(words).await, direct.call(words).await, "{hello}: {words}");
        }
        for (fill, words) in [
            ("RPUSH {t}l a b", "BLPOP {t}l 0"),
            ("RPUSH {t}l c", "BRPOP {t}m {t}l 1"),
            ("RPUSH {t}l c", "BLMOVE {t}l {t}m LEFT RIGHT 0"),
            ("RPUSH {t}l c", "BLMPOP 0 2 {t}x {t}l LEFT COUNT 2"),
            ("ZADD {t}z 1 a 2 b", "BZPOPMIN {t}z 0"),
            ("ZADD {t}z 1 a 2 b", "BZMPOP 0 1 {t}z MAX COUNT 2"),
            ("XADD {t}s 1-1 f v", "XREAD BLOCK 0 STREAMS {t}s 0"),
            (
                "XGROUP CREATE {t}s g 0 MKSTREAM;XADD {t}s 1-1 f v",
                "XREADGROUP GROUP g c BLOCK 0 STREAMS {t}s >",
            ),
        ] {
            let mut heard = Vec::new();
            for wire in [&mut through, &mut direct] {
                for words in fill.split(';') {
                    wire.call(words).await;
                }
                heard.push(wire.call(words).await);
                wire.call("DEL {t}l {t}m {t}z {t}s").await;
            }
            assert_eq!(heard[0], heard[1], "{hello}: {words}");
            assert!(
                !["*-", "_"].contains(&heard[0].as_str()) || words.ends_with("0.01"),
                "{hello}: {words}"
            );
        }
    }
    let mut wire = proxy.wire().await;
    for refused in ["WAIT 0 0", "WAITAOF 0 0 0"] {
        assert!(wire.call(refused).await.contains("is not allowed"), "{refused}");
    }
    assert_eq!(
        wire.call("BLPOP a b 0").await,
        "-CROSSSLOT Keys in request don't hash to the same slot"
    );
}

#[tokio::test]
async fn waiting_client_does_not_disturb_others_and_keeps_its_order() {
    let (backends, proxy) = cluster(1, "").await;
    let (mut waiting, mut other) = (proxy.wire().await, proxy.wire().await);
    let pipeline = ["SET {t}n 1", "BLPOP {t}l 0", "GET {t}n", "BLPOP {t}l 0", "INCR {t}n"];
    waiting.ask_all(&pipeline).await;
    assert_eq!(waiting.reply().await, "+OK");
    backends[0].has_blocked(1).await;
    assert_eq!(other.call("GET {t}n").await, "$1");
    assert_eq!(other.call("SET {t}n 7").await, "+OK");
    assert_eq!(other.call("RPUSH {t}l a").await, ":1");
    assert_eq!([waiting.reply().await, waiting.reply().await], ["*[${t}l $a]", "$7"]);
    backends[0].has_blocked(1).await;
    assert_eq!(other.call("GET {t}n").await, "$7");
    assert_eq!(other.call("RPUSH {t}l b").await, ":1");
    assert_eq!([waiting.reply().await, waiting.reply().await], ["*[${t}l $b]", ":8"]);
}

#[tokio::test]
async fn waiting_command_follows_its_slot_and_its_client_notices_nothing() {
    let (backends, proxy) = cluster(2, "").await;
    let api = proxy.api().await;
    let slot = |server: usize, epoch| slot_of("a", &backends[server].addr(), epoch);
    api.fill_slots(&[slot(0, 2)]).await.unwrap();
    let mut waiting = Vec::new();
    for words in ["BLPOP a 0", "BLMPOP 0 1 a LEFT", "BLPOP a 60"] {
        let mut wire = proxy.wire().await;
        wire.ask(words).await;
        waiting.push(wire);
    }
    backends[0].has_blocked(3).await;
    let began = Instant::now();
    api.fill_slots(&[Slot {
        locked: true,
        ..slot(0, 3)
    }])
    .await
    .unwrap();
    assert!(
        began.elapsed() < Duration::from_millis(500),
        "the lock was acknowledged late"
    );
    backends[0].has_blocked(0).await;
    assert_eq!(backends[0].wire().await.call("RPUSH a lost").await, ":1");
    api.fill_slots(&[slot(1, 4)]).await.unwrap();
    backends[1].has_blocked(3).await;
    assert_eq!(backends[1].wire().await.call("RPUSH a 1 2 3").await, ":3");
    let mut heard = Vec::new();
    for wire in &mut waiting {
        heard.push(wire.reply().await);
    }
    heard.sort();
    assert!(heard.iter().all(|reply| reply.starts_with("*[$a ")), "{heard:?}");
    for value in ["$1", "$2", "$3"] {
        assert!(heard.iter().any(|reply| reply.contains(value)), "{heard:?}");
    }
    assert_eq!(backends[0].wire().await.call("LRANGE a 0 -1").await, "*[$lost]");
}

#[tokio::test]
async fn reader_of_a_streams_end_misses_nothing_that_came_while_its_slot_was_locked() {
    let (backends, proxy) = cluster(1, "").await;
    let api = proxy.api().await;
    let slot = |epoch| slot_of("a", &backends[0].addr(), epoch);
    let mut server = backends[0].wire().await;
    server.call("XADD {a}s 1-1 f v").await;
    let mut epoch = 2;
    for (stream, first) in [("{a}s", "2-1"), ("{a}new", "1-1")] {
        let mut wire = proxy.wire().await;
        wire.ask(&format!("XREAD BLOCK 0 STREAMS {stream} {{a}}other $ $"))
            .await;
        backends[0].has_blocked(1).await;
        api.fill_slots(&[Slot {
            locked: true,
            ..slot(epoch)
        }])
        .await
        .unwrap();
        assert_eq!(
            server.call(&format!("XADD {stream} {first} f w")).await,
            format!("${first}")
        );
        api.fill_slots(&[slot(epoch + 1)]).await.unwrap();
        epoch += 2;
        assert_eq!(wire.reply().await, format!("*[*[${stream} *[*[${first} *[$f $w]]]]]"));
    }
}

#[tokio::test]
async fn time_of_a_command_that_moved_is_not_begun_anew() {
    let (backends, proxy) = cluster(2, "").await;
    let api = proxy.api().await;
    let slot = |server: usize, epoch| slot_of("a", &backends[server].addr(), epoch);
    api.fill_slots(&[slot(0, 2)]).await.unwrap();
    let mut wire = proxy.wire().await;
    let began = Instant::now();
    wire.ask("BLPOP a 1").await;
    backends[0].has_blocked(1).await;
    while began.elapsed() < Duration::from_millis(700) {
        tokio::task::yield_now().await;
    }
    api.fill_slots(&[slot(1, 3)]).await.unwrap();
    assert_eq!(wire.reply().await, "*-");
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(990) && took < Duration::from_millis(1650),
        "{took:?}"
    );
    // Its time is over while the slot is locked.
    wire.ask("BLPOP a 0.3").await;
    backends[1].has_blocked(1).await;
    api.fill_slots(&[Slot {
        locked: true,
        ..slot(1, 4)
    }])
    .await
    .unwrap();
    assert_eq!(wire.reply().await, "*-");
}

#[tokio::test]
async fn nothing_is_lost_while_the_map_changes_under_waiting_clients() {
    let (backends, proxy) = cluster(1, "").await;
    let api = proxy.api().await;
    let addr = backends[0].addr();
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let port = proxy.port;
            tokio::spawn(async move {
                let (mut wire, mut got) = (Wire::connect(port).await, Vec::new());
                loop {
                    let reply = wire.call("BLPOP {a}l 1").await;
                    match reply.strip_prefix("*[${a}l $") {
                        Some(value) => got.push(value.trim_end_matches(']').parse::<i64>().unwrap()),
                        None => return (reply, got),
                    }
                }
            })
        })
        .collect();
    let port = proxy.port;
    let writer = tokio::spawn(async move {
        let mut wire = Wire::connect(port).await;
        for number in 0..3000 {
            wire.call(&format!("RPUSH {{a}}l {number}")).await;
        }
    });
    let mut epoch = 2;
    while !writer.is_finished() {
        let slot = slot_of("a", &addr, epoch);
        api.fill_slots(&[Slot {
            locked: true,
            ..slot.clone()
        }])
        .await
        .unwrap();
        api.fill_slots(&[Slot {
            epoch: epoch + 1,
            ..slot
        }])
        .await
        .unwrap();
        epoch += 2;
    }
    writer.await.unwrap();
    let mut all = Vec::new();
    for reader in readers {
        let (last, got) = reader.await.unwrap();
        assert_eq!(last, "*-");
        all.extend(got);
    }
    all.sort_unstable();
    assert_eq!(all, (0..3000).collect::<Vec<_>>(), "after {epoch} epochs");
}

#[tokio::test]
async fn client_that_leaves_waits_no_more_at_the_server() {
    let (backends, proxy) = cluster(1, "").await;
    let mut leaving = proxy.wire().await;
    let mut half = proxy.wire().await;
    leaving.ask("BLPOP a 0").await;
    half.ask("BLPOP a 0").await;
    backends[0].has_blocked(2).await;
    drop(leaving);
    half.finish().await;
    backends[0].has_blocked(0).await;
    assert_eq!(
        half.rest().await,
        "*-1\r\n",
        "whoever only ended its sending half is answered"
    );
    let mut wire = proxy.wire().await;
    assert_eq!(wire.call("RPUSH a 1").await, ":1");
    assert_eq!(wire.call("LLEN a").await, ":1");
}

#[tokio::test]
async fn killed_server_fails_what_waits_there() {
    let (mut backends, proxy) = cluster(1, "").await;
    let mut wire = proxy.wire().await;
    wire.ask("BLPOP a 0").await;
    backends[0].has_blocked(1).await;
    backends[0].restart().await;
    assert_eq!(wire.reply().await, "-ERR handle response, backend conn reset");
    eventually("the proxy is connected again", Duration::from_secs(10), async || {
        (wire.call("RPUSH a 1").await == ":1").then_some(())
    })
    .await;
    assert_eq!(wire.call("BLPOP a 0").await, "*[$a $1]");
}

#[tokio::test]
async fn server_that_vanished_fails_what_waits_there() {
    let backend = Backend::start().await;
    let way = Vanishing::before(backend.addr()).await;
    let proxy = Proxy::serving(slots_over(std::slice::from_ref(&way.addr), 1)).await;
    let mut wire = proxy.wire().await;
    wire.ask("BLPOP a 0").await;
    backend.has_blocked(1).await;
    way.silence();
    assert_eq!(wire.reply().await, "-ERR handle response, backend conn reset");
    eventually("the proxy is connected again", Duration::from_secs(10), async || {
        (wire.call("SET b 1").await == "+OK").then_some(())
    })
    .await;
    // It may have been carried out, so that it is not done again.
    backend.has_blocked(1).await;
}

#[tokio::test]
async fn server_to_which_no_way_leads_any_more_fails_what_waits_there() {
    let backend = Backend::start().await;
    let mut way = Vanishing::before(backend.addr()).await;
    let proxy = Proxy::serving(slots_over(std::slice::from_ref(&way.addr), 1)).await;
    let mut wire = proxy.wire().await;
    wire.ask("BLPOP a 0").await;
    backend.has_blocked(1).await;
    way.refuse().await;
    let mut server = backend.wire().await;
    let clients = server.call("CLIENT LIST").await;
    for line in clients.lines().filter(|line| !line.contains(" flags=b ")) {
        let id = line.trim_start_matches('$').split([' ', '=']).nth(1).unwrap();
        server.call(&format!("CLIENT KILL ID {id} SKIPME yes")).await;
    }
    assert_eq!(wire.reply().await, "-ERR handle response, backend conn reset");
}

#[tokio::test]
async fn client_that_leaves_much_unread_behind_waits_no_more_at_the_server() {
    let (backends, proxy) = cluster(1, "").await;
    let pipeline = [request(&["BLPOP", "a", "0"]), request(&["SET", "b", "1"]).repeat(6_000)].concat();
    for resets in [false, true] {
        let mut leaving = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        leaving.write_all(&pipeline).await.unwrap();
        backends[0].has_blocked(1).await;
        if resets {
            leaving.set_zero_linger().unwrap();
        }
        drop(leaving);
        backends[0].has_blocked(0).await;
    }
    let mut wire = proxy.wire().await;
    assert_eq!(wire.call("RPUSH a 1").await, ":1");
    assert_eq!(wire.call("LLEN a").await, ":1");
    assert_eq!(
        wire.call("EXISTS b").await,
        ":0",
        "what waited behind it is not carried out"
    );
}

#[tokio::test]
async fn hung_server_holds_up_no_change_of_the_map() {
    let (backends, proxy) = cluster(2, "").await;
    let api = proxy.api().await;
    let slot = |server: usize, epoch| slot_of("a", &backends[server].addr(), epoch);
    api.fill_slots(&[slot(0, 2)]).await.unwrap();
    let mut wire = proxy.wire().await;
    wire.ask("BLPOP a 0").await;
    backends[0].has_blocked(1).await;
    backends[0].process.signal("STOP");
    api.fill_slots(&[slot(1, 3)]).await.unwrap();
    // Whether it gave something away before it hung nobody knows.
    assert_eq!(wire.reply().await, "-ERR handle response, backend conn reset");
    assert_eq!(wire.call("RPUSH a 1").await, ":1");
    backends[0].process.signal("CONT");
}

#[tokio::test]
async fn proxy_that_ends_lets_waiting_clients_go() {
    let (backends, mut proxy) = cluster(1, "").await;
    let mut wire = proxy.wire().await;
    wire.ask("BLPOP a 0").await;
    backends[0].has_blocked(1).await;
    proxy.process.signal("TERM");
    assert_eq!(wire.rest().await, "*-1\r\n");
    assert_eq!(proxy.process.exit_code(Duration::from_secs(10)).await, Some(0));
}

#[tokio::test]
async fn failover_is_not_shown_to_those_who_wait() {
    let (backends, proxy) = cluster(2, "repeat_timeout = \"60s\"").await;
    let api = proxy.api().await;
    let slot = |server: usize, epoch| slot_of("a", &backends[server].addr(), epoch);
    api.fill_slots(&[slot(0, 2)]).await.unwrap();
    let mut wires = [proxy.wire().await, proxy.wire().await];
    wires[0].ask("BLPOP a 0").await;
    backends[0].has_blocked(1).await;
    let mut former = backends[0].wire().await;
    assert_eq!(former.call("REPLICAOF 127.0.0.1 1").await, "+OK");
    wires[1].ask("BLMOVE a {a}b LEFT RIGHT 0").await;
    eventually("both are refused there", Duration::from_secs(10), async || {
        let errors = former.call("INFO errorstats").await;
        let line = errors
            .lines()
            .find_map(|line| line.strip_prefix("errorstat_READONLY:count="));
        (line?.trim().parse::<u64>().ok()? >= 3).then_some(())
    })
    .await;
    api.fill_slots(&[slot(1, 3)]).await.unwrap();
    backends[1].has_blocked(2).await;
    assert_eq!(backends[1].wire().await.call("RPUSH a 1 2").await, ":2");
    let mut heard = [wires[0].reply().await, wires[1].reply().await];
    heard
        .iter_mut()
        .for_each(|reply| reply.retain(|sign| "12".contains(sign)));
    heard.sort();
    assert_eq!(heard, ["1", "2"]);
}

#[tokio::test]
async fn wake_that_comes_late_ends_no_later_wait() {
    let (backends, proxy) = cluster(1, "").await;
    let api = proxy.api().await;
    let (mut waiting, mut writer) = (proxy.wire().await, backends[0].wire().await);
    waiting.ask("BLPOP a 0").await;
    let mut epoch = 2;
    for number in 0..100 {
        // The server is asked to let it go while it already has something to give.
        let locked = [Slot {
            locked: true,
            ..slot_of("a", &backends[0].addr(), epoch)
        }];
        let (pushed, length) = tokio::join!(api.fill_slots(&locked), async {
            writer.call(&format!("RPUSH a {number}")).await
        });
        pushed.unwrap();
        assert!(length == ":1", "{length}");
        api.fill_slots(&[slot_of("a", &backends[0].addr(), epoch + 1)])
            .await
            .unwrap();
        epoch += 2;
        assert_eq!(waiting.reply().await, format!("*[$a ${number}]"));
        waiting.ask("BLPOP a 0").await;
    }
}
