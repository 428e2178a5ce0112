//! The admin API against samples of a Codis 3.2 proxy.

use std::time::Duration;

use codis_operator::model::ProxyToken;
use serde_json::Value;

use crate::support::backend::Backend;
use crate::support::eventually;
use crate::support::proxy::{Proxy, Setup, product, slots_over};
use crate::support::raw;

/// The sample of a proxy's record, as a dashboard stores it.
const RECORD: &str = r#"{"id":1,"token":"c674f1f9ec5617b40f2514554c7ee887","start_time":"2026-11-21 19:25:43.31054587 +0000 UTC m=+0.004765691","admin_addr":"127.0.0.1:31080","proto_type":"tcp4","proxy_addr":"127.0.0.1:39000","product_name":"refdemo","pid":20683,"pwd":"/var/lib/codis","sys":"Linux vm","hostname":"vm","datacenter":""}"#;

/// The sample of slot 5 before and after a move; the line between them is that of the move.
const BEFORE: &str = r#"{"id":5,"backend_addr":"127.0.0.1:36379","backend_addr_group_id":1,"forward_method":1}"#;
const MOVING: &str = r#"{"id":5,"backend_addr":"127.0.0.1:36381","backend_addr_group_id":2,"migrate_from":"127.0.0.1:36379","migrate_from_group_id":1,"forward_method":1}"#;
const AFTER: &str = r#"{"id":5,"backend_addr":"127.0.0.1:36381","backend_addr_group_id":2,"forward_method":1}"#;

/// The sample of a slot whose replicas are read.
const WITH_REPLICAS: &str = r#"{"id":300,"backend_addr":"127.0.0.1:36380","backend_addr_group_id":1,"replica_groups":[["127.0.0.1:36380","127.0.0.1:36379"]]}"#;
const WITHOUT_REPLICAS: &str = r#"{"id":300,"backend_addr":"127.0.0.1:36383","backend_addr_group_id":2}"#;

/// The names of an object's fields, in the order of the text.
fn names(json: &str) -> Vec<String> {
    let object: Value = serde_json::from_str(json).unwrap();
    let mut names: Vec<_> = object.as_object().unwrap().keys().cloned().collect();
    names.sort_by_key(|name| json.find(&format!("\"{name}\":")));
    names
}

async fn stats(proxy: &Proxy, flags: &str) -> (String, Value) {
    let (status, text) = proxy
        .get(&format!("/api/proxy/stats/{}{flags}", proxy.xauth().await))
        .await;
    assert_eq!(status, 200, "{text}");
    let value = serde_json::from_str(&text).unwrap();
    (text, value)
}

#[tokio::test]
async fn record_has_the_fields_of_codis_in_their_order() {
    let proxy = Proxy::launch(Setup::default()).await;
    let (_, text) = proxy.get("/proxy/model").await;
    let mut ours = names(&text);
    assert_eq!(ours.pop().as_deref(), Some("incarnation"), "our own field is the last");
    // The dashboard gives the id.
    assert_eq!(ours, names(RECORD)[1..]);
    let record: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(record["admin_addr"], proxy.admin_addr());
    assert_eq!(record["pid"], proxy.process.id());
    assert_eq!(proxy.get("/api/proxy/model").await.1, text);
}

#[tokio::test]
async fn xauth_is_that_of_codis() {
    let token = ProxyToken::from("c674f1f9ec5617b40f2514554c7ee887");
    assert_eq!(
        product().proxy_xauth("pw123", &token),
        "729d2b4cfc0e671fc1fc496fc9f1eaf7"
    );
    let proxy = Proxy::launch(Setup {
        toml: "product_auth = \"pw123\"",
        ..Setup::default()
    })
    .await;
    let record: Value = serde_json::from_str(&proxy.get("/proxy/model").await.1).unwrap();
    let xauth = product().proxy_xauth("pw123", &ProxyToken::from(record["token"].as_str().unwrap()));
    let ok = (200, "\"OK\"".to_owned());
    assert_eq!(proxy.get(&format!("/api/proxy/xping/{xauth}")).await, ok);
    let (status, text) = proxy.get(&format!("/api/proxy/xping/{}", proxy.xauth().await)).await;
    assert_eq!(
        (status, text.as_str()),
        (
            800,
            r#"{"Cause":"invalid xauth, please check product name & auth","Stack":null}"#
        )
    );
}

