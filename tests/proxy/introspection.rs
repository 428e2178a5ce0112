//! What clients can ask the proxy about itself and each other.

use std::time::Duration;

use codis_operator::model::{Slot, SlotId};

use crate::support::eventually;
use crate::support::proxy::{Proxy, cluster, slot};
use crate::support::wire::{Wire, request};

/// Clients that know each other by name; the workers share them out.
async fn named(proxy: &Proxy, names: &[&str]) -> Vec<Wire> {
    let mut wires = Vec::new();
    for name in names {
        let mut wire = proxy.wire().await;
        assert_eq!(wire.call(&format!("CLIENT SETNAME {name}")).await, "+OK");
        wires.push(wire);
    }
    wires
}

/// The value of a field of the line of `CLIENT LIST` that has this name.
fn field(list: &str, name: &str, field: &str) -> Option<String> {
    let line = list.lines().find(|line| line.contains(&format!(" name={name} ")))?;
    let mut fields = line.trim_start_matches('$').split(' ');
    fields.find_map(|pair| Some(pair.strip_prefix(field)?.strip_prefix('=')?.to_owned()))
}

#[tokio::test]
async fn clients_of_all_workers_are_listed() {
    let (_backends, proxy) = cluster(2, "").await;
    let mut wires = named(&proxy, &["one", "two", "three"]).await;
    wires[1].call("CLIENT SETINFO LIB-NAME mylib").await;
    wires[2].call("HELLO 3").await;
    wires[2].call("SELECT 2").await;
    wires[2].call("MULTI").await;
    wires[2].call("SET a 1").await;
    assert_eq!(wires[1].call("GET a").await, "$-");
    let list = wires[0].call("CLIENT LIST").await;
    assert_eq!(list.lines().count(), 3, "{list}");
    for (name, of, value) in [
        ("one", "cmd", "client|list"),
        ("two", "cmd", "get"),
        ("two", "lib-name", "mylib"),
        ("three", "resp", "3"),
        ("three", "db", "2"),
        ("three", "multi", "1"),
        ("two", "multi", "-1"),
        ("three", "user", "default"),
    ] {
        assert_eq!(field(&list, name, of).as_deref(), Some(value), "{name} {of}: {list}");
    }
    let id = field(&list, "two", "id").unwrap();
    let one = wires[0].call(&format!("CLIENT LIST ID {id}")).await;
    assert!(one.lines().count() == 1 && one.contains("name=two"), "{one}");
    assert_eq!(wires[0].call("CLIENT LIST TYPE replica").await, "$");
    let own = wires[1].call("CLIENT INFO").await;
    assert!(
        own.contains(&format!("id={id} ")) && own.contains("cmd=client|info"),
        "{own}"
    );
}

#[tokio::test]
async fn clients_are_killed_by_id_and_by_address() {
    let (_backends, proxy) = cluster(2, "").await;
    let mut wires = named(&proxy, &["one", "two", "three", "four"]).await;
    let list = wires[0].call("CLIENT LIST").await;
    let id = field(&list, "two", "id").unwrap();
    assert_eq!(wires[0].call(&format!("CLIENT KILL ID {id}")).await, ":1");
    assert!(wires[1].is_closed().await);
    let addr = field(&list, "three", "addr").unwrap();
    assert_eq!(wires[0].call(&format!("CLIENT KILL {addr}")).await, "+OK");
    assert!(wires[2].is_closed().await);
    assert_eq!(wires[0].call("CLIENT KILL 127.0.0.1:1").await, "-ERR No such client");
    let own = field(&list, "one", "id").unwrap();
    assert_eq!(
        wires[0].call(&format!("CLIENT KILL ID {own}")).await,
        ":0",
        "not oneself"
    );
    assert_eq!(
        wires[0].call(&format!("CLIENT KILL ID {own} SKIPME no")).await,
        ":1",
        "the answer comes first"
    );
    assert!(wires[0].is_closed().await);
    assert_eq!(wires[3].call("PING").await, "+PONG");
}

