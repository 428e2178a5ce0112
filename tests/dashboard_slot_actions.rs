//! Moves of slots, rebalance and replica groups: what is asked for is checked, stored and shown.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use codis_operator::model::{SlotActionState, Stats};
use serde_json::json;
use support::dashboard::{Api, Dashboard, PRODUCT};
use support::etcd::Etcd;
use support::eventually;
use support::valkey::Valkey;

/// Groups 1 and 2 with a server each, group 3 without; all slots are group 1's, and the mover rests.
async fn groups(api: &Api) -> Vec<Valkey> {
    let servers = vec![Valkey::start().await, Valkey::start().await];
    for id in 1..=3 {
        api.done(&format!("/api/topom/group/create/X/{id}")).await;
    }
    for (id, server) in servers.iter().enumerate() {
        let add = format!("/api/topom/group/add/X/{}/{}/dc{}", id + 1, server.addr(), id + 1);
        api.done(&add).await;
    }
    api.done("/api/topom/slots/action/disabled/X/1").await;
    assign(api, 0..1024, 1).await;
    servers
}

async fn assign(api: &Api, slots: std::ops::Range<i64>, group: i64) {
    let slots: Vec<_> = slots.map(|id| json!({"id": id, "group_id": group})).collect();
    let body = serde_json::to_string(&slots).unwrap();
    assert_eq!(api.put("/api/topom/slots/assign/X", body).await.0, 200);
}

async fn stats(api: &Api) -> Stats {
    api.client.stats().await.unwrap()
}

/// The waiting moves, in the order of their turn: (slot, target).
async fn waiting(api: &Api) -> Vec<(u16, i64)> {
    let mut slots = stats(api).await.slots;
    slots.retain(|slot| slot.action.state == SlotActionState::Pending);
    slots.sort_by_key(|slot| slot.action.index);
    slots
        .iter()
        .map(|slot| (slot.id.get(), slot.action.target_id))
        .collect()
}

async fn plan(api: &Api, path: &str, body: &str) -> BTreeMap<u16, i64> {
    let (status, answer) = api.put(path, body.to_owned()).await;
    assert_eq!(status, 200, "{path}: {answer}");
    serde_json::from_str(&answer).unwrap()
}

async fn stored_slot(etcd: &Etcd, id: u16) -> serde_json::Value {
    let key = format!("/codis3/{PRODUCT}/slots/slot-{id:04}");
    serde_json::from_str(&etcd.get(&key).await.unwrap()).unwrap()
}

#[tokio::test]
async fn moves_that_are_asked_for_wait_in_the_store_until_they_are_forgotten() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let servers = groups(api).await;
    api.done("/api/topom/slots/action/create/X/5/2").await;
    let text = etcd.get(&format!("/codis3/{PRODUCT}/slots/slot-0005")).await.unwrap();
    let sample = r#"{"id":5,"group_id":1,"action":{"index":1,"state":"pending","target_id":2}}"#;
    assert_eq!(text.replace([' ', '\n'], ""), sample);
    api.done("/api/topom/slots/action/create-some/X/1/2/3").await;
    api.done("/api/topom/slots/action/create-range/X/100/101/2").await;
    assert_eq!(waiting(api).await, [(5, 2), (0, 2), (1, 2), (2, 2), (100, 2), (101, 2)]);
    // Where it waits proxies see nothing of it.
    let five = api.client.slots().await.unwrap().swap_remove(5);
    assert_eq!(
        (five.backend_addr_group_id, five.migrate_from, five.locked),
        (1, None, false)
    );

    api.done("/api/topom/slots/action/remove/X/5").await;
    assert_eq!(
        stored_slot(&etcd, 5).await,
        json!({"id": 5, "group_id": 1, "action": {}})
    );
    api.done("/api/topom/slots/action/create-some/X/77/2/3").await;
    assert_eq!(waiting(api).await.len(), 5);
    // A server that moves wait for does not leave.
    let remove = format!("/api/topom/group/del/X/2/{}", servers[1].addr());
    let cause = api.refused(&remove, "").await;
    assert_eq!(cause, "group-[2] can't remove master, still in use");
}

