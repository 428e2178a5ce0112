//! The Sentinels that the user runs: real ones, told what to watch, asked, hung and gone.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod support;

use std::time::{Duration, Instant};

use codis_operator::client::{Http, ProxyClient};
use codis_operator::model::{ProxySentinels, Stats};
use serde_json::json;
use support::dashboard::{Api, Inside, PRODUCT};
use support::etcd::Etcd;
use support::eventually;
use support::proxy::{Proxy, Setup};
use support::sentinel::Sentinel;
use support::valkey::Valkey;

const SECRET: &str = "hush-hush";
const CONFIG: &str =
    "sentinel_client_timeout = \"1s\"\nsentinel_down_after = \"1s\"\nsentinel_failover_timeout = \"20s\"\n";
const WAIT: Duration = Duration::from_secs(10);

async fn group(api: &Api, id: u16, servers: &[&Valkey]) {
    api.done(&format!("/api/topom/group/create/X/{id}")).await;
    for server in servers {
        api.done(&format!("/api/topom/group/add/X/{id}/{}", server.addr()))
            .await;
    }
}

async fn add(api: &Api, sentinels: &[Sentinel]) {
    for sentinel in sentinels {
        api.done(&format!("/api/topom/sentinels/add/X/{}", sentinel.addr()))
            .await;
    }
}

async fn three() -> Vec<Sentinel> {
    vec![
        Sentinel::start().await,
        Sentinel::start().await,
        Sentinel::start().await,
    ]
}

async fn stats(api: &Api) -> Stats {
    api.client.stats().await.unwrap()
}

async fn stored(etcd: &Etcd) -> serde_json::Value {
    let text = etcd.get(&format!("/codis3/{PRODUCT}/sentinel")).await.unwrap();
    serde_json::from_str(&text).unwrap()
}

fn addrs(sentinels: &[Sentinel]) -> Vec<String> {
    sentinels.iter().map(|sentinel| sentinel.addr().to_string()).collect()
}

/// The Sentinels that a proxy was told.
async fn told(proxy: &Proxy) -> Vec<String> {
    let model = ProxyClient::model(&support::proxy::http(), &proxy.admin_addr())
        .await
        .unwrap();
    let http = Http::new(WAIT).unwrap();
    let product = support::proxy::product();
    let client = ProxyClient::new(
        http,
        proxy.admin_addr(),
        &product,
        SECRET,
        &model.token,
        &model.incarnation,
    );
    let ProxySentinels { servers, .. } = client.stats().await.unwrap().sentinels;
    servers
}

async fn proxy() -> Proxy {
    Proxy::launch(Setup {
        toml: "product_auth = \"hush-hush\"",
        ..Setup::default()
    })
    .await
}

#[tokio::test]
async fn sentinels_watch_the_primaries_after_a_resync_and_proxies_know_the_sentinels() {
    let etcd = Etcd::start().await;
    let dashboard = Inside::configured(&etcd, SECRET, CONFIG).await;
    let api = &dashboard.api;
    let (one, two) = (Valkey::with_password(SECRET).await, Valkey::with_password(SECRET).await);
    group(api, 1, &[&one]).await;
    group(api, 2, &[&two]).await;
    let early = proxy().await;
    api.done(&format!("/api/topom/proxy/create/X/{}", early.admin_addr()))
        .await;

    let sentinels = three().await;
    // Others' primaries, and one of ours that is no more.
    for (name, addr) in [("refdemo-x", &one), ("other-1", &one), ("refdemo-9", &two)] {
        let port = addr.addr().port().to_string();
        sentinels[0]
            .run::<String>(&["SENTINEL", "MONITOR", name, "127.0.0.1", &port, "1"])
            .await;
    }
    add(api, &sentinels).await;
    assert_eq!(
        stored(&etcd).await,
        json!({"servers": addrs(&sentinels), "out_of_sync": true})
    );
    assert!(told(&early).await.is_empty());

    api.done("/api/topom/sentinels/resync-all/X").await;
    assert_eq!(
        stored(&etcd).await,
        json!({"servers": addrs(&sentinels), "out_of_sync": false})
    );
    for sentinel in &sentinels {
        let lines = sentinel.remembered();
        for (group, server) in [(1, &one), (2, &two)] {
            for line in [
                format!("monitor {PRODUCT}-{group} 127.0.0.1 {} 2", server.addr().port()),
                format!("down-after-milliseconds {PRODUCT}-{group} 1000"),
                format!("failover-timeout {PRODUCT}-{group} 20000"),
                format!("auth-pass {PRODUCT}-{group} {SECRET}"),
            ] {
                assert!(lines.contains(&line), "{line}: {lines:?}");
            }
        }
    }
    let first = sentinels[0].remembered();
    let watched = |name: &str| first.iter().any(|line| line.starts_with(&format!("monitor {name} ")));
    assert!(
        watched("refdemo-x") && watched("other-1") && !watched("refdemo-9"),
        "{first:?}"
    );

    let asked = addrs(&sentinels);
    // Each is polled by itself: one may have been asked before it was told of both.
    let named = eventually("all Sentinels name both primaries", WAIT, async || {
        let sentinels = stats(api).await.sentinels;
        let name_both = |addr| sentinels.stats.get(addr).is_some_and(|poll| poll.sentinel.len() == 2);
        (sentinels.masters.len() == 2 && asked.iter().all(name_both)).then_some(sentinels)
    })
    .await;
    let named_by = |group: &str| named.masters[group].as_str();
    assert_eq!(
        (named_by("1"), named_by("2")),
        (one.addr().as_str(), two.addr().as_str())
    );
    assert!(!named.model.out_of_sync);
    let poll = &named.stats[&addrs(&sentinels)[0]];
    assert!(
        poll.stats.contains_key("sentinel_masters") && poll.unixtime > 0,
        "{poll:?}"
    );
    assert_eq!(poll.sentinel.keys().collect::<Vec<_>>(), ["refdemo-1", "refdemo-2"]);

    let info = format!("/api/topom/sentinels/info/{}", sentinels[1].addr());
    let (status, text) = api.get(&info).await;
    let fields: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, fields["sentinel_masters"].as_str()), (200, Some("2")));
    let (status, text) = api.get(&format!("{info}/monitored")).await;
    let monitored: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, monitored.as_object().unwrap().len()), (200, 2));
    assert_eq!(monitored["refdemo-1"]["master"]["port"], one.addr().port().to_string());
    assert!(!text.contains("hush"), "{text}");

    assert_eq!(told(&early).await, addrs(&sentinels));
    let late = proxy().await;
    api.done(&format!("/api/topom/proxy/online/X/{}", late.admin_addr()))
        .await;
    assert_eq!(told(&late).await, addrs(&sentinels));

    // A server more: they may know less than the record, until they are told again.
    let replica = Valkey::with_password(SECRET).await;
    api.done(&format!("/api/topom/group/add/X/1/{}", replica.addr())).await;
    assert!(stats(api).await.sentinels.model.out_of_sync);
    api.done("/api/topom/sentinels/resync-all/X").await;
    assert!(!stats(api).await.sentinels.model.out_of_sync);
}

