//! Dashboards: the program as a process, or the same inside the test.

use std::io;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use codis_operator::client::{DashboardClient, Http};
use codis_operator::dashboard::{Config, Logging, Lookup, Options, Running, start};
use codis_operator::model::{GroupStatus, HostPort, ProductName, RedisStats, Status};
use futures::future::BoxFuture;
use tempfile::TempDir;

use super::etcd::Etcd;
use super::valkey::DOMAIN;
use super::{Process, eventually, free_port, web};

pub const PRODUCT: &str = "refdemo";
/// The xauth of [`PRODUCT`].
pub const XAUTH: &str = "948967642f9eea556aac8428e1162e3f";

/// Knows the names of prepared servers: all are on this host.
pub struct LocalNames;

impl Lookup for LocalNames {
    fn lookup(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let known = host.ends_with(&format!(".{DOMAIN}"));
        Box::pin(async move {
            if known {
                Ok(vec![IpAddr::from([127, 0, 0, 1])])
            } else {
                Err(io::ErrorKind::NotFound.into())
            }
        })
    }
}

/// What tests ask a dashboard.
pub struct Api {
    addr: String,
    pub client: DashboardClient,
    http: reqwest::Client,
}

impl Api {
    pub fn new(addr: String) -> Self {
        let client = DashboardClient::new(
            Http::new(Duration::from_secs(15)).unwrap(),
            vec![addr.clone()],
            product(),
        );
        Self {
            addr,
            client,
            http: web(),
        }
    }

    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Status and body of a `GET`.
    pub async fn get(&self, path: &str) -> (u16, String) {
        answer(self.http.get(self.url(path))).await
    }

    /// Status and body of a `PUT`; `/X` in the path stands for the xauth.
    pub async fn put(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
        answer(self.http.put(self.url(path)).body(body)).await
    }

    /// A `PUT` that has to work.
    pub async fn done(&self, path: &str) {
        assert_eq!(self.put(path, "").await, (200, "\"OK\"".to_owned()), "{path}");
    }

    /// The cause why a `PUT` is refused.
    pub async fn refused(&self, path: &str, body: &str) -> String {
        let (status, answer) = self.put(path, body.to_owned()).await;
        assert_eq!(status, 800, "{path}: {answer}");
        cause(&answer)
    }

    /// `GET /api/topom/v2/status`.
    pub async fn status(&self) -> Option<Status> {
        let response = self.http.get(self.url("/api/topom/v2/status/X")).send().await.ok()?;
        response.json().await.ok()
    }

    /// The same for one group.
    pub async fn group(&self, id: i64) -> Option<GroupStatus> {
        let groups = self.status().await?.groups;
        groups.into_iter().find(|group| i64::from(group.group.id) == id)
    }

    /// A `PUT` that may get no answer.
    pub async fn try_put(&self, path: &str, body: &str) -> Option<(u16, String)> {
        self.try_put_within(path, body, Duration::from_secs(15)).await
    }

    /// The same, not waited for longer than this.
    pub async fn try_put_within(&self, path: &str, body: &str, limit: Duration) -> Option<(u16, String)> {
        let request = self.http.put(self.url(path)).body(body.to_owned());
        let response = request.timeout(limit).send().await.ok()?;
        Some((response.status().as_u16(), response.text().await.ok()?))
    }

    pub async fn wait_active(&self) {
        eventually(
            &format!("the dashboard at {} is active", self.addr),
            Duration::from_secs(10),
            async || self.client.xping().await.ok(),
        )
        .await;
    }

    /// The last poll of a server, once there is one that fits.
    pub async fn server_stats(&self, server: &HostPort, what: &str, fits: impl Fn(&RedisStats) -> bool) -> RedisStats {
        eventually(&format!("{server}: {what}"), Duration::from_secs(10), async || {
            let stats = self.client.stats().await.ok()?;
            stats
                .group
                .stats
                .get(server.as_str())
                .filter(|stats| fits(stats))
                .cloned()
        })
        .await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{}", self.addr, path.replace("/X", &format!("/{XAUTH}")))
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// The cause in a refusal's body.
pub fn cause(body: &str) -> String {
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    assert!(
        body["Stack"].is_null() && body.as_object().unwrap().contains_key("Stack"),
        "{body}"
    );
    body["Cause"].as_str().unwrap().to_owned()
}

pub fn product() -> ProductName {
    PRODUCT.parse().unwrap()
}

/// The program.
pub struct Dashboard {
    pub process: Process,
    pub api: Api,
    _folder: TempDir,
}

impl Dashboard {
    /// Started with these further flags; not necessarily active yet.
    pub fn launch(etcd: &str, flags: &[&str]) -> Self {
        Self::launch_with_fault(etcd, flags, "")
    }

    /// The same; it ends or freezes at a certain place, see `CODIS_FAULT`.
    pub fn launch_with_fault(etcd: &str, flags: &[&str], fault: &str) -> Self {
        Self::run_with_fault(&[&[format!("--etcd={etcd}").as_str()], flags].concat(), fault)
    }

    /// Started where the flags name the coordinator.
    pub fn run(flags: &[&str]) -> Self {
        Self::run_with_fault(flags, "")
    }

    fn run_with_fault(flags: &[&str], fault: &str) -> Self {
        let (port, folder) = (free_port(), TempDir::new().unwrap());
        let file = folder.path().join("dashboard.toml");
        let toml = format!("product_name = \"{PRODUCT}\"\nadmin_addr = \"127.0.0.1:{port}\"\n");
        std::fs::write(&file, toml).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_codis-dashboard"));
        command.arg("--config").arg(&file).args(flags).env("CODIS_FAULT", fault);
        let process = Process::start(&command);
        Self {
            process,
            api: Api::new(format!("127.0.0.1:{port}")),
            _folder: folder,
        }
    }

    pub async fn start(etcd: &Etcd, flags: &[&str]) -> Self {
        let dashboard = Self::launch(&etcd.endpoint(), flags);
        dashboard.api.wait_active().await;
        dashboard
    }
}

/// A dashboard inside the test, which knows the names of prepared servers.
pub struct Inside {
    pub api: Api,
    running: Running,
}

impl Inside {
    pub async fn start(etcd: &Etcd, product_auth: &str) -> Self {
        Self::configured(etcd, product_auth, "").await
    }

    /// With these further lines of dashboard.toml.
    pub async fn configured(etcd: &Etcd, product_auth: &str, lines: &str) -> Self {
        let toml = format!(
            "product_name = \"{PRODUCT}\"\nproduct_auth = \"{product_auth}\"\nadmin_addr = \"127.0.0.1:0\"\ncoordinator_addr = \"{}\"\n{lines}",
            etcd.endpoint()
        );
        let options = Options {
            settings: Config::parse(&toml).unwrap().check().unwrap(),
            host_admin: None,
            owner: None,
            remove_lock: false,
            lookup: Arc::new(LocalNames),
            logging: Logging::default(),
        };
        let running = start(options).await.unwrap();
        let api = Api::new(running.addr().to_string());
        api.wait_active().await;
        Self { api, running }
    }

    pub async fn stop(self) {
        self.running.stopper()();
        self.running.ended().await;
    }
}
