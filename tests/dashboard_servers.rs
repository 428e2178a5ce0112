//! Giving servers their roles: against real servers, prepared and not, that restart, hang and lie in wait.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that can't go on fails, and shows its times"
)]

mod support;

use std::time::{Duration, Instant};

use codis_operator::model::{ActionState, Group, GroupServer, HostPort};
use support::dashboard::{Api, Dashboard, Inside, PRODUCT};
use support::etcd::Etcd;
use support::valkey::Valkey;
use support::{eventually, holds_for};

const SECRET: &str = "product-secret";

async fn group(api: &Api, id: u16, servers: &[&Valkey]) {
    api.done(&format!("/api/topom/group/create/X/{id}")).await;
    for server in servers {
        api.done(&format!("/api/topom/group/add/X/{id}/{}", server.addr()))
            .await;
    }
}

async fn ask_role(api: &Api, server: &Valkey) {
    api.done(&format!("/api/topom/group/action/create/X/{}", server.addr()))
        .await;
}

async fn record(api: &Api, server: &HostPort) -> Option<(Group, GroupServer)> {
    let stats = api.client.stats().await.ok()?;
    stats.group.models.into_iter().find_map(|group| {
        let found = group.servers.iter().find(|s| s.server == *server).cloned()?;
        Some((group, found))
    })
}

async fn wait_state(api: &Api, server: &Valkey, state: ActionState) -> (Group, GroupServer) {
    let addr = server.addr();
    eventually(
        &format!("the sync-action of {addr} is {state:?}"),
        Duration::from_secs(10),
        async || {
            record(api, &addr)
                .await
                .filter(|(_, server)| server.action.state == state)
        },
    )
    .await
}

async fn give_role(api: &Api, server: &Valkey) {
    ask_role(api, server).await;
    wait_state(api, server, ActionState::Synced).await;
}

async fn wait_replicated(replica: &Valkey) {
    eventually("the replica's link is up", Duration::from_secs(10), async || {
        (replica.info("master_link_status").await == "up").then_some(())
    })
    .await;
}

async fn admission(api: &Api, server: &Valkey) -> String {
    let stats = api
        .server_stats(&server.addr(), "tells why", |stats| {
            stats.stats.contains_key("admission")
        })
        .await;
    stats.stats["admission"].clone()
}

#[tokio::test]
async fn prepared_servers_get_their_roles_and_the_proxies_get_in() {
    let etcd = Etcd::start().await;
    let dashboard = Inside::start(&etcd, SECRET).await;
    let api = &dashboard.api;
    let (primary, replica) = (
        Valkey::prepared("shop-g1-0", SECRET).await,
        Valkey::prepared("shop-g1-1", SECRET).await,
    );
    group(api, 1, &[&primary, &replica]).await;
    let began = Instant::now();
    ask_role(api, &primary).await;
    ask_role(api, &replica).await;
    let (group, server) = wait_state(api, &primary, ActionState::Synced).await;
    wait_state(api, &replica, ActionState::Synced).await;
    println!("two prepared servers admitted in {:?}", began.elapsed());
    assert!(group.bootstrapped && server.action.index == 0);
    assert_eq!(server.admitted_run_id, Some(primary.info("run_id").await));

    assert_eq!(primary.info("role").await, "master");
    // It is commanded as the user of the lock, which may be at no other server.
    let users: Vec<String> = primary.run(&["ACL", "USERS"]).await;
    let topom = users.iter().find(|user| user.starts_with("topom-")).unwrap();
    assert!(
        topom.ends_with("@shop-g1-0") && !users.iter().any(|user| user.starts_with("proxy-")),
        "{users:?}"
    );
    primary.run::<String>(&["SET", "k", "v"]).await;
    wait_replicated(&replica).await;
    eventually("the value arrives", Duration::from_secs(5), async || {
        replica
            .try_run::<String>(&["GET", "k"])
            .await
            .ok()
            .filter(|value| value == "v")
    })
    .await;

    let stats = api
        .server_stats(&replica.addr(), "is seen as a replica", |s| {
            s.stats.contains_key("master_server")
        })
        .await;
    assert_eq!(stats.stats["master_server"], primary.addr().to_string());
    assert_eq!(stats.stats["master_addr"], primary.ip_port());
    assert_eq!(
        (stats.stats["role"].as_str(), stats.stats.contains_key("maxmemory")),
        ("slave", true)
    );
    assert!(!stats.stats.contains_key("admission"));
}