#[tokio::test]
async fn answers_that_take_a_while_keep_their_place_in_a_pipeline() {
    let (_backends, proxy) = cluster(2, "").await;
    let mut wire = proxy.wire().await;
    let mut bytes = Vec::new();
    for words in [
        ["SET", "a", "1"].as_slice(),
        &["CLIENT", "LIST"],
        &["GET", "a"],
        &["INFO", "server"],
        &["SLOWLOG", "LEN"],
        &["PING"],
    ] {
        bytes.extend(request(words));
    }
    wire.send(bytes).await;
    assert_eq!(wire.reply().await, "+OK");
    assert!(wire.reply().await.starts_with("$id="));
    assert_eq!(wire.reply().await, "$1");
    assert!(wire.reply().await.starts_with("$# Server\r\n"));
    assert!(wire.reply().await.starts_with(':'));
    assert_eq!(wire.reply().await, "+PONG");
}

#[tokio::test]
async fn settings_that_clients_ask_for_are_told_and_no_password() {
    let (_backends, proxy) = cluster(2, "session_auth = \"s3cret\"\nproxy_max_clients = 77").await;
    let mut wire = proxy.wire().await;
    assert_eq!(wire.call("CONFIG GET *").await, "-NOAUTH Authentication required.");
    assert_eq!(wire.call("AUTH s3cret").await, "+OK");
    assert_eq!(wire.call("CONFIG GET save").await, "*[$save $]");
    assert_eq!(wire.call("CONFIG GET appendonly").await, "*[$appendonly $no]");
    assert_eq!(
        wire.call("CONFIG GET MAXCLIENTS timeout").await,
        "*[$maxclients $77 $timeout $1800]"
    );
    let all = wire.call("CONFIG GET *").await;
    assert!(all.contains("$databases") && !all.contains("s3cret"), "{all}");
    assert_eq!(wire.call("CONFIG GET requirepass").await, "*[]");
    assert!(wire.call("CONFIG SET save x").await.contains("is not allowed"));
    wire.call("HELLO 3").await;
    assert_eq!(
        wire.call("CONFIG GET slowlog-max-len").await,
        "%[$slowlog-max-len $128]"
    );
}

#[tokio::test]
async fn info_tells_of_the_whole_proxy_by_section() {
    let (_backends, proxy) = cluster(2, "").await;
    let mut wires = named(&proxy, &["one", "two"]).await;
    for wire in &mut wires {
        wire.call("SET a 1").await;
        wire.call("INCR nosuch x").await;
    }
    let info = wires[0].call("INFO").await;
    for line in [
        "connected_clients:2",
        "slots_open:1024",
        "slots_offline:0",
        "servers:2",
        "errorstat_arity:count=2",
        "role:master",
        "product_name:refdemo",
    ] {
        assert!(info.lines().any(|found| found == line), "{line}: {info}");
    }
    let stats = wires[0].call("INFO commandstats").await;
    assert!(
        stats.contains("cmdstat_set:calls=2,") && !stats.contains("# Server"),
        "{stats}"
    );
    assert_eq!(wires[0].call("INFO nosuch").await, "$");
}

#[tokio::test]
async fn slow_requests_on_connections_of_clients_own_are_remembered_but_not_those_that_wait() {
    let (_backends, proxy) = cluster(1, "slowlog_log_slower_than = 0").await;
    let mut wire = proxy.wire().await;
    for words in ["WATCH a", "MULTI", "GET a", "EXEC", "BLPOP list 0.01"] {
        wire.call(words).await;
    }
    wire.send(crate::support::wire::request(&["SET", "a", &"v".repeat(2 << 20)]))
        .await;
    assert_eq!(wire.reply().await, "+OK");
    let log = wire.call("SLOWLOG GET").await;
    for (word, times) in [("*[$WATCH]", 1), ("*[$EXEC]", 1), ("*[$SET]", 1), ("BLPOP", 0)] {
        assert_eq!(log.matches(word).count(), times, "{word}: {log}");
    }
}

#[tokio::test]
async fn slow_requests_are_remembered_over_all_workers() {
    let (_backends, proxy) = cluster(2, "slowlog_log_slower_than = 0\nslowlog_max_len = 3").await;
    let mut wires = named(&proxy, &["one", "two"]).await;
    for wire in &mut wires {
        assert_eq!(wire.call("SET a 1").await, "+OK");
    }
    assert_eq!(wires[0].call("GET a").await, "$1");
    let log = wires[1].call("SLOWLOG GET").await;
    let of = |name: &str| log.matches(&format!("${name}")).count();
    assert_eq!((of("SET"), of("GET"), of("one"), of("two")), (2, 1, 2, 1), "{log}");
    assert!(log.contains("*[$SET $a $1]") && log.contains("*[$GET $a]"), "{log}");
    let newest = wires[1].call("SLOWLOG GET 1").await;
    assert!(newest.starts_with("*[*[:2 :") && newest.contains("$GET"), "{newest}");
    wires[0].call("GET a").await;
    assert_eq!(wires[0].call("SLOWLOG LEN").await, ":3", "the setting's bound");
    assert_eq!(wires[0].call("SLOWLOG RESET").await, "+OK");
    assert_eq!(wires[1].call("SLOWLOG GET -1").await, "*[]");
    assert!(
        wires[1]
            .call("SLOWLOG GET -2")
            .await
            .starts_with("-ERR count should be")
    );
    let (_backends, quick) = cluster(2, "slowlog_log_slower_than = -1").await;
    let mut wire = quick.wire().await;
    wire.call("SET a 1").await;
    assert_eq!(wire.call("SLOWLOG LEN").await, ":0");
}

