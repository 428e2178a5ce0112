//! TLS between clients and the proxy, and between the proxy and servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use codis_operator::model::HostPort;
use support::backend::Backend;
use support::certificates::{Ca, Files};
use support::proxy::{Proxy, Setup, slots_over};
use support::wire::{Wire, request, secured};
use support::{eventually, free_port, tool};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio_rustls::rustls::ALL_VERSIONS;
use tokio_rustls::rustls::version::{TLS12, TLS13};

/// Longer than files take to be seen, and servers to be connected to, on a machine that does a lot besides.
const PATIENCE: Duration = Duration::from_secs(20);

/// A port for TLS, and the lines of proxy.toml that open it with these files.
fn tls_port(files: &Files) -> (u16, String) {
    let port = free_port();
    let lines = format!(
        "proxy_tls_addr = \"127.0.0.1:{port}\"\nproxy_tls_cert = \"{}\"\nproxy_tls_key = \"{}\"\n",
        files.cert().display(),
        files.key().display()
    );
    (port, lines)
}

/// The lines of proxy.toml with which servers are talked to by TLS.
fn backend_tls(ca: &Files, shown: Option<&Files>) -> String {
    let shown = shown.map(|files| {
        format!(
            "backend_tls_cert = \"{}\"\nbackend_tls_key = \"{}\"\n",
            files.cert().display(),
            files.key().display()
        )
    });
    format!(
        "backend_tls = true\nbackend_tls_ca = \"{}\"\n{}",
        ca.ca().display(),
        shown.unwrap_or_default()
    )
}

async fn serving(addrs: &[HostPort], toml: &str) -> Proxy {
    let setup = Setup {
        toml,
        ..Setup::default()
    };
    Proxy::serving_with(slots_over(addrs, 1), setup).await
}

/// A proxy with a log to look at.
async fn serving_with_log(addrs: &[HostPort], toml: &str, folder: &TempDir) -> Proxy {
    let flag = format!("--log={}", folder.path().join("log").display());
    let setup = Setup {
        toml,
        flags: &[&flag],
        ..Setup::default()
    };
    Proxy::serving_with(slots_over(addrs, 1), setup).await
}

fn log_in(folder: &TempDir) -> String {
    let files = std::fs::read_dir(folder.path()).unwrap().flatten();
    files
        .map(|file| std::fs::read_to_string(file.path()).unwrap())
        .collect()
}

async fn until_logged(folder: &TempDir, words: &str) {
    eventually(&format!("the log says {words:?}"), PATIENCE, async || {
        log_in(folder).contains(words).then_some(())
    })
    .await;
}

