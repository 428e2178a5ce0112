//! Reads from replicas.

use std::time::Duration;

use codis_operator::model::{HostPort, Slot, SlotId};

use crate::support::backend::Backend;
use crate::support::proxy::{Proxy, Setup, slot};
use crate::support::wire::{Wire, request};
use crate::support::{eventually, holds_for};

/// A primary and its replicas, each of which answers `GET who` with its own name.
struct Group {
    primary: Backend,
    replicas: Vec<Backend>,
}

impl Group {
    async fn start(replicas: usize) -> Self {
        let group = Self {
            primary: Backend::start().await,
            replicas: Backend::several(replicas).await,
        };
        let port = group.primary.addr().port();
        assert_eq!(
            group.primary.wire().await.call("MSET who primary other primary").await,
            "+OK"
        );
        let sync_at_once = "CONFIG SET repl-diskless-sync-delay 0";
        assert_eq!(group.primary.wire().await.call(sync_at_once).await, "+OK");
        for replica in &group.replicas {
            let mut wire = replica.wire().await;
            assert_eq!(wire.call("CONFIG SET replica-read-only no").await, "+OK");
            assert_eq!(wire.call(&format!("REPLICAOF 127.0.0.1 {port}")).await, "+OK");
        }
        for (number, replica) in group.replicas.iter().enumerate() {
            let mut wire = replica.wire().await;
            eventually("the replica has the data", Duration::from_secs(20), async || {
                (wire.call("GET who").await == "$primary").then_some(())
            })
            .await;
            let name = format!("replica{number}");
            assert_eq!(wire.call(&format!("MSET who {name} other {name}")).await, "+OK");
        }
        group
    }

    /// All slots of the primary, to be read from these replicas, each in a group of its own.
    fn slots(&self, order: &[usize]) -> Vec<Slot> {
        let primary = self.primary.addr();
        let groups: Vec<Vec<HostPort>> = order.iter().map(|number| vec![self.replicas[*number].addr()]).collect();
        let of = |id| Slot {
            replica_groups: groups.clone(),
            ..slot(id, Some(&primary), 1)
        };
        SlotId::all().map(of).collect()
    }
}

async fn answers(wire: &mut Wire, words: &str, reply: &str) {
    eventually(&format!("{words} gives {reply}"), Duration::from_secs(10), async || {
        (wire.call(words).await == reply).then_some(())
    })
    .await;
}

#[tokio::test]
async fn only_clients_that_ask_for_it_read_from_replicas() {
    let group = Group::start(1).await;
    let proxy = Proxy::serving(group.slots(&[0])).await;
    let (mut wire, mut plain) = (proxy.wire().await, proxy.wire().await);
    assert_eq!(wire.call("READONLY").await, "+OK");
    answers(&mut wire, "GET who", "$replica0").await;
    assert_eq!(wire.call("MGET who other").await, "*[$replica0 $replica0]");
    assert_eq!(wire.call("EXISTS who nosuch").await, ":1");
    assert_eq!(plain.call("GET who").await, "$primary");
    assert_eq!(wire.call("SET new 1").await, "+OK", "writes go to the primary");
    assert_eq!(group.primary.wire().await.call("GET new").await, "$1");
    assert_eq!(
        [wire.call("READWRITE").await, wire.call("GET who").await],
        ["+OK", "$primary"]
    );
    assert!(wire.call("HELLO 3").await.starts_with('%'));
    assert_eq!(wire.call("READONLY").await, "+OK");
    answers(&mut wire, "GET who", "$replica0").await;
    assert_eq!(
        [wire.call("RESET").await, wire.call("GET who").await],
        ["+RESET", "$primary"]
    );
}

#[tokio::test]
async fn nearest_replica_whose_link_is_up_is_read_from_and_the_primary_when_there_is_none() {
    let mut group = Group::start(2).await;
    let setup = Setup {
        toml: "session_replica_reads = true",
        ..Setup::default()
    };
    let proxy = Proxy::serving_with(group.slots(&[1, 0]), setup).await;
    let mut wire = proxy.wire().await;
    answers(&mut wire, "GET who", "$replica1").await;
    // Its link is down: it goes on answering, and nobody asks it.
    let mut direct = group.replicas[1].wire().await;
    assert_eq!(direct.call("REPLICAOF 127.0.0.1 1").await, "+OK");
    answers(&mut wire, "GET who", "$replica0").await;
    group.replicas[0].process.kill();
    answers(&mut wire, "GET who", "$primary").await;
    holds_for("reads stay with the primary", Duration::from_millis(300), || async {
        true
    })
    .await;
    assert_eq!(wire.call("GET who").await, "$primary");
}

