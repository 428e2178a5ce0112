//! What changes leave behind: marks of groups, servers that left theirs, and changes that rest on what somebody saw before.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod support;

use std::time::Duration;

use codis_operator::model::Group;
use support::dashboard::{Dashboard, Inside};
use support::etcd::Etcd;
use support::shop::{SECRET, Shop};
use support::valkey::Valkey;
use support::writer::Writer;
use support::{eventually, holds_for};

const WAIT: Duration = Duration::from_secs(10);

/// An assignment of one slot.
fn slot(id: i64, group: i64) -> String {
    format!(r#"[{{"id":{id},"group_id":{group},"action":{{}}}}]"#)
}

async fn record(shop: &Shop, id: i64) -> Group {
    shop.api().group(id).await.unwrap().group
}

#[tokio::test]
async fn the_mark_of_a_group_goes_when_the_proxy_that_missed_the_push_knows_everything() {
    let shop = Shop::start(2, 1, 2).await;
    shop.proxies[0].process.signal("STOP");
    let reason = shop.api().refused("/api/topom/slots/assign/X", &slot(700, 1)).await;
    assert!(reason.contains("resync slots failed"), "{reason}");
    holds_for("it is marked", Duration::from_secs(1), || async {
        record(&shop, 1).await.out_of_sync
    })
    .await;
    shop.proxies[0].process.signal("CONT");
    eventually("the mark is taken back", WAIT, async || {
        (!record(&shop, 1).await.out_of_sync).then_some(())
    })
    .await;
    let routes: serde_json::Value = serde_json::from_str(&shop.proxies[0].get("/proxy/slots").await.1).unwrap();
    assert_eq!(routes[700]["backend_addr_group_id"], 1);
}

#[tokio::test]
async fn the_mark_of_a_group_stays_while_proxies_are_to_see_something_else() {
    let shop = Shop::start(1, 2, 1).await;
    let replica = shop.groups[0][1].addr();
    shop.api()
        .done(&format!("/api/topom/group/replica-groups/X/1/{replica}/1"))
        .await;
    holds_for("it is marked", Duration::from_secs(2), || async {
        record(&shop, 1).await.out_of_sync
    })
    .await;
    shop.api().done("/api/topom/group/resync/X/1").await;
    assert!(!record(&shop, 1).await.out_of_sync);
}

/// How many keys it holds. It serves none of them once it left.
async fn keys(server: &Valkey) -> i64 {
    let held = server.info("db0").await;
    let count = held.split(',').next().and_then(|part| part.strip_prefix("keys="));
    count.unwrap().parse().unwrap()
}

/// It follows nobody, keeps what it holds, and lets no proxy in.
async fn wait_left(shop: &Shop, server: &Valkey, held: i64) {
    eventually("it follows nobody of the group", WAIT, async || {
        (server.info("master_port").await == "1").then_some(())
    })
    .await;
    eventually("that is recorded", WAIT, async || {
        record(shop, 1).await.leaving.is_empty().then_some(())
    })
    .await;
    assert_eq!(server.info("role").await, "slave");
    assert_eq!(keys(server).await, held);
    let users: Vec<String> = server.run(&["ACL", "USERS"]).await;
    assert!(!users.iter().any(|user| user.starts_with("proxy-")), "{users:?}");
}

#[tokio::test]
async fn a_server_that_leaves_keeps_its_data_and_has_no_voice_in_the_fence_and_no_client_sees_an_error() {
    let mut shop = Shop::start(1, 3, 1).await;
    let mut wire = shop.proxies[0].wire().await;
    assert_eq!(wire.call("SET a 1").await, "+OK");
    for server in &shop.groups[0] {
        eventually("it has the key", WAIT, async || {
            server.info("db0").await.starts_with("keys=1").then_some(())
        })
        .await;
    }
    let load = Writer::start(&[shop.proxies[0].port], 2);
    load.wait_for(50).await;
    for left in [2, 1] {
        let server = &shop.groups[0][left];
        let held = keys(server).await;
        let leaves = format!("/api/topom/group/del/X/1/{}", server.addr());
        shop.api().done(&leaves).await;
        eventually("it follows nobody of the group", WAIT, async || {
            (server.info("master_port").await == "1").then_some(())
        })
        .await;
        // Until then it got what was written.
        assert!(keys(server).await >= held, "it keeps what it holds");
        load.wait_for(50).await;
    }
    assert_eq!(shop.groups[0][0].info("connected_slaves").await, "0");
    let log = load.stop().await;
    assert!(log.errors.is_empty(), "{:?}", log.errors);
    // What nobody writes to any more stays as it is, whoever takes over.
    let held = keys(&shop.groups[0][1]).await;
    shop.replace_dashboard("").await;
    wait_left(&shop, &shop.groups[0][1], held).await;
    // And it may come back.
    let addr = shop.groups[0][1].addr();
    shop.api().done(&format!("/api/topom/group/add/X/1/{addr}")).await;
    shop.api()
        .done(&format!("/api/topom/group/action/create/X/{addr}"))
        .await;
    shop.wait_in_sync(1, 1).await;
}

#[tokio::test]
async fn a_server_that_hangs_when_it_leaves_is_told_when_it_wakes() {
    let shop = Shop::start(1, 3, 1).await;
    let server = &shop.groups[0][2];
    server.signal("STOP");
    shop.api()
        .done(&format!("/api/topom/group/del/X/1/{}", server.addr()))
        .await;
    holds_for("it is still to be told", Duration::from_secs(2), || async {
        record(&shop, 1).await.leaving.len() == 1
    })
    .await;
    let mut wire = shop.proxies[0].wire().await;
    assert_eq!(wire.call("SET a 1").await, "+OK");
    server.signal("CONT");
    eventually("it follows nobody of the group", WAIT, async || {
        (server.info("master_port").await == "1").then_some(())
    })
    .await;
    eventually("that is recorded", WAIT, async || {
        record(&shop, 1).await.leaving.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_that_nobody_prepared_leads_itself_when_it_left() {
    let etcd = Etcd::start().await;
    let dashboard = Inside::start(&etcd, "").await;
    let api = &dashboard.api;
    let (primary, replica) = (Valkey::start().await, Valkey::start().await);
    api.done("/api/topom/group/create/X/1").await;
    for server in [&primary, &replica] {
        api.done(&format!("/api/topom/group/add/X/1/{}", server.addr())).await;
        api.done(&format!("/api/topom/group/action/create/X/{}", server.addr()))
            .await;
    }
    primary.run::<String>(&["SET", "a", "1"]).await;
    eventually("it has the key", WAIT, async || {
        replica.info("db0").await.starts_with("keys=1").then_some(())
    })
    .await;
    api.done(&format!("/api/topom/group/del/X/1/{}", replica.addr())).await;
    eventually("it leads itself", WAIT, async || {
        (replica.info("role").await == "master").then_some(())
    })
    .await;
    assert_eq!(replica.run::<String>(&["GET", "a"]).await, "1");
    dashboard.stop().await;
}

#[tokio::test]
async fn changes_that_rest_on_an_older_state_are_refused_on_every_route() {
    let mut shop = Shop::start(2, 2, 1).await;
    shop.groups.push(vec![Valkey::prepared_anywhere(7, SECRET).await]);
    for id in [1, 2] {
        shop.wait_in_sync(id, 1).await;
    }
    let status = shop.api().status().await.unwrap();
    let (group, proxy) = (&status.groups[0], &status.proxies[0]);
    let (replica, token, new) = (&group.servers[1].server, &proxy.token, shop.groups[2][0].addr());
    let old = |epoch: i64| format!("epoch={}", epoch - 1);
    let (of_group, of_proxy, of_slots) = (old(group.epoch), old(proxy.epoch), old(status.slots_epoch));
    let all: Vec<String> = (0..1024)
        .map(|id| format!(r#"{{"id":{id},"group_id":1,"action":{{}}}}"#))
        .collect();
    let all = format!("[{}]", all.join(","));
    let ours = format!(r#"{{"slots":{all},"epoch":{}}}"#, status.slots_epoch - 1);
    let body = format!(r#"{{"epoch":{}}}"#, group.epoch - 1);
    let before = shop.api().client.stats().await.unwrap();
    for (path, body, what) in [
        (format!("group/add/X/1/{new}?{of_group}"), "", "group-[1]"),
        (format!("group/add/X/1/{new}/dc?{of_group}"), "", "group-[1]"),
        (format!("group/del/X/1/{replica}?{of_group}"), "", "group-[1]"),
        (format!("group/action/create/X/{replica}?{of_group}"), "", "group-[1]"),
        (format!("group/action/remove/X/{replica}?{of_group}"), "", "group-[1]"),
        (
            format!("group/replica-groups/X/1/{replica}/1?{of_group}"),
            "",
            "group-[1]",
        ),
        (format!("group/remove/X/1?{of_group}"), "", "group-[1]"),
        (format!("group/promote/X/1/{replica}?{of_group}"), "", "group-[1]"),
        (format!("v2/group/promote/X/1/{replica}?{of_group}"), "", "group-[1]"),
        (format!("v2/group/handover/X/1/{replica}"), &body, "group-[1]"),
        (format!("v2/proxy/shut-off/X/{token}?{of_proxy}"), "", "proxy-["),
        (format!("v2/proxy/let-in/X/{token}?{of_proxy}"), "", "proxy-["),
        (format!("proxy/remove/X/{token}/0?{of_proxy}"), "", "proxy-["),
        (format!("slots/assign/X?{of_slots}"), &all, "slot-["),
        (
            format!("v2/slots/assign/X?{of_slots}"),
            &format!(r#"{{"slots":{all}}}"#),
            "slot-[",
        ),
        ("v2/slots/assign/X".to_owned(), &ours, "slot-["),
        (
            "v2/slots/rebalance/X".to_owned(),
            &format!(r#"{{"confirm":true,"epoch":{}}}"#, status.slots_epoch - 1),
            "slot-[",
        ),
    ] {
        let reason = shop.api().refused(&format!("/api/topom/{path}"), body).await;
        assert!(
            reason.starts_with(what) && reason.contains("was changed: its epoch is"),
            "{path}: {reason}"
        );
    }
    let after = shop.api().client.stats().await.unwrap();
    assert_eq!(
        (&after.group.models, &after.slots, &after.proxy.models),
        (&before.group.models, &before.slots, &before.proxy.models),
        "nothing was changed"
    );
    let reason = shop
        .api()
        .refused(&format!("/api/topom/group/del/X/1/{replica}?epoch=x"), "")
        .await;
    assert!(reason.contains("epoch has to be a number"), "{reason}");

    // With what is there it works.
    let now = shop.api().status().await.unwrap();
    let path = format!("v2/proxy/shut-off/X/{token}?epoch={}", now.proxies[0].epoch);
    shop.api().done(&format!("/api/topom/{path}")).await;
    eventually("nothing changed since it was looked at", WAIT, async || {
        let epoch = shop.api().group(1).await?.epoch;
        let path = format!("/api/topom/group/add/X/1/{new}?epoch={epoch}");
        (shop.api().put(&path, "").await.0 == 200).then_some(())
    })
    .await;
    let path = format!("slots/assign/X?epoch={}", now.slots_epoch);
    let (status, answer) = shop.api().put(&format!("/api/topom/{path}"), slot(1023, 1)).await;
    assert_eq!(status, 200, "{answer}");
}

/// One that is stopped keeps its lock file locked for ever, and gives no sign.
#[tokio::test]
async fn a_dashboard_that_is_stopped_keeps_its_folder_for_seconds_only() {
    let root = tempfile::TempDir::new().unwrap();
    let launch = || Dashboard::run(&[&format!("--filesystem={}", root.path().display())]);
    let former = launch();
    former.api.wait_active().await;
    former.api.done("/api/topom/group/create/X/1").await;
    let standby = launch();
    eventually("the other one stands by", WAIT, async || {
        standby.api.client.model().await.ok()?;
        let (status, _) = standby.api.get("/readyz").await;
        (status == 200).then_some(())
    })
    .await;
    holds_for("one that is at work keeps its lock", Duration::from_secs(4), || async {
        former.api.client.xping().await.is_ok() && standby.api.client.xping().await.is_err()
    })
    .await;
    former.process.signal("STOP");
    standby.api.wait_active().await;
    standby.api.done("/api/topom/group/create/X/2").await;
    former.process.signal("CONT");
    eventually("the woken one stands by", WAIT, async || {
        let (status, answer) = former.api.put("/api/topom/group/create/X/3", "").await;
        assert_ne!(status, 200);
        answer.contains(standby.api.addr()).then_some(())
    })
    .await;
    let groups = standby.api.client.stats().await.unwrap().group.models;
    assert_eq!(
        groups.iter().map(|group| i64::from(group.id)).collect::<Vec<_>>(),
        [1, 2]
    );
}