#[tokio::test]
async fn moves_that_make_no_sense_are_refused_with_the_texts_of_codis_and_change_nothing() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let _servers = groups(api).await;
    // A move that a former dashboard began.
    let begun = r#"{"id":201,"group_id":1,"action":{"index":1,"state":"migrating","target_id":2}}"#;
    let key = format!("/codis3/{PRODUCT}/slots/slot-0201");
    etcd.client().await.put(key, begun, None).await.unwrap();
    api.done("/api/topom/reload/X").await;
    api.done("/api/topom/slots/action/create/X/0/2").await;
    let before = etcd.dump("/codis3/").await;
    for (path, text) in [
        ("create/X/0/2", "slot-[0] action already exists"),
        ("create/X/1/1", "slot-[1] already in group-[1]"),
        ("create/X/1/9", "group-[9] doesn't exist"),
        ("create/X/1/3", "group-[3] is empty"),
        ("create/X/5000/2", "slot-[5000] doesn't exist"),
        ("create-some/X/1/9/4", "group-[9] doesn't exist"),
        ("create-range/X/10/5/2", "invalid slot range [10,5]"),
        ("create-range/X/0/9/2", "slot-[0] action already exists"),
        ("create-range/X/1/1024/2", "invalid slot range [1,1024]"),
        ("remove/X/201", "slot-[201] action isn't pending"),
        ("remove/X/7", "slot-[7] action doesn't exist"),
        (
            "create/X/five/2",
            "invalid sid \"five\": it must be a whole number that fits",
        ),
        (
            "create-some/X/1/2/-1",
            "invalid num \"-1\": it must be a whole number that fits",
        ),
        (
            "interval/X/1s",
            "invalid usec \"1s\": it must be a whole number that fits",
        ),
        ("disabled/X/2", "invalid value \"2\": it must be 0 or 1"),
    ] {
        assert_eq!(
            api.refused(&format!("/api/topom/slots/action/{path}"), "").await,
            text,
            "{path}"
        );
    }
    assert_eq!(etcd.dump("/codis3/").await, before);
}

#[tokio::test]
async fn interval_and_disabled_are_shown_and_last_as_long_as_the_dashboard() {
    let etcd = Etcd::start().await;
    let mut dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    for (given, shown) in [
        ("2500", 2500),
        ("-7", 0),
        ("1000000", 1_000_000),
        ("99999999", 1_000_000),
    ] {
        api.done(&format!("/api/topom/slots/action/interval/X/{given}")).await;
        assert_eq!(stats(api).await.slot_action.interval, shown);
    }
    api.done("/api/topom/slots/action/disabled/X/1").await;
    let (_, text) = api.get("/topom/stats").await;
    let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
    let sample = json!({"interval": 1_000_000, "disabled": true, "progress": {"status": ""}, "executor": 0});
    assert_eq!(shown["slot_action"], sample);
    api.done("/api/topom/slots/action/disabled/X/0").await;
    assert!(!stats(api).await.slot_action.disabled);

    api.done("/api/topom/slots/action/disabled/X/1").await;
    dashboard.process.signal("TERM");
    dashboard.process.exit_code(Duration::from_secs(10)).await;
    let next = Dashboard::start(&etcd, &[]).await;
    let idle = json!({"interval": 0, "disabled": false, "progress": {"status": ""}, "executor": 0});
    let shown = stats(&next.api).await.slot_action;
    assert_eq!(serde_json::to_value(shown).unwrap(), idle);
}

#[tokio::test]
async fn a_fresh_cluster_is_rebalanced_as_in_codis() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    assert_eq!(
        api.refused("/api/topom/slots/rebalance/X/0", "").await,
        "no valid group could be found"
    );
    let _servers = groups(api).await;
    let offline: Vec<_> = (0..1024).map(|id| json!({"id": id})).collect();
    let offline = serde_json::to_string(&offline).unwrap();
    assert_eq!(api.put("/api/topom/slots/assign/X/offline", offline).await.0, 200);

    let sample: BTreeMap<u16, i64> = (0..1024).map(|id| (id, if id < 512 { 1 } else { 2 })).collect();
    let before = etcd.dump("/codis3/").await;
    assert_eq!(plan(api, "/api/topom/slots/rebalance/X/0", "").await, sample);
    assert_eq!(etcd.dump("/codis3/").await, before);
    assert_eq!(plan(api, "/api/topom/slots/rebalance/X/1", "").await, sample);
    assert_eq!(waiting(api).await, sample.into_iter().collect::<Vec<_>>());
    let last = json!({"id": 1023, "group_id": 0, "action": {"index": 1024, "state": "pending", "target_id": 2}});
    assert_eq!(stored_slot(&etcd, 1023).await, last);
    assert_eq!(
        api.put("/api/topom/slots/rebalance/X/1", "").await,
        (200, "{}".to_owned())
    );
}

