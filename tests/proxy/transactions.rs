//! Transactions through the proxy.

use std::time::Duration;

use codis_operator::model::Slot;

use crate::support::backend::Backend;
use crate::support::eventually;
use crate::support::proxy::{Proxy, Setup, cluster, slot_of, slots_over};
use crate::support::wire::{Wire, request};

const CROSS: &str = "-CROSSSLOT Keys in request don't hash to the same slot";
const ABORTED: &str = "-EXECABORT Transaction discarded because of previous errors.";

#[tokio::test]
async fn transaction_is_carried_out_whole_and_answers_as_a_server_does() {
    let (backends, proxy) = cluster(3, "").await;
    for hello in ["HELLO 2", "HELLO 3"] {
        let (mut through, mut direct) = (proxy.wire().await, backends[0].wire().await);
        through.call(hello).await;
        direct.call(hello).await;
        for words in [
            "MULTI",
            "EXEC",
            "MULTI",
            "SET {t}a 1",
            "INCR {t}a",
            "HSET {t}h f v",
            "HGETALL {t}h",
            "GET {t}nosuch",
            "LPUSH {t}a x",
            "MGET {t}a {t}nosuch",
            "PING",
            "PING x",
            "ECHO x",
            "UNWATCH",
            "BLPOP {t}nosuch 0",
            "XREAD BLOCK 0 STREAMS {t}nosuch $",
            "SORT {t}nosuch",
            "OBJECT REFCOUNT {t}h",
            "EVAL return{KEYS[1]} 1 {t}a",
            "DEL {t}a {t}h",
            "EXEC",
            "GET {t}a",
            "MULTI",
            "SET {t}a 1",
            "DISCARD",
            "GET {t}a",
            "MULTI",
            "PING",
            "EXEC",
            "DISCARD",
            "EXEC",
            "UNWATCH",
        ] {
            assert_eq!(through.call(words).await, direct.call(words).await, "{hello}: {words}");
        }
    }
}

#[tokio::test]
async fn mistakes_while_queueing_are_told_at_once_and_discard_all() {
    let (backends, proxy) = cluster(1, "").await;
    let (mut through, mut direct) = (proxy.wire().await, backends[0].wire().await);
    for mistake in [
        "GET",
        "NOSUCH x",
        "MULTI",
        "WATCH {t}a",
        "OBJECT NOSUCH x",
        "LMPOP x {t}a LEFT",
        "XREAD STREAMS {t}a",
    ] {
        // A server finds the last two only when it carries them out.
        let both = !mistake.starts_with("LMPOP") && !mistake.starts_with("XREAD");
        for words in ["MULTI", mistake, "SET {t}a 1", "EXEC", "EXISTS {t}a"] {
            let heard = through.call(words).await;
            if both {
                assert_eq!(heard, direct.call(words).await, "{mistake}: {words}");
            } else if words == "EXEC" {
                assert_eq!(heard, ABORTED, "{mistake}");
            }
        }
    }
    for refused in ["SELECT 0", "INFO", "CLIENT ID", "COMMAND COUNT", "HELLO 3", "AUTH x"] {
        through.call("MULTI").await;
        assert!(
            through.call(refused).await.contains("in a transaction is not allowed"),
            "{refused}"
        );
        assert_eq!(through.call("EXEC").await, ABORTED, "{refused}");
    }
    through.call("MULTI").await;
    assert!(through.call("KEYS *").await.contains("is not allowed"));
    assert_eq!(through.call("EXEC").await, ABORTED);
    assert_eq!(through.call("PING").await, "+PONG");
}

#[tokio::test]
async fn keys_of_a_transaction_have_to_lie_in_one_slot() {
    let (_backends, proxy) = cluster(3, "").await;
    let mut wire = proxy.wire().await;
    let heard = wire
        .pipeline(&["MULTI", "SET a 1", "SET b 1", "SET a 2", "EXEC", "MGET a b"])
        .await;
    assert_eq!(heard, ["+OK", "+QUEUED", CROSS, "+QUEUED", ABORTED, "*[$- $-]"]);
    let heard = wire.pipeline(&["MULTI", "MGET a b", "EXEC"]).await;
    assert_eq!(heard, ["+OK", CROSS, ABORTED]);
    assert_eq!(wire.call("WATCH a b").await, CROSS);
    assert_eq!(wire.call("WATCH a").await, "+OK");
    assert_eq!(wire.call("WATCH b").await, CROSS);
    let heard = wire.pipeline(&["MULTI", "SET b 1", "EXEC"]).await;
    assert_eq!(heard, ["+OK", CROSS, ABORTED]);
}