#[tokio::test]
async fn servers_that_nobody_prepared_are_given_roles_as_in_codis() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &["--product_auth=pw"]).await;
    let api = &dashboard.api;
    let (primary, replica) = (Valkey::with_password("pw").await, Valkey::with_password("pw").await);
    primary.run::<String>(&["SET", "k", "v"]).await;
    group(api, 1, &[&primary, &replica]).await;
    // It followed another one before, whose users this one has not.
    replica.run::<String>(&["CONFIG", "SET", "masteruser", "former"]).await;
    give_role(api, &replica).await;
    wait_replicated(&replica).await;
    assert_eq!(replica.run::<String>(&["GET", "k"]).await, "v");
    give_role(api, &primary).await;
    let stats = api
        .server_stats(&replica.addr(), "follows", |s| s.stats.contains_key("master_server"))
        .await;
    assert_eq!(stats.stats["master_server"], primary.addr().to_string());
}

#[tokio::test]
async fn a_server_with_another_password_is_refused() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &["--product_auth=pw"]).await;
    let stranger = Valkey::with_password("other").await;
    dashboard.api.done("/api/topom/group/create/X/1").await;
    let add = format!("/api/topom/group/add/X/1/{}", stranger.addr());
    let cause = dashboard.api.refused(&add, "").await;
    assert!(
        cause.contains("login refused") && cause.contains("WRONGPASS") && !cause.contains("pw"),
        "{cause}"
    );
}

#[tokio::test]
async fn a_secret_that_a_server_repeats_is_shown_nowhere() {
    let etcd = Etcd::start().await;
    let folder = tempfile::TempDir::new().unwrap();
    let log = folder.path().join("log");
    let flags = ["--product_auth=hush-hush", "-l", log.to_str().unwrap()];
    let dashboard = Dashboard::start(&etcd, &flags).await;
    let api = &dashboard.api;
    let primary = Valkey::with_password("hush-hush").await;
    let replica = Valkey::with_arguments("hush-hush", &["--rename-command", "CONFIG", ""]).await;
    group(api, 1, &[&primary, &replica]).await;
    give_role(api, &primary).await;
    ask_role(api, &replica).await;
    wait_state(api, &replica, ActionState::SyncedFailed).await;
    let reason = admission(api, &replica).await;
    assert!(
        reason.contains("CONFIG SET masterauth was refused: ERR") && !reason.contains("hush"),
        "{reason}"
    );
    assert!(!api.get("/topom/stats").await.1.contains("hush"));

    // The real file has the day as a suffix.
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap();
    let text = std::fs::read_to_string(file.path()).unwrap();
    assert!(
        text.contains("the server is not given its role") && !text.contains("hush"),
        "{text}"
    );
}

#[tokio::test]
async fn a_stranger_at_the_address_of_a_prepared_server_is_left_alone() {
    let etcd = Etcd::start().await;
    let dashboard = Inside::start(&etcd, SECRET).await;
    let api = &dashboard.api;
    let mut server = Valkey::prepared("shop-g1-0", SECRET).await;
    group(api, 1, &[&server]).await;
    give_role(api, &server).await;
    let addr = server.addr();
    assert!(record(api, &addr).await.unwrap().1.prepared);
    server.give_way_to_a_stranger().await;
    api.done(&format!("/api/topom/group/action/create/X/{addr}")).await;
    let stats = api
        .server_stats(&addr, "it does not let the admin in", |stats| {
            let refused = |reason: &String| reason.contains("login refused: as admin@shop-g1-0: WRONGPASS");
            stats.stats.get("admission").is_some_and(refused) && stats.error.is_some()
        })
        .await;
    assert!(!stats.stats.contains_key("run_id"));
    // It may be itself again, later.
    assert_eq!(record(api, &addr).await.unwrap().1.action.state, ActionState::Pending);
}