/// A figure of /metrics, by its line up to the value.
async fn metric(proxy: &Proxy, name: &str) -> Option<f64> {
    let text = proxy.get("/metrics").await.1;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

async fn until_metric(proxy: &Proxy, name: &str, value: f64) {
    eventually(&format!("{name} is {value}"), PATIENCE, async || {
        (metric(proxy, name).await == Some(value)).then_some(())
    })
    .await;
}

/// Whether a client with this connector is served.
async fn is_served(port: u16, connector: &tokio_rustls::TlsConnector) -> bool {
    // By TLS 1.3 a refusal is heard only behind the client's own side of the handshake.
    match Wire::try_secured(port, connector).await {
        Ok(mut wire) => wire.try_call("PING").await.as_deref() == Some("+PONG"),
        Err(_) => false,
    }
}

#[tokio::test]
async fn plain_and_tls_clients_are_served_side_by_side() {
    let (backends, files) = (Backend::several(2).await, Ca::new().files("proxy"));
    let addrs: Vec<_> = backends.iter().map(Backend::addr).collect();
    let (port, toml) = tls_port(&files);
    let proxy = serving(&addrs, &toml).await;
    let mut plain = proxy.wire().await;
    for version in [&TLS12, &TLS13] {
        let mut secret = Wire::try_secured(port, &files.connector(&[version])).await.unwrap();
        for hello in ["HELLO 2", "HELLO 3"] {
            secret.call(hello).await;
            assert_eq!(secret.call("MSET a 1 b 2 c 3").await, "+OK");
            assert_eq!(plain.call("MGET a b c").await, "*[$1 $2 $3]");
            assert_eq!(plain.call("INCR a").await, ":2");
            assert_eq!(secret.call("GET a").await, "$2");
        }
        assert_eq!(secret.call("QUIT").await, "+OK");
        assert!(secret.is_closed().await);
    }
    until_metric(&proxy, "codis_proxy_tls_handshakes_total{outcome=\"done\"}", 2.0).await;
    let end = metric(
        &proxy,
        "codis_proxy_tls_certificate_not_after_seconds{side=\"clients\"}",
    )
    .await;
    assert!(end.unwrap() > 1e9, "{end:?}");
}

#[tokio::test]
async fn proxy_without_a_plain_port_is_known_by_its_tls_port() {
    let (backend, files) = (Backend::start().await, Ca::new().files("proxy"));
    let (port, toml) = tls_port(&files);
    let proxy = serving(&[backend.addr()], &format!("{toml}proxy_addr = \"\"\n")).await;
    assert!(is_served(port, &files.connector(ALL_VERSIONS)).await);
    assert!(Wire::try_connect(proxy.port).await.is_none());
    let model = proxy.get("/proxy/model").await.1;
    assert!(
        model.contains(&format!("\"proxy_addr\":\"127.0.0.1:{port}\"")),
        "{model}"
    );
}

#[tokio::test]
async fn clients_are_asked_for_certificates_as_the_settings_say() {
    let (backend, ca) = (Backend::start().await, Ca::new());
    let (files, strangers) = (ca.files("proxy"), Ca::new().files("stranger"));
    let (ours, theirs) = (ca.files("client"), strangers);
    for (auth, without_certificate) in [("yes", false), ("optional", true)] {
        let (port, toml) = tls_port(&files);
        let toml = format!(
            "{toml}proxy_tls_ca = \"{}\"\nproxy_tls_auth_clients = \"{auth}\"\n",
            files.ca().display()
        );
        let proxy = serving(&[backend.addr()], &toml).await;
        for version in [&TLS12, &TLS13] {
            let versions = &[version];
            assert!(
                is_served(port, &files.connector_showing(&ours, versions)).await,
                "{auth}"
            );
            assert!(
                !is_served(port, &files.connector_showing(&theirs, versions)).await,
                "{auth}"
            );
            let anonymous = is_served(port, &files.connector(versions)).await;
            assert_eq!(anonymous, without_certificate, "{auth}");
        }
        let refused = if without_certificate { 2.0 } else { 4.0 };
        until_metric(
            &proxy,
            "codis_proxy_tls_handshakes_total{outcome=\"certificate\"}",
            refused,
        )
        .await;
    }
}

#[tokio::test]
async fn certificate_that_is_replaced_is_shown_to_new_clients() {
    let (backend, ca) = (Backend::start().await, Ca::new());
    let (files, folder) = (ca.files("first"), TempDir::new().unwrap());
    let (port, toml) = tls_port(&files);
    let proxy = serving_with_log(&[backend.addr()], &toml, &folder).await;
    let shown = async || {
        let stream = secured(files.host(), port, &files.connector(ALL_VERSIONS)).await.ok()?;
        let shown = stream.get_ref().1.peer_certificates()?.first()?.clone();
        Some(shown.into_owned())
    };
    let stays = files.connector(ALL_VERSIONS);
    let mut stays = Wire::try_secured(port, &stays).await.unwrap();
    assert_eq!(stays.call("SET a 1").await, "+OK");
    let first = files.der();
    assert_eq!(shown().await, Some(first.clone()));
    ca.write("second", &files);
    let second = files.der();
    assert_ne!(first, second);
    eventually("the second certificate is shown", PATIENCE, async || {
        (shown().await? == second).then_some(())
    })
    .await;
    // Who is connected notices nothing.
    assert_eq!(stays.call("GET a").await, "$1");
    let unusable = "codis_proxy_tls_files_unusable{side=\"clients\"}";
    assert_eq!(metric(&proxy, unusable).await, Some(0.0));
    std::fs::write(files.key(), "no key").unwrap();
    until_metric(&proxy, unusable, 1.0).await;
    assert_eq!(shown().await, Some(second));
    let complaint = "(proxy_tls_key) can't be used";
    assert_eq!(log_in(&folder).matches(complaint).count(), 1, "{}", log_in(&folder));
    ca.write("third", &files);
    until_metric(&proxy, unusable, 0.0).await;
    assert_eq!(shown().await, Some(files.der()));
    assert_eq!(stays.call("GET a").await, "$1");
}

#[tokio::test]
async fn who_speaks_otherwise_than_the_port_is_closed_and_counted() {
    let (backend, files) = (Backend::start().await, Ca::new().files("proxy"));
    let (port, toml) = tls_port(&files);
    let proxy = serving(&[backend.addr()], &toml).await;
    let mut secret = Wire::try_secured(port, &files.connector(ALL_VERSIONS)).await.unwrap();
    let mut plain = Wire::connect(port).await;
    plain.send("PING\r\n").await;
    assert!(plain.rest().await.is_empty() || plain.is_closed().await);
    until_metric(&proxy, "codis_proxy_tls_handshakes_total{outcome=\"plain\"}", 1.0).await;
    assert!(
        Wire::try_secured(proxy.port, &files.connector(ALL_VERSIONS))
            .await
            .is_err()
    );
    until_metric(&proxy, "codis_proxy_errors_total{kind=\"tls\"}", 1.0).await;
    let strangers = Ca::new().files("stranger");
    assert!(
        Wire::try_secured(port, &strangers.connector(ALL_VERSIONS))
            .await
            .is_err()
    );
    until_metric(&proxy, "codis_proxy_tls_handshakes_total{outcome=\"disbelief\"}", 1.0).await;
    // A whole session of garbage behind a good handshake.
    let mut stream = secured(files.host(), port, &files.connector(ALL_VERSIONS))
        .await
        .unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream.get_mut().0, &[0x55; 5000])
        .await
        .unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    assert_eq!(secret.call("PING").await, "+PONG");
    assert_eq!(proxy.wire().await.call("PING").await, "+PONG");
}

