//! Figures for Prometheus, hot keys, and looking on.

use std::time::Duration;

use codis_operator::model::Slot;

use crate::support::backend::Backend;
use crate::support::eventually;
use crate::support::proxy::{Proxy, Setup, slot_of, slots_over};
use crate::support::wire::request;

/// The value of the series of this name, labels included.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text
        .lines()
        .find(|line| line.rsplit_once(' ').is_some_and(|(name, _)| name == series))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

async fn figure(proxy: &Proxy, series: &str) -> f64 {
    let (status, text) = proxy.get("/metrics").await;
    assert_eq!(status, 200);
    value(&text, series).unwrap_or_else(|| panic!("{series} is missing in {text}"))
}

#[tokio::test]
async fn requests_clients_servers_and_slots_are_counted() {
    let backends = Backend::several(2).await;
    let addrs: Vec<_> = backends.iter().map(Backend::addr).collect();
    let proxy = Proxy::serving(slots_over(&addrs, 1)).await;
    let mut wires = [proxy.wire().await, proxy.wire().await];
    for wire in &mut wires {
        for words in ["SET a 1", "GET a", "LPUSH a x", "nosuch", "GET"] {
            wire.call(words).await;
        }
    }
    let server = slots_over(&addrs, 1)[codis_operator::model::SlotId::of_key(b"a").index()]
        .backend_addr
        .clone()
        .unwrap();
    let (_, text) = proxy.get("/metrics").await;
    assert!(text.ends_with("# EOF\n"), "{text}");
    let labelled = |name: &str| format!("codis_proxy_{name}");
    for (series, wanted) in [
        ("requests_total{command=\"GET\"}", 4.0),
        ("requests_total{command=\"SET\"}", 2.0),
        ("request_errors_total{command=\"LPUSH\"}", 2.0),
        ("errors_total{kind=\"wrongtype\"}", 2.0),
        ("errors_total{kind=\"unknown\"}", 2.0),
        ("errors_total{kind=\"arity\"}", 2.0),
        ("request_seconds_count", 6.0),
        ("request_seconds_bucket{le=\"+Inf\"}", 6.0),
        ("clients", 2.0),
        ("clients_accepted_total", 2.0),
        ("held_clients", 0.0),
        ("slots{state=\"open\"}", 1024.0),
        ("slots{state=\"offline\"}", 0.0),
        ("slots_filled", 1024.0),
        ("online", 1.0),
        ("ready", 1.0),
    ] {
        assert_eq!(value(&text, &labelled(series)), Some(wanted), "{series}: {text}");
    }
    for series in [
        "client_bytes_total{direction=\"in\"}".to_owned(),
        "client_bytes_total{direction=\"out\"}".to_owned(),
        format!("backend_bytes_total{{server=\"{server}\",direction=\"in\"}}"),
        format!("backend_bytes_total{{server=\"{server}\",direction=\"out\"}}"),
        format!("backend_connected{{server=\"{server}\"}}"),
        "request_seconds_sum".to_owned(),
    ] {
        assert!(
            value(&text, &labelled(&series)).is_some_and(|value| value > 0.0),
            "{series}: {text}"
        );
    }
    assert_eq!(proxy.get("/healthz").await, (200, "ok".to_owned()));
}

#[tokio::test]
async fn held_requests_locked_slots_and_lost_connections_are_seen() {
    let mut backends = Backend::several(1).await;
    let addr = backends[0].addr();
    let proxy = Proxy::serving(slots_over(std::slice::from_ref(&addr), 1)).await;
    let locked = Slot {
        locked: true,
        ..slot_of("a", &addr, 2)
    };
    proxy.api().await.fill_slots(&[locked]).await.unwrap();
    let mut wire = proxy.wire().await;
    wire.send(request(&["GET", "a"])).await;
    eventually("the request is held", Duration::from_secs(5), async || {
        (figure(&proxy, "codis_proxy_held_clients").await == 1.0).then_some(())
    })
    .await;
    assert_eq!(figure(&proxy, "codis_proxy_slots{state=\"locked\"}").await, 1.0);
    assert_eq!(
        figure(&proxy, "codis_proxy_ready").await,
        1.0,
        "a locked slot is none's fault"
    );
    proxy.api().await.fill_slots(&[slot_of("a", &addr, 3)]).await.unwrap();
    assert_eq!(wire.reply().await, "$-");
    backends[0].process.kill();
    let losses = format!("codis_proxy_backend_losses_total{{server=\"{addr}\"}}");
    eventually("the loss is counted", Duration::from_secs(5), async || {
        (figure(&proxy, &losses).await >= 1.0).then_some(())
    })
    .await;
    assert_eq!(
        proxy.get("/readyz").await.0,
        200,
        "a dead group does not empty the Service"
    );
}

