//! Clients as they come, with nothing set that their users would not set.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use support::proxy::cluster;
use support::tool;

/// The newest that this test was written for.
const REDIS_PY: &str = "redis==8.1.0";

async fn run(command: Command) -> String {
    let mut command = tokio::process::Command::from(command);
    let output = command
        .kill_on_drop(true)
        .output()
        .await
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// A folder that outlives tests, and this one's lock on it.
fn cache(name: &str) -> (PathBuf, fs::File) {
    let home = PathBuf::from(std::env::var_os("HOME").expect("HOME is set"));
    let folder = home.join(".cache/codis-operator/clients").join(name);
    fs::create_dir_all(&folder).unwrap();
    let lock = fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    (folder, lock)
}

fn command(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

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
    let source = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/go-redis"));
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