#[tokio::test]
async fn handshake_that_never_ends_is_given_up() {
    let (backend, files) = (Backend::start().await, Ca::new().files("proxy"));
    let (port, toml) = tls_port(&files);
    let proxy = serving(&[backend.addr()], &toml).await;
    let (mut silent, mut slow) = (Wire::connect(port).await, Wire::connect(port).await);
    // The beginning of a handshake, and no end.
    slow.send([0x16, 3, 1, 2, 0, 1, 0]).await;
    assert!(
        is_served(port, &files.connector(ALL_VERSIONS)).await,
        "others are served meanwhile"
    );
    assert!(silent.rest().await.is_empty() && slow.rest().await.is_empty());
    until_metric(&proxy, "codis_proxy_tls_handshakes_total{outcome=\"slow\"}", 2.0).await;
    until_metric(&proxy, "codis_proxy_clients", 0.0).await;
    let (_, stats) = proxy.get("/proxy/stats").await;
    assert!(stats.contains("\"alive\":0"), "{stats}");
}

#[tokio::test]
async fn large_and_many_requests_pass_in_any_pieces() {
    let ca = Ca::new();
    let (files, shown) = (ca.files("proxy"), ca.files("shown"));
    let backends = [
        Backend::secured(&ca.files("server"), None).await,
        Backend::secured(&ca.files("server"), Some(&shown)).await,
    ];
    let addrs = backends.each_ref().map(Backend::addr);
    let (port, toml) = tls_port(&files);
    let toml = format!("{toml}{}", backend_tls(&shown, Some(&shown)));
    let proxy = serving(&addrs, &toml).await;
    for version in [&TLS12, &TLS13] {
        let connector = files.connector(&[version]);
        let mut wire = Wire::try_secured(port, &connector).await.unwrap();
        let mut bytes = Vec::new();
        for n in 0..10_000 {
            bytes.extend(request(&["SET", &format!("key{n}"), &format!("value{n}")]));
            bytes.extend(request(&["GET", &format!("key{n}")]));
        }
        wire.send(bytes).await;
        for n in 0..10_000 {
            assert_eq!(wire.reply().await, "+OK");
            assert_eq!(wire.reply().await, format!("$value{n}"));
        }
        for n in 0..3 {
            let value = format!("{n}").repeat(16 << 20);
            wire.send(request(&["SET", &format!("large{n}"), &value])).await;
            assert_eq!(wire.reply().await, "+OK");
            let (mut plain, key) = (proxy.wire().await, format!("GET large{n}"));
            assert!(plain.call(&key).await[1..] == value, "{key}");
            assert!(wire.call(&key).await[1..] == value, "{key}");
        }
        for byte in request(&["SET", "bytes", "one at a time"]) {
            wire.send([byte]).await;
        }
        assert_eq!(wire.reply().await, "+OK");
        assert_eq!(wire.call("GET bytes").await, "$one at a time");
    }
}

