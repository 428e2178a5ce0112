//! Pushes of the slot map, and the rest of the admin API.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use codis_operator::model::{Slot, SlotId};
use socket2::{Domain, Socket, Type};

use crate::support::backend::Backend;
use crate::support::proxy::{Proxy, Setup, slot, slot_of, slots_over};
use crate::support::wire::request;
use crate::support::{eventually, free_port, holds_for};

#[tokio::test]
async fn proxy_serves_only_when_started_with_all_slots() {
    let backend = Backend::start().await;
    let proxy = Proxy::launch(Setup::default()).await;
    let api = proxy.api().await;
    assert_eq!(proxy.wire().await.rest().await, "-ERR router is not online\r\n");
    assert_eq!(
        proxy.get("/readyz").await,
        (503, "1024 slots were not filled yet".to_owned())
    );
    assert_eq!(proxy.get("/healthz").await.0, 200);
    let (status, cause) = proxy.put("/api/proxy/start/X", "").await;
    assert!(
        status == 800 && cause.contains("1024 slots were not filled yet"),
        "{cause}"
    );
    let all = slots_over(&[backend.addr()], 1);
    api.fill_slots(&all[..1000]).await.unwrap();
    assert!(api.start().await.unwrap_err().to_string().contains("24 slots"));
    api.fill_slots(&all[1000..]).await.unwrap();
    assert_eq!(proxy.get("/readyz").await, (503, "the proxy is not online".to_owned()));
    api.start().await.unwrap();
    api.start().await.unwrap();
    assert_eq!(proxy.get("/readyz").await.0, 200);
    assert_eq!(proxy.wire().await.call("SET a 1").await, "+OK");
    assert_eq!(api.slots().await.unwrap(), all);
    let stats = api.stats().await.unwrap();
    assert!(stats.online && !stats.closed && stats.sessions.total >= 2, "{stats:?}");
}

