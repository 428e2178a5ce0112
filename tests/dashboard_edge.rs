//! What lies between the dashboard's routes and its clients: compression, TLS, the admin token, figures, description.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that can't go on fails, and shows its figures"
)]

mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use codis_operator::client::{DashboardClient, Http};
use codis_operator::model::GroupId;
use support::dashboard::{Dashboard, PRODUCT, XAUTH, cause, product};
use support::etcd::Etcd;
use support::proxy::{Proxy, Setup};
use support::raw;
use support::tls::Authority;
use support::valkey::Valkey;
use support::{eventually, web};
use tempfile::TempDir;
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn answers_are_compressed_for_who_accepts_it_and_for_nobody_else() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let url = format!("http://{}/topom", dashboard.api.addr());
    let plain = web().get(&url).send().await.unwrap();
    assert_eq!(plain.headers().get("content-encoding"), None);
    let plain = plain.bytes().await.unwrap();
    let packed = web().get(&url).header("Accept-Encoding", "gzip").send().await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert_eq!(packed.headers()["content-type"], "application/json; charset=utf-8");
    let packed = packed.bytes().await.unwrap();
    assert!(packed.starts_with(&[0x1f, 0x8b]), "{:?}", &packed[..2]);
    println!("/topom: {} bytes, compressed {}", plain.len(), packed.len());
    assert!(packed.len() * 4 < plain.len(), "{} of {}", packed.len(), plain.len());
}

#[tokio::test]
async fn without_the_admin_token_nothing_is_changed_and_everything_read() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &["--admin-token=open-sesame"]).await;
    let api = &dashboard.api;
    let before = etcd.dump("/codis3/").await;
    let url = format!("http://{}/api/topom/group/create/{XAUTH}/1", api.addr());
    for wrong in [
        None,
        Some("Bearer "),
        Some("Bearer open-sesam"),
        Some("open-sesame"),
        Some("Basic open-sesame"),
    ] {
        let mut request = web().put(&url);
        if let Some(wrong) = wrong {
            request = request.header("Authorization", wrong);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 401, "{wrong:?}");
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        let body = answer.text().await.unwrap();
        assert!(
            cause(&body).contains("Authorization: Bearer") && !body.contains("sesam"),
            "{body}"
        );
    }
    assert_eq!(etcd.dump("/codis3/").await, before);
    for path in ["/topom", "/api/topom/xping/X", "/metrics"] {
        let (status, body) = api.get(path).await;
        assert_eq!((status, body.contains("sesame")), (200, false), "{path}");
    }
    let refused = api.client.create_group(GroupId::new(1).unwrap()).await.unwrap_err();
    assert!(
        !refused.is_transient() && refused.cause().unwrap().contains("admin token"),
        "{refused}"
    );
    let http = Http::new(PATIENCE).unwrap().with_token("open-sesame").unwrap();
    let client = DashboardClient::new(http, vec![api.addr().to_owned()], product());
    client.create_group(GroupId::new(1).unwrap()).await.unwrap();
    assert!(etcd.get(&format!("/codis3/{PRODUCT}/group/group-0001")).await.is_some());
}

/// Files for a certificate and its key.
struct Files {
    folder: TempDir,
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        Self {
            cert: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
            folder,
        }
    }

    fn flags(&self) -> [String; 2] {
        [
            format!("--admin-tls-cert={}", self.cert.display()),
            format!("--admin-tls-key={}", self.key.display()),
        ]
    }
}

/// A dashboard with a certificate of this authority.
async fn over_tls(etcd: &Etcd, authority: &Authority, files: &Files, flags: &[&str]) -> (Dashboard, DashboardClient) {
    authority.issue(&files.cert, &files.key);
    let [cert, key] = files.flags();
    let flags = [&[cert.as_str(), key.as_str()], flags].concat();
    let dashboard = Dashboard::launch(&etcd.endpoint(), &flags);
    let client = authority.client(dashboard.api.addr());
    eventually("the dashboard is active", PATIENCE, async || client.xping().await.ok()).await;
    (dashboard, client)
}

#[tokio::test]
async fn a_certificate_that_changes_is_served_without_a_restart() {
    let etcd = Etcd::start().await;
    let (first, second, files) = (Authority::new("first"), Authority::new("second"), Files::new());
    let (dashboard, _client) = over_tls(&etcd, &first, &files, &[]).await;
    let error = second
        .client(dashboard.api.addr())
        .xping()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("UnknownIssuer; name the authority"), "{error}");
    // A pair that is written half stays unused until the other half comes.
    second.issue(&files.cert, &files.folder.path().join("later"));
    support::holds_for(
        "the former certificate is served",
        Duration::from_millis(1500),
        async || first.client(dashboard.api.addr()).xping().await.is_ok(),
    )
    .await;
    std::fs::rename(files.folder.path().join("later"), &files.key).unwrap();
    eventually("the new certificate is served", PATIENCE, async || {
        second.client(dashboard.api.addr()).xping().await.ok()
    })
    .await;
    assert!(first.client(dashboard.api.addr()).xping().await.is_err());
}

