//! The dashboard's HTTP API against a real etcd: Codis' samples, its conventions, and bad input.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that can't go on fails, and shows its times"
)]

mod support;

use std::time::{Duration, Instant};

use support::dashboard::{Api, Dashboard, Inside, PRODUCT, XAUTH, cause};
use support::etcd::Etcd;
use support::valkey::Valkey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a server answers to these bytes, up to the end of the connection or of the wait.
async fn raw(api: &Api, request: &[u8], wait: Duration) -> String {
    let mut stream = TcpStream::connect(api.addr()).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(wait, stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn all_slots(group_of: impl Fn(i64) -> i64) -> String {
    let slots: Vec<_> = (0..1024)
        .map(|id| serde_json::json!({"id": id, "group_id": group_of(id), "action": {}}))
        .collect();
    serde_json::to_string(&slots).unwrap()
}

/// Groups 1 and 2 with one server each.
async fn two_groups(api: &Api) -> (Valkey, Valkey) {
    let servers = (Valkey::start().await, Valkey::start().await);
    for (group, server) in [(1, &servers.0), (2, &servers.1)] {
        api.done(&format!("/api/topom/group/create/X/{group}")).await;
        api.done(&format!("/api/topom/group/add/X/{group}/{}/dc{group}", server.addr()))
            .await;
    }
    servers
}

#[tokio::test]
async fn answers_look_as_those_of_codis() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &["--product_auth="]).await;
    let api = &dashboard.api;

    let (status, model) = api.get("/topom/model").await;
    assert_eq!((status, api.get("/api/topom/model").await.1), (200, model.clone()));
    let model: serde_json::Value = serde_json::from_str(&model).unwrap();
    let keys: Vec<_> = model.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        ["admin_addr", "pid", "product_name", "pwd", "start_time", "sys", "token"]
    );
    assert_eq!(
        (model["admin_addr"].as_str(), model["product_name"].as_str()),
        (Some(api.addr()), Some(PRODUCT))
    );
    let stored = etcd.get(&format!("/codis3/{PRODUCT}/topom")).await.unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&stored).unwrap(), model);
    assert!(stored.starts_with("{\n    \"token\": \""), "{stored}");

    let (_, overview) = api.get("/topom").await;
    let overview: serde_json::Value = serde_json::from_str(&overview).unwrap();
    let config = overview["config"].as_object().unwrap();
    assert_eq!(config["migration_timeout"], "30s");
    assert_eq!(
        (&config["coordinator_auth"], config.contains_key("product_auth")),
        (&serde_json::json!(""), false)
    );
    let stats = &overview["stats"];
    assert_eq!(
        stats["slots"][5],
        serde_json::json!({"id": 5, "group_id": 0, "action": {}})
    );
    let idle = serde_json::json!({"interval": 0, "disabled": false, "progress": {"status": ""}, "executor": 0});
    assert_eq!(
        (&stats["closed"], &stats["slot_action"]),
        (&serde_json::json!(false), &idle)
    );
    let sentinels = serde_json::json!({"model": {"out_of_sync": false}, "stats": {}, "masters": {}});
    assert_eq!(stats["sentinels"], sentinels);

    let refused = raw(
        api,
        b"PUT /api/topom/reload/00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        Duration::from_secs(5),
    )
    .await;
    assert!(refused.starts_with("HTTP/1.1 800 status code 800\r\n"), "{refused}");
    assert!(
        refused.contains("content-type: application/json; charset=utf-8\r\n"),
        "{refused}"
    );
    assert!(
        refused.ends_with(r#"{"Cause":"invalid xauth, please check product name & auth","Stack":null}"#),
        "{refused}"
    );

    let wrong = raw(
        api,
        format!("POST /api/topom/reload/{XAUTH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
        Duration::from_secs(5),
    )
    .await;
    assert!(
        wrong.starts_with("HTTP/1.1 404") && wrong.contains("text/plain") && wrong.contains("404 page not found"),
        "{wrong}"
    );
    assert_eq!(api.put("/topom", "").await.0, 404);
    assert_eq!(api.get("/nothing").await.0, 404);
    let to_overview = raw(
        api,
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        Duration::from_secs(5),
    )
    .await;
    assert!(
        to_overview.starts_with("HTTP/1.1 302") && to_overview.contains("location: /topom\r\n"),
        "{to_overview}"
    );
    assert_eq!(api.get("/healthz").await.0, 200);
    assert_eq!(api.get("/readyz").await.0, 200);
    assert_eq!(api.get("/api/topom/xping/X").await, (200, "\"OK\"".to_owned()));
}

#[tokio::test]
async fn every_route_with_xauth_wants_the_right_one() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let x = "948967642f9eea556aac8428e1162e30";
    for path in ["xping/X", "stats/X", "slots/X"] {
        let (status, body) = dashboard.api.get(&format!("/api/topom/{}", path.replace('X', x))).await;
        assert_eq!(
            (status, cause(&body)),
            (800, "invalid xauth, please check product name & auth".to_owned()),
            "{path}"
        );
    }
    for path in [
        "reload/X",
        "shutdown/X",
        "loglevel/X/info",
        "proxy/create/X/h:1",
        "proxy/online/X/h:1",
        "proxy/reinit/X/t",
        "proxy/remove/X/t/0",
        "group/create/X/1",
        "group/remove/X/1",
        "group/resync/X/1",
        "group/resync-all/X",
        "group/add/X/1/h:1",
        "group/add/X/1/h:1/dc",
        "group/del/X/1/h:1",
        "group/action/create/X/h:1",
        "group/action/remove/X/h:1",
        "slots/assign/X",
        "slots/assign/X/offline",
    ] {
        for wrong in [x, "", "948967642f9eea556aac8428e1162e3f0"]
            .into_iter()
            .filter(|x| !x.is_empty())
        {
            let cause = dashboard
                .api
                .refused(&format!("/api/topom/{}", path.replace('X', wrong)), "")
                .await;
            assert_eq!(cause, "invalid xauth, please check product name & auth", "{path}");
        }
    }
}