#[tokio::test]
async fn many_wrong_passwords_from_one_address_are_refused_unseen_for_a_while() {
    let (_backends, proxy) = cluster(2, "session_auth = \"s3cret\"\nsession_auth_failures = 2").await;
    let mut wire = proxy.wire().await;
    let mut wrong = 0;
    let refusal = loop {
        let reply = wire.call("AUTH guess").await;
        if !reply.starts_with("-WRONGPASS") {
            break reply;
        }
        wrong += 1;
        assert!(wrong < 1000);
    };
    assert!(
        refusal.starts_with("-ERR too many wrong passwords") && wrong >= 10,
        "{wrong} {refusal}"
    );
    let mut other = proxy.wire().await;
    assert!(
        other
            .call("HELLO 3 AUTH default guess")
            .await
            .starts_with("-ERR too many"),
        "a new connection does not help"
    );
    eventually("the right one is taken again", Duration::from_secs(10), async || {
        (other.call("AUTH s3cret").await == "+OK").then_some(())
    })
    .await;
}

#[tokio::test]
async fn client_that_leaves_too_many_replies_is_closed() {
    let (_backends, proxy) = cluster(2, "session_max_output_size = \"1mb\"").await;
    let mut wire = proxy.wire().await;
    let value = "v".repeat(200 << 10);
    assert_eq!(wire.call(&format!("SET a {value}")).await, "+OK");
    let mut lazy = proxy.wire().await;
    lazy.send(request(&["GET", "a"]).repeat(200)).await;
    let got = lazy.rest().await.len();
    assert!(got < 200 * value.len(), "{got}");
    assert_eq!(wire.call("PING").await, "+PONG");
}

#[tokio::test]
async fn slots_of_keys_are_told() {
    let (_backends, proxy) = cluster(1, "").await;
    let mut wire = proxy.wire().await;
    assert_eq!(wire.call("SLOTSHASHKEY a b {a}x").await, "*[:579 :1017 :579]");
    assert!(wire.call("SLOTSINFO").await.contains("is not allowed"));
}

#[tokio::test]
async fn slot_map_is_told_as_codis_does() {
    let (backends, proxy) = cluster(2, "").await;
    let mut wire = proxy.wire().await;
    let [one, two] = [backends[0].addr(), backends[1].addr()];
    assert_eq!(wire.call("SLOTSMAPPING 4").await, format!("*[+4 +{one} + *[]]"));
    let moved = Slot {
        replica_groups: vec![vec![two.clone(), one]],
        ..slot(SlotId::new(4).unwrap(), Some(&two), 2)
    };
    proxy.api().await.fill_slots(&[moved]).await.unwrap();
    let told = format!("*[+4 +{two} + *[*[+{two} +{}]]]", backends[0].addr());
    for hello in ["HELLO 2", "HELLO 3"] {
        wire.call(hello).await;
        assert_eq!(wire.call("slotsmapping 4").await, told, "{hello}");
        let all = wire.call("SLOTSMAPPING").await;
        assert!(
            all.contains(&told) && all.matches(" + *[").count() == 1024,
            "{hello}: {all}"
        );
    }
    for (words, error) in [
        ("SLOTSMAPPING 1024", "-ERR parse slotnum '1024' failed, "),
        ("SLOTSMAPPING -1", "-ERR parse slotnum '-1' failed, "),
        ("SLOTSMAPPING x", "-ERR parse slotnum 'x' failed, "),
        (
            "SLOTSMAPPING 1 2",
            "-ERR wrong number of arguments for 'slotsmapping' command",
        ),
    ] {
        let reply = wire.call(words).await;
        assert!(reply.starts_with(error), "{reply}");
    }
}
