//! Replacing primaries: planned and unplanned, under load, with proxies and servers that misbehave.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed expectation is a failed test; figures are part of the result"
)]

mod support;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use codis_operator::model::{GroupStatus, Promotion, Slot, SlotId};
use support::dashboard::cause;
use support::proxy::Proxy;
use support::shop::Shop;
use support::valkey::Valkey;
use support::wire::request;
use support::writer::Writer;
use support::{eventually, holds_for};

/// What it takes on a machine where other tests run beside; the goals are told beside what was measured.
const GENEROUS: f64 = 10.0;

fn handover(group: usize, server: &Valkey) -> String {
    format!("/api/topom/v2/group/handover/X/{group}/{}", server.addr())
}

fn promote(group: usize, server: &Valkey) -> String {
    format!("/api/topom/v2/group/promote/X/{group}/{}", server.addr())
}

async fn done(shop: &Shop, path: &str, body: &str) -> Promotion {
    let (status, answer) = shop.api().put(path, body.to_owned()).await;
    assert_eq!(status, 200, "{path}: {answer}");
    serde_json::from_str(&answer).unwrap()
}

async fn refused(shop: &Shop, path: &str, body: &str) -> String {
    let (status, answer) = shop.api().put(path, body.to_owned()).await;
    assert_eq!(status, 800, "{path}: {answer}");
    cause(&answer)
}

fn is_settled(group: &GroupStatus) -> bool {
    group.group.promoting.state.is_nothing()
}

/// A key of group 1 in a product of two groups.
fn key_of_group_1() -> String {
    let in_group = |key: &String| SlotId::of_key(key.as_bytes()).index() < 512;
    (0..).map(|n| format!("key{n}")).find(in_group).unwrap()
}

/// Every proxy routes as the dashboard wants it, with nothing locked.
async fn wait_unlocked(shop: &Shop, proxies: &[&Proxy]) {
    eventually(
        "all proxies route as they should",
        Duration::from_secs(10),
        async || {
            let wanted = shop.api().client.slots().await.ok()?;
            for proxy in proxies {
                let slots: Vec<Slot> = serde_json::from_str(&proxy.get("/proxy/slots").await.1).ok()?;
                let same = slots
                    .iter()
                    .zip(&wanted)
                    .all(|(have, want)| have.backend_addr == want.backend_addr && !have.locked && !want.locked);
                if !same {
                    return None;
                }
            }
            Some(())
        },
    )
    .await;
}

#[tokio::test]
async fn handovers_under_load_cost_no_write_and_no_client_sees_an_error() {
    let shop = Shop::start(2, 2, 2).await;
    let ports = [shop.proxies[0].port, shop.proxies[1].port];
    let load = Writer::start(&ports, 4);
    load.wait_for(200).await;
    let mut took = Vec::new();
    for round in 0..6 {
        let next = &shop.groups[0][(round + 1) % 2];
        shop.wait_in_sync(1, 1).await;
        let promotion = done(&shop, &handover(1, next), "").await;
        assert!(promotion.handed_over);
        took.push((promotion.took_ms, promotion.locked_ms));
        load.wait_for(100).await;
    }
    println!("hand-overs of 512 slots with 2 proxies under load, (took, locked) ms: {took:.1?}; goal 50");
    let best = took.iter().map(|(took, _)| *took).fold(f64::MAX, f64::min);
    assert!(best < 50.0 * GENEROUS, "{took:?}");
    let log = load.stop().await;
    println!("{} writes, the slowest {:?}", log.writes, log.slowest);
    assert!(log.errors.is_empty(), "{:?}", log.errors);
    assert_eq!(log.lost(ports[0]).await, 0);
    assert_eq!(log.lost(ports[1]).await, 0);

    // Who leads now is followed by the other one, and the history has grown.
    let group = shop.wait_in_sync(1, 1).await;
    let primary = shop.server(group.servers[0].server.as_str());
    assert_eq!(primary.info("role").await, "master");
    assert_eq!(
        group.group.lineage.last().unwrap().id,
        primary.info("master_replid").await
    );
    assert!(group.group.lineage.last().unwrap().epoch >= 7 && is_settled(&group));
    assert_eq!(group.group.last_failover, None);
    let full: u64 = primary.info("sync_full").await.parse().unwrap();
    assert!(full <= 1, "the former primary went on from where it was: {full}");
}

