//! Requests that are held back, and those that are sent again because no server looked at them.

use std::time::{Duration, Instant};

use codis_operator::model::Slot;

use crate::support::backend::Backend;
use crate::support::eventually;
use crate::support::proxy::{Proxy, Setup, cluster, key_at, slot_of, slots_over};
use crate::support::valkey::Valkey;
use crate::support::wire::request;

const SHORT_OF_REPLICAS: &str = "-NOREPLICAS Not enough good replicas to write.";
const TOO_MANY: &str = "-ERR handle request, too many requests are held back";
const LOST: &str = "-ERR handle response, backend conn reset";

async fn fence(backend: &Backend, replicas: u8) {
    let mut wire = backend.wire().await;
    let reply = wire.call(&format!("CONFIG SET min-replicas-to-write {replicas}")).await;
    assert_eq!(reply, "+OK");
}

#[tokio::test]
async fn write_while_a_lost_replica_still_fences_the_primary_is_invisible() {
    let primary = Valkey::with_arguments("", &["--min-replicas-to-write", "1", "--min-replicas-max-lag", "2"]).await;
    let port = primary.port().to_string();
    let mut replica = Valkey::with_arguments("", &["--replicaof", "127.0.0.1", &port]).await;
    let proxy = Proxy::serving(slots_over(&[primary.addr()], 1)).await;
    let mut wire = proxy.wire().await;
    eventually("the replica is there", Duration::from_secs(20), async || {
        (wire.call("SET a 1").await == "+OK").then_some(())
    })
    .await;
    replica.kill();
    eventually("the primary refuses writes", Duration::from_secs(5), async || {
        primary.try_run::<String>(&["SET", "other", "1"]).await.err()
    })
    .await;
    let began = Instant::now();
    wire.send(request(&["SET", "a", "2"])).await;
    let lift = async {
        // As long as a dashboard takes to see that the replica is gone.
        tokio::time::sleep(Duration::from_secs(1)).await;
        primary
            .run::<String>(&["CONFIG", "SET", "min-replicas-to-write", "0"])
            .await;
    };
    let (reply, _) = tokio::join!(wire.reply(), lift);
    assert_eq!(reply, "+OK");
    assert!(began.elapsed() < Duration::from_millis(1900), "{:?}", began.elapsed());
    assert_eq!(wire.call("GET a").await, "$2");
    let stats = proxy.api().await.stats().await.unwrap();
    assert_eq!(stats.ops.fails, 0);
}

#[tokio::test]
async fn refusal_that_lasts_is_shown_in_the_end() {
    let (backends, proxy) = cluster(1, "repeat_timeout = \"500ms\"").await;
    fence(&backends[0], 1).await;
    let mut wire = proxy.wire().await;
    let began = Instant::now();
    assert_eq!(wire.call("SET a 1").await, SHORT_OF_REPLICAS);
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(450) && took < Duration::from_millis(1500),
        "{took:?}"
    );
    assert_eq!(wire.call("GET a").await, "$-", "reads go on, and nothing came of it");
}

#[tokio::test]
async fn pipeline_of_refused_writes_is_carried_out_in_its_order() {
    let backends = Backend::several(2).await;
    let proxy = Proxy::serving(slots_over(&Backend::addrs(&backends), 1)).await;
    for backend in &backends {
        fence(backend, 1).await;
    }
    let keys = [key_at(0, 2), key_at(1, 2)];
    let mut wire = proxy.wire().await;
    // From then on the proxy knows that many replies may be due to this client: they are small.
    let ask = format!("EXISTS {}", keys[0]);
    wire.pipeline(&vec![ask.as_str(); 200]).await;
    let batch: Vec<u8> = (0..200).flat_map(|n| request(&["APPEND", &keys[n % 2], "x"])).collect();
    wire.send(batch).await;
    eventually("they are refused", Duration::from_secs(2), async || {
        (backends[1].errors().await >= 100).then_some(())
    })
    .await;
    for backend in &backends {
        fence(backend, 0).await;
    }
    for n in 0..200 {
        assert_eq!(wire.reply().await, format!(":{}", n / 2 + 1), "request {n}");
    }
}