#[tokio::test]
async fn client_that_leaves_too_many_replies_is_closed() {
    let ca = Ca::new();
    let (backend, files) = (Backend::secured(&ca.files("server"), None).await, ca.files("proxy"));
    let (port, toml) = tls_port(&files);
    let toml = format!("{toml}{}session_max_output_size = \"1mb\"\n", backend_tls(&files, None));
    let proxy = serving(&[backend.addr()], &toml).await;
    let connector = files.connector(ALL_VERSIONS);
    let mut wire = Wire::try_secured(port, &connector).await.unwrap();
    // Short enough to be kept whole: what is longer waits at its server instead.
    let value = "v".repeat(200_000);
    assert_eq!(wire.call(&format!("SET a {value}")).await, "+OK");
    let mut lazy = Wire::try_secured(port, &connector).await.unwrap();
    lazy.send(request(&["GET", "a"]).repeat(100)).await;
    eventually("it is closed", Duration::from_secs(10), async || {
        let clients = wire.call("CLIENT LIST").await;
        (clients.matches(" addr=").count() == 1).then_some(())
    })
    .await;
    let got = lazy.rest().await.len();
    assert!(got < 100 * value.len(), "{got}");
    assert_eq!(wire.call("PING").await, "+PONG");
    let resident = proxy.process.resident_bytes() >> 20;
    assert!(resident < 200, "the proxy holds {resident} MiB");
}

#[tokio::test]
async fn long_requests_and_replies_are_passed_on_by_tls_as_they_come() {
    let ca = Ca::new();
    let (backend, files) = (Backend::secured(&ca.files("server"), None).await, ca.files("proxy"));
    let (port, toml) = tls_port(&files);
    let proxy = serving(&[backend.addr()], &format!("{toml}{}", backend_tls(&files, None))).await;
    let mut wire = Wire::try_secured(port, &files.connector(ALL_VERSIONS)).await.unwrap();
    let value = "v".repeat(64 << 20);
    assert_eq!(wire.call(&format!("SET a {value}")).await, "+OK");
    assert!(wire.call("GET a").await == format!("${value}"));
    assert!(wire.call(&format!("SET a {value} GET")).await == format!("${value}"));
    assert_eq!(wire.call("STRLEN a").await, format!(":{}", value.len()));
    let peak = proxy.process.peak_bytes() >> 20;
    assert!(peak < 64, "the proxy held {peak} MiB");
}

