//! The scripts that servers' containers run, as the operator puts them into the ConfigMap, with real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

mod support;

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use codis_operator::api::{CodisCluster, CodisClusterSpec};
use codis_operator::model::{ServerUser, ServerUserKind};
use codis_operator::operator::{Children, Dereferenced, Settings, build, validate};
use redis::FromRedisValue;
use support::{Process, START, eventually, free_port, holds_for, tool};
use tempfile::TempDir;

const SECRET: &str = "generated-password";
/// What a script needs of an image besides a client: no `timeout`.
const FEW_TOOLS: &[&str] = &["sh", "cat", "sleep"];
/// How long a script may take that has nothing to wait for.
const SOON: Duration = Duration::from_secs(12);

fn children() -> Children {
    let mut cluster = CodisCluster::new("shop", CodisClusterSpec::default());
    cluster.metadata.namespace = Some("ns".to_owned());
    cluster.metadata.uid = Some("uid-of-shop".to_owned());
    let refs = Dereferenced {
        product_auth: Some(SECRET.to_owned()),
        ..Dereferenced::default()
    };
    let settings = Settings {
        image: "codis-operator/codis-operator:0.1.0".to_owned(),
        image_pull_policy: "IfNotPresent".to_owned(),
        image_pull_secrets: Vec::new(),
        coordinator: vec!["http://etcd:2379".to_owned()],
        namespace: "codis-system".to_owned(),
        identity: "codis-operator-0".to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
    };
    build(&validate(&cluster, &refs, &settings).unwrap())
}

/// What a server's container is: the files that are mounted into it, and its process. Everything is in one folder, and at a
/// port of its own.
struct Container {
    pod: &'static str,
    folder: TempDir,
    port: u16,
    scripts: BTreeMap<String, String>,
    tools: String,
}

impl Container {
    fn new(pod: &'static str) -> Self {
        let children = children();
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["config", "users", "run", "data", "bin"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        for (name, bytes) in children.users[0].data.as_ref().unwrap() {
            std::fs::write(path("users").join(name), &bytes.0).unwrap();
        }
        let here = |text: &str| {
            let root = folder.path().display();
            let text = text.replace("/etc/codis", &root.to_string());
            text.replace("/run/codis", &format!("{root}/run"))
                .replace("dir /data", &format!("dir {root}/data"))
        };
        let data = children.config.data.unwrap();
        let scripts: BTreeMap<_, _> = data.iter().map(|(name, text)| (name.clone(), here(text))).collect();
        std::fs::write(path("config/server.conf"), &scripts["server.conf"]).unwrap();
        let port = free_port();
        let server = tool("valkey-server").display().to_string();
        write_tool(
            &path("bin/valkey-server"),
            &format!("exec {server} \"$@\" --port {port}"),
        );
        let cli = tool("valkey-cli").display().to_string();
        write_tool(&path("bin/valkey-cli"), &format!("exec {cli} -p {port} \"$@\""));
        let tools = format!(
            "{}:{}",
            path("bin").display(),
            std::env::var("PATH").unwrap_or_default()
        );
        Self {
            pod,
            folder,
            port,
            scripts,
            tools,
        }
    }

    /// From now on the image holds these tools and no other.
    fn with_tools(mut self, names: &[&str]) -> Self {
        let bin = self.folder.path().join("bin");
        for name in names {
            let found = std::env::split_paths(&self.tools).map(|folder| folder.join(name));
            let found = found.into_iter().find(|path| path.exists()).unwrap();
            std::os::unix::fs::symlink(found, bin.join(name)).unwrap();
        }
        self.tools = bin.display().to_string();
        self
    }

    /// The preStop script waits for a successor no longer than this.
    fn waits(mut self, seconds: u32) -> Self {
        let stop = self.scripts.get_mut("stop.sh").unwrap();
        assert_eq!(stop.matches("sleep 20 ").count(), 1, "{stop}");
        *stop = stop.replace("sleep 20 ", &format!("sleep {seconds} "));
        self
    }

    fn run_script(&self, name: &str, text: &str) -> Process {
        let path: PathBuf = self.folder.path().join("config").join(name);
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"export PATH="$TOOLS"; exec /bin/sh "$0""#]);
        command.arg(path).env("POD_NAME", self.pod).env("TOOLS", &self.tools);
        Process::start(&command)
    }

    /// Starts the server as the container does.
    async fn start(&self) -> Process {
        let server = self.run_script("start.sh", &self.scripts["start.sh"]);
        eventually("the server answers", START, async || self.info().await.ok()).await;
        server
    }

    /// Runs the preStop script of the container whose first process this is.
    fn stop(&self, first: u32) -> Process {
        let text = &self.scripts["stop.sh"];
        assert!(text.contains("kill -TERM 1 "), "{text}");
        self.run_script(
            "stop.sh",
            &text.replace("kill -TERM 1 ", &format!("kill -TERM {first} ")),
        )
    }

    async fn info(&self) -> redis::RedisResult<String> {
        self.run(&["INFO", "replication"]).await
    }

    async fn run<T: FromRedisValue>(&self, command: &[&str]) -> redis::RedisResult<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let admin = ServerUser::new(ServerUserKind::Admin, self.pod);
        let login = redis::cmd("AUTH")
            .arg(admin.name())
            .arg(admin.password(SECRET))
            .to_owned();
        login.query_async::<()>(&mut connection).await?;
        let mut asked = redis::cmd(command[0]);
        asked.arg(&command[1..]).query_async(&mut connection).await
    }

