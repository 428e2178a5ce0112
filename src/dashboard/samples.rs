//! What was captured from Codis 3.2 at work, read and written by our code, field by field. The numbers are those of the
//! samples in the reference.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::rules::proxies::{self, Registration};
use super::topology::{Change, Topology};
use super::view;
use crate::model::{Group, PromoteState, Proxy, ProxySentinels, Slot, SlotId, SlotMapping};

/// A.7: a proxy as the store holds it.
const PROXY: &str = r#"{"id":1,"token":"c674f1f9ec5617b40f2514554c7ee887",
    "start_time":"2026-11-21 19:25:43.31054587 +0000 UTC m=+0.004765691","admin_addr":"127.0.0.1:31080",
    "proto_type":"tcp4","proxy_addr":"127.0.0.1:39000","product_name":"refdemo","pid":20683,"pwd":"/var/lib/codis",
    "sys":"Linux vm","hostname":"vm","datacenter":""}"#;

/// A.8: slot 5 while it moves from group 1 to group 2: what the store holds, and what proxies were told.
const MOVE: [(&str, &str); 3] = [
    (
        r#"{"id":5,"group_id":1,"action":{"index":1,"state":"pending","target_id":2}}"#,
        r#"{"id":5,"backend_addr":"127.0.0.1:36379","backend_addr_group_id":1,"forward_method":1}"#,
    ),
    (
        r#"{"id":5,"group_id":1,"action":{"index":1,"state":"migrating","target_id":2}}"#,
        r#"{"id":5,"backend_addr":"127.0.0.1:36381","backend_addr_group_id":2,"migrate_from":"127.0.0.1:36379",
            "migrate_from_group_id":1,"forward_method":1}"#,
    ),
    (
        r#"{"id":5,"group_id":2,"action":{}}"#,
        r#"{"id":5,"backend_addr":"127.0.0.1:36381","backend_addr_group_id":2,"forward_method":1}"#,
    ),
];

/// A.9: slot 300, moved from group 1 to group 2, whose servers all answer reads: what proxies were told before it moved and
/// when its keys had, and what the dashboard shows afterwards.
const READS: [(&str, &str); 3] = [
    (
        r#"{"id":300,"group_id":1,"action":{}}"#,
        r#"{"id":300,"backend_addr":"127.0.0.1:36380","backend_addr_group_id":1,
            "replica_groups":[["127.0.0.1:36380","127.0.0.1:36379"]]}"#,
    ),
    (
        r#"{"id":300,"group_id":1,"action":{"index":1,"state":"finished","target_id":2}}"#,
        r#"{"id":300,"backend_addr":"127.0.0.1:36383","backend_addr_group_id":2}"#,
    ),
    (
        r#"{"id":300,"group_id":2,"action":{}}"#,
        r#"{"id":300,"backend_addr":"127.0.0.1:36383","backend_addr_group_id":2,
            "replica_groups":[["127.0.0.1:36383","127.0.0.1:36382"]]}"#,
    ),
];

/// A.10: a group that is stuck in its promotion.
const STUCK: &str = r#"{"id":1,"servers":[
    {"server":"127.0.0.1:36379","datacenter":"dc1","action":{},"replica_group":true},
    {"server":"127.0.0.1:36380","datacenter":"dc2","action":{"state":"synced"},"replica_group":true}],
    "promoting":{"index":1,"state":"preparing"},"out_of_sync":false}"#;

/// A.13: a group whose order a Sentinel changed, and what a proxy says of that.
const SWITCHED: [&str; 2] = [
    r#"{"id":2,"servers":[
        {"server":"127.0.0.1:36382","datacenter":"","action":{},"replica_group":false},
        {"server":"127.0.0.1:36381","datacenter":"","action":{},"replica_group":false},
        {"server":"127.0.0.1:36383","datacenter":"","action":{},"replica_group":false}],
        "promoting":{},"out_of_sync":true}"#,
    r#"{"servers":["127.0.0.1:36501","127.0.0.1:36502","127.0.0.1:36503"],
        "masters":{"1":"127.0.0.1:36379","2":"127.0.0.1:36382"},"switched":true}"#,
];

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn written<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap()
}

/// Reads a sample. Written again it is the same.
#[track_caller]
fn read<T: Serialize + DeserializeOwned>(sample: &str) -> T {
    let read: T = serde_json::from_str(sample).unwrap();
    assert_eq!(written(&read), value(sample));
    read
}

