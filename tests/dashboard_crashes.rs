//! Dashboards that end, or sleep longer than their lock lasts, at every step of what they do; and etcd that goes away, or
//! loses everything. Afterwards each slot has one owner, nothing is locked, and what was begun is finished or undone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed expectation is a failed test; figures are part of the result"
)]

mod support;

use std::time::Duration;

use codis_operator::dashboard::FAULT_POINTS;
use codis_operator::model::{ActionState, GroupStatus, Slot, Stats};
use support::dashboard::{Api, Dashboard};
use support::eventually;
use support::sentinel::Sentinel;
use support::shop::{SECRET, Shop, wait_group};
use support::valkey::Valkey;
use support::writer::Writer;

/// How the names of the points begin that are gone through here.
const MET: [&str; 7] = [
    "promote.",
    "admission.",
    "online.",
    "move.",
    "commit.",
    "sentinels.",
    "leaving.",
];

/// The points whose names begin so, each with both ways to fail there.
fn faults(prefix: &str) -> Vec<String> {
    assert!(MET.contains(&prefix), "{prefix}");
    let points = FAULT_POINTS.iter().filter(|point| point.starts_with(prefix));
    let faults: Vec<String> = points
        .flat_map(|point| [format!("kill@{point}"), format!("stop@{point}")])
        .collect();
    assert!(!faults.is_empty(), "{prefix}");
    faults
}

#[test]
fn every_point_is_met() {
    let unmet = FAULT_POINTS
        .iter()
        .find(|point| !MET.iter().any(|prefix| point.starts_with(prefix)));
    assert_eq!(unmet, None);
}

/// Another dashboard takes over from the one that ended or sleeps; that is woken afterwards and changes nothing.
async fn take_over(shop: &mut Shop, standby: Dashboard, fault: &str) {
    standby.api.wait_active().await;
    let former = std::mem::replace(&mut shop.dashboard, standby);
    if fault.starts_with("stop") {
        former.process.signal("CONT");
        eventually("the woken one stands by", Duration::from_secs(10), async || {
            let (status, answer) = former.api.get("/readyz").await;
            (status == 200 && answer == "ok\n").then_some(())
        })
        .await;
        assert!(former.api.client.xping().await.is_err(), "{fault}: two are active");
    }
}

/// All slots have an owner and no move, no group is in a promotion, and the proxies route so, with nothing locked.
async fn wait_whole(shop: &Shop, what: &str) -> Stats {
    let stats = eventually(
        &format!("{what}: the map is whole"),
        Duration::from_secs(15),
        async || {
            let stats = shop.api().client.stats().await.ok()?;
            let owned = stats
                .slots
                .iter()
                .all(|slot| slot.group_id > 0 && slot.action.state.is_nothing());
            let calm = stats.group.models.iter().all(|group| {
                group.promoting.state.is_nothing()
                    && group
                        .servers
                        .iter()
                        .all(|s| !matches!(s.action.state, ActionState::Pending | ActionState::Syncing))
            });
            (owned && calm).then_some(stats)
        },
    )
    .await;
    for proxy in &shop.proxies {
        eventually(
            &format!("{what}: the proxy routes so"),
            Duration::from_secs(15),
            async || {
                let slots: Vec<Slot> = serde_json::from_str(&proxy.get("/proxy/slots").await.1).ok()?;
                let leads = |slot: &Slot| {
                    let group = stats
                        .group
                        .models
                        .iter()
                        .find(|group| i64::from(group.id) == slot.backend_addr_group_id);
                    group.and_then(|group| group.primary()).map(|primary| &primary.server) == slot.backend_addr.as_ref()
                };
                let right = slots
                    .iter()
                    .zip(&stats.slots)
                    .all(|(slot, record)| !slot.locked && slot.backend_addr_group_id == record.group_id && leads(slot));
                right.then_some(())
            },
        )
        .await;
    }
    stats
}