#[tokio::test]
async fn requests_around_a_transaction_keep_their_order() {
    let (_backends, proxy) = cluster(3, "").await;
    let mut wire = proxy.wire().await;
    for _ in 0..50 {
        let heard = wire
            .pipeline(&[
                "SET {t}n 1",
                "GET other",
                "MULTI",
                "INCR {t}n",
                "GET {t}n",
                "EXEC",
                "GET {t}n",
                "WATCH {t}n",
                "INCR {t}n",
                "MULTI",
                "INCR {t}n",
                "EXEC",
                "GET {t}n",
                "WATCH {t}n",
                "MULTI",
                "INCR {t}n",
                "EXEC",
                "GET {t}n",
                "PING",
            ])
            .await;
        assert_eq!(
            heard,
            [
                "+OK", "$-", "+OK", "+QUEUED", "+QUEUED", "*[:2 $2]", "$2", "+OK", ":3", "+OK", "+QUEUED", "*-", "$3",
                "+OK", "+OK", "+QUEUED", "*[:4]", "$4", "+PONG"
            ]
        );
    }
}

#[tokio::test]
async fn watched_keys_that_change_make_exec_answer_nothing() {
    let (_backends, proxy) = cluster(2, "").await;
    let mut other = proxy.wire().await;
    for (hello, nothing) in [("HELLO 2", "*-"), ("HELLO 3", "_")] {
        let mut wire = proxy.wire().await;
        wire.call(hello).await;
        wire.call("SET {t}a 1").await;
        assert_eq!(wire.call("WATCH {t}a {t}b").await, "+OK");
        assert_eq!(other.call("SET {t}b 5").await, "+OK");
        assert_eq!(
            wire.pipeline(&["MULTI", "SET {t}a 2", "EXEC", "GET {t}a"]).await,
            ["+OK", "+QUEUED", nothing, "$1"]
        );
        // The next transaction watches nothing any more.
        assert_eq!(other.call("SET {t}b 6").await, "+OK");
        assert_eq!(
            wire.pipeline(&["MULTI", "SET {t}a 3", "EXEC"]).await,
            ["+OK", "+QUEUED", "*[+OK]"]
        );
        for forget in ["UNWATCH", "DISCARD", "RESET"] {
            assert_eq!(wire.call("WATCH {t}a").await, "+OK");
            if forget == "DISCARD" {
                wire.call("MULTI").await;
            }
            wire.call(forget).await;
            if forget == "RESET" {
                wire.call(hello).await;
            }
            other.call("SET {t}a 4").await;
            assert_eq!(
                wire.pipeline(&["MULTI", "GET {t}a", "EXEC"]).await,
                ["+OK", "+QUEUED", "*[$4]"],
                "{forget}"
            );
        }
    }
}

#[tokio::test]
async fn watched_slot_that_moves_makes_exec_answer_nothing() {
    let (backends, proxy) = cluster(2, "").await;
    let api = proxy.api().await;
    let slot = |server: usize, epoch| slot_of("a", &backends[server].addr(), epoch);
    let mut wire = proxy.wire().await;
    api.fill_slots(&[slot(0, 2)]).await.unwrap();
    assert_eq!(wire.call("WATCH a").await, "+OK");
    api.fill_slots(&[slot(1, 3)]).await.unwrap();
    assert_eq!(
        wire.pipeline(&["MULTI", "SET a 1", "EXEC", "EXISTS a"]).await,
        ["+OK", "+QUEUED", "*-", ":0"]
    );
    // There and back again is a change, too; a lock is none.
    assert_eq!(wire.call("WATCH a").await, "+OK");
    api.fill_slots(&[slot(0, 4)]).await.unwrap();
    api.fill_slots(&[slot(1, 5)]).await.unwrap();
    assert_eq!(
        wire.pipeline(&["MULTI", "SET a 1", "EXEC"]).await,
        ["+OK", "+QUEUED", "*-"]
    );
    assert_eq!(wire.call("WATCH a").await, "+OK");
    api.fill_slots(&[Slot {
        locked: true,
        ..slot(1, 6)
    }])
    .await
    .unwrap();
    wire.send([request(&["MULTI"]), request(&["SET", "a", "1"]), request(&["EXEC"])].concat())
        .await;
    assert_eq!([wire.reply().await, wire.reply().await], ["+OK", "+QUEUED"]);
    api.fill_slots(&[slot(1, 7)]).await.unwrap();
    assert_eq!(wire.reply().await, "*[+OK]");
}