#[tokio::test]
async fn the_promotion_of_codis_hands_over_too() {
    let shop = Shop::start(2, 3, 2).await;
    let load = Writer::start(&[shop.proxies[0].port], 3);
    load.wait_for(50).await;
    let began = Instant::now();
    shop.api()
        .done(&format!("/api/topom/group/promote/X/1/{}", shop.groups[0][2].addr()))
        .await;
    println!(
        "group/promote of 512 slots with 2 proxies: {:?}; goal 50 ms",
        began.elapsed()
    );
    load.wait_for(100).await;
    // The order of the servers is as Codis leaves it, and all others follow the new primary.
    let group = shop.wait_in_sync(1, 2).await;
    let order: Vec<_> = group.servers.iter().map(|s| s.server.clone()).collect();
    let expected = [2, 1, 0].map(|place: usize| shop.groups[0][place].addr());
    assert_eq!(order, expected);
    assert_eq!(group.group.last_failover, None, "a person moved it");
    let log = load.stop().await;
    assert!(log.errors.is_empty(), "{:?}", log.errors);
    assert_eq!(log.lost(shop.proxies[1].port).await, 0);
}

#[tokio::test]
async fn a_hung_primary_is_replaced_and_comes_back_as_a_replica() {
    let shop = Shop::start(2, 2, 2).await;
    let [primary, replica] = &shop.groups[0][..] else {
        panic!()
    };
    let key = key_of_group_1();
    let load = Writer::start(&[shop.proxies[1].port], 4);
    load.wait_for(100).await;
    let mut wire = shop.proxies[0].wire().await;
    assert_eq!(wire.call(&format!("SET {key} before")).await, "+OK");
    let offset = async |server: &Valkey, field: &str| server.info(field).await.parse::<i64>().unwrap();
    let written = offset(primary, "master_repl_offset").await;
    eventually("the write is at the replica", Duration::from_secs(5), async || {
        (offset(replica, "slave_repl_offset").await >= written).then_some(())
    })
    .await;
    primary.signal("STOP");
    wire.send(request(&["SET", &key, "never"])).await;
    let began = Instant::now();
    let promotion = done(&shop, &promote(1, replica), "").await;
    println!(
        "promotion with a hung primary and requests in flight: {:?}; goal 1.5 s",
        began.elapsed()
    );
    assert!(!promotion.handed_over && began.elapsed() < Duration::from_secs(4));
    // What was in flight is told to have failed, and what comes afterwards is served.
    assert!(wire.reply().await.starts_with("-ERR"));
    assert_eq!(wire.call(&format!("GET {key}")).await, "$before");
    assert_eq!(wire.call(&format!("SET {key} after")).await, "+OK");
    load.wait_for(100).await;
    primary.signal("CONT");
    shop.wait_in_sync(1, 1).await;
    assert_eq!(primary.info("role").await, "slave");
    assert_eq!(wire.call(&format!("GET {key}")).await, "$after");
    let log = load.stop().await;
    println!(
        "{} writes, errors {:?}; acknowledged and lost: {} (asynchronous replication may lose some)",
        log.writes,
        log.errors,
        log.lost(shop.proxies[0].port).await
    );
}