/// Exactly the first server of each group says that it leads.
async fn wait_roles(shop: &Shop, stats: &Stats, what: &str) {
    for group in &stats.group.models {
        for (place, record) in group.servers.iter().enumerate() {
            let server = shop.server(record.server.as_str());
            let wanted = if place == 0 { "master" } else { "slave" };
            eventually(
                &format!("{what}: {} is {wanted}", record.server),
                Duration::from_secs(10),
                async || (server.info("role").await == wanted).then_some(()),
            )
            .await;
        }
    }
}

#[tokio::test]
async fn promotions_are_finished_or_undone_whoever_ends_in_them_and_no_acknowledged_write_is_lost() {
    let mut shop = Shop::start(2, 2, 2).await;
    let ports = [shop.proxies[0].port, shop.proxies[1].port];
    let load = Writer::start(&ports, 2);
    for fault in faults("promote.") {
        shop.replace_dashboard(&fault).await;
        let standby = shop.another_dashboard();
        let group = shop.wait_in_sync(1, 1).await;
        let candidate = group.servers[1].server.clone();
        let path = format!("/api/topom/v2/group/handover/X/1/{candidate}");
        let answer = shop.api().try_put_within(&path, "", Duration::from_millis(500)).await;
        assert!(answer.is_none(), "{fault} was not met: {answer:?}");
        take_over(&mut shop, standby, &fault).await;
        let stats = wait_whole(&shop, &fault).await;
        wait_roles(&shop, &stats, &fault).await;
        load.wait_for(20).await;
    }
    let log = load.stop().await;
    println!(
        "{} writes, the slowest {:?}, errors {:?}",
        log.writes, log.slowest, log.errors
    );
    for port in ports {
        assert_eq!(log.lost(port).await, 0);
    }
    // A client that waited longer than a proxy holds a request is told so; nothing else.
    assert!(
        log.errors.keys().all(|error| error.contains("was locked")),
        "{:?}",
        log.errors
    );
}

#[tokio::test]
async fn a_failover_is_on_record_whoever_ends_in_it() {
    let mut shop = Shop::start(1, 2, 1).await;
    for point in ["locked", "commanded", "finished", "unlocked"] {
        let fault = format!("kill@promote.{point}");
        shop.replace_dashboard(&fault).await;
        let standby = shop.another_dashboard();
        let group = shop.wait_in_sync(1, 1).await;
        let [from, to] = [0, 1].map(|place: usize| group.servers[place].server.clone());
        let servers = &mut shop.groups[0];
        let former = servers.iter().position(|server| server.addr() == from).unwrap();
        servers[former].kill();
        let path = format!("/api/topom/v2/group/promote/X/1/{to}?reason={point}&detect_ms=7&behind=3");
        let answer = shop.api().try_put_within(&path, "", Duration::from_secs(3)).await;
        assert!(answer.is_none(), "{fault} was not met: {answer:?}");
        take_over(&mut shop, standby, &fault).await;
        let over = |group: &GroupStatus| group.group.promoting.state.is_nothing();
        let group = shop.wait_group(1, "the promotion is over", over).await.group;
        let kept = group.last_failover.expect("it is kept");
        assert_eq!((&kept.from, &kept.to), (&from, &to), "{fault}");
        let told = (kept.reason.as_str(), kept.detect_ms, kept.lost_bytes);
        assert_eq!(told, (point, Some(7), Some(3)), "{fault}");
        // The next one had to wait until it was active; clients waited for that.
        let took = kept.promote_ms.unwrap() + kept.write_ms.unwrap();
        assert!(took >= 100, "{fault}: {kept:?}");
        shop.groups[0][former].restart().await;
    }
}