#[tokio::test]
async fn sentinels_that_do_not_fit_are_refused_with_the_texts_of_codis() {
    let etcd = Etcd::start().await;
    let dashboard = Inside::configured(&etcd, "", CONFIG).await;
    let api = &dashboard.api;
    let (sentinel, server) = (Sentinel::start().await, Valkey::start().await);
    add(api, std::slice::from_ref(&sentinel)).await;
    let before = etcd.dump("/codis3/").await;
    let (known, other) = (sentinel.addr(), server.addr());
    for (path, words) in [
        (format!("add/X/{known}"), format!("sentinel-[{known}] already exists")),
        (format!("del/X/{other}/1"), format!("sentinel-[{other}] not found")),
        (
            "add/X/127.0.0.1:1".to_owned(),
            "dial tcp 127.0.0.1:1: connect: connection refused".to_owned(),
        ),
        (
            format!("add/X/{other}"),
            format!("{other}: SENTINEL FLUSHCONFIG was refused: ERR unknown command"),
        ),
        ("add/X/nowhere".to_owned(), "invalid address \"nowhere\"".to_owned()),
    ] {
        let cause = api.refused(&format!("/api/topom/sentinels/{path}"), "").await;
        assert!(cause.starts_with(&words), "{path}: {cause}");
    }
    assert_eq!(etcd.dump("/codis3/").await, before);
    // Nobody makes the dashboard call an address that it does not know.
    for path in [format!("info/{other}"), format!("info/{other}/monitored")] {
        let (status, body) = api.get(&format!("/api/topom/sentinels/{path}")).await;
        assert_eq!(
            (status, support::dashboard::cause(&body)),
            (800, format!("sentinel-[{other}] not found"))
        );
    }
}

#[tokio::test]
async fn a_removed_sentinel_watches_nothing_of_ours_and_a_dead_one_is_removed_by_force() {
    let etcd = Etcd::start().await;
    let dashboard = Inside::configured(&etcd, "", CONFIG).await;
    let api = &dashboard.api;
    let server = Valkey::start().await;
    group(api, 1, &[&server]).await;
    let mut sentinels = vec![Sentinel::start().await, Sentinel::start().await];
    add(api, &sentinels).await;
    api.done("/api/topom/sentinels/resync-all/X").await;
    let mut dead = sentinels.remove(1);
    let gone = &sentinels[0];
    assert!(
        gone.remembered()
            .iter()
            .any(|line| line.starts_with("monitor refdemo-1 "))
    );
    api.done(&format!("/api/topom/sentinels/del/X/{}/0", gone.addr())).await;
    assert!(!gone.remembered().iter().any(|line| line.starts_with("monitor ")));
    assert_eq!(
        stored(&etcd).await,
        json!({"servers": [dead.addr()], "out_of_sync": true})
    );

    dead.kill();
    let cause = api
        .refused(&format!("/api/topom/sentinels/del/X/{}/0", dead.addr()), "")
        .await;
    assert!(cause.contains("connection refused"), "{cause}");
    assert_eq!(
        stored(&etcd).await,
        json!({"servers": [dead.addr()], "out_of_sync": true})
    );
    eventually("its poll says why", WAIT, async || {
        let polls = stats(api).await.sentinels.stats;
        let error = polls.get(dead.addr().as_str())?.error.as_ref()?.cause.clone();
        error.contains("connection refused").then_some(())
    })
    .await;
    api.done(&format!("/api/topom/sentinels/del/X/{}/1", dead.addr())).await;
    assert_eq!(stored(&etcd).await, json!({"out_of_sync": true}));
    eventually("it is polled no more", WAIT, async || {
        stats(api).await.sentinels.stats.is_empty().then_some(())
    })
    .await;
    api.done("/api/topom/sentinels/resync-all/X").await;
    assert_eq!(stored(&etcd).await, json!({"out_of_sync": false}));
}

