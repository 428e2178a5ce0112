//! Servers and clients that misbehave, load, and the proxy's own end.

use std::time::{Duration, Instant};

use codis_operator::model::{Slot, Topom};

use crate::support::backend::Backend;
use crate::support::proxy::{Proxy, Setup, key_at, slot_of, slots_over};
use crate::support::wire::{Wire, request};
use crate::support::{eventually, free_port};

const LOST: &str = "-ERR handle response, backend conn reset";

#[tokio::test]
async fn ten_thousand_pipelined_requests_are_answered_in_order() {
    let backends = Backend::several(3).await;
    let proxy = Proxy::serving(slots_over(&Backend::addrs(&backends), 1)).await;
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut wire = proxy.wire().await;
        wire.call(hello).await;
        let mut pipeline = Vec::new();
        for n in 0..10_000 {
            match n % 4 {
                0 => pipeline.extend(request(&["SET".to_owned(), format!("k{n}"), format!("v{n}")])),
                1 => pipeline.extend(request(&["GET".to_owned(), format!("k{}", n - 1)])),
                2 => pipeline.extend(request(&["ECHO".to_owned(), format!("e{n}")])),
                _ => pipeline.extend(request(&[
                    "MGET".to_owned(),
                    format!("k{}", n - 3),
                    "nosuch".to_owned(),
                    format!("k{}", n - 3),
                ])),
            }
        }
        wire.send(pipeline).await;
        let nil = if hello == "HELLO 3" { "_" } else { "$-" };
        for n in 0..10_000 {
            let want = match n % 4 {
                0 => "+OK".to_owned(),
                1 => format!("$v{}", n - 1),
                2 => format!("$e{n}"),
                _ => format!("*[$v{} {nil} $v{}]", n - 3, n - 3),
            };
            assert_eq!(wire.reply().await, want, "request {n}");
        }
    }
}