#[tokio::test]
async fn servers_get_their_roles_whoever_ends_while_giving_them() {
    for fault in faults("admission.") {
        let mut shop = Shop::bare(&fault).await;
        let standby = shop.another_dashboard();
        shop.groups.push(vec![
            Valkey::prepared_anywhere(0, SECRET).await,
            Valkey::prepared_anywhere(1, SECRET).await,
        ]);
        let api = shop.api();
        api.try_put_within("/api/topom/group/create/X/1", "", Duration::from_secs(2))
            .await;
        for server in &shop.groups[0] {
            let path = format!("/api/topom/group/add/X/1/{}", server.addr());
            assert!(api.try_put(&path, "").await.is_some(), "{fault}");
        }
        for server in &shop.groups[0] {
            let path = format!("/api/topom/group/action/create/X/{}", server.addr());
            api.try_put_within(&path, "", Duration::from_millis(500)).await;
        }
        take_over(&mut shop, standby, &fault).await;
        // What was not asked for in time is asked for again.
        for server in &shop.groups[0] {
            let path = format!("/api/topom/group/action/create/X/{}", server.addr());
            shop.api().try_put(&path, "").await;
        }
        shop.wait_in_sync(1, 1).await;
        let stats = shop.api().client.stats().await.unwrap();
        wait_roles(&shop, &stats, &fault).await;
    }
}

#[tokio::test]
async fn proxies_come_online_whoever_ends_while_bringing_them() {
    let mut shop = Shop::start(1, 1, 0).await;
    for fault in faults("online.") {
        shop.replace_dashboard(&fault).await;
        let standby = shop.another_dashboard();
        let proxy = shop.launch_proxy_at(&[shop.api(), &standby.api]).await;
        take_over(&mut shop, standby, &fault).await;
        proxy.wait_ready().await;
        let mut wire = proxy.wire().await;
        eventually(&format!("{fault}: it is let in"), Duration::from_secs(10), async || {
            (wire.call("SET a 1").await == "+OK").then_some(())
        })
        .await;
        shop.proxies.push(proxy);
        let stats = wait_whole(&shop, &fault).await;
        // The next dashboard meets its fault with a new one.
        let token = &stats.proxy.models[0].token;
        shop.api().done(&format!("/api/topom/proxy/remove/X/{token}/0")).await;
        shop.proxies.clear();
    }
}

#[tokio::test]
async fn assignments_and_moves_of_many_slots_are_finished_whoever_ends_in_them() {
    let mut shop = Shop::start(2, 1, 1).await;
    let mut target = 2;
    let mut all = faults("move.");
    assert_eq!(faults("commit.").len(), 2);
    for part in [1, 4, 9] {
        all.extend([format!("kill@commit.part:{part}"), format!("stop@commit.part:{part}")]);
    }
    for fault in all {
        shop.replace_dashboard(&fault).await;
        let standby = shop.another_dashboard();
        let path = format!("/api/topom/slots/action/create-range/X/0/1023/{target}");
        // Only slots that are elsewhere can be moved there.
        let body: Vec<_> = (0..1024)
            .map(|id| serde_json::json!({"id": id, "group_id": 3 - target, "action": {}}))
            .collect();
        let assigned = shop
            .api()
            .try_put_within(
                "/api/topom/slots/assign/X",
                &serde_json::to_string(&body).unwrap(),
                Duration::from_secs(2),
            )
            .await;
        if fault.contains("move.") {
            assert_eq!(assigned.map(|(status, _)| status), Some(200), "{fault}");
            shop.api().try_put_within(&path, "", Duration::from_secs(1)).await;
        } else {
            assert!(assigned.is_none(), "{fault} was not met");
        }
        take_over(&mut shop, standby, &fault).await;
        let stats = wait_whole(&shop, &fault).await;
        let owner = if fault.contains("move.") { target } else { 3 - target };
        assert!(
            stats.slots.iter().all(|slot| slot.group_id == owner),
            "{fault}: not all of them"
        );
        target = 3 - target;
    }
}

