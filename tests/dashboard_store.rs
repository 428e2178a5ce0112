//! Where the records are: etcd over TLS, etcd of three members, and files.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that can't go on fails, and shows its times"
)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::certificates::{Ca, Files};
use support::dashboard::{Dashboard, PRODUCT, cause};
use support::etcd::Etcd;
use support::etcd_cluster::Cluster;
use support::etcd_tls::TlsEtcd;
use support::{eventually, holds_for};
use tempfile::TempDir;

/// The remedy where etcd's certificate is not signed by the CA that the dashboard was given.
const WRONG_CA: &str = "coordinator_tls_ca must be the CA that signed etcd's certificate";

/// Started at an etcd behind TLS, with these files and further flags.
fn launch_tls(etcd: &TlsEtcd, files: &[String], flags: &[&str]) -> Dashboard {
    let files = files.iter().map(String::as_str);
    Dashboard::launch(
        &etcd.endpoint(),
        &files.chain(flags.iter().copied()).collect::<Vec<_>>(),
    )
}

/// What `/readyz` says once it holds this.
async fn not_ready(dashboard: &Dashboard, words: &str) -> String {
    eventually(
        &format!("/readyz says {words:?}"),
        Duration::from_secs(10),
        async || {
            dashboard.api.client.model().await.ok()?;
            match dashboard.api.get("/readyz").await {
                (503, body) => Some(cause(&body)).filter(|cause| cause.contains(words)),
                _ => None,
            }
        },
    )
    .await
}

#[tokio::test]
async fn etcd_is_reached_over_tls_with_a_client_certificate_and_a_password() {
    let ca = Ca::new();
    let etcd = TlsEtcd::start(&ca).await;
    let mut client = etcd.client(None).await.unwrap();
    client.user_add("root", "pa:ss", None).await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.auth_enable().await.unwrap();
    let files = ca.files("dashboard");
    let wrong = launch_tls(&etcd, &files.flags(), &["--coordinator-auth=root:hush"]);
    let cause = not_ready(&wrong, "authentication failed").await;
    assert!(!cause.contains("hush"), "{cause}");
    let right = launch_tls(&etcd, &files.flags(), &["--coordinator-auth=root:pa:ss"]);
    right.api.wait_active().await;
    right.api.done("/api/topom/group/create/X/1").await;
    assert_eq!(right.api.client.stats().await.unwrap().group.models.len(), 1);
}

#[tokio::test]
async fn an_etcd_that_another_authority_signed_is_refused_with_the_remedy() {
    let (ca, other) = (Ca::new(), Ca::new());
    let etcd = TlsEtcd::start(&ca).await;
    let (ours, theirs) = (ca.files("dashboard"), other.files("dashboard"));
    let with_ca = |files: &Files| format!("--etcd-ca={}", files.ca().display());
    let mistrusting = launch_tls(&etcd, &[with_ca(&theirs)], &[]);
    let cause = not_ready(&mistrusting, WRONG_CA).await;
    assert!(cause.contains("invalid peer certificate"), "{cause}");
    let anonymous = launch_tls(&etcd, &[with_ca(&ours)], &[]);
    let cause = not_ready(&anonymous, "CertificateRequired").await;
    assert!(
        cause.contains("set coordinator_tls_cert and coordinator_tls_key"),
        "{cause}"
    );
    let mut mixed = ours.flags();
    mixed[2] = format!("--etcd-key={}", theirs.key().display());
    let mixed = launch_tls(&etcd, &mixed, &[]);
    not_ready(&mixed, "coordinator_tls_key must be the key of coordinator_tls_cert").await;
}

#[tokio::test]
async fn renewed_certificates_are_taken_without_a_restart() {
    let (old, new) = (Ca::new(), Ca::new());
    let mut etcd = TlsEtcd::start(&old).await;
    let files = old.files("dashboard");
    let dashboard = launch_tls(&etcd, &files.flags(), &[]);
    dashboard.api.wait_active().await;
    dashboard.api.done("/api/topom/group/create/X/1").await;
    etcd.stop();
    etcd.restart(&new, None).await;
    not_ready(&dashboard, WRONG_CA).await;
    new.write("dashboard", &files);
    dashboard.api.wait_active().await;
    dashboard.api.done("/api/topom/group/create/X/2").await;
}