/// Group 1 with these servers, and group 2, all with or without their mark for reads.
fn groups(servers: [&[&str]; 2], reads: bool) -> Topology {
    let group = |id: i64, servers: &[&str]| {
        let servers: Vec<Value> = servers
            .iter()
            .map(|server| serde_json::json!({"server": server, "datacenter": "", "action": {}, "replica_group": reads}))
            .collect();
        let group = serde_json::json!({"id": id, "servers": servers, "promoting": {}, "out_of_sync": false});
        Change::PutGroup(serde_json::from_value(group).unwrap())
    };
    let mut topology = Topology::empty(1);
    topology.apply(&[group(1, servers[0]), group(2, servers[1])], 2);
    topology
}

/// What proxies are told of the slot that is recorded so. The epoch is ours, and Codis' proxies pass it over.
fn told(topology: &Topology, record: &str, forward_method: i64) -> (Slot, Value) {
    let mut topology = topology.clone();
    let record: SlotMapping = read(record);
    topology.apply(&[Change::PutSlot(record)], 3);
    let slot = view::slot(&topology, record.id, forward_method);
    let mut told = written(&slot);
    assert_eq!(told.as_object_mut().unwrap().remove("epoch"), Some(3.into()));
    (slot, told)
}

#[test]
fn a_proxy_of_codis_is_recorded_as_codis_does() {
    let known: Proxy = read(PROXY);
    // A proxy does not know its number.
    let mut model = value(PROXY);
    model.as_object_mut().unwrap().remove("id");
    let model: Proxy = serde_json::from_value(model).unwrap();
    let product = "refdemo".parse().unwrap();
    assert_eq!(proxies::check(&model, &known.admin_addr, &product), Ok(()));
    let changes = proxies::register(&Topology::empty(1), &model, Registration::New).unwrap();
    let [Change::PutProxy(recorded)] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!(written(&**recorded), value(PROXY));
}

#[test]
fn a_slot_that_moves_is_told_as_codis_tells_it() {
    let topology = groups([&["127.0.0.1:36379", "127.0.0.1:36380"], &["127.0.0.1:36381"]], false);
    for (record, proxy) in MOVE {
        let (slot, told) = told(&topology, record, 1);
        assert_eq!(told, value(proxy), "{record}");
        assert_eq!(
            read::<Slot>(proxy),
            Slot { epoch: 0, ..slot },
            "what a proxy of Codis answers is understood"
        );
    }
}

#[test]
fn servers_that_answer_reads_are_told_as_codis_tells_them() {
    let (one, two) = (
        ["127.0.0.1:36380", "127.0.0.1:36379"],
        ["127.0.0.1:36383", "127.0.0.1:36382"],
    );
    let topology = groups([&one, &two], true);
    for (record, shown) in READS {
        assert_eq!(told(&topology, record, 0).1, value(shown), "{record}");
    }
}

#[test]
fn a_group_that_codis_left_stuck_is_gone_on_with() {
    let group: Group = read(STUCK);
    assert_eq!(
        (group.promoting.index, group.promoting.state),
        (1, PromoteState::Preparing)
    );
    assert!(
        !group.promoting.forced && !group.promoting.planned,
        "nobody forces what Codis began"
    );
    let mut topology = Topology::empty(1);
    let slot = SlotMapping {
        group_id: 1,
        ..SlotMapping::offline(SlotId::new(7).unwrap())
    };
    topology.apply(&[Change::PutGroup(group), Change::PutSlot(slot)], 2);
    // Codis has it unlocked in this state, and says who answers reads.
    let slot = view::slot(&topology, slot.id, 0);
    assert!(slot.locked && slot.replica_groups.is_empty());
    assert_eq!(
        slot.backend_addr.as_ref().map(|addr| addr.as_str()),
        Some("127.0.0.1:36379")
    );
}

#[test]
fn what_a_sentinel_changed_is_read_as_it_is() {
    let [group, sentinels] = SWITCHED;
    let group: Group = read(group);
    assert!(group.out_of_sync && group.primary().unwrap().server.as_str() == "127.0.0.1:36382");
    let sentinels: ProxySentinels = read(sentinels);
    assert!(sentinels.switched && sentinels.masters["2"] == "127.0.0.1:36382");
    assert_eq!(sentinels.servers.len(), 3);
}