#[tokio::test]
async fn servers_leave_their_group_whoever_ends_while_telling_them() {
    let mut shop = Shop::start(1, 2, 0).await;
    for fault in faults("leaving.") {
        shop.replace_dashboard(&fault).await;
        let standby = shop.another_dashboard();
        shop.wait_in_sync(1, 1).await;
        let addr = shop.groups[0][1].addr();
        shop.api().done(&format!("/api/topom/group/del/X/1/{addr}")).await;
        take_over(&mut shop, standby, &fault).await;
        eventually(&format!("{fault}: it left"), Duration::from_secs(10), async || {
            let group = shop.api().group(1).await?.group;
            let alone = shop.groups[0][1].info("master_port").await == "1";
            (alone && group.leaving.is_empty() && group.servers.len() == 1).then_some(())
        })
        .await;
        shop.api().done(&format!("/api/topom/group/add/X/1/{addr}")).await;
        shop.api()
            .done(&format!("/api/topom/group/action/create/X/{addr}"))
            .await;
    }
    shop.wait_in_sync(1, 1).await;
}

#[tokio::test]
async fn sentinels_are_told_whoever_ends_while_telling_them() {
    let mut shop = Shop::bare("").await;
    let (server, sentinel) = (Valkey::with_password(SECRET).await, Sentinel::start().await);
    shop.api().done("/api/topom/group/create/X/1").await;
    shop.api()
        .done(&format!("/api/topom/group/add/X/1/{}", server.addr()))
        .await;
    let addr = sentinel.addr();
    let [add, resync, remove] = [
        format!("/api/topom/sentinels/add/X/{addr}"),
        "/api/topom/sentinels/resync-all/X".to_owned(),
        format!("/api/topom/sentinels/del/X/{addr}/0"),
    ];
    let watches = || sentinel.remembered().iter().any(|line| line.starts_with("monitor "));
    for fault in faults("sentinels.") {
        shop.replace_dashboard(&fault).await;
        let standby = shop.another_dashboard();
        let mut met = false;
        for path in [&add, &resync, &remove] {
            let answer = shop.api().try_put_within(path, "", Duration::from_millis(1500)).await;
            met |= answer.is_none();
        }
        assert!(met, "{fault} was not met");
        take_over(&mut shop, standby, &fault).await;
        let known = shop.api().client.stats().await.unwrap().sentinels.model;
        if known.servers.is_empty() {
            shop.api().done(&add).await;
        } else {
            assert!(known.out_of_sync, "{fault}: what was not finished is marked");
        }
        shop.api().done(&resync).await;
        let known = shop.api().client.stats().await.unwrap().sentinels.model;
        assert!(!known.out_of_sync && watches(), "{fault}: {known:?}");
        shop.api().done(&remove).await;
        let known = shop.api().client.stats().await.unwrap().sentinels.model;
        assert!(known.servers.is_empty() && !watches(), "{fault}: {known:?}");
    }
}

#[tokio::test]
async fn etcd_that_goes_away_in_a_promotion_and_returns_costs_no_write() {
    let mut shop = Shop::start(1, 2, 1).await;
    let port = shop.proxies[0].port;
    let load = Writer::start(&[port], 2);
    for pause in [0, 4, 8, 15, 25] {
        let group = shop.wait_in_sync(1, 1).await;
        let path = format!("/api/topom/v2/group/handover/X/1/{}", group.servers[1].server);
        let api = Api::new(shop.api().addr().to_owned());
        let asked = tokio::spawn(async move { api.try_put(&path, "").await });
        tokio::time::sleep(Duration::from_millis(pause)).await;
        shop.etcd.stop();
        asked.await.unwrap();
        shop.etcd.restart().await;
        shop.api().wait_active().await;
        let what = format!("etcd killed after {pause} ms");
        let stats = wait_whole(&shop, &what).await;
        wait_roles(&shop, &stats, &what).await;
        load.wait_for(20).await;
    }
    let log = load.stop().await;
    println!(
        "{} writes, the slowest {:?}, errors {:?}",
        log.writes, log.slowest, log.errors
    );
    assert_eq!(log.lost(port).await, 0);
}