#[tokio::test]
async fn handshakes_that_never_end_hold_up_nobody_and_are_ended() {
    let etcd = Etcd::start().await;
    let (authority, files) = (Authority::new("ours"), Files::new());
    let (dashboard, _client) = over_tls(&etcd, &authority, &files, &[]).await;
    let addr = dashboard.api.addr();
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(addr).await.unwrap());
        // The beginning of a handshake.
        silent.push(raw::begun(addr, &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await);
    }
    let began = Instant::now();
    authority.client(addr).xping().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let plain = raw::answer(addr, b"GET /topom HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(!plain.contains("HTTP/1.1 200"), "{plain}");
    let last = silent.last_mut().unwrap();
    assert!(raw::ended(last, Duration::from_secs(15)).await.is_some());
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_ends_the_start_with_its_file_named() {
    let etcd = Etcd::start().await;
    let (authority, files) = (Authority::new("ours"), Files::new());
    authority.issue(&files.cert, &files.key);
    std::fs::write(&files.cert, "nothing").unwrap();
    let [cert, key] = files.flags();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_codis-dashboard"))
        .args([&cert, &key, &format!("--etcd={}", etcd.endpoint())])
        .output()
        .unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && words.contains("tls.crt (admin_tls_cert) can't be used"),
        "{words}"
    );
}

#[tokio::test]
async fn a_proxy_believes_the_authority_that_is_written_into_its_file_later() {
    let etcd = Etcd::start().await;
    let (authority, files) = (Authority::new("ours"), Files::new());
    let (dashboard, client) = over_tls(&etcd, &authority, &files, &[]).await;
    let ca = Authority::new("another").write(files.folder.path().join("ca.crt"));
    let proxy = Proxy::launch(Setup {
        toml: "",
        flags: &[
            &format!("--dashboard=https://{}", dashboard.api.addr()),
            &format!("--dashboard-ca={}", ca.display()),
        ],
        ..Setup::default()
    })
    .await;
    assert!(client.stats().await.unwrap().proxy.models.is_empty());
    authority.write(ca);
    proxy.wait_ready().await;
    assert_eq!(client.stats().await.unwrap().proxy.models.len(), 1);
}

#[tokio::test]
async fn a_proxy_registers_itself_and_leaves_over_tls_with_the_token() {
    let etcd = Etcd::start().await;
    let (authority, files) = (Authority::new("ours"), Files::new());
    let (dashboard, client) = over_tls(&etcd, &authority, &files, &["--admin-token=open-sesame"]).await;
    let ca = authority.write(files.folder.path().join("ca.crt"));
    let addr = format!("--dashboard=https://{}", dashboard.api.addr());
    let ca = format!("--dashboard-ca={}", ca.display());
    let proxy = Proxy::launch(Setup {
        toml: "dashboard_token = \"open-sesame\"",
        flags: &[&addr, &ca],
        ..Setup::default()
    })
    .await;
    proxy.wait_ready().await;
    assert_eq!(client.stats().await.unwrap().proxy.models.len(), 1);
    assert!(!proxy.get("/proxy").await.1.contains("sesame"));
    proxy.process.signal("TERM");
    eventually("the proxy left", PATIENCE, async || {
        client.stats().await.ok()?.proxy.models.is_empty().then_some(())
    })
    .await;
    // One that does not know the token is told so, and is not taken.
    let _stranger = Proxy::launch(Setup {
        toml: "",
        flags: &[&addr, &ca],
        ..Setup::default()
    })
    .await;
    let refused = "http_requests_total{method=\"PUT\",route=\"/api/topom/proxy/online/{xauth}/{addr}\",status=\"401\"}";
    let secure = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap()])
        .build()
        .unwrap();
    eventually("the stranger is refused", PATIENCE, async || {
        let url = format!("https://{}/metrics", dashboard.api.addr());
        let text = secure.get(url).send().await.ok()?.text().await.ok()?;
        text.contains(refused).then_some(())
    })
    .await;
    assert!(client.stats().await.unwrap().proxy.models.is_empty());
}

/// The value of a series.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| {
            line.strip_prefix("codis_dashboard_")?
                .strip_prefix(series)?
                .strip_prefix(' ')
        })
        .map(|value| value.parse().unwrap())
}

