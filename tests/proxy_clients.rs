//! Clients as they come, with nothing set that their users would not set.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::fs;
use std::path::PathBuf;

use support::certificates::Ca;
use support::clients::{cache, command, go_source, run};
use support::proxy::cluster;
use support::{free_port, tool};

/// The newest that this test was written for.
const REDIS_PY: &str = "redis==8.1.0";

/// The Python of an environment with redis-py, which is made once.
async fn python() -> PathBuf {
    let (folder, _lock) = cache(REDIS_PY);
    let python = folder.join("venv/bin/python");
    if !folder.join("complete").exists() {
        run(command(
            "python3",
            &["-m", "venv", "--clear", folder.join("venv").to_str().unwrap()],
        ))
        .await;
        run(command(
            &python,
            &[
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                REDIS_PY,
            ],
        ))
        .await;
        fs::write(folder.join("complete"), "").unwrap();
    }
    python
}

/// The program in `clients/go-redis`, built once for each state of its files.
async fn go_client() -> PathBuf {
    let source = go_source();
    let files = ["main.go", "go.mod", "go.sum"].map(|name| fs::read(source.join(name)).unwrap());
    let (folder, _lock) = cache(&format!("go-redis-{:08x}", crc32fast::hash(&files.concat())));
    let program = folder.join("client");
    if !program.exists() {
        let mut build = command("go", &["build", "-mod=readonly", "-o", program.to_str().unwrap(), "."]);
        build.current_dir(&source).env("CGO_ENABLED", "0").env("GOFLAGS", "");
        run(build).await;
    }
    program
}

#[tokio::test]
async fn redis_py_connects_as_it_comes() {
    let python = python().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/redis-py/main.py");
    let (_backends, proxy) = cluster(3, "").await;
    assert!(
        run(command(&python, &[script, &proxy.port.to_string()]))
            .await
            .contains("is content")
    );
    let (_backends, proxy) = cluster(3, "session_auth = \"outer\"").await;
    assert!(
        run(command(&python, &[script, &proxy.port.to_string(), "outer"]))
            .await
            .contains("is content")
    );
    let (files, port) = (Ca::new().files("proxy"), free_port().to_string());
    let toml = format!(
        "proxy_tls_addr = \"127.0.0.1:{port}\"\nproxy_tls_cert = \"{}\"\nproxy_tls_key = \"{}\"",
        files.cert().display(),
        files.key().display()
    );
    let (_backends, _proxy) = cluster(3, &toml).await;
    let authority = files.ca();
    let by_tls = [script, &port, "", authority.to_str().unwrap()];
    assert!(run(command(&python, &by_tls)).await.contains("is content"));
}

#[tokio::test]
async fn go_redis_connects_as_it_comes() {
    let client = go_client().await;
    let (_backends, proxy) = cluster(3, "").await;
    assert!(
        run(command(&client, &[&format!("127.0.0.1:{}", proxy.port)]))
            .await
            .contains("is content")
    );
    let (_backends, proxy) = cluster(3, "session_auth = \"outer\"").await;
    assert!(
        run(command(&client, &[&format!("127.0.0.1:{}", proxy.port), "outer"]))
            .await
            .contains("is content")
    );
}

#[tokio::test]
async fn valkey_cli_connects_as_it_comes() {
    let (_backends, proxy) = cluster(3, "session_auth = \"outer\"").await;
    let port = proxy.port.to_string();
    let cli = async |args: &[&str]| {
        let mut all = vec!["-p", &port, "--no-auth-warning", "-a", "outer"];
        all.extend(args);
        run(command(tool("valkey-cli"), &all)).await
    };
    assert_eq!(cli(&["set", "a", "1"]).await.trim(), "OK");
    assert_eq!(cli(&["mget", "a", "b", "c"]).await.lines().next(), Some("1"));
    assert_eq!(cli(&["-3", "get", "a"]).await.trim(), "1");
    assert!(cli(&["keys", "*"]).await.contains("is not allowed"));
    assert!(cli(&["info"]).await.contains("product_name:refdemo"));
    let mut interactive = command("sh", &["-c"]);
    let program = tool("valkey-cli");
    interactive.arg(format!(
        "printf 'set x 5\\nget x\\nnosuch\\nquit\\n' | {} -p {port} -a outer --no-auth-warning",
        program.display()
    ));
    let text = run(interactive).await;
    assert!(text.starts_with("OK\n5\nERR unknown command 'nosuch'"), "{text}");
    let mut loading = command("sh", &["-c"]);
    loading.arg(format!(
        "for n in $(seq 1000); do echo SET k$n v$n; done | {} -p {port} -a outer --no-auth-warning --pipe",
        program.display()
    ));
    assert!(run(loading).await.contains("errors: 0, replies: 1000"));
}
