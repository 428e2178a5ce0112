//! What a proxy does with servers that hang, and with strangers at their places, and what it tells of them.

use std::time::{Duration, Instant};

use codis_operator::model::{ServerWitness, Slot, SlotId};

use crate::support::backend::Backend;
use crate::support::eventually;
use crate::support::proxy::{Proxy, Setup, slot, slots_over};
use crate::support::valkey::Valkey;
use crate::support::wire::{Wire, request};

const LOST: &str = "-ERR handle response, backend conn reset";

async fn seen(proxy: &Proxy, server: &Backend) -> ServerWitness {
    let stats = proxy.api().await.stats().await.unwrap();
    let found = stats.servers.into_iter().find(|seen| seen.server == server.addr());
    found.expect("every routed server is told of")
}

#[tokio::test]
async fn hung_server_is_seen_before_any_client_meets_it() {
    let backends = Backend::several(1).await;
    let proxy = Proxy::serving(slots_over(&[backends[0].addr()], 1)).await;
    let mut wire = proxy.wire().await;
    assert_eq!(wire.call("SET a 1").await, "+OK");
    eventually("both cores are connected", Duration::from_secs(5), async || {
        (seen(&proxy, &backends[0]).await.open == 2).then_some(())
    })
    .await;
    backends[0].process.signal("STOP");
    let witness = eventually("it is seen", Duration::from_secs(5), async || {
        let witness = seen(&proxy, &backends[0]).await;
        (witness.timeouts >= 2 && witness.open == 0).then_some(witness)
    })
    .await;
    assert!(
        witness.last_error_at > 0 && witness.lost >= 2 && witness.closed == 2,
        "{witness:?}"
    );
    let began = Instant::now();
    assert_eq!(wire.call("GET a").await, LOST);
    assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
    backends[0].process.signal("CONT");
    eventually("it is used again", Duration::from_secs(5), async || {
        (wire.call("GET a").await == "$1").then_some(())
    })
    .await;
    assert_eq!(seen(&proxy, &backends[0]).await.silent_ms, 0);
}

#[tokio::test]
async fn transaction_that_takes_long_is_not_taken_for_a_hung_server() {
    let backends = Backend::several(1).await;
    let setup = Setup {
        // The script counts the server's own time: on a busy machine it takes longer.
        toml: "backend_recv_timeout = \"60s\"",
        // Another core's idle connection would try the server meanwhile.
        flags: &["--ncpu=1"],
        ..Setup::default()
    };
    let proxy = Proxy::serving_with(slots_over(&[backends[0].addr()], 1), setup).await;
    let mut wire = proxy.wire().await;
    let script = "local began = os.clock() while os.clock() - began < 1.5 do end return 7";
    assert_eq!(wire.call("MULTI").await, "+OK");
    wire.send(request(&["EVAL", script, "1", "a"])).await;
    assert_eq!(wire.reply().await, "+QUEUED");
    assert_eq!(wire.call("EXEC").await, "*[:7]");
    let witness = seen(&proxy, &backends[0]).await;
    assert_eq!((witness.timeouts, witness.lost), (0, 0), "{witness:?}");
}

/// A proxy of one core, whose one connection to its one server has a request under way when that is hung.
async fn loaded_and_hung(toml: &str) -> (Vec<Backend>, Proxy, Wire) {
    let backends = Backend::several(1).await;
    let setup = Setup {
        toml,
        // Another core's idle connection would try the server by itself.
        flags: &["--ncpu=1"],
        ..Setup::default()
    };
    let proxy = Proxy::serving_with(slots_over(&Backend::addrs(&backends), 1), setup).await;
    let mut wire = proxy.wire().await;
    assert_eq!(wire.call("SET a 1").await, "+OK");
    backends[0].process.signal("STOP");
    wire.ask("APPEND a 2").await;
    eventually("it is silent for a second", Duration::from_secs(5), async || {
        (seen(&proxy, &backends[0]).await.silent_ms >= 1100).then_some(())
    })
    .await;
    (backends, proxy, wire)
}

#[tokio::test]
async fn requests_for_a_hung_server_with_others_under_way_are_kept_for_its_successor() {
    let (backends, proxy, mut first) = loaded_and_hung("backend_recv_timeout = \"60s\"").await;
    let successor = Backend::several(1).await;
    let mut second = proxy.wire().await;
    second.ask("INCR b").await;
    eventually("it is held back", Duration::from_secs(2), async || {
        let (_, text) = proxy.get("/metrics").await;
        text.contains("\ncodis_proxy_held_clients 1\n").then_some(())
    })
    .await;
    let witness = seen(&proxy, &backends[0]).await;
    assert_eq!((witness.open, witness.lost, witness.timeouts), (1, 0, 0), "{witness:?}");
    let promoted = slots_over(&Backend::addrs(&successor), 2);
    proxy
        .api()
        .await
        .fill_slots_dropping(&promoted, Duration::from_millis(100))
        .await
        .unwrap();
    assert_eq!(first.reply().await, LOST, "it may have been carried out");
    assert_eq!(second.reply().await, ":1");
    backends[0].process.signal("CONT");
    let mut direct = backends[0].wire().await;
    assert_eq!(direct.call("EXISTS b").await, ":0", "nothing more was sent to it");
}