#[tokio::test]
async fn refused_write_before_a_read_that_was_carried_out_is_shown() {
    let backends = Backend::several(2).await;
    let proxy = Proxy::serving(slots_over(&Backend::addrs(&backends), 1)).await;
    let (fenced, free) = (key_at(0, 2), key_at(1, 2));
    fence(&backends[0], 1).await;
    let mut wire = proxy.wire().await;
    let began = Instant::now();
    wire.send(
        [
            request(&["SET", &fenced, "1"]),
            request(&["SET", &free, "1"]),
            request(&["GET", &fenced]),
        ]
        .concat(),
    )
    .await;
    assert_eq!(
        wire.reply().await,
        SHORT_OF_REPLICAS,
        "what the read saw was before the write"
    );
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!([wire.reply().await, wire.reply().await], ["+OK", "$-"]);
    // A read of another slot is no reason.
    wire.send([request(&["SET", &fenced, "2"]), request(&["GET", &free])].concat())
        .await;
    let before = backends[0].errors().await;
    eventually("it is sent again", Duration::from_secs(2), async || {
        (backends[0].errors().await > before).then_some(())
    })
    .await;
    fence(&backends[0], 0).await;
    assert_eq!([wire.reply().await, wire.reply().await], ["+OK", "$1"]);
}

#[tokio::test]
async fn refused_part_of_a_split_request_is_sent_again() {
    let backends = Backend::several(2).await;
    let proxy = Proxy::serving(slots_over(&Backend::addrs(&backends), 1)).await;
    let (fenced, free) = (key_at(0, 2), key_at(1, 2));
    fence(&backends[0], 1).await;
    let mut wire = proxy.wire().await;
    let mset = request(&["MSET", &fenced, "1", &free, "1"]);
    wire.send([mset, request(&["MGET", &free, &fenced])].concat()).await;
    assert_eq!(
        wire.reply().await,
        SHORT_OF_REPLICAS,
        "the part of the read was carried out"
    );
    assert_eq!(wire.reply().await, "*[$1 $-]");
    wire.send(request(&["MSET", &fenced, "2", &free, "2"])).await;
    let before = backends[0].errors().await;
    eventually("it is sent again", Duration::from_secs(2), async || {
        (backends[0].errors().await > before).then_some(())
    })
    .await;
    fence(&backends[0], 0).await;
    assert_eq!(wire.reply().await, "+OK");
    assert_eq!(wire.call(&format!("MGET {fenced} {free}")).await, "*[$2 $2]");
}

#[tokio::test]
async fn refused_requests_follow_their_slot_to_its_new_server() {
    let backends = Backend::several(2).await;
    let [one, two] = [backends[0].addr(), backends[1].addr()];
    let proxy = Proxy::serving(slots_over(std::slice::from_ref(&one), 1)).await;
    assert_eq!(backends[0].wire().await.call("REPLICAOF 127.0.0.1 1").await, "+OK");
    let mut wire = proxy.wire().await;
    wire.send([request(&["APPEND", "a", "1"]), request(&["APPEND", "a", "2"])].concat())
        .await;
    eventually("they are refused", Duration::from_secs(2), async || {
        (backends[0].errors().await >= 2).then_some(())
    })
    .await;
    let api = proxy.api().await;
    let locked = Slot {
        locked: true,
        ..slot_of("a", &one, 2)
    };
    api.fill_slots(&[locked])
        .await
        .expect("what was refused is not under way");
    api.fill_slots(&[slot_of("a", &two, 3)]).await.unwrap();
    assert_eq!([wire.reply().await, wire.reply().await], [":1", ":2"]);
    assert_eq!(backends[1].wire().await.call("GET a").await, "$12");
}

