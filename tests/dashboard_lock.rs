//! Who is the active dashboard: the lock, its loss in every way, and etcd gone and back.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that can't go on fails, and shows its times"
)]

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use support::dashboard::{Dashboard, PRODUCT, XAUTH, cause};
use support::etcd::{Etcd, Gate};
use support::{Process, eventually, free_port, holds_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn lock() -> String {
    format!("/codis3/{PRODUCT}/topom")
}

/// An active dashboard and one that stands by.
async fn pair(etcd: &Etcd) -> (Dashboard, Dashboard) {
    let active = Dashboard::start(etcd, &[]).await;
    let standby = Dashboard::launch(&etcd.endpoint(), &[]);
    eventually("the second one stands by", Duration::from_secs(5), async || {
        (standby_cause(&standby).await?.contains("active is")).then_some(())
    })
    .await;
    (active, standby)
}

/// What it says while it is not active.
async fn standby_cause(dashboard: &Dashboard) -> Option<String> {
    dashboard.api.client.xping().await.err()?.cause().map(str::to_owned)
}

#[tokio::test]
async fn a_standby_answers_who_it_is_and_who_is_active() {
    let etcd = Etcd::start().await;
    let (active, standby) = pair(&etcd).await;
    let expected = format!("topom is not online: standing by, active is {}", active.api.addr());
    for path in [
        "/topom",
        "/topom/stats",
        "/topom/slots",
        "/api/topom/xping/X",
        "/api/topom/stats/X",
    ] {
        let (status, body) = standby.api.get(path).await;
        assert_eq!((status, cause(&body)), (503, expected.clone()), "{path}");
    }
    for path in [
        "group/create/X/1",
        "reload/X",
        "shutdown/X",
        "slots/assign/X",
        "loglevel/X/info",
        "proxy/online/X/h:1",
    ] {
        let (status, body) = standby.api.put(&format!("/api/topom/{path}"), "").await;
        assert_eq!((status, cause(&body)), (503, expected.clone()), "{path}");
    }
    for path in ["/topom/model", "/api/topom/model"] {
        let (status, body) = standby.api.get(path).await;
        assert!(status == 200 && body.contains(standby.api.addr()), "{body}");
    }
    assert_eq!(
        (standby.api.get("/healthz").await.0, standby.api.get("/readyz").await.0),
        (200, 200)
    );
    let both = vec![standby.api.addr().to_owned(), active.api.addr().to_owned()];
    let http = codis_operator::client::Http::new(Duration::from_secs(5)).unwrap();
    let client = codis_operator::client::DashboardClient::new(http, both, PRODUCT.parse().unwrap());
    client
        .create_group(codis_operator::model::GroupId::new(1).unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_standby_takes_over_from_one_that_was_killed() {
    let etcd = Etcd::start().await;
    let (mut active, standby) = pair(&etcd).await;
    active.api.done("/api/topom/group/create/X/1").await;
    let began = Instant::now();
    active.process.kill();
    standby.api.wait_active().await;
    let took = began.elapsed();
    println!("taken over from a killed dashboard in {took:?}");
    assert!(took < Duration::from_millis(4500), "{took:?}");
    assert_eq!(standby.api.client.stats().await.unwrap().group.models.len(), 1);
}

#[tokio::test]
async fn a_standby_takes_over_at_once_from_one_that_ends() {
    let etcd = Etcd::start().await;
    let (mut active, standby) = pair(&etcd).await;
    let began = Instant::now();
    active.process.signal("TERM");
    standby.api.wait_active().await;
    let took = began.elapsed();
    println!("taken over from an ending dashboard in {took:?}");
    assert!(took < Duration::from_millis(700), "{took:?}");
    assert_eq!(active.process.exit_code(Duration::from_secs(2)).await, Some(0));
    standby.api.done("/api/topom/shutdown/X").await;
    let mut standby = standby;
    assert_eq!(standby.process.exit_code(Duration::from_secs(2)).await, Some(0));
    assert_eq!(etcd.get(&lock()).await, None);
}

#[tokio::test]
async fn one_that_slept_longer_than_its_lock_writes_nothing_when_it_wakes() {
    let etcd = Etcd::start().await;
    let (active, standby) = pair(&etcd).await;
    active.process.signal("STOP");
    // This waits in the socket, and is the first thing that it reads when it wakes.
    let mut late = TcpStream::connect(active.api.addr()).await.unwrap();
    let request = format!("PUT /api/topom/group/create/{XAUTH}/66 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    late.write_all(request.as_bytes()).await.unwrap();
    standby.api.wait_active().await;
    standby.api.done("/api/topom/group/create/X/1").await;
    let before = etcd.dump("/codis3/").await;
    active.process.signal("CONT");
    let mut answer = String::new();
    late.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("topom is not online"),
        "{answer}"
    );
    eventually("it stands by", Duration::from_secs(5), async || {
        standby_cause(&active).await?.contains(standby.api.addr()).then_some(())
    })
    .await;
    assert_eq!(etcd.dump("/codis3/").await, before);
    standby.api.client.xping().await.unwrap();
}

#[tokio::test]
async fn one_that_slept_alone_answers_503_first_and_then_takes_the_lock_again() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    dashboard.process.signal("STOP");
    let mut late = TcpStream::connect(dashboard.api.addr()).await.unwrap();
    let request = format!("PUT /api/topom/group/create/{XAUTH}/66 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    late.write_all(request.as_bytes()).await.unwrap();
    eventually("its lock ends", Duration::from_secs(8), async || {
        etcd.get(&lock()).await.is_none().then_some(())
    })
    .await;
    dashboard.process.signal("CONT");
    let mut answer = String::new();
    late.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    dashboard.api.wait_active().await;
    assert!(dashboard.api.client.stats().await.unwrap().group.models.is_empty());
}

#[tokio::test]
async fn a_lock_that_was_taken_away_is_noticed() {
    let etcd = Etcd::start().await;
    let (active, standby) = pair(&etcd).await;
    let revision = async || etcd.dump(&lock()).await.first().map(|(_, _, revision)| *revision);
    let taken = revision().await;
    etcd.client().await.delete(lock(), None).await.unwrap();
    // Whoever was faster has it now.
    let one_is_active = async || active.api.client.xping().await.is_ok() != standby.api.client.xping().await.is_ok();
    eventually(
        "the lock was made anew, and one has it",
        Duration::from_secs(5),
        async || {
            let anew = revision().await.is_some_and(|revision| Some(revision) != taken);
            (anew && one_is_active().await).then_some(())
        },
    )
    .await;
    holds_for("one is active, the other is not", Duration::from_secs(2), one_is_active).await;
}

#[tokio::test]
async fn a_compacted_history_disturbs_nobody() {
    let etcd = Etcd::start().await;
    let (mut active, standby) = pair(&etcd).await;
    active.api.done("/api/topom/group/create/X/1").await;
    let (_, _, newest) = etcd.dump(&format!("/codis3/{PRODUCT}/group/")).await.remove(0);
    etcd.client().await.compact(newest, None).await.unwrap();
    let before = (active.process.cpu_time(), standby.process.cpu_time());
    holds_for("the same one is active", Duration::from_secs(3), || async {
        active.api.client.xping().await.is_ok() && standby.api.client.xping().await.is_err()
    })
    .await;
    let busy = (active.process.cpu_time() - before.0).max(standby.process.cpu_time() - before.1);
    assert!(busy < Duration::from_millis(600), "{busy:?}");
    active.process.signal("TERM");
    standby.api.wait_active().await;
    active.process.exit_code(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn one_that_is_told_to_end_ends_although_etcd_hangs() {
    let etcd = Etcd::start().await;
    let mut dashboard = Dashboard::start(&etcd, &[]).await;
    etcd.signal("STOP");
    dashboard.process.signal("TERM");
    assert_eq!(dashboard.process.exit_code(Duration::from_secs(2)).await, Some(0));
}

#[tokio::test]
async fn a_product_of_somebody_else_is_left_alone() {
    let etcd = Etcd::start().await;
    let owner = Dashboard::start(&etcd, &["--owner-id=uid-1"]).await;
    assert_eq!(
        etcd.get(&format!("/codis3/{PRODUCT}/owner")).await.as_deref(),
        Some("uid-1")
    );
    for (flags, claimant) in [
        (&["--owner-id=uid-2"][..], "uid-2"),
        (&[], "a dashboard without --owner-id"),
    ] {
        let other = Dashboard::launch(&etcd.endpoint(), flags);
        let expected = format!(
            "topom is not online: product {PRODUCT} is owned by uid-1, not by {claimant}; choose another spec.product or \
             remove the key /codis3/{PRODUCT}/owner when that cluster is gone"
        );
        eventually("it says whose it is", Duration::from_secs(5), async || {
            (standby_cause(&other).await? == expected).then_some(())
        })
        .await;
        assert_eq!(
            (other.api.get("/healthz").await.0, other.api.get("/readyz").await.0),
            (200, 503)
        );
    }
    drop(owner);
    let again = Dashboard::start(&etcd, &["--owner-id=uid-1"]).await;
    again.api.client.xping().await.unwrap();
}

#[tokio::test]
async fn etcd_gone_and_back_needs_no_restart() {
    let mut etcd = Etcd::start().await;
    let (active, standby) = pair(&etcd).await;
    active.api.done("/api/topom/group/create/X/1").await;
    etcd.stop();
    let began = Instant::now();
    let failed = active.api.put("/api/topom/group/create/X/2", "").await;
    assert!(failed.0 != 200, "{failed:?}");
    eventually("the active one stops", Duration::from_secs(4), async || {
        (active.api.get("/topom").await.0 == 503).then_some(())
    })
    .await;
    println!("stopped acting {:?} after etcd was gone", began.elapsed());
    eventually("both say that etcd is gone", Duration::from_secs(10), async || {
        let causes = (standby_cause(&active).await?, standby_cause(&standby).await?);
        let gone = |cause: &str| cause.contains("etcd at") && cause.contains("can't be reached");
        (gone(&causes.0) && gone(&causes.1)).then_some(())
    })
    .await;
    assert_eq!(
        (standby.api.get("/readyz").await.0, standby.api.get("/healthz").await.0),
        (503, 200)
    );
    etcd.restart().await;
    let back = Instant::now();
    let active = eventually("one is active again", Duration::from_secs(10), async || {
        for dashboard in [&active, &standby] {
            if dashboard.api.client.xping().await.is_ok() {
                return Some(dashboard);
            }
        }
        None
    })
    .await;
    println!("active again {:?} after etcd was back", back.elapsed());
    active.api.done("/api/topom/group/create/X/3").await;
    assert!(active.api.client.stats().await.unwrap().group.models.len() >= 2);
}

#[tokio::test]
async fn an_etcd_that_hangs_stops_the_active_one_before_its_lock_ends() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    etcd.signal("STOP");
    let began = Instant::now();
    eventually("it stops acting", Duration::from_secs(4), async || {
        (dashboard.api.get("/api/topom/xping/X").await.0 == 503).then_some(())
    })
    .await;
    assert!(began.elapsed() < Duration::from_millis(2600), "{:?}", began.elapsed());
    etcd.signal("CONT");
    dashboard.api.wait_active().await;
}

#[tokio::test]
async fn an_endpoint_that_hangs_does_not_cost_the_lock_while_another_answers() {
    let etcd = Etcd::start().await;
    let gate = Gate::before(&etcd).await;
    let dashboard = Dashboard::launch(&format!("{},{}", gate.endpoint(), etcd.endpoint()), &[]);
    dashboard.api.wait_active().await;
    let taken = etcd.dump(&lock()).await;
    gate.freeze();
    holds_for("it is active", Duration::from_secs(5), || async {
        dashboard.api.client.xping().await.is_ok()
    })
    .await;
    assert_eq!(etcd.dump(&lock()).await, taken);
    dashboard.api.done("/api/topom/group/create/X/1").await;
}

#[tokio::test]
async fn records_read_again_fence_off_what_was_under_way() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let before = etcd.dump(&lock()).await.remove(0);
    dashboard.api.done("/api/topom/reload/X").await;
    let after = etcd.dump(&lock()).await.remove(0);
    assert_eq!((&before.0, &before.1), (&after.0, &after.1));
    assert!(after.2 > before.2, "the lock was written anew");
    dashboard.api.done("/api/topom/group/create/X/1").await;
    // Somebody else writes it: the next change reads again first.
    let same = etcd_client::PutOptions::new().with_ignore_value().with_ignore_lease();
    etcd.client().await.put(lock(), "", Some(same)).await.unwrap();
    dashboard.api.done("/api/topom/group/create/X/2").await;
    dashboard.api.client.xping().await.unwrap();
    assert_eq!(dashboard.api.client.stats().await.unwrap().group.models.len(), 2);
}

#[tokio::test]
async fn one_endpoint_of_several_is_enough() {
    let etcd = Etcd::start().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoints = format!(
        "http://127.0.0.1:{}, {},http://{}",
        free_port(),
        silent.local_addr().unwrap(),
        etcd.endpoint()
    );
    let dashboard = Dashboard::launch(&endpoints, &[]);
    dashboard.api.wait_active().await;
}

#[tokio::test]
async fn etcd_with_users_is_logged_into() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    client.user_add("root", "pa:ss", None).await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.auth_enable().await.unwrap();
    let stranger = Dashboard::launch(&etcd.endpoint(), &[]);
    eventually("etcd refuses who does not log in", Duration::from_secs(5), async || {
        standby_cause(&stranger).await?.contains("user").then_some(())
    })
    .await;
    let wrong = Dashboard::launch(&etcd.endpoint(), &["--coordinator-auth=root:hush"]);
    let cause = eventually("etcd refuses a wrong password", Duration::from_secs(5), async || {
        standby_cause(&wrong)
            .await
            .filter(|cause| cause.contains("authentication failed"))
    })
    .await;
    assert!(!cause.contains("hush"), "{cause}");
    let right = Dashboard::launch(&etcd.endpoint(), &["--coordinator-auth=root:pa:ss"]);
    right.api.wait_active().await;
    right.api.done("/api/topom/group/create/X/1").await;
}

#[tokio::test]
async fn a_record_that_makes_no_sense_is_named_and_keeps_nobody_from_correcting_it() {
    let etcd = Etcd::start().await;
    let key = format!("/codis3/{PRODUCT}/slots/slot-0007");
    etcd.client().await.put(key.clone(), "{", None).await.unwrap();
    let dashboard = Dashboard::launch(&etcd.endpoint(), &[]);
    eventually("it names the record", Duration::from_secs(5), async || {
        standby_cause(&dashboard).await?.contains(&key).then_some(())
    })
    .await;
    etcd.client().await.delete(key, None).await.unwrap();
    dashboard.api.wait_active().await;
}

#[tokio::test]
async fn flags_that_cannot_be_followed_are_refused_with_the_remedy() {
    let run = |flags: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_codis-dashboard"))
            .args(flags)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), text)
    };
    for (flags, words) in [
        (&["--zookeeper=h:1"][..], "--etcd=ENDPOINTS"),
        (&["--filesystem=/tmp/x", "--etcd=h:2379"], "cannot be used with"),
        (&["--filesystem="], "--filesystem"),
        (&["--etcd=https://h:2379"], "coordinator_tls_ca"),
        (
            &["--etcd=https://h:2379", "--etcd-ca=/does/not/exist"],
            "/does/not/exist",
        ),
        (&["--etcd=h:2379", "--etcd-key=/key"], "write https://"),
        (&["--log=/does/not/exist/log"], "/does/not/exist/log"),
        (&["--product_name=a/b"], "invalid product name"),
        (&["--config=/does/not/exist"], "/does/not/exist"),
        (&["--log-level=loud"], "loglevel"),
        (&["--host-admin=nowhere"], "there is no port"),
        (&["--ncpu=0"], "--ncpu"),
        (&["--unheard-of"], "--unheard-of"),
    ] {
        let (code, text) = run(flags);
        assert!(
            code.is_some_and(|code| code != 0) && text.contains(words),
            "{flags:?}: {text}"
        );
    }
    let (code, text) = run(&["--default-config"]);
    assert_eq!(code, Some(0));
    codis_operator::dashboard::Config::parse(&text)
        .unwrap()
        .check()
        .unwrap();
    assert!(run(&["--version"]).1.starts_with("codis-dashboard "));
}

