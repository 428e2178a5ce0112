//! The proxy as a process.

use std::process::Command;
use std::time::Duration;

use codis_operator::client::{Http, ProxyClient};
use codis_operator::model::{HostPort, ProductName, Slot, SlotId};
use tempfile::TempDir;

use super::backend::Backend;
use super::wire::Wire;
use super::{Process, eventually, free_port, web};

pub const PRODUCT: &str = "refdemo";
pub const PRODUCT_AUTH: &str = "pw123";

pub struct Proxy {
    pub process: Process,
    pub port: u16,
    pub admin_port: u16,
    folder: TempDir,
}

/// How a proxy is started.
#[derive(Default)]
pub struct Setup<'a> {
    /// Lines of proxy.toml.
    pub toml: &'a str,
    pub flags: &'a [&'a str],
    /// Besides those of the test.
    pub variables: &'a [(&'a str, &'a str)],
    /// Given by `--fillslots`.
    pub slots: Option<Vec<Slot>>,
}

impl Proxy {
    /// Started, and its admin API answers.
    pub async fn launch(setup: Setup<'_>) -> Self {
        let (port, admin_port, folder) = (free_port(), free_port(), TempDir::new().unwrap());
        let file = folder.path().join("proxy.toml");
        let proxy_addr = match setup.toml.contains("proxy_addr =") {
            true => String::new(),
            false => format!("proxy_addr = \"127.0.0.1:{port}\""),
        };
        let toml = format!(
            "product_name = \"{PRODUCT}\"\nadmin_addr = \"127.0.0.1:{admin_port}\"\n{proxy_addr}\n{}\n",
            setup.toml
        );
        std::fs::write(&file, toml).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_codis-proxy"));
        command.arg("--config").arg(&file).args(setup.flags);
        command.envs(setup.variables.iter().copied());
        if !setup.flags.iter().any(|flag| flag.starts_with("--ncpu")) {
            command.arg("--ncpu=2");
        }
        if let Some(slots) = setup.slots {
            let file = folder.path().join("slots.json");
            std::fs::write(&file, serde_json::to_vec(&slots).unwrap()).unwrap();
            command.arg("--fillslots").arg(&file);
        }
        let proxy = Self {
            process: Process::start(&command),
            port,
            admin_port,
            folder,
        };
        eventually("the admin API answers", Duration::from_secs(10), async || {
            ProxyClient::model(&http(), &proxy.admin_addr()).await.ok()
        })
        .await;
        proxy
    }

    /// Online with these slots.
    pub async fn serving(slots: Vec<Slot>) -> Self {
        Self::serving_with(slots, Setup::default()).await
    }

    pub async fn serving_with(slots: Vec<Slot>, setup: Setup<'_>) -> Self {
        let proxy = Self::launch(Setup {
            slots: Some(slots),
            ..setup
        })
        .await;
        proxy.wait_ready().await;
        proxy
    }

    pub async fn wait_ready(&self) {
        eventually("the proxy is ready", Duration::from_secs(10), async || {
            (self.get("/readyz").await.0 == 200).then_some(())
        })
        .await;
    }

    /// Until it took up a client's request of this command, which is none of the asking client's.
    pub async fn took_up(&self, command: &str) {
        let (mut wire, seen) = (self.wire().await, format!(" cmd={command} "));
        eventually("the request is taken up", Duration::from_secs(5), async || {
            wire.call("CLIENT LIST").await.contains(&seen).then_some(())
        })
        .await;
    }

    pub fn admin_addr(&self) -> String {
        format!("127.0.0.1:{}", self.admin_port)
    }

    pub async fn wire(&self) -> Wire {
        Wire::connect(self.port).await
    }

    /// The admin API, as the dashboard uses it: with the incarnation.
    pub async fn api(&self) -> ProxyClient {
        let model = ProxyClient::model(&http(), &self.admin_addr()).await.unwrap();
        ProxyClient::new(
            http(),
            self.admin_addr(),
            &product(),
            "",
            &model.token,
            &model.incarnation,
        )
    }

    /// `{xauth}` for product [`PRODUCT`] without password.
    pub async fn xauth(&self) -> String {
        let model = ProxyClient::model(&http(), &self.admin_addr()).await.unwrap();
        product().proxy_xauth("", &model.token)
    }

    /// Status and body of a `GET`.
    pub async fn get(&self, path: &str) -> (u16, String) {
        answer(web().get(format!("http://{}{path}", self.admin_addr()))).await
    }

    /// Status and body of a `PUT`; `/X` in the path stands for the xauth.
    pub async fn put(&self, path: &str, body: &str) -> (u16, String) {
        let path = path.replace("/X", &format!("/{}", self.xauth().await));
        answer(
            web()
                .put(format!("http://{}{path}", self.admin_addr()))
                .body(body.to_owned()),
        )
        .await
    }

    /// The file of this name in the proxy's folder.
    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, String) {
    match request.send().await {
        Ok(response) => (response.status().as_u16(), response.text().await.unwrap_or_default()),
        Err(_) => (0, String::new()),
    }
}

pub fn http() -> Http {
    Http::new(Duration::from_secs(10)).unwrap()
}

pub fn product() -> ProductName {
    PRODUCT.parse().unwrap()
}

/// So many servers, and a proxy with these lines of proxy.toml that deals all slots to them.
pub async fn cluster(servers: usize, toml: &str) -> (Vec<Backend>, Proxy) {
    let backends = Backend::several(servers).await;
    let setup = Setup {
        toml,
        ..Setup::default()
    };
    let proxy = Proxy::serving_with(slots_over(&Backend::addrs(&backends), 1), setup).await;
    (backends, proxy)
}

/// All slots, dealt in turn to these servers, each of a group of its own.
pub fn slots_over(servers: &[HostPort], epoch: i64) -> Vec<Slot> {
    let of = |id: SlotId| {
        let number = id.index() % servers.len().max(1);
        Slot {
            backend_addr_group_id: number as i64 + 1,
            ..slot(id, servers.get(number), epoch)
        }
    };
    SlotId::all().map(of).collect()
}

/// A key that server `number` of `of` holds, when slots are dealt in turn.
pub fn key_at(number: usize, of: usize) -> String {
    let at = |key: &String| SlotId::of_key(key.as_bytes()).index() % of == number;
    (0..).map(|n| format!("key{n}")).find(at).unwrap()
}

/// A slot of this server.
pub fn slot(id: SlotId, server: Option<&HostPort>, epoch: i64) -> Slot {
    let group = i64::from(server.is_some());
    Slot {
        backend_addr: server.cloned(),
        backend_addr_group_id: group,
        epoch,
        ..Slot::offline(id)
    }
}

/// The slot of a key, of this server.
pub fn slot_of(key: &str, server: &HostPort, epoch: i64) -> Slot {
    slot(SlotId::of_key(key.as_bytes()), Some(server), epoch)
}
