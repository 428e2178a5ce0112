//! Commands that all servers have a part in, and scripts.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::eventually;
use crate::support::proxy::{cluster, slots_over};
use crate::support::wire::{Wire, request};

/// Cursor and keys of a reply to `SCAN`.
fn scanned(reply: &str) -> (String, Vec<String>) {
    let (cursor, keys) = reply.strip_prefix("*[$").unwrap().split_once(" *[").unwrap();
    let keys = keys.trim_end_matches(']').split(' ').filter(|key| !key.is_empty());
    (cursor.to_owned(), keys.map(|key| key[1..].to_owned()).collect())
}

async fn scan_all(wire: &mut Wire, options: &str) -> (BTreeSet<String>, usize) {
    let (mut cursor, mut found, mut rounds) = ("0".to_owned(), BTreeSet::new(), 0);
    loop {
        let (next, keys) = scanned(&wire.call(&format!("SCAN {cursor}{options}")).await);
        found.extend(keys);
        rounds += 1;
        if next == "0" {
            return (found, rounds);
        }
        assert!(next.parse::<i64>().is_ok(), "{next}");
        cursor = next;
    }
}

async fn fill(wire: &mut Wire, count: usize) -> BTreeSet<String> {
    let keys: BTreeSet<String> = (0..count).map(|number| format!("key:{number}")).collect();
    let mut words = vec!["MSET"];
    words.extend(keys.iter().flat_map(|key| [key.as_str(), "v"]));
    wire.send(request(&words)).await;
    assert_eq!(wire.reply().await, "+OK");
    keys
}

#[tokio::test]
async fn scan_finds_every_key_of_every_server() {
    let (_backends, proxy) = cluster(3, "").await;
    let mut wire = proxy.wire().await;
    assert_eq!(scan_all(&mut wire, "").await, (BTreeSet::new(), 3));
    let keys = fill(&mut wire, 1000).await;
    for hello in ["HELLO 2", "HELLO 3"] {
        wire.call(hello).await;
        let (found, rounds) = scan_all(&mut wire, "").await;
        assert!(found == keys && rounds > 30, "{} in {rounds}", found.len());
        assert_eq!(scan_all(&mut wire, " COUNT 10000").await, (keys.clone(), 3));
        let (found, _) = scan_all(&mut wire, " MATCH key:7?? COUNT 500").await;
        assert_eq!(found.len(), 100);
        assert_eq!(scan_all(&mut wire, " TYPE hash COUNT 10000").await.0.len(), 0);
    }
    assert_eq!(wire.call("DBSIZE").await, ":1000");
    for wrong in ["SCAN x", "SCAN -1", "SCAN 99999999999999999999"] {
        assert_eq!(wire.call(wrong).await, "-ERR invalid cursor", "{wrong}");
    }
    assert_eq!(wire.call("SCAN 0 NOSUCH 1").await, "-ERR syntax error");
    assert_eq!(
        wire.call("SCAN").await,
        "-ERR wrong number of arguments for 'scan' command"
    );
}

#[tokio::test]
async fn scan_goes_on_when_groups_come_and_go() {
    let (backends, proxy) = cluster(3, "").await;
    let mut wire = proxy.wire().await;
    fill(&mut wire, 300).await;
    let (cursor, _) = scanned(&wire.call("SCAN 0 COUNT 1000").await);
    // The second group, whose turn it is, goes.
    let mut changed = slots_over(&Backend::addrs(&backends), 2);
    for slot in changed.iter_mut().filter(|slot| slot.backend_addr_group_id == 2) {
        slot.backend_addr = Some(backends[2].addr());
        slot.backend_addr_group_id = 3;
    }
    proxy.api().await.fill_slots(&changed).await.unwrap();
    let (cursor, third) = scanned(&wire.call(&format!("SCAN {cursor} COUNT 1000")).await);
    assert_eq!(cursor, "0");
    let held: usize = backends[2].wire().await.call("DBSIZE").await[1..].parse().unwrap();
    assert_eq!(third.len(), held);
}