#[tokio::test]
async fn proxy_that_may_use_primaries_only_does() {
    let group = Group::start(1).await;
    let setup = Setup {
        toml: "session_replica_reads = true\nbackend_primary_only = true",
        ..Setup::default()
    };
    let proxy = Proxy::serving_with(group.slots(&[0]), setup).await;
    let mut wire = proxy.wire().await;
    assert_eq!(wire.call("GET who").await, "$primary");
    let stats = proxy.api().await.stats().await.unwrap();
    assert!(stats.backend.primary_only);
    assert_eq!(
        stats.servers.len(),
        1,
        "replicas are not even connected to: {:?}",
        stats.servers
    );
}

#[tokio::test]
async fn client_sees_its_own_writes_in_a_pipeline() {
    let group = Group::start(1).await;
    let setup = Setup {
        toml: "session_replica_reads = true",
        ..Setup::default()
    };
    let proxy = Proxy::serving_with(group.slots(&[0]), setup).await;
    let mut wire = proxy.wire().await;
    answers(&mut wire, "GET who", "$replica0").await;
    for n in 0..100 {
        let write = request(&["SET".to_owned(), "k".to_owned(), n.to_string()]);
        let read = request(&["GET", "k"]);
        wire.send([read.clone(), write, read].concat()).await;
        let before = wire.reply().await;
        let before = before.strip_prefix('$').unwrap().parse().unwrap_or(-1);
        assert!(
            before < n,
            "a replica may be behind, but the write comes after the read: {before} {n}"
        );
        assert_eq!(
            [wire.reply().await, wire.reply().await],
            ["+OK".to_owned(), format!("${n}")]
        );
    }
}

#[tokio::test]
async fn replica_that_refuses_is_left_alone_by_clients_of_either_protocol() {
    let group = Group::start(1).await;
    let setup = Setup {
        toml: "session_replica_reads = true",
        flags: &["--ncpu=1"],
        ..Setup::default()
    };
    let proxy = Proxy::serving_with(group.slots(&[0]), setup).await;
    let (mut two, mut three) = (proxy.wire().await, proxy.wire().await);
    three.call("HELLO 3").await;
    for wire in [&mut two, &mut three] {
        answers(wire, "GET who", "$replica0").await;
    }
    let replica = &group.replicas[0];
    let mut direct = replica.wire().await;
    assert_eq!(direct.call("CONFIG SET replica-serve-stale-data no").await, "+OK");
    assert_eq!(direct.call("REPLICAOF 127.0.0.1 1").await, "+OK");
    let before = replica.errors().await;
    for _ in 0..20 {
        assert_eq!(three.call("GET who").await, "$primary");
    }
    assert_eq!(two.call("GET who").await, "$primary");
    // One that was on its way when the other was refused, at most.
    let refused = replica.errors().await - before;
    assert!(refused <= 2, "{refused}");
}

#[tokio::test]
async fn script_does_not_overtake_its_clients_own_reads_from_a_replica() {
    let group = Group::start(1).await;
    let setup = Setup {
        toml: "session_replica_reads = true\nbackend_ping_period = \"0\"\nbackend_recv_timeout = \"60s\"",
        ..Setup::default()
    };
    let proxy = Proxy::serving_with(group.slots(&[0]), setup).await;
    let mut wire = proxy.wire().await;
    answers(&mut wire, "GET who", "$replica0").await;
    group.replicas[0].process.signal("STOP");
    let script = ["EVAL", "return redis.call('SET', KEYS[1], 'script')", "1", "who"];
    wire.send([request(&["GET", "who"]), request(&script)].concat()).await;
    proxy.took_up("eval").await;
    let direct = group.primary.addr().port();
    holds_for("the script waits", Duration::from_millis(200), || async move {
        Wire::connect(direct).await.call("GET who").await == "$primary"
    })
    .await;
    group.replicas[0].process.signal("CONT");
    assert_eq!([wire.reply().await, wire.reply().await], ["$replica0", "+OK"]);
    assert_eq!(group.primary.wire().await.call("GET who").await, "$script");
}