#[tokio::test]
async fn locked_slot_holds_exec_and_the_new_server_carries_it_out() {
    let (backends, proxy) = cluster(2, "").await;
    let api = proxy.api().await;
    let slot = |server: usize, epoch| slot_of("a", &backends[server].addr(), epoch);
    let mut wire = proxy.wire().await;
    api.fill_slots(&[slot(0, 2)]).await.unwrap();
    assert_eq!(wire.pipeline(&["MULTI", "SET a 1"]).await, ["+OK", "+QUEUED"]);
    api.fill_slots(&[Slot {
        locked: true,
        ..slot(0, 3)
    }])
    .await
    .unwrap();
    wire.send([request(&["EXEC"]), request(&["PING"])].concat()).await;
    api.fill_slots(&[slot(1, 4)]).await.unwrap();
    assert_eq!([wire.reply().await, wire.reply().await], ["*[+OK]", "+PONG"]);
    assert_eq!(backends[1].wire().await.call("GET a").await, "$1");
    assert_eq!(backends[0].wire().await.call("EXISTS a").await, ":0");
}

#[tokio::test]
async fn lost_server_makes_exec_of_watched_keys_answer_nothing() {
    let (mut backends, proxy) = cluster(1, "").await;
    let mut wire = proxy.wire().await;
    assert_eq!(wire.call("WATCH a").await, "+OK");
    backends[0].restart().await;
    eventually("the proxy is connected again", Duration::from_secs(10), async || {
        (proxy.wire().await.call("SET b 1").await == "+OK").then_some(())
    })
    .await;
    assert_eq!(
        wire.pipeline(&["MULTI", "SET a 1", "EXEC", "EXISTS a"]).await,
        ["+OK", "+QUEUED", "*-", ":0"]
    );
    assert_eq!(
        wire.pipeline(&["WATCH a", "MULTI", "SET a 1", "EXEC"]).await,
        ["+OK", "+OK", "+QUEUED", "*[+OK]"]
    );
}

#[tokio::test]
async fn waiting_command_between_watch_and_exec_takes_nothing_from_either() {
    let (mut backends, proxy) = cluster(1, "").await;
    let (mut wire, mut other) = (proxy.wire().await, proxy.wire().await);
    for changes in [false, true] {
        assert_eq!(
            wire.pipeline(&["WATCH a", "BLPOP b 0.01", "DEL c"]).await,
            ["+OK", "*-", ":0"]
        );
        if changes {
            other.call("SET a 1").await;
        }
        let answer = if changes { "*-" } else { "*[$-]" };
        assert_eq!(
            wire.pipeline(&["MULTI", "GET a", "EXEC"]).await,
            ["+OK", "+QUEUED", answer]
        );
    }
    // The connection that watched is gone; one that came later does not stand in for it.
    assert_eq!(wire.call("WATCH a").await, "+OK");
    backends[0].restart().await;
    eventually("the proxy is connected again", Duration::from_secs(10), async || {
        (wire.call("BLPOP b 0.01").await == "*-").then_some(())
    })
    .await;
    assert_eq!(
        wire.pipeline(&["MULTI", "SET a 1", "EXEC"]).await,
        ["+OK", "+QUEUED", "*-"]
    );
}

#[tokio::test]
async fn exec_at_a_hung_server_does_not_hold_up_a_change_of_the_map_that_can_not_wait() {
    let (backends, proxy) = cluster(2, "").await;
    let api = proxy.api().await;
    let slot = |server: usize, epoch| slot_of("a", &backends[server].addr(), epoch);
    api.fill_slots(&[slot(0, 2)]).await.unwrap();
    let mut wire = proxy.wire().await;
    assert_eq!(
        wire.pipeline(&["WATCH a", "MULTI", "GET a"]).await,
        ["+OK", "+OK", "+QUEUED"]
    );
    backends[0].process.signal("STOP");
    wire.send(request(&["EXEC"])).await;
    proxy.took_up("exec").await;
    let locked = Slot {
        locked: true,
        ..slot(0, 3)
    };
    assert!(api.fill_slots(&[locked]).await.is_err(), "the request is under way");
    api.fill_slots_dropping(&[slot(1, 4)], Duration::from_millis(100))
        .await
        .unwrap();
    assert_eq!(wire.reply().await, "-ERR handle response, backend conn reset");
    assert_eq!(wire.call("EXISTS a").await, ":0");
    backends[0].process.signal("CONT");
}

#[tokio::test]
async fn client_that_leaves_takes_its_transaction_and_its_connection_along() {
    let (backends, proxy) = cluster(1, "").await;
    let mut wire = proxy.wire().await;
    let mut server = backends[0].wire().await;
    let connections = async |server: &mut Wire| server.call("CLIENT LIST TYPE normal").await.matches("id=").count();
    let before = connections(&mut server).await;
    assert_eq!(
        wire.pipeline(&["WATCH a", "MULTI", "SET a 1"]).await,
        ["+OK", "+OK", "+QUEUED"]
    );
    assert_eq!(connections(&mut server).await, before + 1);
    drop(wire);
    eventually("its connection is gone", Duration::from_secs(5), async || {
        (connections(&mut server).await == before).then_some(())
    })
    .await;
    assert_eq!(server.call("EXISTS a").await, ":0");
}