#[tokio::test]
async fn slots_are_shown_as_they_were_pushed() {
    let proxy = Proxy::launch(Setup::default()).await;
    let shown = async |id: usize| {
        let slots = proxy.get("/proxy/slots").await.1;
        let (_, from) = slots.split_once(&format!("{{\"id\":{id}")).unwrap();
        let (slot, _) = from.split_once(&format!(",{{\"id\":{}", id + 1)).unwrap();
        format!("{{\"id\":{id}{slot}")
    };
    assert_eq!(shown(5).await, r#"{"id":5}"#);
    for (id, slot) in [(5, BEFORE), (5, AFTER), (300, WITH_REPLICAS), (300, WITHOUT_REPLICAS)] {
        let (status, text) = proxy.put("/api/proxy/fillslots/X", &format!("[{slot}]")).await;
        assert_eq!((status, text.as_str()), (200, "\"OK\""));
        assert_eq!(shown(id).await, slot);
    }
    // Keys of moving slots can't be served yet, so such a push is refused rather than half understood.
    let (status, text) = proxy.put("/api/proxy/fillslots/X", &format!("[{MOVING}]")).await;
    assert!(
        status == 800 && text.contains("slot-[5] moves from 127.0.0.1:36379"),
        "{text}"
    );
    for (body, cause) in [
        (r#"[{"id":5000}]"#, "use of invalid slot id"),
        (r#"[{"id":5,"forward_method":7}]"#, "use of invalid forwarder method"),
    ] {
        let (status, text) = proxy.put("/api/proxy/fillslots/X", body).await;
        assert!(status == 800 && text.contains(cause), "{body}: {text}");
    }
    assert_eq!(shown(5).await, AFTER);
}

#[tokio::test]
async fn stats_have_the_fields_of_codis_in_their_order() {
    let backend = Backend::start().await;
    let setup = Setup {
        toml: "session_auth = \"s3cret\"",
        ..Setup::default()
    };
    let proxy = Proxy::serving_with(slots_over(&[backend.addr()], 1), setup).await;
    let mut wire = proxy.wire().await;
    for words in [
        "AUTH x",
        "AUTH s3cret",
        "AUTH s3cret",
        "AUTH s3cret",
        "RPUSH l 1",
        "GET a",
        "GET l",
    ] {
        wire.call(words).await;
    }
    let (text, value) = stats(&proxy, "/3").await;
    assert_eq!(
        names(&text),
        [
            "online",
            "closed",
            "sentinels",
            "ops",
            "sessions",
            "rusage",
            "backend",
            // Of ours.
            "servers"
        ]
    );
    let ops = &value["ops"];
    assert_eq!(
        (&ops["total"], &ops["fails"], &ops["redis"]["errors"]),
        (&7.into(), &0.into(), &1.into())
    );
    let commands = ops["cmd"].as_array().unwrap();
    let told: Vec<_> = commands
        .iter()
        .map(|cmd| {
            let number = |name: &str| cmd[name].as_i64().unwrap();
            assert_eq!(number("usecs_percall"), number("usecs") / number("calls"), "{cmd}");
            let name = cmd["opstr"].as_str().unwrap();
            (name, number("calls"), number("fails"), number("redis_errtype"))
        })
        .collect();
    assert_eq!(told, [("AUTH", 4, 0, 1), ("GET", 2, 0, 1), ("RPUSH", 1, 0, 0)]);
    let first = text
        .find("{\"opstr\"")
        .map(|at| &text[at..=at + text[at..].find('}').unwrap()]);
    assert_eq!(
        names(first.unwrap()),
        ["opstr", "calls", "usecs", "usecs_percall", "fails", "redis_errtype"]
    );
    assert_eq!(value["sessions"], serde_json::json!({"total": 1, "alive": 1}));
    assert_eq!(value["sentinels"], serde_json::json!({}));
    assert_eq!(names(&value["rusage"].to_string()).len(), 3);
}

#[tokio::test]
async fn flags_choose_the_parts_of_stats() {
    let backend = Backend::start().await;
    let proxy = Proxy::serving(slots_over(&[backend.addr()], 1)).await;
    proxy.wire().await.call("GET a").await;
    eventually("the process was looked at", Duration::from_secs(5), async || {
        let (_, text) = proxy.get("/proxy/stats").await;
        text.contains("\"num_threads\"").then_some(())
    })
    .await;
    for (flags, commands, runtime) in [
        ("", false, false),
        ("/0", false, false),
        ("/1", true, false),
        ("/5", true, true),
    ] {
        let (text, _) = stats(&proxy, flags).await;
        let found = (text.contains("\"cmd\":"), text.contains("\"raw\":"));
        assert_eq!(found, (commands, runtime), "{flags}: {text}");
    }
    let overview = proxy.get("/proxy").await.1;
    assert_eq!(
        names(&overview),
        ["version", "compile", "config", "model", "stats", "slots"]
    );
    let (status, text) = proxy.get(&format!("/api/proxy/stats/{}/x", proxy.xauth().await)).await;
    assert!(status == 800 && text.contains("invalid flags"), "{text}");
}

#[tokio::test]
async fn every_route_of_codis_answers() {
    let backend = Backend::start().await;
    let proxy = Proxy::launch(Setup::default()).await;
    let slots = serde_json::to_string(&slots_over(&[backend.addr()], 0)).unwrap();
    for (path, body) in [
        ("fillslots/X", slots.as_str()),
        ("start/X", ""),
        ("start/X", ""),
        ("stats/reset/X", ""),
        ("forcegc/X", ""),
        ("loglevel/X/debug", ""),
        ("loglevel/X/INFO", ""),
        ("loglevel/X/NONE", ""),
        ("sentinels/X", "{\"servers\":[],\"out_of_sync\":false}"),
        ("sentinels/X/rewatch", ""),
    ] {
        let answer = proxy.put(&format!("/api/proxy/{path}"), body).await;
        assert_eq!(answer, (200, "\"OK\"".to_owned()), "{path}");
    }
    let (status, text) = proxy.put("/api/proxy/loglevel/X/LOUD", "").await;
    assert!(status == 800 && text.contains("invalid log level"), "{text}");
    let xauth = proxy.xauth().await;
    for path in ["/proxy", "/proxy/model", "/proxy/stats", "/proxy/slots"] {
        assert_eq!(proxy.get(path).await.0, 200, "{path}");
    }
    assert_eq!(
        proxy.get(&format!("/api/proxy/slots/{xauth}")).await.1,
        proxy.get("/proxy/slots").await.1
    );
    assert_eq!(proxy.wire().await.call("PING").await, "+PONG");
    assert_eq!(proxy.put("/api/proxy/shutdown/X", "").await, (200, "\"OK\"".to_owned()));
}

#[tokio::test]
async fn answers_look_like_those_of_codis() {
    let proxy = Proxy::launch(Setup::default()).await;
    let get = {
        let client = crate::support::web();
        async move |path: &str, encoding: &str| {
            let url = format!("http://{}{path}", proxy.admin_addr());
            let request = client.get(url).header("accept-encoding", encoding);
            let response = request.send().await.unwrap();
            let header = |name: &str| {
                let value = response.headers().get(name)?;
                Some(value.to_str().unwrap().to_owned())
            };
            (header("content-type"), header("content-encoding"))
        }
    };
    let json = Some("application/json; charset=utf-8".to_owned());
    assert_eq!(get("/proxy/model", "identity").await, (json.clone(), None));
    assert_eq!(
        get("/proxy/slots", "gzip").await,
        (json.clone(), Some("gzip".to_owned()))
    );
    assert_eq!(get("/api/proxy/xping/0", "identity").await.0, json);
}

#[tokio::test]
async fn log_goes_into_a_file_of_the_day() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("proxy.log");
    let flag = format!("--log={}", path.display());
    let proxy = Proxy::launch(Setup {
        flags: &[&flag, "--max-ncpu=4"],
        toml: "proxy_heap_placeholder = \"1mb\"\nproxy_max_offheap_size = \"1mb\"",
        ..Setup::default()
    })
    .await;
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
    let name = files[0].file_name().into_string().unwrap();
    let day = name.strip_prefix("proxy.log.").unwrap();
    assert!(day.parse::<jiff::civil::Date>().is_ok() && files.len() == 1, "{name}");
    let log = std::fs::read_to_string(files[0].path()).unwrap();
    for once in ["proxy_heap_placeholder", "proxy_max_offheap_size", "--max-ncpu"] {
        assert_eq!(log.matches(once).count(), 1, "{once}: {log}");
    }
    drop(proxy);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_codis-proxy"))
        .arg("--log=/does/not/exist/log")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("/does/not/exist"), "{text}");
}

#[tokio::test]
async fn client_of_the_admin_port_that_sends_no_whole_head_is_closed() {
    let proxy = Proxy::launch(Setup::default()).await;
    let mut client = raw::begun(&proxy.admin_addr(), b"GET /proxy HTTP/1.1\r\nHost: x\r\n").await;
    let answer = raw::ended(&mut client, Duration::from_secs(20)).await;
    assert_eq!(answer.as_deref(), Some(""), "nothing was asked for as a whole");
    assert_eq!(proxy.get("/proxy").await.0, 200);
}