#[tokio::test]
async fn a_primary_restarted_empty_is_refused_and_its_replica_keeps_the_data() {
    let etcd = Etcd::start().await;
    let dashboard = Inside::start(&etcd, SECRET).await;
    let api = &dashboard.api;
    let mut primary = Valkey::prepared("shop-g1-0", SECRET).await;
    let replica = Valkey::prepared("shop-g1-1", SECRET).await;
    group(api, 1, &[&primary, &replica]).await;
    give_role(api, &primary).await;
    give_role(api, &replica).await;
    wait_replicated(&replica).await;
    primary.run::<String>(&["SET", "k", "v"]).await;
    eventually("the value arrives", Duration::from_secs(5), async || {
        replica.info("db0").await.starts_with("keys=1").then_some(())
    })
    .await;

    primary.restart().await;
    ask_role(api, &primary).await;
    let (_, server) = wait_state(api, &primary, ActionState::SyncedFailed).await;
    assert_ne!(server.admitted_run_id, Some(primary.info("run_id").await));
    let reason = admission(api, &primary).await;
    assert!(
        reason.contains("data set is empty") && reason.contains("1 keys"),
        "{reason}"
    );
    assert_eq!(primary.info("role").await, "slave");

    // The replica is not sent to the empty one either, and goes on holding what it has.
    ask_role(api, &replica).await;
    let reason = admission(api, &replica).await;
    assert!(reason.contains("was not given its role yet"), "{reason}");
    holds_for("the replica has its key", Duration::from_secs(2), || async {
        replica.info("db0").await.starts_with("keys=1")
    })
    .await;

    // A replica that can't be asked may know more, too.
    replica.signal("STOP");
    ask_role(api, &primary).await;
    eventually("it is refused again", Duration::from_secs(10), async || {
        admission(api, &primary).await.contains("can't be asked").then_some(())
    })
    .await;
    replica.signal("CONT");
    assert_eq!(primary.info("role").await, "slave");
}

/// A durable primary with one key, and a durable replica that is recorded as in sync.
async fn durable_pair(api: &Api) -> (Valkey, Valkey) {
    let primary = Valkey::durable("shop-g1-0", SECRET).await;
    let replica = Valkey::durable("shop-g1-1", SECRET).await;
    group(api, 1, &[&primary, &replica]).await;
    give_role(api, &primary).await;
    give_role(api, &replica).await;
    wait_in_sync(api, &primary, 1).await;
    write(&primary, "k1").await;
    eventually("the value arrives", Duration::from_secs(5), async || {
        replica.info("db0").await.starts_with("keys=1").then_some(())
    })
    .await;
    (primary, replica)
}

async fn wait_in_sync(api: &Api, primary: &Valkey, replicas: usize) {
    let addr = primary.addr();
    eventually(
        &format!("{replicas} are in sync"),
        Duration::from_secs(15),
        async || {
            let (group, _) = record(api, &addr).await?;
            (group.in_sync.len() == replicas).then_some(())
        },
    )
    .await;
}