#[tokio::test]
async fn a_sentinel_that_hangs_is_named_in_time_and_the_others_are_told() {
    let etcd = Etcd::start().await;
    let dashboard = Inside::configured(&etcd, "", CONFIG).await;
    let api = &dashboard.api;
    let server = Valkey::start().await;
    group(api, 1, &[&server]).await;
    let sentinels = three().await;
    add(api, &sentinels).await;
    sentinels[1].signal("STOP");
    let began = Instant::now();
    let cause = api.refused("/api/topom/sentinels/resync-all/X", "").await;
    let hanging = sentinels[1].addr();
    assert!(
        cause.starts_with(&format!("{hanging}: ")) && !cause.contains("; "),
        "{cause}"
    );
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(stats(api).await.sentinels.model.out_of_sync);
    for told in [&sentinels[0], &sentinels[2]] {
        assert!(
            told.remembered()
                .iter()
                .any(|line| line.starts_with("monitor refdemo-1 "))
        );
    }
    eventually("its poll times out", WAIT, async || {
        let polls = stats(api).await.sentinels.stats;
        polls
            .get(hanging.as_str())
            .filter(|poll| poll.timeout || poll.error.is_some())?;
        Some(())
    })
    .await;
    sentinels[1].signal("CONT");
    api.done("/api/topom/sentinels/resync-all/X").await;
    assert!(!stats(api).await.sentinels.model.out_of_sync);
}

#[tokio::test]
async fn sentinels_are_not_let_near_servers_that_the_operator_prepared() {
    let etcd = Etcd::start().await;
    let dashboard = Inside::configured(&etcd, SECRET, CONFIG).await;
    let api = &dashboard.api;
    let server = Valkey::prepared("shop-g1-0", SECRET).await;
    group(api, 1, &[&server]).await;
    api.done(&format!("/api/topom/group/action/create/X/{}", server.addr()))
        .await;
    eventually("it is known as prepared", WAIT, async || {
        let groups = stats(api).await.group.models;
        groups[0].servers[0].prepared.then_some(())
    })
    .await;
    let sentinel = Sentinel::start().await;
    add(api, std::slice::from_ref(&sentinel)).await;
    let cause = api.refused("/api/topom/sentinels/resync-all/X", "").await;
    assert!(cause.contains("group-[1] were prepared by the operator"), "{cause}");
    assert!(
        !sentinel
            .remembered()
            .iter()
            .any(|line| line.contains(SECRET) || line.starts_with("monitor"))
    );
}

#[tokio::test]
async fn a_failover_by_sentinels_is_shown_and_not_followed() {
    let etcd = Etcd::start().await;
    let dashboard = Inside::configured(&etcd, "", CONFIG).await;
    let api = &dashboard.api;
    let (mut primary, replica) = (Valkey::start().await, Valkey::start().await);
    group(api, 1, &[&primary, &replica]).await;
    let port = primary.addr().port().to_string();
    replica.run::<String>(&["REPLICAOF", "127.0.0.1", &port]).await;
    let sentinels = three().await;
    add(api, &sentinels).await;
    api.done("/api/topom/sentinels/resync-all/X").await;
    eventually(
        "the Sentinels know each other and the replica",
        Duration::from_secs(30),
        async || {
            let polls = stats(api).await.sentinels.stats;
            let ready = polls
                .values()
                .filter_map(|poll| poll.sentinel.get("refdemo-1"))
                .filter(|group| {
                    group.master["num-other-sentinels"] == "2"
                        && group
                            .slaves
                            .first()
                            .is_some_and(|slave| slave["master-link-status"] == "ok")
                });
            (ready.count() == 3).then_some(())
        },
    )
    .await;
    primary.kill();
    eventually(
        "the Sentinels name the other one",
        Duration::from_secs(40),
        async || {
            let named = stats(api).await.sentinels.masters;
            (named.get("1")? == replica.addr().as_str()).then_some(())
        },
    )
    .await;
    let group = stats(api).await.group.models.swap_remove(0);
    assert_eq!(group.servers[0].server, primary.addr());
}