#[tokio::test]
async fn groups_and_servers_come_and_go_with_the_texts_of_codis() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let (one, two) = two_groups(api).await;
    for (path, text) in [
        (
            "group/create/X/0".to_owned(),
            "invalid group id = 0, out of range".to_owned(),
        ),
        ("group/create/X/1".to_owned(), "group-[1] already exists".to_owned()),
        (
            format!("group/add/X/1/{}", one.addr()),
            format!("server-[{}] already exists", one.addr()),
        ),
        (
            "group/add/X/9/127.0.0.1:1".to_owned(),
            "group-[9] doesn't exist".to_owned(),
        ),
        (
            "group/add/X/1/127.0.0.1:1".to_owned(),
            "dial tcp 127.0.0.1:1: connect: connection refused".to_owned(),
        ),
        ("group/remove/X/1".to_owned(), "group-[1] isn't empty".to_owned()),
        (
            "group/del/X/2/127.0.0.1:1".to_owned(),
            "group-[2] doesn't have server-[127.0.0.1:1]".to_owned(),
        ),
        (
            "group/action/create/X/127.0.0.1:1".to_owned(),
            "server-[127.0.0.1:1] doesn't exist".to_owned(),
        ),
        ("loglevel/X/loud".to_owned(), "invalid loglevel".to_owned()),
        (
            "proxy/reinit/X/nobody".to_owned(),
            "proxy-[nobody] doesn't exist".to_owned(),
        ),
    ] {
        assert_eq!(api.refused(&format!("/api/topom/{path}"), "").await, text);
    }
    for nonsense in [
        "group/create/X/one",
        "group/add/X/1/nowhere",
        "group/add/X/1/h:99999",
        "proxy/remove/X/t/yes",
        "group/del/X/1/%ff:1",
    ] {
        let cause = api.refused(&format!("/api/topom/{nonsense}"), "").await;
        assert!(!cause.is_empty(), "{nonsense}");
    }

    let assigned = r#"[{"id":5,"group_id":2,"action":{}}]"#;
    assert_eq!(api.put("/api/topom/slots/assign/X", assigned).await.0, 200);
    let delete = format!("/api/topom/group/del/X/2/{}", two.addr());
    assert_eq!(
        api.refused(&delete, "").await,
        "group-[2] can't remove master, still in use"
    );
    assert_eq!(
        api.put("/api/topom/slots/assign/X/offline", r#"[{"id":5}]"#).await.0,
        200
    );
    api.done(&delete).await;
    api.done("/api/topom/group/remove/X/2").await;
    let stored = etcd.get(&format!("/codis3/{PRODUCT}/group/group-0001")).await.unwrap();
    let expected = format!(
        "{{\n    \"id\": 1,\n    \"servers\": [\n        {{\n            \"server\": \"{}\",\n            \"datacenter\": \"dc1\",\n            \"action\": {{}},\n            \"replica_group\": false\n        }}\n    ],\n    \"promoting\": {{}},\n    \"out_of_sync\": false\n}}",
        one.addr()
    );
    assert_eq!(stored, expected);
    assert_eq!(etcd.get(&format!("/codis3/{PRODUCT}/group/group-0002")).await, None);
    let (status, info) = api.get(&format!("/api/topom/group/info/{}", one.addr())).await;
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(
        (status, info["role"].as_str(), info["maxmemory"].as_str()),
        (200, Some("master"), Some("0"))
    );
    assert_eq!(api.get(&format!("/api/topom/group/info/{}", two.addr())).await.0, 800);
}