/// Writes a key as soon as the server takes it.
async fn write(server: &Valkey, key: &str) {
    eventually("a write is taken", Duration::from_secs(5), async || {
        server.try_run::<String>(&["SET", key, "v"]).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_primary_that_went_on_without_its_replica_leads_again_with_what_its_files_hold() {
    let etcd = Etcd::start().await;
    let dashboard = Inside::start(&etcd, SECRET).await;
    let api = &dashboard.api;
    let (mut primary, mut replica) = durable_pair(api).await;
    replica.kill();
    wait_in_sync(api, &primary, 0).await;
    write(&primary, "k2").await;
    primary.restart().await;
    give_role(api, &primary).await;
    assert_eq!(primary.info("role").await, "master");
    assert!(primary.info("db0").await.starts_with("keys=2"));
    // The older copy, which is of a history that is known, is replaced when it comes back.
    replica.restart().await;
    give_role(api, &replica).await;
    eventually("the newer copy is there", Duration::from_secs(10), async || {
        replica.info("db0").await.starts_with("keys=2").then_some(())
    })
    .await;
    // The same while it is there, and was only cut off.
    wait_in_sync(api, &primary, 1).await;
    replica.signal("STOP");
    wait_in_sync(api, &primary, 0).await;
    write(&primary, "k3").await;
    primary.kill();
    replica.signal("CONT");
    primary.restart().await;
    give_role(api, &primary).await;
    assert!(primary.info("db0").await.starts_with("keys=3"));
}

#[tokio::test]
async fn a_primary_leads_with_what_it_has_when_that_is_asked_for() {
    let etcd = Etcd::start().await;
    let dashboard = Inside::start(&etcd, SECRET).await;
    let api = &dashboard.api;
    let (mut primary, mut replica) = durable_pair(api).await;
    primary.kill();
    replica.kill();
    primary.restart().await;
    ask_role(api, &primary).await;
    wait_state(api, &primary, ActionState::SyncedFailed).await;
    assert!(admission(api, &primary).await.contains("can't be asked"));
    let keep = |server: &Valkey| format!("/api/topom/v2/group/keep-primary/X/{}", server.addr());
    let cause = api.refused(&keep(&replica), "").await;
    assert!(cause.contains("not the primary"), "{cause}");
    let cause = api.refused(&format!("{}?epoch=-1", keep(&primary)), "").await;
    assert!(cause.contains("epoch"), "{cause}");
    let epoch = api.group(1).await.unwrap().epoch;
    let path = format!("{}?epoch={epoch}", keep(&primary));
    api.done(&path).await;
    let (group, server) = wait_state(api, &primary, ActionState::Synced).await;
    assert!(!server.action.forced && group.in_sync.is_empty());
    assert_eq!(primary.info("role").await, "master");
    assert!(primary.info("db0").await.starts_with("keys=1"));
    // It was about a record that is no more.
    let cause = api.refused(&path, "").await;
    assert!(cause.contains("was changed"), "{cause}");
    // It is the copy that counts from now on.
    replica.restart().await;
    give_role(api, &replica).await;
    wait_replicated(&replica).await;
}

#[tokio::test]
async fn a_restarted_replica_is_attached_again() {
    let etcd = Etcd::start().await;
    let dashboard = Inside::start(&etcd, SECRET).await;
    let api = &dashboard.api;
    let primary = Valkey::prepared("shop-g1-0", SECRET).await;
    let mut replica = Valkey::prepared("shop-g1-1", SECRET).await;
    group(api, 1, &[&primary, &replica]).await;
    give_role(api, &primary).await;
    give_role(api, &replica).await;
    primary.run::<String>(&["SET", "k", "v"]).await;
    let before = record(api, &replica.addr()).await.unwrap().1.admitted_run_id;
    replica.restart().await;
    let run_id = replica.info("run_id").await;
    api.server_stats(&replica.addr(), "is seen as a new process", |s| {
        s.stats.get("run_id") == Some(&run_id)
    })
    .await;
    give_role(api, &replica).await;
    wait_replicated(&replica).await;
    let after = record(api, &replica.addr()).await.unwrap().1.admitted_run_id;
    assert!(after != before && after == Some(replica.info("run_id").await));
    eventually("the data is back", Duration::from_secs(5), async || {
        replica.info("db0").await.starts_with("keys=1").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_sole_server_of_a_group_gets_its_role_back_empty() {
    let etcd = Etcd::start().await;
    let dashboard = Inside::start(&etcd, SECRET).await;
    let api = &dashboard.api;
    let mut primary = Valkey::prepared("shop-g1-0", SECRET).await;
    group(api, 1, &[&primary]).await;
    give_role(api, &primary).await;
    primary.run::<String>(&["SET", "k", "v"]).await;
    primary.restart().await;
    give_role(api, &primary).await;
    assert_eq!(primary.info("role").await, "master");
}

#[tokio::test]
async fn a_replica_that_was_asked_first_waits_for_its_primary() {
    let etcd = Etcd::start().await;
    let dashboard = Inside::start(&etcd, SECRET).await;
    let api = &dashboard.api;
    let (primary, replica) = (
        Valkey::prepared("shop-g1-0", SECRET).await,
        Valkey::prepared("shop-g1-1", SECRET).await,
    );
    group(api, 1, &[&primary, &replica]).await;
    ask_role(api, &replica).await;
    let reason = admission(api, &replica).await;
    assert!(reason.contains("has not got its role"), "{reason}");
    assert_eq!(
        record(api, &replica.addr()).await.unwrap().1.action.state,
        ActionState::Pending
    );
    give_role(api, &primary).await;
    wait_state(api, &replica, ActionState::Synced).await;
    wait_replicated(&replica).await;
    let stats = api
        .server_stats(&replica.addr(), "has no complaint", |s| {
            !s.stats.contains_key("admission")
        })
        .await;
    assert_eq!(stats.stats["role"], "slave");
}

#[tokio::test]
async fn a_server_that_hangs_holds_up_no_other_and_gets_its_role_when_it_wakes() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let (hanging, fine, mate) = (Valkey::start().await, Valkey::start().await, Valkey::start().await);
    group(api, 1, &[&hanging, &mate]).await;
    group(api, 2, &[&fine]).await;
    hanging.signal("STOP");
    ask_role(api, &hanging).await;
    let began = Instant::now();
    give_role(api, &fine).await;
    println!("another group's server got its role in {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_millis(800), "{:?}", began.elapsed());
    api.server_stats(&hanging.addr(), "times out", |stats| {
        stats.timeout || stats.error.is_some()
    })
    .await;
    api.server_stats(&fine.addr(), "is polled all the same", |stats| {
        stats.stats.contains_key("run_id")
    })
    .await;
    assert_eq!(
        record(api, &hanging.addr()).await.unwrap().1.action.state,
        ActionState::Pending
    );
    hanging.signal("CONT");
    wait_state(api, &hanging, ActionState::Synced).await;
}

#[tokio::test]
async fn what_a_former_dashboard_left_half_done_is_finished() {
    let etcd = Etcd::start().await;
    let server = Valkey::start().await;
    let record = format!(
        r#"{{"id":1,"servers":[{{"server":"{}","datacenter":"","action":{{"state":"syncing"}},"replica_group":false}}],"promoting":{{}},"out_of_sync":false}}"#,
        server.addr()
    );
    etcd.client()
        .await
        .put(format!("/codis3/{PRODUCT}/group/group-0001"), record, None)
        .await
        .unwrap();
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let (group, _) = wait_state(&dashboard.api, &server, ActionState::Synced).await;
    assert!(group.bootstrapped);
}

#[tokio::test]
async fn a_server_that_was_removed_is_polled_no_more() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let server = Valkey::start().await;
    group(api, 1, &[&server]).await;
    api.server_stats(&server.addr(), "is polled", |stats| stats.stats.contains_key("run_id"))
        .await;
    api.done(&format!("/api/topom/group/del/X/1/{}", server.addr())).await;
    eventually("its poll is gone", Duration::from_secs(5), async || {
        let stats = api.client.stats().await.ok()?;
        stats.group.stats.is_empty().then_some(())
    })
    .await;
}