#[tokio::test]
async fn all_kinds_of_connections_to_servers_speak_tls() {
    let ca = Ca::new();
    let (server, shown) = (ca.files("server"), ca.files("shown"));
    let backends = [
        Backend::secured(&server, Some(&shown)).await,
        Backend::secured(&server, Some(&shown)).await,
    ];
    let addrs = backends.each_ref().map(Backend::addr);
    let proxy = serving(&addrs, &backend_tls(&shown, Some(&shown))).await;
    for hello in ["HELLO 2", "HELLO 3"] {
        let (mut wire, mut other) = (proxy.wire().await, proxy.wire().await);
        wire.call(hello).await;
        // Shared, in several databases.
        assert_eq!(wire.call("SET {t}a 1").await, "+OK");
        for words in ["SELECT 3", "SET {t}a 2", "SELECT 0"] {
            assert_eq!(wire.call(words).await, "+OK");
        }
        assert_eq!(wire.call("GET {t}a").await, "$1");
        // Watched.
        for words in ["WATCH {t}a", "MULTI"] {
            assert_eq!(wire.call(words).await, "+OK");
        }
        assert_eq!(wire.call("INCR {t}a").await, "+QUEUED");
        assert_eq!(wire.call("EXEC").await, "*[:2]");
        assert_eq!(wire.call("WATCH {t}a").await, "+OK");
        assert_eq!(other.call("INCR {t}a").await, ":3");
        assert_eq!(wire.call("MULTI").await, "+OK");
        assert_eq!(wire.call("INCR {t}a").await, "+QUEUED");
        let nothing = if hello == "HELLO 3" { "_" } else { "*-" };
        assert_eq!(wire.call("EXEC").await, nothing);
        // Waited for.
        wire.send(request(&["BLPOP", "{t}l", "0"])).await;
        proxy.took_up("blpop").await;
        assert_eq!(other.call("RPUSH {t}l x").await, ":1");
        assert_eq!(wire.reply().await, "*[${t}l $x]");
        let large = "y".repeat(1 << 20);
        wire.send(request(&["BLPOP", "{t}l", "0"])).await;
        assert_eq!(other.call(&format!("RPUSH {{t}}l {large}")).await, ":1");
        assert!(wire.reply().await == format!("*[${{t}}l ${large}]"));
        // Published.
        let sign = if hello == "HELLO 3" { ">" } else { "*" };
        wire.send(request(&["SUBSCRIBE", "news"])).await;
        assert_eq!(wire.reply().await, format!("{sign}[$subscribe $news :1]"));
        assert_eq!(other.call("PUBLISH news hello").await, ":1");
        assert_eq!(wire.reply().await, format!("{sign}[$message $news $hello]"));
    }
    let (_, metrics) = proxy.get("/metrics").await;
    assert!(
        metrics.contains("tls_certificate_not_after_seconds{side=\"servers\"}"),
        "{metrics}"
    );
}

#[tokio::test]
async fn names_of_servers_are_checked_and_not_their_addresses() {
    let ca = Ca::new();
    let backend = Backend::secured(&ca.files_for("localhost", "server"), None).await;
    let (files, folder) = (ca.files("proxy"), TempDir::new().unwrap());
    let by_name = HostPort::new("localhost", backend.addr().port()).unwrap();
    let proxy = serving_with_log(&[by_name], &backend_tls(&files, None), &folder).await;
    assert_eq!(proxy.wire().await.call("SET a 1").await, "+OK");
    // Slots may name another port of it, for those who speak no TLS.
    let named = HostPort::new("localhost", free_port()).unwrap();
    let toml = format!(
        "{}backend_tls_port = {}\n",
        backend_tls(&files, None),
        backend.addr().port()
    );
    let proxy = serving(&[named], &toml).await;
    assert_eq!(proxy.wire().await.call("GET a").await, "$1");
    // The same server, by an address that its certificate does not hold.
    let folder = TempDir::new().unwrap();
    let proxy = serving_with_log(&[backend.addr()], &backend_tls(&files, None), &folder).await;
    let refusal = proxy.wire().await.call("GET a").await;
    assert!(refusal.starts_with("-ERR handle re"), "{refusal}");
    until_logged(&folder, "the server's certificate must hold its name").await;
}

#[tokio::test]
async fn server_that_is_not_believed_is_an_error_for_clients_and_named_in_the_log() {
    let ca = Ca::new();
    let (server, strangers, folder) = (ca.files("server"), Ca::new().files("stranger"), TempDir::new().unwrap());
    let backend = Backend::secured(&server, None).await;
    let proxy = serving_with_log(&[backend.addr()], &backend_tls(&strangers, None), &folder).await;
    let refusal = proxy.wire().await.call("GET a").await;
    assert!(refusal.starts_with("-ERR handle re"), "{refusal}");
    until_logged(&folder, "backend_tls_ca must hold the authority").await;
    // The right authority helps without a restart.
    std::fs::copy(server.ca(), strangers.ca()).unwrap();
    let mut wire = proxy.wire().await;
    eventually("the server is believed", PATIENCE, async || {
        (wire.call("SET a 1").await == "+OK").then_some(())
    })
    .await;
}