#[tokio::test]
async fn slots_are_spread_by_weight_and_groups_are_emptied() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let _servers = groups(api).await;
    let path = "/api/topom/v2/slots/rebalance/X";
    assert_eq!(plan(api, path, "{}").await, (512..1024).map(|id| (id, 2)).collect());
    let quarter = plan(api, path, r#"{"weights":{"1":3.0}}"#).await;
    assert_eq!(quarter, (768..1024).map(|id| (id, 2)).collect());
    assert_eq!(waiting(api).await, []);

    let before = etcd.dump("/codis3/").await;
    for (body, words) in [
        ("", "the body says no rebalance"),
        (r#"{"confirm":true,"weigths":{"1":2}}"#, "unknown field `weigths`"),
        (r#"{"confirm":true,"weights":{"1":0}}"#, "weights.1: a weight must be"),
        (
            r#"{"confirm":true,"weights":{"9":1}}"#,
            "weights: group-[9] doesn't exist",
        ),
        (r#"{"confirm":true,"weights":{"3":1}}"#, "weights: group-[3] is empty"),
        (r#"{"confirm":true,"exclude":[9]}"#, "exclude: group-[9] doesn't exist"),
        (r#"{"confirm":true,"exclude":[1,2]}"#, "no valid group could be found"),
    ] {
        let cause = api.refused(path, body).await;
        assert!(cause.contains(words), "{body}: {cause}");
    }
    assert_eq!(etcd.dump("/codis3/").await, before);

    let all: BTreeMap<u16, i64> = (0..1024).map(|id| (id, 2)).collect();
    assert_eq!(plan(api, path, r#"{"exclude":[1],"confirm":true}"#).await, all);
    assert_eq!(waiting(api).await, all.into_iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn servers_join_and_leave_the_replica_groups_and_proxies_are_told_by_a_resync() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let servers = groups(api).await;
    let replica = Valkey::start().await;
    api.done(&format!("/api/topom/group/add/X/1/{}", replica.addr())).await;
    let member = |value: u8| format!("/api/topom/group/replica-groups/X/1/{}/{value}", replica.addr());
    api.done(&member(1)).await;
    let group = stats(api).await.group.models.swap_remove(0);
    assert!(group.out_of_sync && group.servers[1].replica_group && !group.servers[0].replica_group);
    let zero = api.client.slots().await.unwrap().swap_remove(0);
    assert_eq!(zero.replica_groups, [[replica.addr()]]);
    api.done("/api/topom/group/resync/X/1").await;
    assert!(!stats(api).await.group.models[0].out_of_sync);

    api.done("/api/topom/group/replica-groups-all/X/1").await;
    let models = stats(api).await.group.models;
    assert!(
        models
            .iter()
            .flat_map(|group| &group.servers)
            .all(|server| server.replica_group)
    );
    // Group 2 has one server: there is nothing to choose.
    assert!(models[0].out_of_sync && !models[1].out_of_sync);
    api.done("/api/topom/group/replica-groups-all/X/0").await;
    let models = stats(api).await.group.models;
    assert!(
        !models
            .iter()
            .flat_map(|group| &group.servers)
            .any(|server| server.replica_group)
    );

    for (path, text) in [
        (
            format!("replica-groups/X/9/{}/1", replica.addr()),
            "group-[9] doesn't exist".to_owned(),
        ),
        (
            format!("replica-groups/X/2/{}/1", servers[0].addr()),
            format!("group-[2] doesn't have server-[{}]", servers[0].addr()),
        ),
        (
            "replica-groups-all/X/yes".to_owned(),
            "invalid value \"yes\": it must be 0 or 1".to_owned(),
        ),
    ] {
        assert_eq!(api.refused(&format!("/api/topom/group/{path}"), "").await, text);
    }
}

#[tokio::test]
async fn a_sync_action_lies_in_the_store_as_in_codis() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let server = Valkey::start().await;
    api.done("/api/topom/group/create/X/1").await;
    api.done(&format!("/api/topom/group/add/X/1/{}/dc2", server.addr()))
        .await;
    let stored = async || {
        let text = etcd.get(&format!("/codis3/{PRODUCT}/group/group-0001")).await.unwrap();
        let mut group: serde_json::Value = serde_json::from_str(&text).unwrap();
        let server = group["servers"][0].as_object_mut().unwrap();
        // Ours, which Codis does not have.
        server.remove("admitted_run_id");
        serde_json::Value::Object(server.clone())
    };
    let sample = |action: serde_json::Value| {
        let server = server.addr().to_string();
        json!({"server": server, "datacenter": "dc2", "action": action, "replica_group": false})
    };
    // It can't be carried out yet.
    server.signal("STOP");
    let create = format!("/api/topom/group/action/create/X/{}", server.addr());
    api.done(&create).await;
    assert_eq!(stored().await, sample(json!({"index": 1, "state": "pending"})));
    server.signal("CONT");
    let synced = sample(json!({"state": "synced"}));
    eventually("it is carried out", Duration::from_secs(10), async || {
        (stored().await == synced).then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_changing_route_wants_the_right_xauth() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let wrong = "948967642f9eea556aac8428e1162e30";
    for path in [
        "slots/action/create/X/1/1",
        "slots/action/create-some/X/1/2/3",
        "slots/action/create-range/X/1/2/3",
        "slots/action/remove/X/1",
        "slots/action/interval/X/1",
        "slots/action/disabled/X/1",
        "slots/rebalance/X/1",
        "v2/slots/rebalance/X",
        "group/replica-groups/X/1/h:1/1",
        "group/replica-groups-all/X/1",
        "sentinels/add/X/h:1",
        "sentinels/del/X/h:1/1",
        "sentinels/resync-all/X",
    ] {
        let path = format!("/api/topom/{}", path.replace('X', wrong));
        let cause = dashboard.api.refused(&path, "{}").await;
        assert_eq!(cause, "invalid xauth, please check product name & auth", "{path}");
    }
}