#[tokio::test]
async fn requests_that_were_never_sent_survive_the_loss_of_their_connection() {
    let mut backends = Backend::several(1).await;
    let setup = Setup {
        // The large request shares the connection with the others.
        toml: "backend_ping_period = \"0\"\nsession_stream_threshold = \"64mb\"",
        flags: &["--ncpu=1"],
        ..Setup::default()
    };
    let proxy = Proxy::serving_with(slots_over(&Backend::addrs(&backends), 1), setup).await;
    let (mut first, mut second) = (proxy.wire().await, proxy.wire().await);
    assert_eq!(first.call("SET a 0").await, "+OK");
    let script = "return redis.call('INCR', KEYS[1])";
    second.send(request(&["SCRIPT", "LOAD", script])).await;
    let name = second.reply().await;
    backends[0].process.signal("STOP");
    // More than the sockets' buffers take: a part of it stays here, and what follows stays whole.
    first.send(request(&["SET", "a", &"v".repeat(12 << 20)])).await;
    eventually("the large request is under way", Duration::from_secs(5), async || {
        let stats = proxy.api().await.stats().await.unwrap();
        (stats.servers[0].silent_ms > 0).then_some(())
    })
    .await;
    let before = proxy.api().await.stats().await.unwrap().ops.total;
    let increment = request(&["INCR", "b"]);
    let by_name = request(&["EVALSHA", name.strip_prefix('$').unwrap(), "1", "b"]);
    let requests = [
        increment.clone(),
        increment.clone(),
        request(&["EVAL", script, "1", "b"]),
        by_name.clone(),
        request(&["MULTI"]),
        increment,
        by_name,
        request(&["EXEC"]),
        request(&["PING"]),
    ];
    second.send(requests.concat()).await;
    // The proxy counts what it answers itself: the last one comes behind the others.
    eventually("the others are under way", Duration::from_secs(5), async || {
        let stats = proxy.api().await.stats().await.unwrap();
        (stats.ops.total >= before + 4).then_some(())
    })
    .await;
    backends[0].process.kill();
    assert_eq!(first.reply().await, LOST, "it may have been carried out");
    backends[0].restart().await;
    let replies = second.replies(9).await;
    let expected = [":1", ":2", ":3", ":4", "+OK", "+QUEUED", "+QUEUED", "*[:5 :6]", "+PONG"];
    assert_eq!(replies, expected);
}