#[tokio::test]
async fn a_killed_primary_is_replaced_and_its_empty_successor_follows() {
    let mut shop = Shop::start(1, 2, 1).await;
    let mut wire = shop.proxies[0].wire().await;
    assert_eq!(wire.call("SET a 1").await, "+OK");
    shop.wait_in_sync(1, 1).await;
    let replica = shop.groups[0][1].addr();
    eventually("the write is at the replica", Duration::from_secs(5), async || {
        shop.groups[0][1].info("db0").await.starts_with("keys=1").then_some(())
    })
    .await;
    shop.groups[0][0].kill();
    let path = format!("/api/topom/v2/group/promote/X/1/{replica}?reason=it+is+gone%E2%80%A6&detect_ms=7&behind=3&x=1");
    let began = Instant::now();
    let promotion = done(&shop, &path, "").await;
    println!("promotion after the primary was killed: {:?}", began.elapsed());
    let record = shop.wait_group(1, "is settled", is_settled).await.group;
    let kept = record.last_failover.expect("it is kept");
    assert_eq!((&kept.from, &kept.to), (&shop.groups[0][0].addr(), &replica));
    assert_eq!(
        (kept.reason.as_str(), kept.detect_ms, kept.lost_bytes, kept.forced),
        ("it is gone…", Some(7), Some(3), false)
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let age = i64::try_from(now.as_millis()).unwrap() - kept.at_ms;
    assert!((0..60_000).contains(&age), "{kept:?}");
    let took = kept.promote_ms.unwrap() + kept.write_ms.unwrap();
    assert!(took as f64 <= promotion.took_ms, "{kept:?}, {promotion:?}");
    assert_eq!(wire.call("GET a").await, "$1");
    assert_eq!(wire.call("SET a 2").await, "+OK");
    shop.groups[0][0].restart().await;
    shop.wait_in_sync(1, 1).await;
    assert_eq!(wire.call("GET a").await, "$2");
    assert_eq!(shop.groups[0][0].info("role").await, "slave");
}

#[tokio::test]
async fn a_replica_that_lacks_data_is_promoted_only_when_forced() {
    let mut shop = Shop::start(1, 2, 1).await;
    let mut wire = shop.proxies[0].wire().await;
    assert_eq!(wire.call("SET a 1").await, "+OK");
    // The replica restarts empty, and nobody gives it its role.
    shop.groups[0][1].kill();
    shop.wait_in_sync(1, 0).await;
    shop.groups[0][1].restart().await;
    let (primary, replica) = (&shop.groups[0][0], &shop.groups[0][1]);
    let reason = refused(&shop, &promote(1, replica), "").await;
    assert!(reason.contains("does not replicate"), "{reason}");
    primary.signal("STOP");
    let reason = refused(&shop, &promote(1, replica), "").await;
    assert!(reason.contains("not in sync"), "{reason}");
    let reason = refused(&shop, &handover(1, replica), "").await;
    assert!(reason.contains("can't hand over"), "{reason}");
    let group = shop.wait_group(1, "nothing is left of it", is_settled).await;
    assert_eq!(group.servers[0].server, primary.addr());
    done(&shop, &promote(1, replica), r#"{"force": true}"#).await;
    assert_eq!(wire.call("SET a 2").await, "+OK");
    primary.signal("CONT");
    eventually("the former primary follows", Duration::from_secs(10), async || {
        (primary.info("role").await == "slave").then_some(())
    })
    .await;
    assert_eq!(wire.call("GET a").await, "$2");
}

#[tokio::test]
async fn a_wish_based_on_an_older_state_is_refused() {
    let shop = Shop::start(1, 2, 0).await;
    let group = shop.wait_in_sync(1, 1).await;
    let replica = &shop.groups[0][1];
    let body = format!("{{\"epoch\": {}}}", group.epoch - 1);
    assert!(
        refused(&shop, &handover(1, replica), &body)
            .await
            .contains("was changed")
    );
    for (body, words) in [
        ("{\"force\": 1}", "line 1 column"),
        ("[]", "can't be read"),
        ("{\"x\": 1}", "unknown field"),
    ] {
        let reason = refused(&shop, &handover(1, replica), body).await;
        assert!(reason.contains(words), "{body}: {reason}");
    }
    let reason = refused(&shop, &format!("{}?detect_ms=x", promote(1, replica)), "").await;
    assert!(reason.contains("the query can't be read"), "{reason}");
    let epoch = shop.wait_in_sync(1, 1).await.epoch;
    done(&shop, &handover(1, replica), &format!("{{\"epoch\": {epoch}}}")).await;
    assert_eq!(
        refused(&shop, &format!("/api/topom/group/promote/X/1/{}", replica.addr()), "").await,
        "group-[1] can't promote master"
    );
}

#[tokio::test]
async fn a_frozen_proxy_is_named_and_can_be_shut_off_until_it_is_up_to_date() {
    let shop = Shop::start(1, 2, 2).await;
    let (frozen, fine) = (&shop.proxies[0], &shop.proxies[1]);
    let mut old = frozen.wire().await;
    assert_eq!(old.call("SET a 1").await, "+OK");
    let (_, model) = frozen.get("/proxy/model").await;
    let model: serde_json::Value = serde_json::from_str(&model).unwrap();
    let token = model["token"].as_str().unwrap();
    frozen.process.signal("STOP");
    let replica = &shop.groups[0][1];
    let reason = refused(&shop, &handover(1, replica), "").await;
    assert!(
        reason.contains(token) && reason.contains(&frozen.admin_addr()),
        "{reason}"
    );
    let group = shop.wait_group(1, "everything is as before", is_settled).await;
    assert_eq!(group.servers[0].server, shop.groups[0][0].addr());
    let mut wire = fine.wire().await;
    assert_eq!(wire.call("SET a 2").await, "+OK", "the others are unlocked");

    let promotion = done(&shop, &handover(1, replica), r#"{"shut_off": true}"#).await;
    println!(
        "hand-over with a frozen proxy that was shut off: {:.0} ms",
        promotion.took_ms
    );
    assert_eq!(wire.call("SET a 3").await, "+OK");
    let status = shop.api().status().await.unwrap();
    assert!(
        status
            .proxies
            .iter()
            .any(|proxy| proxy.shut_off && proxy.token.as_str() == token)
    );
    for server in &shop.groups[0] {
        let users: Vec<String> = server.run(&["ACL", "USERS"]).await;
        assert!(!users.iter().any(|user| user.contains(token)), "{users:?}");
    }

    // Woken, it is told the present map and let in again.
    frozen.process.signal("CONT");
    eventually("it is let in again", Duration::from_secs(10), async || {
        let status = shop.api().status().await?;
        let back = status.proxies.iter().all(|proxy| !proxy.shut_off && proxy.acknowledged);
        back.then_some(())
    })
    .await;
    eventually("it serves again", Duration::from_secs(10), async || {
        (old.call("GET a").await == "$3").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_proxy_that_joins_in_the_middle_of_a_round_holds_the_lock_too() {
    let shop = Shop::start(1, 2, 1).await;
    let replica = &shop.groups[0][1];
    // The round lasts as long as the first proxy sleeps.
    shop.proxies[0].process.signal("STOP");
    let path = handover(1, replica);
    let (answer, joined) = tokio::join!(shop.api().put(&path, ""), async {
        let joined = shop.launch_proxy().await;
        shop.proxies[0].process.signal("CONT");
        joined
    });
    println!("the round ended with {answer:?}");
    joined.wait_ready().await;
    let group = shop.wait_group(1, "is settled", is_settled).await;
    let leads = if answer.0 == 200 { replica } else { &shop.groups[0][0] };
    assert_eq!(group.servers[0].server, leads.addr());
    wait_unlocked(&shop, &[&shop.proxies[0], &joined]).await;
    let (mut one, mut other) = (shop.proxies[0].wire().await, joined.wire().await);
    assert_eq!(one.call("SET a 1").await, "+OK");
    assert_eq!(other.call("GET a").await, "$1");
}

#[tokio::test]
async fn a_primary_stops_by_itself_when_its_replica_is_silent_and_goes_on_when_that_is_recorded() {
    let shop = Shop::start(1, 2, 1).await;
    let [primary, replica] = &shop.groups[0][..] else {
        panic!()
    };
    assert!(shop.wait_in_sync(1, 1).await.group.fenced);
    let setting = async || {
        primary
            .run::<Vec<String>>(&["CONFIG", "GET", "min-replicas-to-write"])
            .await[1]
            .clone()
    };
    assert_eq!(setting().await, "1");
    replica.signal("STOP");
    // The record tells first that nobody is in sync: a dashboard that dies here must not promote the replica.
    shop.wait_group(1, "the fence is recorded as down", |group| {
        group.group.in_sync.is_empty() && !group.group.fenced
    })
    .await;
    eventually("the fence is down", Duration::from_secs(5), async || {
        (setting().await == "0").then_some(())
    })
    .await;
    let mut wire = shop.proxies[0].wire().await;
    assert_eq!(wire.call("SET a 1").await, "+OK");
    replica.signal("CONT");
    shop.wait_group(1, "the fence is recorded as up", |group| {
        group.group.in_sync.len() == 1 && group.group.fenced
    })
    .await;
    eventually("the fence is up", Duration::from_secs(5), async || {
        (setting().await == "1").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_primary_does_not_wait_for_a_replica_that_was_set_aside_before_it_ended() {
    let shop = Shop::start(1, 2, 1).await;
    let [primary, replica] = &shop.groups[0][..] else {
        panic!()
    };
    shop.wait_in_sync(1, 1).await;
    let aside = |server: &Valkey| format!("/api/topom/v2/group/set-aside/X/{}", server.addr());
    assert!(refused(&shop, &aside(primary), "").await.contains("hand over first"));
    // It may be about the process that was there before.
    let old = format!("{}?epoch=-1", aside(replica));
    assert!(refused(&shop, &old, "").await.contains("epoch"));
    let (status, answer) = shop.api().put(&aside(replica), String::new()).await;
    assert_eq!(status, 200, "{answer}");
    // Not a moment later.
    let setting = primary
        .run::<Vec<String>>(&["CONFIG", "GET", "min-replicas-to-write"])
        .await;
    assert_eq!(setting[1], "0");
    replica.signal("KILL");
    let mut wire = shop.proxies[0].wire().await;
    for n in 0..50 {
        assert_eq!(wire.call(&format!("SET a {n}")).await, "+OK");
    }
    let group = shop
        .wait_group(1, "nobody is in sync", |group| group.group.in_sync.is_empty())
        .await;
    assert!(!group.group.fenced);
}

#[tokio::test]
async fn where_a_proxy_was_shut_off_out_of_the_primarys_hearing_the_promotion_waits_until_that_has_stopped() {
    let shop = Shop::start(1, 2, 2).await;
    let [primary, replica] = &shop.groups[0][..] else {
        panic!()
    };
    shop.wait_in_sync(1, 1).await;
    primary.signal("STOP");
    shop.proxies[0].process.signal("STOP");
    let began = Instant::now();
    done(&shop, &promote(1, replica), r#"{"shut_off": true}"#).await;
    println!("promotion with primary and a proxy frozen: {:?}", began.elapsed());
    assert!(began.elapsed() > Duration::from_secs(2), "{:?}", began.elapsed());
    let mut wire = shop.proxies[1].wire().await;
    assert_eq!(wire.call("SET a 1").await, "+OK");
    primary.signal("CONT");
    shop.proxies[0].process.signal("CONT");
    shop.wait_in_sync(1, 1).await;
    holds_for("the value stays", Duration::from_secs(1), || {
        let port = shop.proxies[0].port;
        async move {
            let mut wire = support::wire::Wire::connect(port).await;
            wire.call("GET a").await == "$1"
        }
    })
    .await;
}

#[tokio::test]
async fn a_hung_primary_that_may_let_in_a_shut_off_proxy_wakes_without_any_replica() {
    let shop = Shop::start(1, 3, 2).await;
    let [primary, replica, other] = &shop.groups[0][..] else {
        panic!()
    };
    shop.wait_in_sync(1, 2).await;
    primary.signal("STOP");
    shop.proxies[0].process.signal("STOP");
    let path = promote(1, replica);
    let promoted = done(&shop, &path, r#"{"shut_off": true}"#);
    let followed_at_the_end = async {
        // Before anybody is told of the new primary.
        eventually("the candidate leads", Duration::from_secs(15), async || {
            (replica.info("role").await == "master").then_some(())
        })
        .await;
        other.info("master_port").await
    };
    let (_, followed) = tokio::join!(promoted, followed_at_the_end);
    assert_eq!(followed, replica.port().to_string());
    primary.signal("CONT");
    shop.proxies[0].process.signal("CONT");
    shop.wait_in_sync(1, 2).await;
    assert_eq!(primary.info("role").await, "slave");
}