#[tokio::test]
async fn random_key_is_one_of_any_server() {
    let (_backends, proxy) = cluster(3, "").await;
    let mut wire = proxy.wire().await;
    assert_eq!(wire.call("RANDOMKEY").await, "$-");
    wire.call("SET a 1").await;
    assert_eq!(wire.call("RANDOMKEY").await, "$a");
    wire.call("SET b 1").await;
    wire.call("SET c 1").await;
    let mut seen = BTreeSet::new();
    eventually("each key is seen", Duration::from_secs(10), async || {
        seen.insert(wire.call("RANDOMKEY").await);
        (seen.len() == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn dangerous_commands_are_off_unless_they_are_allowed() {
    let (_backends, proxy) = cluster(2, "").await;
    let mut wire = proxy.wire().await;
    for refused in ["KEYS *", "FLUSHALL", "FLUSHDB"] {
        let reply = wire.call(refused).await;
        assert!(
            reply.contains("is not allowed") && reply.contains("proxy.toml"),
            "{reply}"
        );
    }
    assert_eq!(wire.call("COMMAND INFO keys flushall flushdb").await, "*[$- $- $-]");
    let (backends, proxy) = cluster(3, "session_allow_keys = true\nsession_allow_flush = true").await;
    let mut wire = proxy.wire().await;
    let count: usize = wire.call("COMMAND COUNT").await[1..].parse().unwrap();
    assert!(
        wire.call("COMMAND INFO keys flushall")
            .await
            .starts_with("*[*[$keys :2")
    );
    assert_eq!(wire.call("COMMAND").await.matches("$-").count(), 0);
    assert!(count > 200, "{count}");
    let keys = fill(&mut wire, 100).await;
    let reply = wire.call("KEYS key:*").await;
    let found: BTreeSet<String> = reply[2..reply.len() - 1]
        .split(' ')
        .map(|key| key[1..].to_owned())
        .collect();
    assert_eq!(found, keys);
    assert_eq!(wire.call("FLUSHALL").await, "+OK");
    for backend in &backends {
        assert_eq!(backend.wire().await.call("DBSIZE").await, ":0");
    }
    // A flush writes to all slots: it waits for those that are locked.
    fill(&mut wire, 100).await;
    let api = proxy.api().await;
    let mut locked = slots_over(&Backend::addrs(&backends), 2)[7].clone();
    locked.locked = true;
    api.fill_slots(std::slice::from_ref(&locked)).await.unwrap();
    wire.send(request(&["FLUSHDB", "ASYNC"])).await;
    assert_eq!(proxy.wire().await.call("DBSIZE").await, ":100");
    locked.locked = false;
    locked.epoch = 3;
    api.fill_slots(&[locked]).await.unwrap();
    assert_eq!(wire.reply().await, "+OK");
    assert_eq!(wire.call("DBSIZE").await, ":0");
}

#[tokio::test]
async fn server_that_is_gone_fails_what_needs_all() {
    let (mut backends, proxy) = cluster(2, "").await;
    let mut wire = proxy.wire().await;
    assert_eq!(wire.call("DBSIZE").await, ":0");
    backends[1].process.kill();
    for words in ["DBSIZE", "SCRIPT EXISTS x", "RANDOMKEY"] {
        assert_eq!(
            wire.call(words).await,
            "-ERR handle response, backend conn reset",
            "{words}"
        );
    }
}

#[tokio::test]
async fn scripts_are_known_everywhere_once_they_were_loaded() {
    let (mut backends, proxy) = cluster(3, "").await;
    let mut wire = proxy.wire().await;
    let name = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
    let missing = "-NOSCRIPT No matching script.";
    assert!(wire.call(&format!("EVALSHA {name} 1 a")).await.starts_with(missing));
    wire.send(request(&["SCRIPT", "LOAD", "return 1"])).await;
    assert_eq!(wire.reply().await, format!("${name}"));
    for key in ["a", "b", "c"] {
        assert_eq!(wire.call(&format!("EVALSHA {name} 1 {key}")).await, ":1");
        assert_eq!(wire.call(&format!("EVALSHA_RO {name} 1 {key}")).await, ":1");
    }
    assert_eq!(wire.call(&format!("EVALSHA {name} 0")).await, ":1");
    assert_eq!(
        wire.call(&format!("SCRIPT EXISTS {name} {}", "0".repeat(40))).await,
        "*[:1 :0]"
    );
    // A server that starts anew knows nothing, and one lost script is no script that exists everywhere.
    backends[0].restart().await;
    backends[1].restart().await;
    for key in ["a", "b", "c"] {
        eventually("the script runs again", Duration::from_secs(10), async || {
            let reply = wire.call(&format!("EVALSHA {} 1 {key}", name.to_uppercase())).await;
            assert!(!reply.starts_with(missing), "{key}: {reply}");
            (reply == ":1").then_some(())
        })
        .await;
    }
    backends[0].restart().await;
    eventually("the server is there again", Duration::from_secs(10), async || {
        (wire.call("GET a").await == "$-").then_some(())
    })
    .await;
    wire.call("MULTI").await;
    assert_eq!(wire.call(&format!("EVALSHA {name} 1 a")).await, "+QUEUED");
    assert_eq!(wire.call("EXEC").await, "*[:1]");
    assert_eq!(wire.call("SCRIPT FLUSH").await, "+OK");
    assert_eq!(wire.call(&format!("SCRIPT EXISTS {name}")).await, "*[:0]");
    assert!(wire.call(&format!("EVALSHA {name} 1 a")).await.starts_with(missing));
    // A script that does not compile is kept by nobody.
    assert!(
        wire.call("SCRIPT LOAD nonsense!")
            .await
            .starts_with("-ERR Error compiling script")
    );
    for refused in ["SCRIPT KILL", "SCRIPT DEBUG YES", "SCRIPT HELP", "FUNCTION KILL"] {
        assert!(wire.call(refused).await.contains("is not allowed"), "{refused}");
    }
}

#[tokio::test]
async fn scripts_without_keys_run_at_the_server_of_slot_0() {
    let (backends, proxy) = cluster(3, "").await;
    let mut wire = proxy.wire().await;
    for words in ["EVAL return{ARGV[1]} 0 x", "EVAL_RO return{ARGV[1]} 0 x"] {
        assert_eq!(wire.call(words).await, "*[$x]", "{words}");
    }
    let calls = async |backend: &Backend| {
        let info = backend.wire().await.call("INFO commandstats").await;
        info.contains("cmdstat_eval:calls=1,")
    };
    assert_eq!(
        [
            calls(&backends[0]).await,
            calls(&backends[1]).await,
            calls(&backends[2]).await
        ],
        [true, false, false]
    );
    assert!(wire.call("FCALL nosuch 0").await.starts_with("-ERR Function not found"));
    assert!(wire.call("EVAL return{ 0").await.starts_with("-ERR Error compiling"));
}

#[tokio::test]
async fn figures_count_what_all_servers_did_as_one_call() {
    let (_backends, proxy) = cluster(3, "").await;
    let mut wire = proxy.wire().await;
    for words in [
        "DBSIZE",
        "SCAN 0",
        "SCRIPT EXISTS x",
        "MULTI",
        "GET a",
        "EXEC",
        "SCAN x",
    ] {
        wire.call(words).await;
    }
    let xauth = proxy.xauth().await;
    let stats = proxy.get(&format!("/api/proxy/stats/{xauth}/1")).await.1;
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    let calls = |name: &str| {
        let of = stats["ops"]["cmd"]
            .as_array()
            .unwrap()
            .iter()
            .find(|cmd| cmd["opstr"] == name);
        of.map_or(0, |cmd| cmd["calls"].as_i64().unwrap())
    };
    assert_eq!(
        ["DBSIZE", "SCAN", "SCRIPT", "MULTI", "GET", "EXEC"].map(calls),
        [1, 2, 1, 1, 1, 1]
    );
}

#[tokio::test]
async fn functions_are_known_everywhere_once_they_were_loaded() {
    let (backends, proxy) = cluster(3, "").await;
    let mut wire = proxy.wire().await;
    let library = "#!lua name=lib\nserver.register_function('one', function(keys, args) return 1 end)";
    let load = async |wire: &mut Wire, words: &[&str]| {
        wire.send(request(&[words, &[library]].concat())).await;
        wire.reply().await
    };
    assert_eq!(load(&mut wire, &["FUNCTION", "LOAD"]).await, "$lib");
    assert!(load(&mut wire, &["FUNCTION", "LOAD"]).await.contains("already exists"));
    assert_eq!(load(&mut wire, &["FUNCTION", "LOAD", "REPLACE"]).await, "$lib");
    for key in ["a", "b", "c"] {
        assert_eq!(wire.call(&format!("FCALL one 1 {key}")).await, ":1");
    }
    let everywhere = async |words: &str| {
        let mut told = Vec::new();
        for backend in &backends {
            told.push(backend.wire().await.call(words).await);
        }
        told
    };
    let list = wire.call("FUNCTION LIST WITHCODE").await;
    assert!(list.contains("$library_name $lib") && list.contains("#!lua"), "{list}");
    assert_eq!(
        everywhere("FUNCTION LIST WITHCODE").await,
        [list.clone(), list.clone(), list]
    );
    // Everything but the reply's bytes is the same: what was dumped through the proxy is restored through it.
    let mut connection = redis::Client::open(format!("redis://127.0.0.1:{}", proxy.port))
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap();
    let dump: Vec<u8> = redis::cmd("FUNCTION")
        .arg("DUMP")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(wire.call("FUNCTION DELETE lib").await, "+OK");
    assert_eq!(everywhere("FUNCTION LIST").await, ["*[]", "*[]", "*[]"]);
    wire.send(request(&[b"FUNCTION".as_slice(), b"RESTORE", &dump])).await;
    assert_eq!(wire.reply().await, "+OK");
    assert_eq!(wire.call("FCALL one 1 b").await, ":1");
    assert_eq!(wire.call("FUNCTION FLUSH").await, "+OK");
    assert_eq!(everywhere("FUNCTION LIST").await, ["*[]", "*[]", "*[]"]);
}

#[tokio::test]
async fn keys_of_all_servers_are_in_info() {
    let (mut backends, proxy) = cluster(3, "").await;
    let mut wire = proxy.wire().await;
    let empty = wire.call("INFO keyspace").await;
    assert_eq!(empty, "$# Keyspace\r\n");
    fill(&mut wire, 100).await;
    wire.call("EXPIRE key:1 1000").await;
    wire.call("SELECT 2").await;
    wire.call("SET a 1").await;
    for hello in ["HELLO 2", "HELLO 3"] {
        wire.call(hello).await;
        let info = wire.call("INFO").await;
        assert!(info.contains("\r\ndb0:keys=100,expires=1,avg_ttl="), "{info}");
        assert!(info.contains("\r\ndb2:keys=1,expires=0,avg_ttl=0\r\n"), "{info}");
        assert!(!info.contains("servers_missing"), "{info}");
    }
    backends[2].process.kill();
    eventually(
        "it is told that a server is missing",
        Duration::from_secs(10),
        async || {
            wire.call("INFO keyspace")
                .await
                .contains("\r\nservers_missing:1\r\n")
                .then_some(())
        },
    )
    .await;
}
