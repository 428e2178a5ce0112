//! The dashboard's API and clients that mean it ill: each gets its error, nothing is changed, and others are answered.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that can't go on fails, and shows its times"
)]

mod support;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use support::dashboard::{Api, Dashboard, PRODUCT, XAUTH};
use support::etcd::Etcd;
use support::valkey::Valkey;
use support::{eventually, raw};
use tokio::io::AsyncWriteExt;

/// How long others may have to wait while somebody is hostile.
const PROMPT: Duration = Duration::from_secs(1);

fn request(method: &str, path: &str, rest: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{rest}\r\n").into_bytes()
}

fn create(group: &str) -> String {
    format!("/api/topom/group/create/{XAUTH}/{group}")
}

async fn answers_in_time(api: &Api) {
    let began = Instant::now();
    api.client.xping().await.unwrap();
    api.client.stats().await.unwrap();
    println!("others were answered in {:?}", began.elapsed());
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
}

#[tokio::test]
async fn requests_that_make_no_sense_get_an_error_and_change_nothing() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    api.done("/api/topom/group/create/X/1").await;
    let before = etcd.dump("/codis3/").await;
    let assign = format!("/api/topom/slots/assign/{XAUTH}");
    let headers = |count: usize| (0..count).map(|n| format!("X-{n}: x\r\n")).collect::<String>();
    let cases: Vec<(Vec<u8>, &[u16])> = vec![
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), &[400]),
        (b"nonsense\r\n\r\n".to_vec(), &[400]),
        (b"PUT\r\n\r\n".to_vec(), &[400]),
        (request("GET", &create("2"), ""), &[404]),
        (request("POST", &create("2"), ""), &[404]),
        (request("DELETE", &create("2"), ""), &[404]),
        (request("PATCH", &create("2"), ""), &[404]),
        (request("put", &create("2"), ""), &[404]),
        (request("PUT", "/api/topom/group/create", ""), &[404]),
        (request("PUT", &format!("{}/", create("2")), ""), &[404]),
        (request("PUT", &format!("//{}", create("2")), ""), &[404]),
        (request("PUT", "/../../etc/passwd", ""), &[404]),
        (request("PUT", &create(&"1".repeat(60_000)), ""), &[800]),
        (request("PUT", &create(&"1".repeat(100_000)), ""), &[414, 431]),
        (request("PUT", &create(&"2/".repeat(10_000)), ""), &[404]),
        (request("PUT", &create("99999999999999999999"), ""), &[800]),
        (request("PUT", &create("-2"), ""), &[800]),
        (request("PUT", &create("2%00"), ""), &[800]),
        (request("PUT", &create("%ff"), ""), &[800]),
        (request("PUT", &create("%"), ""), &[800]),
        (request("PUT", &create("%zz"), ""), &[800]),
        (request("PUT", &create("%E2%82"), ""), &[800]),
        (request("PUT", &create("2\u{e4}"), ""), &[400, 800]),
        (
            [b"PUT ", create("2").as_bytes(), b"\xff HTTP/1.1\r\n\r\n"].concat(),
            &[400, 800],
        ),
        (
            [b"PUT ", create("2").as_bytes(), b"\0 HTTP/1.1\r\n\r\n"].concat(),
            &[400],
        ),
        (request("PUT", &create("2").replace(XAUTH, "%ff"), ""), &[800]),
        (request("PUT", &create("2"), &headers(1000)), &[431]),
        (
            request("PUT", &create("2"), &format!("X: {}\r\n", "x".repeat(1 << 20))),
            &[431],
        ),
        (request("PUT", &create("2"), "No colon\r\n"), &[400]),
        (request("PUT", &create("2"), "Content-Length: -1\r\n"), &[400]),
        (
            request("PUT", &create("2"), "Content-Length: 1\r\nContent-Length: 2\r\n"),
            &[400],
        ),
        (
            request("PUT", &assign, "Transfer-Encoding: chunked\r\n\r\nzz\r\n[]"),
            &[800],
        ),
        (request("PUT", &assign, "Transfer-Encoding: nothing\r\n"), &[400]),
        (request("PUT", &assign, "Content-Length: 4\r\n\r\n\u{ff}\u{ff}"), &[800]),
    ];
    for (bytes, statuses) in cases {
        let answer = raw::answer(api.addr(), &bytes).await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(150)]).into_owned();
        let status = answer
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok());
        assert!(
            status.is_some_and(|status| statuses.contains(&status)),
            "{shown:?}: {answer}"
        );
        if status == Some(800) {
            assert!(answer.contains("{\"Cause\":\""), "{shown:?}: {answer}");
        }
    }
    assert_eq!(etcd.dump("/codis3/").await, before);
    answers_in_time(api).await;
}

#[tokio::test]
async fn a_body_that_ends_early_changes_nothing() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let server = Valkey::start().await;
    api.done("/api/topom/group/create/X/1").await;
    api.done(&format!("/api/topom/group/add/X/1/{}", server.addr())).await;
    let before = etcd.dump("/codis3/").await;
    let path = format!("/api/topom/slots/assign/{XAUTH}");
    // What came is a whole list by itself: only the length tells that there should be more.
    let list = r#"[{"id":1,"group_id":1,"action":{}}]"#;
    let size = list.len();
    for head in [
        "Content-Length: 1000\r\n".to_owned(),
        format!("Content-Length: {}\r\n", u64::MAX),
        "Transfer-Encoding: chunked\r\n".to_owned(),
    ] {
        let mut bytes = request("PUT", &path, &head);
        let body = if head.starts_with('T') {
            format!("{size:x}\r\n{list}\r\n")
        } else {
            list.to_owned()
        };
        bytes.extend_from_slice(body.as_bytes());
        let answer = raw::cut_off(api.addr(), &bytes).await;
        assert!(!answer.contains("HTTP/1.1 200"), "{head}: {answer}");
    }
    assert_eq!(etcd.dump("/codis3/").await, before);
    assert_eq!(api.put("/api/topom/slots/assign/X", list).await.0, 200);
}