#[tokio::test]
async fn too_large_transaction_is_refused() {
    let (_backends, proxy) = cluster(1, "").await;
    let mut wire = proxy.wire().await;
    wire.call("MULTI").await;
    let value = "v".repeat(30 << 20);
    for _ in 0..2 {
        wire.send(request(&["SET", "a", &value])).await;
        assert_eq!(wire.reply().await, "+QUEUED");
    }
    wire.send(request(&["SET", "a", &value])).await;
    assert!(wire.reply().await.contains("transaction is too large"));
    assert_eq!(wire.call("EXEC").await, ABORTED);
    assert_eq!(wire.call("EXISTS a").await, ":0");
}

#[tokio::test]
async fn transactions_of_many_clients_do_not_mix() {
    let (_backends, proxy) = cluster(2, "").await;
    let clients = (0..20).map(|_| {
        let port = proxy.port;
        tokio::spawn(async move {
            let mut wire = Wire::connect(port).await;
            for _ in 0..50 {
                let heard = wire
                    .pipeline(&["MULTI", "INCR {t}a", "INCR {t}b", "INCR {t}a", "EXEC"])
                    .await;
                let numbers: Vec<i64> = heard[4][2..heard[4].len() - 1]
                    .split(' ')
                    .map(|number| number[1..].parse().unwrap())
                    .collect();
                assert!(
                    numbers[0] + 1 == numbers[2] && numbers[1] * 2 == numbers[2],
                    "{numbers:?}"
                );
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    assert_eq!(proxy.wire().await.call("MGET {t}a {t}b").await, "*[$2000 $1000]");
}

#[tokio::test]
async fn script_that_a_server_does_not_know_any_more_runs_where_keys_are_watched() {
    let (mut backends, proxy) = cluster(1, "").await;
    let mut wire = proxy.wire().await;
    wire.send(request(&["SCRIPT", "LOAD", "return 1"])).await;
    let name = wire.reply().await.split_off(1);
    backends[0].restart().await;
    eventually("the proxy is connected again", Duration::from_secs(10), async || {
        (wire.call("EXISTS a").await == ":0").then_some(())
    })
    .await;
    let run = format!("EVALSHA {name} 1 a");
    for _ in 0..2 {
        assert_eq!(
            wire.pipeline(&["WATCH a", "MULTI", &run, "GET a", &run, "EXEC"]).await,
            ["+OK", "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*[:1 $- :1]"]
        );
    }
}

#[tokio::test]
async fn transaction_has_no_more_commands_than_a_connection_takes() {
    let (_backends, proxy) = cluster(1, "backend_max_pipeline = 3").await;
    let mut wire = proxy.wire().await;
    assert_eq!(
        wire.pipeline(&["MULTI", "INCR a", "INCR a", "INCR a", "EXEC"]).await[4],
        "*[:1 :2 :3]"
    );
    let heard = wire
        .pipeline(&["MULTI", "INCR a", "INCR a", "INCR a", "INCR a", "EXEC", "GET a"])
        .await;
    assert!(heard[4].contains("at most 64 MiB and 3 commands"), "{}", heard[4]);
    assert_eq!(heard[5..], [ABORTED, "$3"]);
}

#[tokio::test]
async fn transactions_of_all_clients_hold_no_more_than_allowed() {
    let backends = Backend::several(1).await;
    let setup = Setup {
        toml: "session_max_queued_size = \"1mb\"",
        flags: &["--ncpu=1"],
        ..Setup::default()
    };
    let proxy = Proxy::serving_with(slots_over(&Backend::addrs(&backends), 1), setup).await;
    let set = format!("SET a {}", "v".repeat(600 << 10));
    let (mut one, mut other) = (proxy.wire().await, proxy.wire().await);
    assert_eq!(one.pipeline(&["MULTI", &set]).await, ["+OK", "+QUEUED"]);
    let heard = other.pipeline(&["MULTI", &set, "EXEC"]).await;
    assert!(heard[1].contains("session_max_queued_size"), "{}", heard[1]);
    assert_eq!(heard[2], ABORTED);
    assert_eq!(one.call("EXEC").await, "*[+OK]");
    // What was carried out, given up, or left by its client counts no more.
    for end in ["EXEC", "DISCARD", "RESET"] {
        let heard = other.pipeline(&["MULTI", &set, end]).await;
        assert_eq!(heard[1], "+QUEUED", "{end}");
    }
    assert_eq!(other.pipeline(&["MULTI", &set]).await[1], "+QUEUED");
    drop(other);
    eventually("there is room again", Duration::from_secs(5), async || {
        (one.pipeline(&["MULTI", &set, "DISCARD"]).await[1] == "+QUEUED").then_some(())
    })
    .await;
}