#[tokio::test]
async fn slots_without_a_server_get_a_clear_error() {
    let proxy = Proxy::serving(SlotId::all().map(Slot::offline).collect()).await;
    let mut wire = proxy.wire().await;
    for words in ["GET a", "MGET a b", "EVAL s 1 a"] {
        assert_eq!(
            wire.call(words).await,
            "-ERR handle request, slot is not ready, may be offline",
            "{words}"
        );
    }
    assert_eq!(wire.call("PING").await, "+PONG");
    assert_eq!(proxy.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn server_whose_name_can_not_be_resolved_is_found_where_the_dashboard_said() {
    let backend = Backend::start().await;
    let named = format!("shop-g1-0.shop.invalid:{}", backend.addr().port());
    let proxy = Proxy::serving(slots_over(&[named.parse().unwrap()], 1)).await;
    for (body, cause) in [("[]", "JSON object"), (r#"{"h":"not an address"}"#, "IP address")] {
        let (status, text) = proxy.put("/api/proxy/addresses/X", body).await;
        assert!(status == 800 && text.contains(cause), "{body}: {text}");
    }
    let addresses = [("shop-g1-0.shop.invalid".to_owned(), [127, 0, 0, 1].into())];
    proxy.api().await.set_addresses(&addresses.into()).await.unwrap();
    let mut wire = proxy.wire().await;
    eventually("the server is found", Duration::from_secs(10), async || {
        (wire.call("SET a 1").await == "+OK").then_some(())
    })
    .await;
    assert_eq!(backend.wire().await.call("GET a").await, "$1");
}

/// Takes no further connection, and refuses none, as long as these sockets live.
fn silent_at(addr: SocketAddr) -> Vec<Socket> {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let listener = socket();
    listener.bind(&addr.into()).unwrap();
    listener.listen(0).unwrap();
    let waiting = (0..4).map(|_| {
        let waiting = socket();
        waiting.set_nonblocking(true).unwrap();
        let _ = waiting.connect(&addr.into());
        waiting
    });
    std::iter::once(listener).chain(waiting.collect::<Vec<_>>()).collect()
}

/// As after a pod was made anew: for some seconds its name still leads to where nobody is any more.
#[tokio::test]
async fn server_whose_name_leads_to_where_nobody_answers_is_found_where_the_dashboard_said() {
    let backend = Backend::start().await;
    let port = backend.addr().port();
    let _silent = silent_at(SocketAddr::from(([127, 0, 0, 2], port)));
    let proxy = Proxy::launch(Setup::default()).await;
    let api = proxy.api().await;
    // The system's resolver takes this name for 127.0.0.2.
    let addresses = [("127.2".to_owned(), [127, 0, 0, 1].into())];
    api.set_addresses(&addresses.into()).await.unwrap();
    let named = format!("127.2:{port}").parse().unwrap();
    let began = Instant::now();
    api.fill_slots(&slots_over(&[named], 1)).await.unwrap();
    api.start().await.unwrap();
    assert_eq!(proxy.wire().await.call("SET a 1").await, "+OK");
    assert!(began.elapsed() < Duration::from_millis(700), "{:?}", began.elapsed());
    assert_eq!(backend.wire().await.call("GET a").await, "$1");
}

#[tokio::test]
async fn stale_and_contradictory_pushes_are_refused() {
    let backends = Backend::several(2).await;
    let [one, two] = [backends[0].addr(), backends[1].addr()];
    let proxy = Proxy::serving(slots_over(std::slice::from_ref(&one), 5)).await;
    let api = proxy.api().await;
    let refused = async |slots: &[Slot]| api.fill_slots(slots).await.unwrap_err().to_string();
    assert!(
        refused(&[slot_of("a", &two, 4)])
            .await
            .contains("slot-[579] has epoch 5, the push has the older 4")
    );
    assert!(refused(&[slot_of("a", &two, 5)]).await.contains("differs"));
    assert!(refused(&[slot_of("a", &two, 0)]).await.contains("without epoch"));
    let moving = Slot {
        migrate_from: Some(one.clone()),
        ..slot_of("a", &two, 6)
    };
    assert!(refused(&[slot_of("b", &two, 6), moving]).await.contains("moves from"));
    assert!(
        refused(&[Slot {
            forward_method: 3,
            ..slot_of("a", &two, 6)
        }])
        .await
        .contains("use of invalid forwarder method")
    );
    assert_eq!(
        api.slots().await.unwrap(),
        slots_over(std::slice::from_ref(&one), 5),
        "nothing of a refused push is taken"
    );
    api.fill_slots(&[slot_of("a", &one, 5)]).await.unwrap();
    api.fill_slots(&[slot_of("a", &two, 6)]).await.unwrap();
    let mut wire = proxy.wire().await;
    wire.call("SET a 1").await;
    assert_eq!(backends[1].wire().await.call("GET a").await, "$1");
}

#[tokio::test]
async fn calls_that_are_not_meant_for_this_process_are_refused() {
    let proxy = Proxy::launch(Setup::default()).await;
    for path in ["start", "shutdown", "fillslots", "stats/reset", "forcegc", "sentinels"] {
        let (status, body) = proxy
            .put(&format!("/api/proxy/{path}/948967642f9eea556aac8428e1162e3f"), "[]")
            .await;
        assert!(
            status == 800 && body.contains("invalid xauth, please check product name & auth"),
            "{path}: {body}"
        );
        let (status, body) = proxy.put(&format!("/api/proxy/{path}/X?incarnation=other"), "[]").await;
        assert!(
            status == 800 && body.contains("incarnation other is not this process"),
            "{path}: {body}"
        );
        let xauth = proxy.xauth().await;
        assert_eq!(
            proxy.get(&format!("/api/proxy/{path}/{xauth}")).await,
            (404, "404 page not found\n".to_owned()),
            "{path}"
        );
    }
    assert_eq!(proxy.put("/proxy/model", "").await.0, 404);
    assert_eq!(proxy.get("/nosuch").await, (404, "404 page not found\n".to_owned()));
}

#[tokio::test]
async fn malformed_pushes_are_refused_and_change_nothing() {
    let proxy = Proxy::launch(Setup::default()).await;
    for (body, text) in [
        ("", "not a JSON array"),
        ("{}", "not a JSON array"),
        ("[", "not a JSON array"),
        ("[null]", "use of invalid slot id"),
        (r#"[{"id":5000}]"#, "use of invalid slot id: element 0 has id 5000"),
        (r#"[{"id":"5"}]"#, "use of invalid slot id"),
        (r#"[{"id":5,"backend_addr":"nowhere"}]"#, "invalid address"),
        (r#"[{"id":5},{"id":5}]"#, "slot-[5] is given twice"),
    ] {
        let (status, answer) = proxy.put("/api/proxy/fillslots/X", body).await;
        assert!(
            status == 800 && answer.contains(text) && answer.contains("\"Stack\":null"),
            "{body}: {answer}"
        );
    }
    let (status, answer) = proxy.put("/api/proxy/fillslots/X", &" ".repeat(9 << 20)).await;
    assert!(status != 200, "{status} {answer}");
    assert!(proxy.put("/api/proxy/sentinels/X", "[").await.0 == 800);
    assert!(proxy.get("/readyz").await.1.starts_with("1024 slots"));
}

#[tokio::test]
async fn admin_api_tells_what_codis_tells() {
    let backend = Backend::start().await;
    let proxy = Proxy::serving_with(
        slots_over(&[backend.addr()], 1),
        Setup {
            toml: "proxy_datacenter = \"dc1\"",
            ..Setup::default()
        },
    )
    .await;
    let mut wire = proxy.wire().await;
    for words in ["SET a 1", "GET a", "INCR a", "LPUSH a x", "AUTH x"] {
        wire.call(words).await;
    }
    let xauth = proxy.xauth().await;
    assert_eq!(
        proxy.get(&format!("/api/proxy/xping/{xauth}")).await,
        (200, "\"OK\"".to_owned())
    );
    let json = async |path: &str| -> serde_json::Value { serde_json::from_str(&proxy.get(path).await.1).unwrap() };
    let stats = json(&format!("/api/proxy/stats/{xauth}/3")).await;
    assert_eq!(
        (
            &stats["ops"]["total"],
            &stats["ops"]["redis"]["errors"],
            &stats["ops"]["fails"]
        ),
        (&5.into(), &1.into(), &0.into())
    );
    let of = |name: &str| {
        stats["ops"]["cmd"]
            .as_array()
            .unwrap()
            .iter()
            .find(|cmd| cmd["opstr"] == name)
            .cloned()
            .unwrap()
    };
    assert_eq!(
        (
            &of("GET")["calls"],
            &of("LPUSH")["redis_errtype"],
            &of("AUTH")["redis_errtype"]
        ),
        (&1.into(), &1.into(), &1.into())
    );
    assert!(
        json(&format!("/api/proxy/stats/{xauth}")).await["ops"]
            .get("cmd")
            .is_none()
    );
    let overview = json("/proxy").await;
    assert_eq!(overview["slots"].as_array().unwrap().len(), 1024);
    assert!(overview["config"].get("product_auth").is_none() && overview["config"]["session_recv_timeout"] == "30m");
    let model = json("/api/proxy/model").await;
    assert_eq!(
        (&model["product_name"], &model["datacenter"], &model["proto_type"]),
        (&"refdemo".into(), &"dc1".into(), &"tcp4".into())
    );
    assert_eq!(
        (
            model["token"].as_str().unwrap().len(),
            model["incarnation"].as_str().unwrap().len()
        ),
        (32, 32)
    );
    assert_eq!(proxy.put("/api/proxy/stats/reset/X", "").await.0, 200);
    assert_eq!(json("/proxy/stats").await["ops"]["total"], 0);
    assert_eq!(proxy.put("/api/proxy/loglevel/X/DEBUG", "").await.0, 200);
    assert_eq!(proxy.put("/api/proxy/loglevel/X/LOUD", "").await.0, 800);
    assert_eq!(
        proxy
            .put("/api/proxy/sentinels/X", r#"{"servers":["127.0.0.1:26379"]}"#)
            .await
            .0,
        200
    );
    assert_eq!(json("/proxy/stats").await["sentinels"]["servers"][0], "127.0.0.1:26379");
}

#[tokio::test]
async fn locked_slot_holds_requests_and_others_go_on() {
    let backends = Backend::several(2).await;
    let [one, two] = [backends[0].addr(), backends[1].addr()];
    let proxy = Proxy::serving(slots_over(std::slice::from_ref(&one), 1)).await;
    let api = proxy.api().await;
    let (mut held, mut free) = (proxy.wire().await, proxy.wire().await);
    api.fill_slots(&[Slot {
        locked: true,
        ..slot_of("a", &one, 2)
    }])
    .await
    .unwrap();
    held.send(
        [
            request(&["SET", "a", "1"]),
            request(&["GET", "a"]),
            request(&["GET", "b"]),
        ]
        .concat(),
    )
    .await;
    let mut split = proxy.wire().await;
    split.send(request(&["MSET", "a", "2", "b", "2"])).await;
    holds_for(
        "the other slots are served, this one not",
        Duration::from_millis(200),
        || async { true },
    )
    .await;
    for _ in 0..100 {
        assert_eq!(free.call("SET c x").await, "+OK");
    }
    assert_eq!(
        backends[0].wire().await.call("MGET a b").await,
        "*[$- $-]",
        "nothing of a held request was sent"
    );
    api.fill_slots(&[slot_of("a", &two, 3)]).await.unwrap();
    assert_eq!(split.reply().await, "+OK");
    assert_eq!(held.reply().await, "+OK");
    // The two clients were held at once; whose turn comes first is open.
    assert!(["$1", "$2"].contains(&held.reply().await.as_str()));
    assert!(["$-", "$2"].contains(&held.reply().await.as_str()));
    assert_eq!(backends[0].wire().await.call("EXISTS a").await, ":0");
}

#[tokio::test]
async fn held_request_of_a_client_that_left_is_not_carried_out() {
    let backend = Backend::start().await;
    let proxy = Proxy::serving(slots_over(&[backend.addr()], 1)).await;
    let api = proxy.api().await;
    api.fill_slots(&[Slot {
        locked: true,
        ..slot_of("a", &backend.addr(), 2)
    }])
    .await
    .unwrap();
    let mut wire = proxy.wire().await;
    wire.send(
        [
            request(&["SET", "b", "1"]),
            request(&["SET", "a", "1"]),
            request(&["SET", "c", "1"]),
        ]
        .concat(),
    )
    .await;
    assert_eq!(wire.reply().await, "+OK");
    drop(wire);
    eventually("the client is gone", Duration::from_secs(2), async || {
        (api.stats().await.unwrap().sessions.alive == 0).then_some(())
    })
    .await;
    api.fill_slots(&[slot_of("a", &backend.addr(), 3)]).await.unwrap();
    assert_eq!(proxy.wire().await.call("MGET a b c").await, "*[$- $1 $-]");
}

#[tokio::test]
async fn lock_is_acknowledged_only_when_nothing_is_under_way() {
    let backends = Backend::several(2).await;
    let [one, two] = [backends[0].addr(), backends[1].addr()];
    let proxy = Proxy::serving(slots_over(std::slice::from_ref(&one), 1)).await;
    let api = proxy.api().await;
    let mut wire = proxy.wire().await;
    backends[0].process.signal("STOP");
    wire.send(request(&["SET", "a", "old"])).await;
    proxy.took_up("set").await;
    eventually("the request is under way", Duration::from_secs(2), async || {
        let late = api
            .fill_slots(&[Slot {
                locked: true,
                ..slot_of("a", &one, 2)
            }])
            .await;
        late.err().filter(|error| error.to_string().contains("still under way"))
    })
    .await;
    // The state holds all the same; the same push again waits again, others are not disturbed.
    assert!(api.slots().await.unwrap()[SlotId::of_key(b"a").index()].locked);
    api.fill_slots(&[slot(SlotId::new(3).unwrap(), Some(&two), 2)])
        .await
        .unwrap();
    let mut next = proxy.wire().await;
    next.send(request(&["GET", "a"])).await;
    assert!(
        api.fill_slots(&[Slot {
            locked: true,
            ..slot_of("a", &one, 2)
        }])
        .await
        .is_err()
    );
    backends[0].process.signal("CONT");
    api.fill_slots(&[Slot {
        locked: true,
        ..slot_of("a", &one, 2)
    }])
    .await
    .unwrap();
    assert_eq!(wire.reply().await, "+OK");
    assert_eq!(backends[0].wire().await.call("GET a").await, "$old");
    api.fill_slots(&[slot_of("a", &two, 3)]).await.unwrap();
    assert_eq!(next.reply().await, "$-", "what was held goes to the new server");
}

#[tokio::test]
async fn order_on_a_slot_is_kept_while_it_is_locked_and_moved_to_and_fro() {
    let backends = Backend::several(2).await;
    let addrs = [backends[0].addr(), backends[1].addr()];
    let proxy = Proxy::serving(slots_over(&addrs[..1], 1)).await;
    let api = proxy.api().await;
    // Both servers hold the list; each push goes to where the slot is, and the lengths that a client sees on one
    // server never go back.
    let writers: Vec<_> = (0..8)
        .map(|number| {
            let port = proxy.port;
            tokio::spawn(async move {
                let mut wire = crate::support::wire::Wire::connect(port).await;
                let mut seen = 0;
                let began = Instant::now();
                while began.elapsed() < Duration::from_millis(1500) {
                    let batch: Vec<u8> = (0..20)
                        .flat_map(|at| request(&["SET".to_owned(), format!("{{a}}{number}"), format!("{}", seen + at)]))
                        .collect();
                    wire.send(batch).await;
                    for _ in 0..20 {
                        assert_eq!(wire.reply().await, "+OK");
                    }
                    seen += 20;
                    let value = wire.call(&format!("GET {{a}}{number}")).await;
                    assert!(
                        value == format!("${}", seen - 1)
                            || value == "$-"
                            || value[1..].parse::<i64>().unwrap() < seen - 1
                    );
                }
                seen
            })
        })
        .collect();
    let mut epoch = 2;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1400) {
        for addr in &addrs {
            api.fill_slots(&[Slot {
                locked: true,
                ..slot_of("a", addr, epoch)
            }])
            .await
            .unwrap();
            api.fill_slots(&[slot_of("a", addr, epoch + 1)]).await.unwrap();
            epoch += 2;
        }
    }
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
    assert!(epoch > 40, "many pushes were acknowledged under load: {epoch}");
}

#[tokio::test]
async fn pushes_of_all_slots_are_quick() {
    let backends = Backend::several(3).await;
    let addrs: Vec<_> = backends.iter().map(Backend::addr).collect();
    let proxy = Proxy::serving(slots_over(&addrs, 1)).await;
    let api = proxy.api().await;
    let mut took: Vec<_> = Vec::new();
    for epoch in 2..22 {
        let began = Instant::now();
        api.fill_slots(&slots_over(&addrs, epoch)).await.unwrap();
        took.push(began.elapsed());
    }
    took.sort_unstable();
    assert!(took[10] < Duration::from_millis(50), "the median of {took:?}");
}

#[tokio::test]
async fn unusable_settings_are_refused_by_name() {
    let run = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_codis-proxy"))
            .args(args)
            .output()
            .unwrap();
        (
            output.status.success(),
            format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
        )
    };
    for flag in ["--zookeeper=x", "--etcd=x", "--filesystem=/x"] {
        let (fine, text) = run(&[flag]);
        assert!(!fine && text.contains("--dashboard"), "{flag}: {text}");
    }
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("proxy.toml");
    std::fs::write(&file, "nosuchkey = 1").unwrap();
    let (fine, text) = run(&["--config", file.to_str().unwrap()]);
    assert!(!fine && text.contains("nosuchkey"), "{text}");
    let (fine, text) = run(&["--ulimit=99999999999"]);
    assert!(!fine && text.contains("ulimit"), "{text}");
    let admin = format!(
        "admin_addr = \"127.0.0.1:{}\"\nproxy_addr = \"127.0.0.1:{}\"",
        free_port(),
        free_port()
    );
    std::fs::write(&file, &admin).unwrap();
    let (fine, text) = run(&["--config", file.to_str().unwrap(), "--host-proxy=0.0.0.0:1"]);
    assert!(!fine && text.contains("--host-proxy"), "{text}");
    std::fs::write(folder.path().join("slots.json"), "[{\"id\":1}]").unwrap();
    let (fine, text) = run(&[
        "--config",
        file.to_str().unwrap(),
        "--fillslots",
        folder.path().join("slots.json").to_str().unwrap(),
    ]);
    assert!(!fine && text.contains("1023 slots"), "{text}");
    assert_eq!(
        run(&["--default-config"]),
        (true, codis_operator::proxy::DEFAULT_CONFIG.to_owned())
    );
    assert!(run(&["--version"]).1.contains(env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn push_that_is_repeated_gives_up_the_former_server_and_not_the_new_one() {
    let backends = Backend::several(2).await;
    let [one, two] = [backends[0].addr(), backends[1].addr()];
    // Nothing but the push gives a hung server up.
    let setup = Setup {
        toml: "backend_ping_period = \"0\"\nbackend_recv_timeout = \"60s\"",
        ..Setup::default()
    };
    let mut slots = slots_over(std::slice::from_ref(&one), 1);
    slots[SlotId::of_key(b"b").index()] = slot_of("b", &two, 1);
    let proxy = Proxy::serving_with(slots, setup).await;
    let api = proxy.api().await;
    let (mut former, mut new) = (proxy.wire().await, proxy.wire().await);
    backends[0].process.signal("STOP");
    former.ask("SET a 1").await;
    proxy.took_up("set").await;
    let moved = [slot_of("a", &two, 2)];
    assert!(api.fill_slots(&moved).await.is_err(), "a request is under way");
    backends[1].process.signal("STOP");
    new.ask("INCR b").await;
    proxy.took_up("incr").await;
    api.fill_slots_dropping(&moved, Duration::from_millis(100))
        .await
        .unwrap();
    assert_eq!(former.reply().await, "-ERR handle response, backend conn reset");
    backends[1].process.signal("CONT");
    assert_eq!(new.reply().await, ":1", "its server has nothing to do with the push");
    assert_eq!(former.call("EXISTS a").await, ":0");
    backends[0].process.signal("CONT");
}