#[tokio::test]
async fn a_member_that_hangs_and_one_that_dies_stop_nobody_while_there_is_a_majority() {
    let mut etcd = Cluster::start().await;
    let dashboard = Dashboard::launch(&etcd.endpoints(), &[]);
    dashboard.api.wait_active().await;
    let mut group = 0;
    let mut works = async |what: &str| {
        group += 1;
        let path = format!("/api/topom/group/create/X/{group}");
        let began = Instant::now();
        // Where the member was etcd's leader, another one has to be elected first.
        eventually(what, Duration::from_secs(10), async || {
            let (status, body) = dashboard.api.put(&path, "").await;
            (status == 200 || body.contains("already exists")).then_some(())
        })
        .await;
        println!("{what} after {:?}", began.elapsed());
    };
    // The first one named is the one that it uses.
    etcd.signal(0, "STOP");
    works("it goes on without the member that hangs").await;
    etcd.signal(0, "CONT");
    etcd.kill(1);
    works("it goes on without the member that died").await;
    etcd.signal(0, "STOP");
    not_ready(&dashboard, "can't be reached").await;
    assert_eq!(dashboard.api.get("/healthz").await.0, 200);
    etcd.signal(0, "CONT");
    works("it goes on when there is a majority again").await;
    assert_eq!(dashboard.api.client.stats().await.unwrap().group.models.len(), 3);
}

/// A root whose groups 1 and 2 have a server each, which nobody needs to reach; as Codis would have left it.
fn root_of_two_groups() -> TempDir {
    let root = TempDir::new().unwrap();
    let folder = record(root.path(), "group");
    std::fs::create_dir_all(&folder).unwrap();
    for group in [1, 2] {
        let content = serde_json::json!({
            "id": group,
            "servers": [{
                "server": format!("127.0.0.1:{group}"), "datacenter": "", "action": {}, "replica_group": false
            }],
            "promoting": {},
            "out_of_sync": false
        });
        std::fs::write(folder.join(format!("group-000{group}")), content.to_string()).unwrap();
    }
    root
}

fn record(root: &Path, name: &str) -> PathBuf {
    root.join("data/codis3").join(PRODUCT).join(name)
}

fn launch_in(root: &TempDir, flags: &[&str]) -> Dashboard {
    let root = format!("--filesystem={}", root.path().display());
    Dashboard::run(&[&[root.as_str()], flags].concat())
}

fn all_slots(group: i64) -> String {
    let slots: Vec<_> = (0..1024)
        .map(|id| serde_json::json!({"id": id, "group_id": group, "action": {}}))
        .collect();
    serde_json::to_string(&slots).unwrap()
}

#[tokio::test]
async fn everything_is_kept_in_files_as_codis_keeps_it_and_survives_a_restart() {
    let root = root_of_two_groups();
    let mut dashboard = launch_in(&root, &["--owner-id=uid-1"]);
    let api = &dashboard.api;
    api.wait_active().await;
    api.done("/api/topom/group/create/X/3").await;
    api.done("/api/topom/group/create/X/4").await;
    api.done("/api/topom/group/remove/X/4").await;
    let began = Instant::now();
    let assigned = api.put("/api/topom/slots/assign/X", all_slots(1)).await;
    println!("1024 slots assigned in files in {:?}", began.elapsed());
    assert_eq!(assigned.0, 200, "{assigned:?}");
    let overview = api.client.overview().await.unwrap();
    assert_eq!(overview.config["coordinator_name"], "filesystem");
    let read = |name: &str| std::fs::read_to_string(record(root.path(), name)).ok();
    assert_eq!(
        read("slots/slot-1023").unwrap(),
        "{\n    \"id\": 1023,\n    \"group_id\": 1,\n    \"action\": {}\n}"
    );
    assert!(read("group/group-0003").is_some() && read("group/group-0004").is_none());
    assert_eq!(read("owner").as_deref(), Some("uid-1"));
    assert!(read("topom").unwrap().contains(api.addr()));
    dashboard.process.signal("TERM");
    assert_eq!(dashboard.process.exit_code(Duration::from_secs(2)).await, Some(0));
    assert_eq!(read("topom"), None);
    assert_eq!(std::fs::read_dir(root.path().join("temp")).unwrap().count(), 0);

    let again = launch_in(&root, &["--owner-id=uid-1"]);
    again.api.wait_active().await;
    let stats = again.api.client.stats().await.unwrap();
    assert!(stats.slots.len() == 1024 && stats.slots.iter().all(|slot| slot.group_id == 1));
    assert_eq!(stats.group.models.len(), 3);
    let other = launch_in(&root, &["--owner-id=uid-2"]);
    not_ready(&other, "is owned by uid-1").await;
}