#[tokio::test]
async fn many_clients_get_their_own_replies() {
    let backends = Backend::several(3).await;
    let proxy = Proxy::serving(slots_over(&Backend::addrs(&backends), 1)).await;
    let clients: Vec<_> = (0..200)
        .map(|client| {
            let port = proxy.port;
            tokio::spawn(async move {
                let mut wire = Wire::connect(port).await;
                if client % 3 == 0 {
                    wire.call("HELLO 3").await;
                }
                for round in 0..15 {
                    let keys: Vec<String> = (0..10).map(|n| format!("c{client}-{n}")).collect();
                    let mut batch = Vec::new();
                    for key in &keys {
                        batch.extend(request(&["SET", key, &format!("{key}-{round}")]));
                        batch.extend(request(&["GET", key]));
                    }
                    batch.extend(request(&[&["MGET".to_owned()], keys.as_slice()].concat()));
                    wire.send(batch).await;
                    for key in &keys {
                        assert_eq!(wire.reply().await, "+OK");
                        assert_eq!(wire.reply().await, format!("${key}-{round}"));
                    }
                    let want: Vec<String> = keys.iter().map(|key| format!("${key}-{round}")).collect();
                    assert_eq!(wire.reply().await, format!("*[{}]", want.join(" ")));
                    // Some leave with requests under way; nobody else may get their replies.
                    if client % 5 == 0 {
                        wire.send(request(&["GET", "nobody-hears"]).repeat(50)).await;
                        wire = Wire::connect(port).await;
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let stats = proxy.api().await.stats().await.unwrap();
    assert_eq!((stats.ops.fails, stats.ops.redis.errors), (0, 0));
}

#[tokio::test]
async fn killed_server_fails_what_was_under_way_and_is_used_again_when_back() {
    let mut backends = Backend::several(2).await;
    let proxy = Proxy::serving(slots_over(&Backend::addrs(&backends), 1)).await;
    let (gone, fine) = (key_at(0, 2), key_at(1, 2));
    let (mut wire, mut other) = (proxy.wire().await, proxy.wire().await);
    assert_eq!(wire.call(&format!("SET {gone} 1")).await, "+OK");
    backends[0].process.signal("STOP");
    wire.send(request(&["INCR", &gone])).await;
    assert_eq!(other.call(&format!("SET {fine} 1")).await, "+OK");
    backends[0].process.kill();
    assert_eq!(wire.reply().await, LOST);
    // Held for a moment, then failed at once: nobody waits long for a server that stays away.
    let began = Instant::now();
    assert_eq!(wire.call(&format!("GET {gone}")).await, LOST);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(wire.call(&format!("GET {gone}")).await, LOST);
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    assert_eq!(wire.call(&format!("MGET {gone} {fine}")).await, LOST);
    assert_eq!(other.call(&format!("GET {fine}")).await, "$1");
    assert_eq!(
        proxy.get("/readyz").await.0,
        200,
        "a dead server does not take the proxy out of service"
    );
    backends[0].restart().await;
    eventually("the server is used again", Duration::from_secs(3), async || {
        (wire.call(&format!("GET {gone}")).await == "$-").then_some(())
    })
    .await;
}

#[tokio::test]
async fn request_during_a_short_absence_waits_and_is_answered() {
    let mut backends = Backend::several(1).await;
    let proxy = Proxy::serving(slots_over(&Backend::addrs(&backends), 1)).await;
    let mut wire = proxy.wire().await;
    assert_eq!(wire.call("SET a 1").await, "+OK");
    backends[0].process.kill();
    tokio::time::sleep(Duration::from_millis(100)).await;
    wire.send(request(&["SET", "a", "2"])).await;
    backends[0].restart().await;
    assert_eq!(wire.reply().await, "+OK");
    assert_eq!(backends[0].wire().await.call("GET a").await, "$2");
}

#[tokio::test]
async fn hung_server_fails_its_requests_in_bounded_time_and_harms_no_other() {
    let backends = Backend::several(2).await;
    let setup = Setup {
        toml: "backend_recv_timeout = \"1s\"",
        ..Setup::default()
    };
    let proxy = Proxy::serving_with(slots_over(&Backend::addrs(&backends), 1), setup).await;
    let (hung, fine) = (key_at(0, 2), key_at(1, 2));
    let (mut wire, mut other) = (proxy.wire().await, proxy.wire().await);
    assert_eq!(wire.call(&format!("SET {hung} 1")).await, "+OK");
    backends[0].process.signal("STOP");
    wire.send(request(&["GET", &hung])).await;
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    while began.elapsed() < Duration::from_millis(800) {
        let asked = Instant::now();
        assert_eq!(other.call(&format!("SET {fine} 1")).await, "+OK");
        slowest = slowest.max(asked.elapsed());
    }
    assert_eq!(wire.reply().await, LOST);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(
        slowest < Duration::from_millis(300),
        "others were held up for {slowest:?}"
    );
    backends[0].process.signal("CONT");
    eventually("the server is used again", Duration::from_secs(5), async || {
        (wire.call(&format!("GET {hung}")).await == "$1").then_some(())
    })
    .await;
}

#[tokio::test]
async fn client_that_does_not_read_costs_bounded_memory_and_harms_no_other() {
    let backends = Backend::several(2).await;
    let proxy = Proxy::serving(slots_over(&Backend::addrs(&backends), 1)).await;
    let mut wire = proxy.wire().await;
    wire.send(request(&["SET", "big", &"v".repeat(100_000)])).await;
    assert_eq!(wire.reply().await, "+OK");
    let mut deaf = proxy.wire().await;
    deaf.send(request(&["GET", "big"]).repeat(20_000)).await;
    let mut highest = 0;
    for n in 0..100 {
        assert_eq!(wire.call(&format!("SET k{n} v")).await, "+OK");
        highest = highest.max(memory_of(&proxy));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // 2 GB were asked for.
    assert!(highest < 200 << 20, "the proxy took {highest} bytes");
    for _ in 0..200 {
        assert_eq!(deaf.reply().await.len(), 100_001, "what it reads after all is right");
    }
}

fn memory_of(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn clients_that_leave_while_their_slot_is_locked_leave_nothing_behind() {
    let backends = Backend::several(1).await;
    let proxy = Proxy::serving(slots_over(&Backend::addrs(&backends), 1)).await;
    let open_files = || {
        let files = std::fs::read_dir(format!("/proc/{}/fd", proxy.process.id()));
        files.unwrap().count()
    };
    let before = open_files();
    let locked = Slot {
        locked: true,
        ..slot_of("held", &backends[0].addr(), 2)
    };
    proxy.api().await.fill_slots(&[locked]).await.unwrap();
    for _ in 0..100 {
        proxy.wire().await.send(request(&["GET", "held"])).await;
    }
    eventually("their connections are closed", Duration::from_secs(5), async || {
        (open_files() < before + 20).then_some(())
    })
    .await;
}

#[tokio::test]
async fn clients_beyond_the_limit_and_idle_ones_are_closed() {
    let backends = Backend::several(1).await;
    let toml = "proxy_max_clients = 3\nsession_recv_timeout = \"500ms\"";
    let proxy = Proxy::serving_with(
        slots_over(&Backend::addrs(&backends), 1),
        Setup {
            toml,
            ..Setup::default()
        },
    )
    .await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut wire = proxy.wire().await;
        assert_eq!(wire.call("PING").await, "+PONG");
        clients.push(wire);
    }
    assert_eq!(
        proxy.wire().await.rest().await,
        "-ERR max number of clients reached\r\n"
    );
    for client in &mut clients {
        assert!(client.is_closed().await, "an idle client is closed");
    }
    assert_eq!(
        proxy.wire().await.call("PING").await,
        "+PONG",
        "their places are free again"
    );
}

#[tokio::test]
async fn pipelines_longer_than_the_limit_wait_instead_of_breaking() {
    let backends = Backend::several(2).await;
    let toml = "session_max_pipeline = 10\nbackend_max_pipeline = 1";
    let proxy = Proxy::serving_with(
        slots_over(&Backend::addrs(&backends), 1),
        Setup {
            toml,
            ..Setup::default()
        },
    )
    .await;
    let clients: Vec<_> = (0..10)
        .map(|client| {
            let port = proxy.port;
            tokio::spawn(async move {
                let mut wire = Wire::connect(port).await;
                let batch: Vec<u8> = (0..500)
                    .flat_map(|n| request(&["APPEND".to_owned(), format!("c{client}k{}", n % 7), "x".to_owned()]))
                    .collect();
                wire.send(batch).await;
                for n in 0..500 {
                    assert_eq!(wire.reply().await, format!(":{}", n / 7 + 1));
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn requests_sent_before_a_half_close_are_answered() {
    let backends = Backend::several(2).await;
    let proxy = Proxy::serving(slots_over(&Backend::addrs(&backends), 1)).await;
    let mut wire = proxy.wire().await;
    wire.send([request(&["SET", "a", "1"]), request(&["MGET", "a", "b"])].concat())
        .await;
    wire.finish().await;
    assert_eq!(wire.rest().await, "+OK\r\n*2\r\n$1\r\n1\r\n$-1\r\n");
}

#[tokio::test]
async fn requests_that_wait_for_earlier_replies_at_a_half_close_are_answered_too() {
    let backends = Backend::several(1).await;
    let proxy = Proxy::serving(slots_over(&Backend::addrs(&backends), 1)).await;
    let mut other = proxy.wire().await;
    let held = async |server: &mut Wire| server.call("CLIENT PAUSE 500 ALL").await;
    let mut server = backends[0].wire().await;
    for (requests, replies) in [
        (
            vec!["SET a 1", "SELECT 0", "SET b 2", "SELECT 0", "GET b"],
            "+OK\r\n+OK\r\n+OK\r\n+OK\r\n$1\r\n2\r\n",
        ),
        // Nobody is there any more to wait without end.
        (vec!["SET a 1", "BLPOP list 0", "SET c 3"], "+OK\r\n*-1\r\n"),
    ] {
        let mut wire = proxy.wire().await;
        assert_eq!(held(&mut server).await, "+OK");
        wire.ask_all(&requests).await;
        wire.finish().await;
        assert_eq!(wire.rest().await, replies);
    }
    assert_eq!(other.call("MGET b c").await, "*[$2 $-]");
}

#[tokio::test]
async fn sigterm_finishes_what_is_under_way_closes_idle_clients_and_leaves_the_dashboard() {
    let backends = Backend::several(1).await;
    let dashboard = FakeDashboard::start("refdemo").await;
    let mut proxy = Proxy::launch(Setup {
        flags: &[&format!("--dashboard=127.0.0.1:1,{}", dashboard.addr)],
        ..Setup::default()
    })
    .await;
    eventually("the proxy registered", Duration::from_secs(5), async || {
        dashboard.called("/proxy/online/")
    })
    .await;
    let api = proxy.api().await;
    api.fill_slots(&slots_over(&Backend::addrs(&backends), 1))
        .await
        .unwrap();
    api.start().await.unwrap();
    let (mut idle, mut busy) = (proxy.wire().await, proxy.wire().await);
    assert_eq!([idle.call("PING").await, busy.call("PING").await], ["+PONG", "+PONG"]);
    backends[0].process.signal("STOP");
    busy.send(request(&["SET", "a", "1"])).await;
    proxy.took_up("set").await;
    eventually("the request is under way", Duration::from_secs(2), async || {
        let slots = [codis_operator::model::Slot {
            locked: true,
            ..crate::support::proxy::slot_of("a", &backends[0].addr(), 2)
        }];
        api.fill_slots(&slots).await.err()
    })
    .await;
    proxy.process.signal("TERM");
    assert!(idle.is_closed().await, "an idle client is closed at once");
    eventually("it is not ready", Duration::from_secs(1), async || {
        (proxy.get("/readyz").await.0 == 503).then_some(())
    })
    .await;
    eventually("there are no new clients", Duration::from_secs(1), async || {
        Wire::try_connect(proxy.port).await.is_none().then_some(())
    })
    .await;
    assert!(
        dashboard.called("/proxy/remove/").is_none(),
        "what is under way comes before leaving"
    );
    backends[0].process.signal("CONT");
    assert_eq!(busy.reply().await, "+OK");
    assert!(busy.is_closed().await);
    assert_eq!(proxy.process.exit_code(Duration::from_secs(5)).await, Some(0));
    assert!(dashboard.called("/proxy/remove/").is_some());
}

#[tokio::test]
async fn shutdown_through_the_admin_api_ends_the_process() {
    let backends = Backend::several(1).await;
    let mut proxy = Proxy::serving(slots_over(&Backend::addrs(&backends), 1)).await;
    let mut wire = proxy.wire().await;
    assert_eq!(wire.call("PING").await, "+PONG");
    proxy.api().await.shutdown().await.unwrap();
    assert!(wire.is_closed().await);
    assert_eq!(proxy.process.exit_code(Duration::from_secs(2)).await, Some(0));
}

#[tokio::test]
async fn dashboard_of_another_product_is_a_fatal_error() {
    let dashboard = FakeDashboard::start("other").await;
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("proxy.toml");
    let ports = format!(
        "admin_addr = \"127.0.0.1:{}\"\nproxy_addr = \"127.0.0.1:{}\"",
        free_port(),
        free_port()
    );
    std::fs::write(&file, format!("product_name = \"refdemo\"\n{ports}")).unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_codis-proxy"));
    command
        .arg("--config")
        .arg(&file)
        .arg(format!("--dashboard={}", dashboard.addr))
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(10), command.output())
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && text.contains("\"other\"") && text.contains("\"refdemo\""),
        "{text}"
    );
}

/// Answers as a dashboard does, and remembers what it was asked.
struct FakeDashboard {
    addr: String,
    calls: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

impl FakeDashboard {
    async fn start(product: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let calls = std::sync::Arc::<std::sync::Mutex<Vec<String>>>::default();
        let model: Topom = serde_json::from_value(serde_json::json!({
            "token": "0", "start_time": "", "admin_addr": addr, "product_name": product, "pid": 1, "pwd": "", "sys": "",
        }))
        .unwrap();
        let heard = calls.clone();
        let answer = async move |uri: axum::http::Uri| {
            heard.lock().unwrap().push(uri.to_string());
            let body = if uri.path() == "/api/topom/model" {
                serde_json::to_value(&model).unwrap()
            } else {
                "OK".into()
            };
            axum::Json(body)
        };
        let routes = axum::Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { addr, calls }
    }

    fn called(&self, what: &str) -> Option<String> {
        self.calls
            .lock()
            .unwrap()
            .iter()
            .find(|call| call.contains(what))
            .cloned()
    }
}