#[tokio::test]
async fn requests_for_a_hung_server_fail_fast_while_what_was_sent_is_waited_for() {
    let (backends, proxy, mut first) = loaded_and_hung("backend_recv_timeout = \"60s\"").await;
    let began = Instant::now();
    let mut second = proxy.wire().await;
    assert_eq!(second.call("GET a").await, LOST);
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(800) && took < Duration::from_secs(4),
        "{took:?}"
    );
    let began = Instant::now();
    assert_eq!(second.call("GET a").await, LOST);
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    backends[0].process.signal("CONT");
    assert_eq!(first.reply().await, ":2");
    assert_eq!(second.call("GET a").await, "$12", "it said something");
}

#[tokio::test]
async fn requests_behind_a_slow_command_are_served_when_it_ends() {
    let (backends, proxy, mut first) = loaded_and_hung("").await;
    let mut second = proxy.wire().await;
    second.ask("GET a").await;
    proxy.took_up("get").await;
    backends[0].process.signal("CONT");
    assert_eq!([first.reply().await, second.reply().await], [":2", "$12"]);
    let witness = seen(&proxy, &backends[0]).await;
    assert_eq!((witness.timeouts, witness.lost), (0, 0), "{witness:?}");
}

#[tokio::test]
async fn what_was_sent_to_a_hung_server_fails_after_the_longer_time_and_the_rest_at_once_from_then_on() {
    let (_backends, proxy, mut first) = loaded_and_hung("").await;
    assert_eq!(first.reply().await, LOST);
    let began = Instant::now();
    let mut second = proxy.wire().await;
    assert_eq!(second.call("GET a").await, LOST);
    assert!(began.elapsed() < Duration::from_millis(1000), "{:?}", began.elapsed());
}

#[tokio::test]
async fn silence_and_failed_connections_are_told() {
    let mut backends = Backend::several(1).await;
    let setup = Setup {
        toml: "backend_ping_period = \"0\"",
        flags: &["--ncpu=1"],
        ..Setup::default()
    };
    let proxy = Proxy::serving_with(slots_over(&[backends[0].addr()], 1), setup).await;
    let mut wire = proxy.wire().await;
    assert_eq!(wire.call("SET a 1").await, "+OK");
    backends[0].process.signal("STOP");
    wire.send(request(&["GET", "a"])).await;
    eventually("the silence is told", Duration::from_secs(2), async || {
        (seen(&proxy, &backends[0]).await.silent_ms >= 300).then_some(())
    })
    .await;
    backends[0].process.kill();
    assert_eq!(wire.reply().await, LOST);
    let witness = eventually("failures are told", Duration::from_secs(3), async || {
        let witness = seen(&proxy, &backends[0]).await;
        (witness.connect_errors >= 2).then_some(witness)
    })
    .await;
    assert!(witness.last_error.contains("refused"), "{witness:?}");
    assert_eq!(
        (witness.lost, witness.timeouts, witness.open, witness.closed),
        (1, 0, 0, 1)
    );
    assert!(wire.call("PING").await == "+PONG");
}

#[tokio::test]
async fn product_secret_is_not_given_to_a_stranger_at_a_prepared_servers_place() {
    const SECRET: &str = "s3cret";
    let mut server = Valkey::prepared_anywhere(7, SECRET).await;
    server.give_way_to_a_stranger().await;
    let toml = format!("product_auth = \"{SECRET}\"");
    let addr = {
        // The name that the prepared server had.
        let name = format!("{}177.1", "0".repeat(8));
        codis_operator::model::HostPort::new(&name, server.port()).unwrap()
    };
    let of = |prepared: bool| {
        let told = move |id: SlotId, addr: &codis_operator::model::HostPort| Slot {
            prepared: if prepared { vec![addr.clone()] } else { Vec::new() },
            ..slot(id, Some(addr), 1)
        };
        SlotId::all().map(|id| told(id, &addr)).collect::<Vec<_>>()
    };
    for (prepared, reply) in [(false, "+OK"), (true, LOST)] {
        let setup = Setup {
            toml: &toml,
            ..Setup::default()
        };
        let proxy = Proxy::serving_with(of(prepared), setup).await;
        assert_eq!(proxy.wire().await.call("SET a 1").await, reply, "prepared: {prepared}");
    }
}