#[tokio::test]
async fn figures_tell_what_is_and_forget_who_is_gone() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let mut server = Valkey::start().await;
    api.done("/api/topom/group/create/X/1").await;
    api.done(&format!("/api/topom/group/add/X/1/{}", server.addr())).await;
    let addr = format!("--dashboard={}", api.addr());
    let proxy = Proxy::launch(Setup {
        toml: "",
        flags: &[&addr],
        ..Setup::default()
    })
    .await;
    proxy.wait_ready().await;
    let assigned = r#"[{"id":5,"group_id":1,"action":{}}]"#;
    assert_eq!(api.put("/api/topom/slots/assign/X", assigned).await.0, 200);
    let token = api.client.stats().await.unwrap().proxy.models[0].token.clone();
    let server_up = format!("server_up{{group=\"1\",server=\"{}\"}}", server.addr());
    let proxy_up = format!("proxy_up{{proxy=\"{token}\",admin_addr=\"{}\"}}", proxy.admin_addr());
    let figures = |what: &'static str, wanted: Vec<(String, Option<f64>)>| async move {
        eventually(what, PATIENCE, async || {
            let (status, text) = api.get("/metrics").await;
            assert!(status == 200 && text.ends_with("# EOF\n"), "{text}");
            wanted
                .iter()
                .all(|(series, wanted)| value(&text, series) == *wanted)
                .then_some(text)
        })
        .await
    };
    let is = |series: &str, wanted: f64| (series.to_owned(), Some(wanted));
    let text = figures(
        "all is well",
        vec![
            is("lock_held", 1.0),
            is("terms_total", 1.0),
            is("slots{group=\"1\"}", 1.0),
            is("slots_offline", 1023.0),
            is("slots_with_action", 0.0),
            is("groups", 1.0),
            is("servers", 1.0),
            is("proxies", 1.0),
            is(&server_up, 1.0),
            is(&proxy_up, 1.0),
            is(&format!("push_failures_total{{proxy=\"{token}\"}}"), 0.0),
            is("store_failures_total{operation=\"commit\"}", 0.0),
        ],
    )
    .await;
    assert!(value(&text, "lock_revision").unwrap() > 0.0);
    assert!(value(&text, &format!("push_seconds_count{{proxy=\"{token}\"}}")).unwrap() >= 2.0);
    assert!(value(&text, "store_seconds_count{operation=\"commit\"}").unwrap() >= 3.0);
    let created = "http_requests_total{method=\"PUT\",route=\"/api/topom/group/create/{xauth}/{gid}\",status=\"200\"}";
    assert_eq!(value(&text, created), Some(1.0));
    assert!(!text.contains(XAUTH), "{text}");

    server.kill();
    proxy.process.signal("STOP");
    let text = figures("both are missed", vec![is(&server_up, 0.0), is(&proxy_up, 0.0)]).await;
    for what in ["server", "proxy"] {
        let missed = ["error", "timeout"]
            .iter()
            .filter_map(|outcome| value(&text, &format!("polls_total{{what=\"{what}\",outcome=\"{outcome}\"}}")))
            .sum::<f64>();
        assert!(missed >= 1.0, "{what}: {text}");
    }

    api.done(&format!("/api/topom/proxy/remove/X/{token}/1")).await;
    let offline = r#"[{"id":5,"group_id":0,"action":{}}]"#;
    assert_eq!(api.put("/api/topom/slots/assign/X/offline", offline).await.0, 200);
    api.done(&format!("/api/topom/group/del/X/1/{}", server.addr())).await;
    api.done("/api/topom/group/remove/X/1").await;
    let (_, text) = api.get("/metrics").await;
    for gone in [token.as_str(), server.addr().as_str(), "slots{group="] {
        assert!(!text.contains(gone), "{gone}: {text}");
    }
}

#[tokio::test]
async fn one_that_stands_by_says_so_in_its_figures() {
    let etcd = Etcd::start().await;
    let active = Dashboard::start(&etcd, &[]).await;
    let standby = Dashboard::launch(&etcd.endpoint(), &[]);
    let text = eventually("the other stands by", PATIENCE, async || {
        let ready = web()
            .get(format!("http://{}/readyz", standby.api.addr()))
            .send()
            .await
            .ok()?;
        (ready.status() == 200).then_some(())?;
        Some(standby.api.get("/metrics").await.1)
    })
    .await;
    assert_eq!(
        (value(&text, "lock_held"), value(&text, "lock_revision")),
        (Some(0.0), Some(0.0))
    );
    assert_eq!((value(&text, "terms_total"), value(&text, "groups")), (Some(0.0), None));
    assert_eq!(value(&active.api.get("/metrics").await.1, "lock_held"), Some(1.0));
}

#[tokio::test]
async fn every_route_that_is_described_is_answered() {
    let etcd = Etcd::start().await;
    let dashboard = Dashboard::start(&etcd, &[]).await;
    let api = &dashboard.api;
    let (status, text) = api.get("/api/topom/v2/openapi.json").await;
    assert_eq!((status, text.as_str()), (200, codis_operator::dashboard::openapi()));
    let description: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut asked = 0;
    for (path, methods) in description["paths"].as_object().unwrap() {
        // A wrong xauth, so that nothing happens: only the route is looked for.
        let real = path.replace("{xauth}", "0").replace(['{', '}'], "");
        for method in methods.as_object().unwrap().keys() {
            let answer = match method.as_str() {
                "get" => api.get(&real).await,
                "put" => api.put(&real, "").await,
                other => panic!("{other} {path}"),
            };
            assert!(!answer.1.contains("404 page not found"), "{method} {path}");
            asked += 1;
        }
        let other = if methods.get("put").is_some() {
            api.get(&real).await
        } else {
            api.put(&real, "").await
        };
        assert_eq!(other.0, 404, "the other method of {path}");
    }
    assert!(asked > 25, "{asked}");
    let changed = format!("/codis3/{PRODUCT}/group/");
    assert_eq!(etcd.dump(&changed).await, []);
}