#[tokio::test]
async fn transaction_that_a_fence_keeps_from_being_queued_is_carried_out_when_that_is_lifted() {
    let backends = Backend::several(1).await;
    let proxy = Proxy::serving(slots_over(&Backend::addrs(&backends), 1)).await;
    fence(&backends[0], 1).await;
    let mut wire = proxy.wire().await;
    wire.ask_all(&["MULTI", "INCR a", "GET a", "EXEC"]).await;
    assert_eq!(wire.replies(3).await, ["+OK", "+QUEUED", "+QUEUED"]);
    eventually("it is refused more than once", Duration::from_secs(2), async || {
        (backends[0].errors().await >= 4).then_some(())
    })
    .await;
    fence(&backends[0], 0).await;
    assert_eq!(wire.reply().await, "*[:1 $1]");
    // One that is wrong is not sent again.
    fence(&backends[0], 1).await;
    let began = Instant::now();
    wire.pipeline(&["MULTI", "INCR a", "OBJECT ENCODING"]).await;
    let aborted = "-EXECABORT Transaction discarded because of previous errors.";
    assert_eq!(wire.call("EXEC").await, aborted);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn script_that_was_refused_to_write_is_not_run_again() {
    let backends = Backend::several(1).await;
    let proxy = Proxy::serving(slots_over(&Backend::addrs(&backends), 1)).await;
    fence(&backends[0], 1).await;
    let mut wire = proxy.wire().await;
    let began = Instant::now();
    wire.send(request(&["EVAL", "return redis.call('SET', KEYS[1], 1)", "1", "a"]))
        .await;
    let reply = wire.reply().await;
    assert!(reply.contains("Not enough good replicas to write"), "{reply}");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn watched_transaction_that_a_fence_refuses_answers_nothing_so_that_its_client_begins_anew() {
    let (backends, proxy) = cluster(1, "repeat_timeout = \"1s\"").await;
    fence(&backends[0], 1).await;
    let mut wire = proxy.wire().await;
    let words = ["WATCH a", "MULTI", "INCR a", "EXEC"];
    let began = Instant::now();
    assert_eq!(wire.pipeline(&words).await, ["+OK", "+OK", "+QUEUED", "*-"]);
    fence(&backends[0], 0).await;
    assert_eq!(wire.pipeline(&words).await[3], "*[:1]");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // One that is wrong is no such case, and one that lasts is shown.
    let wrong = ["WATCH a", "MULTI", "OBJECT ENCODING", "EXEC"];
    let aborted = "-EXECABORT Transaction discarded because of previous errors.";
    assert_eq!(wire.pipeline(&wrong).await[3], aborted);
    fence(&backends[0], 1).await;
    let mut tries = 0;
    while wire.pipeline(&words).await[3] == "*-" {
        tries += 1;
    }
    assert_eq!(wire.pipeline(&words).await[3], aborted);
    assert!((1..=20).contains(&tries), "{tries}");
    fence(&backends[0], 0).await;
    assert_eq!(wire.pipeline(&words).await[3], "*[:2]");
}

#[tokio::test]
async fn refused_command_for_all_servers_is_sent_again_where_it_was_refused() {
    let (backends, proxy) = cluster(2, "session_allow_flush = true").await;
    let mut wire = proxy.wire().await;
    let keys = [key_at(0, 2), key_at(1, 2)];
    assert_eq!(wire.call(&format!("MSET {} 1 {} 1", keys[0], keys[1])).await, "+OK");
    fence(&backends[0], 1).await;
    let before = backends[0].errors().await;
    wire.ask("FLUSHALL").await;
    eventually("it is refused more than once", Duration::from_secs(2), async || {
        (backends[0].errors().await >= before + 2).then_some(())
    })
    .await;
    assert_eq!(backends[1].wire().await.call("DBSIZE").await, ":0");
    let flushes = backends[1].wire().await.call("INFO commandstats").await;
    assert!(flushes.contains("cmdstat_flushall:calls=1,"), "{flushes}");
    fence(&backends[0], 0).await;
    assert_eq!([wire.reply().await, wire.call("DBSIZE").await], ["+OK", ":0"]);
}

/// Shows no data, as a replica that has not heard of its primary yet.
async fn hide(backend: &Backend) {
    let mut wire = backend.wire().await;
    assert_eq!(wire.call("CONFIG SET replica-serve-stale-data no").await, "+OK");
    assert_eq!(wire.call("REPLICAOF 127.0.0.1 1").await, "+OK");
}

#[tokio::test]
async fn commands_for_all_servers_keep_their_place_among_refused_requests() {
    let (backends, proxy) = cluster(2, "").await;
    let (mut wire, key) = (proxy.wire().await, key_at(0, 2));
    hide(&backends[0]).await;
    let set = format!("SET {key} 1");
    wire.ask_all(&["DBSIZE", &set, "DBSIZE", "SCRIPT LOAD return{}", "SCAN 0", "RANDOMKEY"])
        .await;
    eventually("they are refused", Duration::from_secs(2), async || {
        (backends[0].errors().await >= 5).then_some(())
    })
    .await;
    assert_eq!(backends[0].wire().await.call("REPLICAOF NO ONE").await, "+OK");
    assert_eq!(wire.replies(3).await, [":0", "+OK", ":1"]);
    assert_eq!(wire.reply().await, "$8f0732537dcef5e06b4e8371446724937f2bc51f");
    assert!(wire.reply().await.contains(&key));
    assert_eq!(wire.reply().await, format!("${key}"));
}

#[tokio::test]
async fn refused_command_for_all_servers_follows_their_slots_and_holds_up_no_change_of_the_map() {
    let backends = Backend::several(3).await;
    let addrs = Backend::addrs(&backends);
    let proxy = Proxy::serving(slots_over(&addrs[..2], 1)).await;
    assert_eq!(backends[2].wire().await.call("SET a 1").await, "+OK");
    hide(&backends[0]).await;
    let mut wire = proxy.wire().await;
    wire.ask("DBSIZE").await;
    eventually("it is refused", Duration::from_secs(2), async || {
        (backends[0].errors().await >= 1).then_some(())
    })
    .await;
    let api = proxy.api().await;
    let mut locked = slots_over(&addrs[..2], 2);
    locked.iter_mut().for_each(|slot| slot.locked = true);
    api.fill_slots(&locked)
        .await
        .expect("what was refused is not under way");
    let promoted = slots_over(&[addrs[2].clone(), addrs[1].clone()], 3);
    api.fill_slots(&promoted).await.unwrap();
    assert_eq!(wire.reply().await, ":1");
}

#[tokio::test]
async fn refusal_of_a_command_for_all_servers_that_lasts_is_shown() {
    let (backends, proxy) = cluster(2, "repeat_timeout = \"300ms\"").await;
    hide(&backends[1]).await;
    let mut wire = proxy.wire().await;
    let reply = wire.call("DBSIZE").await;
    assert!(reply.starts_with("-MASTERDOWN "), "{reply}");
    assert_eq!(wire.call("PING").await, "+PONG");
}

const TOO_LONG: &str = "-ERR handle request, the slot was locked, or its server full, for too long";

#[tokio::test]
async fn requests_of_a_pipeline_on_a_locked_slot_wait_together_and_later_ones_anew() {
    let (backends, proxy) = cluster(1, "hold_timeout = \"1s\"").await;
    let locked = Slot {
        locked: true,
        ..slot_of("a", &backends[0].addr(), 2)
    };
    proxy.api().await.fill_slots(&[locked]).await.unwrap();
    let mut wire = proxy.wire().await;
    for _ in 0..2 {
        let began = Instant::now();
        let replies = wire
            .pipeline(&["GET a", "GET a", "PING", "GET a", "GET a", "GET a"])
            .await;
        let took = began.elapsed();
        assert_eq!(replies, [TOO_LONG, TOO_LONG, "+PONG", TOO_LONG, TOO_LONG, TOO_LONG]);
        assert!(
            took > Duration::from_millis(900) && took < Duration::from_secs(2),
            "{took:?}"
        );
    }
}

#[tokio::test]
async fn time_that_a_request_waits_for_earlier_replies_is_none_of_its_wait_for_its_slot() {
    let (backends, proxy) = cluster(2, "hold_timeout = \"1s\"\nbackend_ping_period = \"0\"").await;
    let (slow, held) = (key_at(0, 2), key_at(1, 2));
    let locked = Slot {
        locked: true,
        ..slot_of(&held, &backends[1].addr(), 2)
    };
    proxy.api().await.fill_slots(&[locked]).await.unwrap();
    let mut wire = proxy.wire().await;
    assert_eq!(wire.call(&format!("GET {slow}")).await, "$-");
    backends[0].process.signal("STOP");
    wire.ask_all(&[&format!("GET {slow}"), &format!("BLPOP {held} 0")])
        .await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    backends[0].process.signal("CONT");
    assert_eq!(wire.reply().await, "$-");
    let began = Instant::now();
    assert_eq!(wire.reply().await, TOO_LONG);
    assert!(began.elapsed() > Duration::from_millis(800), "{:?}", began.elapsed());
}

#[tokio::test]
async fn no_more_is_held_back_than_allowed() {
    let backends = Backend::several(1).await;
    let toml = "hold_max_requests = 2\nhold_max_bytes = \"512kb\"\nhold_timeout = \"1s\"";
    let setup = Setup {
        toml,
        flags: &["--ncpu=1"],
        ..Setup::default()
    };
    let proxy = Proxy::serving_with(slots_over(&Backend::addrs(&backends), 1), setup).await;
    let locked = Slot {
        locked: true,
        ..slot_of("a", &backends[0].addr(), 2)
    };
    proxy.api().await.fill_slots(&[locked]).await.unwrap();
    let mut wires = [proxy.wire().await, proxy.wire().await, proxy.wire().await];
    wires[0].send(request(&["SET", "a", &"v".repeat(768 << 10)])).await;
    assert_eq!(wires[0].reply().await, TOO_MANY, "too large");
    let began = Instant::now();
    wires[0].send(request(&["SET", "a", "1"])).await;
    wires[1].send(request(&["SET", "a", "1"])).await;
    // Whichever comes last is refused at once, the two others only when they waited too long.
    wires[2].send(request(&["SET", "a", "1"])).await;
    let mut replies = Vec::new();
    for wire in &mut wires {
        replies.push((wire.reply().await, began.elapsed()));
    }
    let refused = replies.iter().filter(|(reply, _)| reply == TOO_MANY).count();
    assert_eq!(refused, 1, "{replies:?}");
    let long = "-ERR handle request, the slot was locked, or its server full, for too long";
    assert_eq!(
        replies.iter().filter(|(reply, _)| reply == long).count(),
        2,
        "{replies:?}"
    );
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    proxy
        .api()
        .await
        .fill_slots(&[slot_of("a", &backends[0].addr(), 3)])
        .await
        .unwrap();
    for wire in &mut wires {
        assert_eq!(wire.call("GET a").await, "$-", "nothing of what failed was sent");
    }
}

/// A proxy of one core, over these servers, that holds one request back.
async fn holding_one(backends: &[Backend], toml: &str) -> Proxy {
    let toml = format!("hold_max_requests = 1\n{toml}");
    let setup = Setup {
        toml: &toml,
        flags: &["--ncpu=1"],
        ..Setup::default()
    };
    Proxy::serving_with(slots_over(&Backend::addrs(backends), 1), setup).await
}

/// Until one client's request is held back.
async fn one_is_held(proxy: &Proxy) {
    eventually("a request is held back", Duration::from_secs(5), async || {
        let (_, text) = proxy.get("/metrics").await;
        text.contains("\ncodis_proxy_held_clients 1\n").then_some(())
    })
    .await;
}

#[tokio::test]
async fn commands_of_every_kind_count_among_what_is_held_back() {
    let backends = Backend::several(1).await;
    let proxy = holding_one(&backends, "session_allow_flush = true").await;
    let mut wires = Vec::new();
    for queued in [
        &["EVAL return{} 1 a"] as &[_],
        &["MULTI", "GET a", "EXEC"],
        &["WATCH a"],
        &["BLPOP a 0"],
        &["XREAD BLOCK 0 STREAMS a $"],
        &["MSET a 1 b 1"],
        &["FLUSHALL"],
        &["FUNCTION FLUSH"],
    ] {
        let mut wire = proxy.wire().await;
        let (last, before) = queued.split_last().unwrap();
        wire.pipeline(before).await;
        wires.push((wire, *last));
    }
    let locked = Slot {
        locked: true,
        ..slot_of("a", &backends[0].addr(), 2)
    };
    proxy.api().await.fill_slots(&[locked]).await.unwrap();
    let mut first = proxy.wire().await;
    first.ask("GET a").await;
    one_is_held(&proxy).await;
    for (wire, words) in &mut wires {
        assert_eq!(wire.call(words).await, TOO_MANY, "{words}");
    }
    let open = slot_of("a", &backends[0].addr(), 3);
    proxy.api().await.fill_slots(&[open]).await.unwrap();
    assert_eq!(first.reply().await, "$-");
}

#[tokio::test]
async fn commands_for_all_servers_that_wait_for_a_lost_one_count_among_what_is_held_back() {
    let mut backends = Backend::several(1).await;
    let proxy = holding_one(&backends, "").await;
    for words in ["DBSIZE", "SCAN 0", "SCRIPT LOAD x", "PUBSUB CHANNELS"] {
        let mut wires = [proxy.wire().await, proxy.wire().await];
        eventually(
            "one of two is held, the other refused",
            Duration::from_secs(20),
            async || {
                backends[0].process.kill();
                wires[0].ask("GET a").await;
                wires[1].ask(words).await;
                // The one that is held is answered when the server is back, or stays away; its connection may not have been
                // known to be lost when they came.
                let replies = [wires[0].reply().await, wires[1].reply().await];
                backends[0].restart().await;
                wires[0].call("GET a").await;
                replies.iter().any(|reply| reply == TOO_MANY).then_some(())
            },
        )
        .await;
    }
}

#[tokio::test]
async fn request_that_waits_for_a_lost_server_goes_at_once_where_its_slot_goes() {
    let mut backends = Backend::several(2).await;
    let two = backends[1].addr();
    let proxy = holding_one(&backends[..1], "").await;
    let mut wire = proxy.wire().await;
    backends[0].process.kill();
    eventually("the server is lost", Duration::from_secs(5), async || {
        let stats = proxy.api().await.stats().await.unwrap();
        stats.servers.iter().all(|server| server.open == 0).then_some(())
    })
    .await;
    wire.ask("INCR a").await;
    one_is_held(&proxy).await;
    let began = Instant::now();
    // Its server keeps all other slots, so that its connection is looked after as before.
    proxy.api().await.fill_slots(&[slot_of("a", &two, 2)]).await.unwrap();
    assert_eq!(wire.reply().await, ":1");
    // Otherwise it would have waited for its former server, for 2 s.
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}