#[tokio::test]
async fn an_emptied_etcd_is_not_an_empty_product_and_goes_on_from_an_export() {
    let mut shop = Shop::start(2, 2, 1).await;
    // The lock is a later one than the first that an emptied etcd gives.
    shop.replace_dashboard("").await;
    let mut wire = shop.proxies[0].wire().await;
    assert_eq!(wire.call("SET a 1").await, "+OK");
    shop.wait_in_sync(1, 1).await;
    let (status, exported) = shop.api().get("/api/topom/v2/export/X").await;
    assert_eq!(status, 200);
    shop.etcd.empty().await;
    shop.api().wait_active().await;
    eventually("nothing is known any more", Duration::from_secs(10), async || {
        let stats = shop.api().client.stats().await.ok()?;
        stats.group.models.is_empty().then_some(())
    })
    .await;
    assert_eq!(wire.call("SET a 2").await, "+OK", "the data plane goes on");
    // A server of a later lock is not commanded by an earlier one.
    let (api, first) = (shop.api(), shop.groups[0][0].addr());
    api.done("/api/topom/group/create/X/1").await;
    let reason = api.refused(&format!("/api/topom/group/add/X/1/{first}"), "").await;
    assert!(reason.contains("v2/import"), "{reason}");
    assert!(
        api.refused("/api/topom/v2/import/X", &exported)
            .await
            .contains("\"force\": true")
    );
    api.done("/api/topom/group/remove/X/1").await;
    assert_eq!(api.put("/api/topom/v2/import/X", exported).await.0, 200);
    api.wait_active().await;
    let stats = wait_whole(&shop, "imported").await;
    wait_roles(&shop, &stats, "imported").await;
    shop.wait_in_sync(1, 1).await;
    assert_eq!(wire.call("GET a").await, "$2");
    assert_eq!(wire.call("SET a 3").await, "+OK");
    // And it can be changed again.
    let group = wait_group(api, 1, "a replica is in sync", |group| group.group.in_sync.len() == 1).await;
    api.done(&format!("/api/topom/group/promote/X/1/{}", group.servers[1].server))
        .await;
    assert_eq!(wire.call("GET a").await, "$3");
}

#[tokio::test]
async fn servers_that_hold_keys_are_not_assigned_afresh_unless_forced() {
    let shop = Shop::bare("").await;
    let server = Valkey::prepared_anywhere(0, SECRET).await;
    let api = shop.api();
    api.done("/api/topom/group/create/X/1").await;
    api.done(&format!("/api/topom/group/add/X/1/{}", server.addr())).await;
    api.done(&format!("/api/topom/group/action/create/X/{}", server.addr()))
        .await;
    eventually("it leads", Duration::from_secs(5), async || {
        (server.info("role").await == "master").then_some(())
    })
    .await;
    server.run::<String>(&["SET", "k", "v"]).await;
    let slot = r#"[{"id":0,"group_id":1,"action":{}}]"#;
    let reason = api.refused("/api/topom/slots/assign/X", slot).await;
    assert!(
        reason.contains("holds 1 keys") && reason.contains("v2/import"),
        "{reason}"
    );
    let ours = |force: bool| format!("{{\"slots\": {slot}, \"force\": {force}}}");
    assert!(
        api.refused("/api/topom/v2/slots/assign/X", &ours(false))
            .await
            .contains("holds 1 keys")
    );
    assert_eq!(api.put("/api/topom/v2/slots/assign/X", ours(true)).await.0, 200);
    // From now on the map is known, and the others are assigned as always.
    let (status, _) = api
        .put("/api/topom/slots/assign/X", slot.replace("\"id\":0", "\"id\":1"))
        .await;
    assert_eq!(status, 200);
}