    async fn lead(&self) {
        self.run::<()>(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    }

    /// Follows another container's server until that one knows it.
    async fn follow(&self, primary: &Self) {
        let user = ServerUser::new(ServerUserKind::Replica, primary.pod);
        let (name, password) = (user.name(), user.password(SECRET));
        let config = ["CONFIG", "SET", "masteruser", name, "masterauth", &password];
        self.run::<()>(&config).await.unwrap();
        let port = primary.port.to_string();
        self.run::<()>(&["REPLICAOF", "127.0.0.1", &port]).await.unwrap();
        eventually("the primary has a replica", START, async || {
            let info = primary.info().await.ok()?;
            info.contains("connected_slaves:1").then_some(())
        })
        .await;
    }
}

fn write_tool(path: &Path, line: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{line}\n")).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn primary_waits_until_it_handed_over_and_ends_after_the_script() {
    let (primary, replica) = (Container::new("shop-g1-0"), Container::new("shop-g1-1"));
    let (mut server, _other) = (primary.start().await, replica.start().await);
    primary.lead().await;
    replica.follow(&primary).await;
    let mut script = primary.stop(server.id());
    holds_for("the script waits", Duration::from_secs(2), || {
        std::future::ready(script.is_running())
    })
    .await;
    assert!(server.is_running());
    let handed_over: redis::RedisResult<()> = primary.run(&["REPLICAOF", "127.0.0.1", "1"]).await;
    handed_over.unwrap();
    assert_eq!(script.exit_code(SOON).await, Some(0));
    assert_eq!(server.exit_code(SOON).await, Some(0), "it was told to stop");
}

#[tokio::test]
async fn primary_goes_when_nobody_takes_over_in_time() {
    let (primary, replica) = (Container::new("shop-g1-0").waits(2), Container::new("shop-g1-1"));
    let (mut server, _other) = (primary.start().await, replica.start().await);
    primary.lead().await;
    replica.follow(&primary).await;
    assert_eq!(primary.stop(server.id()).exit_code(SOON).await, Some(0));
    assert_eq!(server.exit_code(SOON).await, Some(0));
}

#[tokio::test]
async fn replica_has_nothing_to_wait_for() {
    for tools in [None, Some(FEW_TOOLS)] {
        let container = Container::new("shop-g1-1");
        let container = match tools {
            Some(tools) => container.with_tools(tools),
            None => container,
        };
        let mut server = container.start().await;
        assert_eq!(container.stop(server.id()).exit_code(SOON).await, Some(0));
        assert_eq!(server.exit_code(SOON).await, Some(0), "{tools:?}");
    }
}

#[tokio::test]
async fn server_that_hangs_does_not_hold_the_script_up() {
    let container = Container::new("shop-g1-0").waits(3);
    let mut server = container.start().await;
    server.signal("STOP");
    let mut script = container.stop(server.id());
    assert_eq!(script.exit_code(SOON).await, Some(0));
    server.signal("CONT");
    assert_eq!(server.exit_code(SOON).await, Some(0), "it was told to stop");
}

#[tokio::test]
async fn server_that_is_gone_is_not_waited_for() {
    let container = Container::new("shop-g1-0");
    let mut gone = container.start().await;
    gone.kill();
    assert_eq!(container.stop(gone.id()).exit_code(SOON).await, Some(0));
}

/// A server that writes its first append-only file after a full synchronisation does not end when it is told once.
#[tokio::test]
async fn server_that_did_not_hear_is_told_again() {
    let container = Container::new("shop-g1-1");
    let _server = container.start().await;
    let mut deaf = Command::new("/bin/sh");
    deaf.args([
        "-c",
        "trap 'told=x$told; [ $told != xxx ] || exit 7' TERM; while :; do sleep 0.1; done",
    ]);
    let mut deaf = Process::start(&deaf);
    assert_eq!(container.stop(deaf.id()).exit_code(SOON).await, Some(0));
    assert_eq!(deaf.exit_code(SOON).await, Some(7));
}