#[tokio::test]
async fn a_standby_in_the_same_folder_takes_over_at_once_from_one_that_was_killed() {
    let root = root_of_two_groups();
    let mut active = launch_in(&root, &[]);
    active.api.wait_active().await;
    let standby = launch_in(&root, &[]);
    let words = format!("standing by, active is {}", active.api.addr());
    eventually("the second one stands by", Duration::from_secs(5), async || {
        standby.api.client.model().await.ok()?;
        let (status, body) = standby.api.get("/topom").await;
        (status == 503 && cause(&body).contains(&words)).then_some(())
    })
    .await;
    active.api.done("/api/topom/group/create/X/5").await;
    let began = Instant::now();
    active.process.kill();
    standby.api.wait_active().await;
    let took = began.elapsed();
    println!("taken over in files from a killed dashboard in {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(standby.api.client.stats().await.unwrap().group.models.len(), 3);
    standby.api.done("/api/topom/group/remove/X/5").await;
}

#[tokio::test]
async fn an_assignment_is_whole_wherever_the_dashboard_is_killed() {
    let root = root_of_two_groups();
    let state = root.path().join("revisions").join(format!("{PRODUCT}.json"));
    let (mut whole, mut half_way) = (None, 0);
    for round in 0..16_u32 {
        let mut dashboard = launch_in(&root, &[]);
        dashboard.api.wait_active().await;
        let stats = dashboard.api.client.stats().await.unwrap();
        let groups: BTreeSet<i64> = stats.slots.iter().map(|slot| slot.group_id).collect();
        assert_eq!(groups.len(), 1, "round {round}: {groups:?}");
        let wanted = 1 + i64::from(groups.contains(&1));
        let began = Instant::now();
        let assigned = dashboard.api.put("/api/topom/slots/assign/X", all_slots(wanted));
        // The first one is done; the others are killed after one part more of that time each.
        let Some(time) = whole else {
            assert_eq!(assigned.await.0, 200);
            whole = Some(began.elapsed());
            continue;
        };
        let _ = tokio::time::timeout(time * round / 16, assigned).await;
        dashboard.process.kill();
        let state: serde_json::Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
        half_way += u32::from(!state["unfinished"].as_object().unwrap().is_empty());
    }
    println!("{half_way} of 15 were killed while they wrote the files");
    assert!(half_way > 0);
}

/// Takes the lock away from one that sleeps, and wakes it.
async fn taken_away(start: impl Fn(&[&str]) -> Dashboard) {
    let former = start(&[]);
    former.api.wait_active().await;
    former.api.done("/api/topom/group/create/X/7").await;
    former.process.signal("STOP");
    let began = Instant::now();
    let next = start(&["--remove-lock"]);
    next.api.wait_active().await;
    println!("active with --remove-lock in {:?}", began.elapsed());
    next.api.done("/api/topom/group/create/X/8").await;
    former.process.signal("CONT");
    let words = format!("active is {}", next.api.addr());
    eventually("the former one stands by", Duration::from_secs(5), async || {
        let (status, body) = former.api.put("/api/topom/group/create/X/9", "").await;
        assert_ne!(status, 200);
        body.contains(&words).then_some(())
    })
    .await;
    holds_for("the next one is active", Duration::from_secs(2), || async {
        next.api.client.xping().await.is_ok()
    })
    .await;
    let groups = next.api.client.stats().await.unwrap().group.models;
    assert!(groups.iter().all(|group| i64::from(group.id) != 9), "{groups:?}");
}

#[tokio::test]
async fn a_lock_that_is_removed_at_the_start_is_taken_from_one_that_lives_in_files() {
    let root = TempDir::new().unwrap();
    taken_away(|flags| launch_in(&root, flags)).await;
}

#[tokio::test]
async fn a_lock_that_is_removed_at_the_start_is_taken_from_one_that_lives_in_etcd() {
    let etcd = Etcd::start().await;
    taken_away(|flags| Dashboard::launch(&etcd.endpoint(), flags)).await;
}