#[tokio::test]
async fn all_slots_are_assigned_at_once() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let (one, _two) = two_groups(api).await;
    let began = Instant::now();
    let done = api.put("/api/topom/slots/assign/X", all_slots(|id| 1 + id / 512)).await;
    let took = began.elapsed();
    println!("1024 slots assigned in {took:?}");
    assert_eq!(done, (200, "\"OK\"".to_owned()));
    assert!(took < Duration::from_secs(1), "{took:?}");
    let slots = api.client.slots().await.unwrap();
    assert_eq!(slots.len(), 1024);
    assert_eq!(
        (slots[511].backend_addr.clone(), slots[512].backend_addr_group_id),
        (Some(one.addr()), 2)
    );
    assert!(slots.iter().all(|slot| slot.epoch > 0 && !slot.locked));
    let stats = api.client.stats().await.unwrap();
    assert!(
        stats
            .slots
            .iter()
            .all(|slot| slot.group_id == 1 + i64::from(slot.id) / 512)
    );
    assert!(stats.group.models.iter().all(|group| !group.out_of_sync));
    assert_eq!(etcd.dump(&format!("/codis3/{PRODUCT}/slots/")).await.len(), 1024);
    let five = etcd.get(&format!("/codis3/{PRODUCT}/slots/slot-0005")).await.unwrap();
    assert_eq!(five, "{\n    \"id\": 5,\n    \"group_id\": 1,\n    \"action\": {}\n}");
}

#[tokio::test]
async fn malformed_bodies_are_refused_and_change_nothing() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let _servers = two_groups(api).await;
    let before = etcd.dump("/codis3/").await;
    let huge = format!("[{}]", vec![r#"{"id":1,"group_id":1,"action":{}}"#; 100_000].join(","));
    for (body, words) in [
        ("", "line 1 column 0"),
        ("{}", "expected a sequence"),
        (r#"[{"id":"5","group_id":1}]"#, "[0]: "),
        ("[null]", "[0]: "),
        (r#"[{"id":1,"group_id":1},"#, "EOF"),
        (
            r#"[{"id":0,"group_id":1},{"id":5000,"group_id":1}]"#,
            "slot-[5000] doesn't exist",
        ),
        (
            r#"[{"id":0,"group_id":1},{"id":1,"group_id":77}]"#,
            "group-[77] doesn't exist",
        ),
        (
            r#"[{"id":11,"group_id":1,"action":{"state":"pending"}}]"#,
            "invalid slot-[11] action = pending",
        ),
        (huge.as_str(), "larger than 1048576 bytes"),
        (&"[".repeat(100_000), "recursion"),
    ] {
        let cause = api.refused("/api/topom/slots/assign/X", body).await;
        assert!(cause.contains(words), "{}: {cause}", &body[..body.len().min(80)]);
    }
    let offline = api
        .refused("/api/topom/slots/assign/X/offline", r#"[{"id":0,"group_id":1}]"#)
        .await;
    assert_eq!(offline, "group of slot-[0] should be 0");
    assert_eq!(etcd.dump("/codis3/").await, before);
}

#[tokio::test]
async fn a_truncated_body_is_given_up_and_changes_nothing() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let _servers = two_groups(api).await;
    let before = etcd.dump("/codis3/").await;
    let head = format!("PUT /api/topom/slots/assign/{XAUTH} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
    let request = format!("{head}[{{\"id\":1,\"group_id\":1}}]");
    let began = Instant::now();
    let answer = raw(api, request.as_bytes(), Duration::from_secs(15)).await;
    assert!(
        answer.starts_with("HTTP/1.1 800") && answer.contains("took too long"),
        "{answer}"
    );
    assert!(began.elapsed() < Duration::from_secs(13));
    assert_eq!(etcd.dump("/codis3/").await, before);
}

#[tokio::test]
async fn slow_clients_hold_up_nobody() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(dashboard.api.addr()).await.unwrap();
        stream.write_all(b"GET /topom HTT").await.unwrap();
        slow.push(stream);
    }
    let began = Instant::now();
    assert_eq!(dashboard.api.get("/api/topom/xping/X").await.0, 200);
    assert!(began.elapsed() < Duration::from_secs(1));
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(15), slow[0].read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "a client that sends no request is cut off");
}

#[tokio::test]
async fn what_was_written_by_hand_is_seen_after_reload() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let key = format!("/codis3/{PRODUCT}/group/group-0007");
    let mut client = etcd.client().await;
    client
        .put(
            key.clone(),
            r#"{"id":7,"servers":[],"promoting":{},"out_of_sync":false}"#,
            None,
        )
        .await
        .unwrap();
    assert!(api.client.stats().await.unwrap().group.models.is_empty());
    api.done("/api/topom/reload/X").await;
    assert_eq!(api.client.stats().await.unwrap().group.models.len(), 1);
    // A record that was changed behind the dashboard's back is not overwritten blindly.
    client
        .put(key.clone(), r#"{"id":7,"servers":[{"server":"h:1"}]}"#, None)
        .await
        .unwrap();
    assert_eq!(
        api.refused("/api/topom/group/remove/X/7", "").await,
        "group-[7] isn't empty"
    );
    client.put(key, "{", None).await.unwrap();
    assert!(api.refused("/api/topom/reload/X", "").await.contains("group-0007"));
}

#[tokio::test]
async fn proxies_that_are_not_there_or_hang_are_refused_in_time() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let refused = api.refused("/api/topom/proxy/online/X/127.0.0.1:1", "").await;
    assert!(
        refused.starts_with("proxy@127.0.0.1:1 fetch model failed, "),
        "{refused}"
    );
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let began = Instant::now();
    api.refused(
        &format!("/api/topom/proxy/online/X/{}", silent.local_addr().unwrap()),
        "",
    )
    .await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(api.client.stats().await.unwrap().proxy.models.is_empty());
}