#[tokio::test]
async fn slow_heads_and_slow_bodies_hold_up_nobody() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let before = etcd.dump("/codis3/").await;
    let path = format!("/api/topom/slots/assign/{XAUTH}");
    let mut body = request("PUT", &path, "Content-Length: 1000\r\n");
    body.push(b'[');
    // More than there are places for, each kind by itself.
    let mut slow = Vec::new();
    for _ in 0..600 {
        slow.push(raw::begun(api.addr(), b"GET /topom HTTP/1.1\r\nX-Slow: ").await);
    }
    answers_in_time(api).await;
    for _ in 0..600 {
        slow.push(raw::begun(api.addr(), &body).await);
    }
    answers_in_time(api).await;
    for stream in &mut slow {
        // Those that were closed meanwhile can't be written to.
        let _ = stream.write_all(b" ").await;
    }
    answers_in_time(api).await;
    assert_eq!(etcd.dump("/codis3/").await, before);
}

#[tokio::test]
async fn thousands_of_connections_hold_up_nobody() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let mut idle = Vec::new();
    for _ in 0..3 {
        for _ in 0..1000 {
            idle.push(raw::begun(api.addr(), b"").await);
        }
        answers_in_time(api).await;
        api.done("/api/topom/group/create/X/1").await;
        api.done("/api/topom/group/remove/X/1").await;
    }
    let files = std::fs::read_dir(format!("/proc/{}/fd", dashboard.process.id()))
        .unwrap()
        .count();
    assert!(files < 1000, "{files} files are open");
    drop(idle);
    answers_in_time(api).await;
}

#[tokio::test]
async fn fifty_clients_that_want_the_same_at_once_leave_what_one_after_the_other_would() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let servers = (Valkey::start().await, Valkey::start().await);
    for (group, server) in [(1, &servers.0), (2, &servers.1)] {
        api.done(&format!("/api/topom/group/create/X/{group}")).await;
        api.done(&format!("/api/topom/group/add/X/{group}/{}", server.addr()))
            .await;
    }
    let body = |group: usize| {
        let slots: Vec<_> = (0..60)
            .map(|id| serde_json::json!({"id": id, "group_id": group, "action": {}}))
            .collect();
        serde_json::to_string(&slots).unwrap()
    };
    let clients = (0..50).map(|number| async move {
        let (mut created, mut removed) = (0, 0);
        for _ in 0..4 {
            let done = async |path: &str| match api.put(path, "").await {
                (200, _) => 1,
                (800, body) => {
                    assert!(
                        body.contains("already exists") || body.contains("doesn't exist"),
                        "{body}"
                    );
                    0
                }
                other => panic!("{path}: {other:?}"),
            };
            created += done("/api/topom/group/create/X/7").await;
            assert_eq!(api.put("/api/topom/slots/assign/X", body(1 + number % 2)).await.0, 200);
            removed += done("/api/topom/group/remove/X/7").await;
        }
        (created, removed)
    });
    let meanwhile = async {
        for _ in 0..20 {
            answers_in_time(api).await;
        }
    };
    let (counts, ()) = tokio::join!(join_all(clients), meanwhile);
    let (created, removed) = counts
        .into_iter()
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let there = etcd.get(&format!("/codis3/{PRODUCT}/group/group-0007")).await.is_some();
    assert!(
        created > 0 && created - removed == i32::from(there),
        "{created} created, {removed} removed, {there}"
    );

    // What is in memory is what is stored, and every list was taken as a whole.
    let shown = api.client.stats().await.unwrap();
    api.done("/api/topom/reload/X").await;
    let stored = api.client.stats().await.unwrap();
    assert_eq!(
        (&shown.slots, &shown.group.models),
        (&stored.slots, &stored.group.models)
    );
    let owners: HashSet<i64> = stored.slots[..60].iter().map(|slot| slot.group_id).collect();
    assert!(
        owners.len() == 1 && (owners.contains(&1) || owners.contains(&2)),
        "{owners:?}"
    );
    assert!(stored.slots[60..].iter().all(|slot| slot.group_id == 0));
}

#[tokio::test]
async fn clients_that_leave_in_the_middle_of_a_change_leave_no_half_of_it() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    for group in 1..=100 {
        drop(raw::begun(api.addr(), &request("PUT", &create(&group.to_string()), "")).await);
    }
    // Each is made or not; what is shown is what is stored, and stays so.
    let stored = async || etcd.dump(&format!("/codis3/{PRODUCT}/group/")).await.len();
    eventually("memory and store agree", Duration::from_secs(10), async || {
        let before = stored().await;
        let shown = api.client.stats().await.ok()?.group.models.len();
        (before == shown && stored().await == shown).then_some(())
    })
    .await;
    api.done("/api/topom/group/create/X/999").await;
}