#[tokio::test]
async fn server_that_wants_a_certificate_or_speaks_no_tls_is_named_in_the_log() {
    let ca = Ca::new();
    let (server, shown) = (ca.files("server"), ca.files("shown"));
    let wants = Backend::secured(&server, Some(&shown)).await;
    let plain = Backend::start().await;
    for (addr, words) in [
        (wants.addr(), "set backend_tls_cert and backend_tls_key"),
        (plain.addr(), "is this the server's TLS port?"),
    ] {
        let folder = TempDir::new().unwrap();
        let proxy = serving_with_log(&[addr], &backend_tls(&server, None), &folder).await;
        let refusal = proxy.wire().await.call("GET a").await;
        assert!(refusal.starts_with("-ERR handle re"), "{refusal}");
        until_logged(&folder, words).await;
    }
}

#[tokio::test]
async fn server_that_ends_is_connected_to_again() {
    let ca = Ca::new();
    let files = ca.files("server");
    let mut backend = Backend::secured(&files, None).await;
    let proxy = serving(&[backend.addr()], &backend_tls(&files, None)).await;
    let mut wire = proxy.wire().await;
    assert_eq!(wire.call("SET a 1").await, "+OK");
    ca.write("renewed", &files);
    backend.restart().await;
    eventually("the new process answers", PATIENCE, async || {
        (wire.call("GET a").await == "$-").then_some(())
    })
    .await;
}

/// What the proxy says when it does not start with these settings.
fn refusal(toml: &str, folder: &Path) -> String {
    let file = folder.join("proxy.toml");
    let ports = format!(
        "admin_addr = \"127.0.0.1:{}\"\nproxy_addr = \"127.0.0.1:{}\"\n",
        free_port(),
        free_port()
    );
    std::fs::write(&file, format!("{ports}{toml}")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_codis-proxy"))
        .arg("--config")
        .arg(&file)
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn start_with_bad_files_fails_and_names_them() {
    let (ca, folder) = (Ca::new(), TempDir::new().unwrap());
    let (files, other) = (ca.files("proxy"), ca.files("other"));
    let (_, good) = tls_port(&files);
    let missing = folder.path().join("missing.pem").display().to_string();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let empty = empty.display().to_string();
    let with = |key: &str, path: &str| {
        let line = good.lines().find(|line| line.starts_with(key)).unwrap();
        good.replace(line, &format!("{key} = \"{path}\""))
    };
    let other_key = other.key().display().to_string();
    for (toml, words) in [
        (
            with("proxy_tls_cert", &missing),
            ["missing.pem (proxy_tls_cert) can't be read", "name a PEM file"],
        ),
        (
            with("proxy_tls_cert", &empty),
            ["empty.pem (proxy_tls_cert) can't be used", "as PEM into it"],
        ),
        (
            with("proxy_tls_key", &empty),
            ["empty.pem (proxy_tls_key) can't be used", "the private key as PEM"],
        ),
        (
            with("proxy_tls_key", &other_key),
            ["(proxy_tls_key) don't belong together", "(proxy_tls_cert)"],
        ),
        (
            format!("{good}proxy_tls_auth_clients = \"yes\"\nproxy_tls_ca = \"{empty}\""),
            ["empty.pem (proxy_tls_ca)", "authorities"],
        ),
        (
            format!("backend_tls = true\nbackend_tls_ca = \"{missing}\""),
            ["missing.pem (backend_tls_ca)", "name a PEM file"],
        ),
    ] {
        let text = refusal(&toml, folder.path());
        assert!(words.iter().all(|word| text.contains(word)), "{toml}: {text}");
    }
}

#[tokio::test]
async fn valkey_cli_connects_by_tls() {
    let ca = Ca::new();
    let (files, shown) = (ca.files("proxy"), ca.files("client"));
    let backend = Backend::secured(&ca.files("server"), None).await;
    let (port, toml) = tls_port(&files);
    let toml = format!(
        "{toml}{}proxy_tls_auth_clients = \"yes\"\nproxy_tls_ca = \"{}\"\n",
        backend_tls(&files, None),
        files.ca().display()
    );
    let _proxy = serving(&[backend.addr()], &toml).await;
    let cli = async |args: &[&str]| {
        let mut command = tokio::process::Command::new(tool("valkey-cli"));
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "--tls"]);
        command.arg("--cacert").arg(files.ca());
        command.arg("--cert").arg(shown.cert()).arg("--key").arg(shown.key());
        let output = command.args(args).kill_on_drop(true).output().await.unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(cli(&["set", "a", "1"]).await, "OK");
    assert_eq!(cli(&["-3", "get", "a"]).await, "1");
}