#[tokio::test]
async fn a_proxy_that_hangs_delays_one_second_and_blocks_nobody_else() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let _servers = two_groups(api).await;
    // Two registered proxies that accept and say nothing: their records are all that there is of them.
    let mut client = etcd.client().await;
    let (silent, dead) = (
        tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
        "127.0.0.1:1".to_owned(),
    );
    for (token, addr) in [("aaaa", silent.local_addr().unwrap().to_string()), ("bbbb", dead)] {
        let record = format!(
            r#"{{"id":1,"token":"{token}","start_time":"","admin_addr":"{addr}","proto_type":"tcp4","proxy_addr":"h:1","product_name":"{PRODUCT}","pid":1,"pwd":"","sys":""}}"#
        );
        client
            .put(format!("/codis3/{PRODUCT}/proxy/proxy-{token}"), record, None)
            .await
            .unwrap();
    }
    api.done("/api/topom/reload/X").await;
    let began = Instant::now();
    let body = all_slots(|_| 1);
    let assign = api.refused("/api/topom/slots/assign/X", &body);
    let others = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let asked = Instant::now();
        api.done("/api/topom/group/create/X/3").await;
        api.client.stats().await.unwrap();
        asked.elapsed()
    };
    let (cause, others) = tokio::join!(assign, others);
    assert!(
        cause.contains("proxy-[aaaa] resync slots failed") && cause.contains("proxy-[bbbb] resync slots failed"),
        "{cause}"
    );
    assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
    assert!(others < Duration::from_millis(250), "{others:?}");
    // The mapping is stored, the groups say that proxies may not know.
    let stats = api.client.stats().await.unwrap();
    assert!(stats.slots.iter().all(|slot| slot.group_id == 1) && stats.group.models[0].out_of_sync);
    assert!(
        api.refused("/api/topom/proxy/remove/X/bbbb/0", "")
            .await
            .starts_with("proxy-[bbbb] shutdown failed")
    );
    for token in ["aaaa", "bbbb"] {
        api.done(&format!("/api/topom/proxy/remove/X/{token}/1")).await;
    }
    api.done("/api/topom/group/resync/X/1").await;
    assert!(!api.client.stats().await.unwrap().group.models[0].out_of_sync);
}

#[tokio::test]
async fn passwords_are_in_no_answer() {
    let etcd = Etcd::start().await;
    let dashboard = Inside::start(&etcd, "hush-hush").await;
    for path in ["/topom", "/topom/stats", "/topom/model"] {
        assert!(!dashboard.api.get(path).await.1.contains("hush"), "{path}");
    }
    dashboard.stop().await;
    assert_eq!(etcd.dump(&format!("/codis3/{PRODUCT}/topom")).await, []);
}