#[tokio::test]
async fn hot_keys_are_told_where_they_are_counted() {
    let backend = Backend::start().await;
    let setup = Setup {
        toml: "hot_keys_sample = 2",
        ..Setup::default()
    };
    let proxy = Proxy::serving_with(slots_over(&[backend.addr()], 1), setup).await;
    let mut wire = proxy.wire().await;
    for round in 0..50 {
        wire.call("GET hot").await;
        wire.call(&format!("SET cold{round} x")).await;
        wire.call("GET hot").await;
    }
    let path = format!("/api/proxy/hotkeys/{}", proxy.xauth().await);
    let (status, text) = proxy.get(&path).await;
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, &told["sample"], &told["keys"][0]["key"]),
        (200, &2.into(), &"hot".into())
    );
    assert!(told["keys"][0]["count"].as_u64().unwrap() >= 25, "{text}");
    assert_eq!(proxy.put("/api/proxy/stats/reset/X", "").await.0, 200);
    assert_eq!(proxy.get(&path).await.1, "{\"sample\":2,\"keys\":[]}");
    assert_eq!(proxy.get("/api/proxy/hotkeys/0").await.0, 800);
    let off = Proxy::launch(Setup::default()).await;
    let (status, text) = off.get(&format!("/api/proxy/hotkeys/{}", off.xauth().await)).await;
    assert!(status == 800 && text.contains("set hot_keys_sample"), "{text}");
}

#[tokio::test]
async fn requests_are_shown_where_that_is_allowed_and_no_password() {
    let backend = Backend::start().await;
    let setup = Setup {
        toml: "admin_monitor = true\nsession_auth = \"s3cret\"",
        ..Setup::default()
    };
    let proxy = Proxy::serving_with(slots_over(&[backend.addr()], 1), setup).await;
    let path = format!("/api/proxy/monitor/{}?seconds=2", proxy.xauth().await);
    let mut wires = [proxy.wire().await, proxy.wire().await];
    let (shown, ()) = tokio::join!(proxy.get(&path), async {
        let until = std::time::Instant::now() + Duration::from_secs(1);
        while std::time::Instant::now() < until {
            for wire in &mut wires {
                wire.call("AUTH s3cret").await;
                wire.call("SET a 1").await;
                wire.call("SELECT 3").await;
                wire.call("SET b 1").await;
                wire.call("SELECT 0").await;
                wire.call("CONFIG SET requirepass s3cret").await;
                wire.call("ACL SETUSER someone >s3cret").await;
                wire.call("MIGRATE 127.0.0.1 1 k 0 1 AUTH s3cret").await;
            }
        }
    });
    let (status, text) = shown;
    let shows = |database: u8, words: &str| {
        let start = format!(" [{database} 127.0.0.1:");
        text.lines().any(|line| line.contains(&start) && line.ends_with(words))
    };
    assert_eq!(status, 200, "{text}");
    assert!(
        shows(0, " \"SET\" \"a\" \"1\"") && shows(3, " \"SET\" \"b\" \"1\""),
        "{text}"
    );
    for hidden in ["AUTH", "CONFIG", "ACL", "MIGRATE"] {
        assert!(shows(0, &format!(" \"{hidden}\" (not shown)")), "{hidden}: {text}");
    }
    assert!(!text.contains("s3cret"), "{text}");
    assert!(text.lines().last().unwrap().starts_with("# dropped: "));
    let off = Proxy::launch(Setup::default()).await;
    let (status, text) = off.get(&format!("/api/proxy/monitor/{}", off.xauth().await)).await;
    assert!(status == 800 && text.contains("admin_monitor = true"), "{text}");
}