#[tokio::test]
async fn log_and_pidfile_are_written_and_every_line_names_the_product() {
    let etcd = Etcd::start().await;
    let folder = tempfile::TempDir::new().unwrap();
    let (logs, pidfile) = (folder.path().join("logs"), folder.path().join("pid"));
    std::fs::create_dir(&logs).unwrap();
    // The real file has the day as a suffix; at midnight there may be two.
    let logged = || {
        let mut files: Vec<_> = std::fs::read_dir(&logs)
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        files.sort();
        let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap());
        texts.collect::<String>()
    };
    let config = folder.path().join("conf");
    std::fs::write(
        &config,
        format!(
            "admin_addr = \"127.0.0.1:{}\"\nmigration_parallel_slots = 7\n",
            free_port()
        ),
    )
    .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_codis-dashboard"));
    command
        .arg("-c")
        .arg(config)
        .arg("-l")
        .arg(logs.join("log"))
        .arg("--pidfile")
        .arg(&pidfile);
    command.args(["--product_name=other.one", &format!("--etcd={}", etcd.endpoint())]);
    command.env("CODIS_PRODUCT_AUTH", "hush-hush");
    let mut process = Process::start(&command);
    eventually("it is active", Duration::from_secs(5), async || {
        logged().contains("active").then_some(())
    })
    .await;
    assert!(std::fs::read_to_string(&pidfile).unwrap().trim().parse::<u32>().is_ok());
    process.signal("TERM");
    assert_eq!(process.exit_code(Duration::from_secs(2)).await, Some(0));
    assert!(!pidfile.exists());
    let text = logged();
    assert!(
        text.lines().all(|line| line.starts_with("product=other.one ")),
        "{text}"
    );
    assert!(
        text.contains("migration_parallel_slots") && !text.contains("hush"),
        "{text}"
    );
}
