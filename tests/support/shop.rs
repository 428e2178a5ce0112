//! A whole product of real processes: etcd, dashboards, groups of prepared servers, proxies.

use std::time::Duration;

use codis_operator::model::{GroupStatus, SlotId};

use super::dashboard::{Api, Dashboard};
use super::etcd::Etcd;
use super::eventually;
use super::proxy::{Proxy, Setup};
use super::valkey::Valkey;

pub const SECRET: &str = "s3cret";
const AUTH: &str = "--product_auth=s3cret";

pub struct Shop {
    pub etcd: Etcd,
    pub dashboard: Dashboard,
    /// By group, in the order in which they were added.
    pub groups: Vec<Vec<Valkey>>,
    pub proxies: Vec<Proxy>,
}

impl Shop {
    /// Groups of so many servers each, all in sync, all slots dealt evenly, and so many proxies that serve.
    pub async fn start(groups: usize, servers: usize, proxies: usize) -> Self {
        let etcd = Etcd::start().await;
        let dashboard = Dashboard::start(&etcd, &[AUTH]).await;
        let mut shop = Self {
            etcd,
            dashboard,
            groups: Vec::new(),
            proxies: Vec::new(),
        };
        for group in 0..groups {
            let started = (0..servers).map(|server| Valkey::prepared_anywhere(group * servers + server, SECRET));
            shop.groups.push(futures::future::join_all(started).await);
            shop.join(group).await;
        }
        shop.assign().await;
        for _ in 0..proxies {
            shop.add_proxy().await;
        }
        for group in 1..=groups {
            shop.wait_in_sync(group as i64, servers - 1).await;
        }
        shop
    }

    /// Nothing but etcd and a dashboard, which ends or freezes at a certain place.
    pub async fn bare(fault: &str) -> Self {
        let etcd = Etcd::start().await;
        let dashboard = Dashboard::launch_with_fault(&etcd.endpoint(), &[AUTH], fault);
        dashboard.api.wait_active().await;
        Self {
            etcd,
            dashboard,
            groups: Vec::new(),
            proxies: Vec::new(),
        }
    }

    pub fn api(&self) -> &Api {
        &self.dashboard.api
    }

    async fn join(&self, group: usize) {
        let (api, id) = (self.api(), group + 1);
        api.done(&format!("/api/topom/group/create/X/{id}")).await;
        for server in &self.groups[group] {
            let addr = server.addr();
            api.done(&format!("/api/topom/group/add/X/{id}/{addr}")).await;
            api.done(&format!("/api/topom/group/action/create/X/{addr}")).await;
        }
    }

    async fn assign(&self) {
        let count = self.groups.len();
        let owner = |id: SlotId| 1 + id.index() * count / 1024;
        let slots: Vec<_> = SlotId::all()
            .map(|id| serde_json::json!({"id": id, "group_id": owner(id), "action": {}}))
            .collect();
        let (status, answer) = self
            .api()
            .put("/api/topom/slots/assign/X", serde_json::to_string(&slots).unwrap())
            .await;
        assert_eq!(status, 200, "{answer}");
    }

    /// One more proxy, which registers itself.
    pub async fn add_proxy(&mut self) {
        let proxy = self.launch_proxy().await;
        proxy.wait_ready().await;
        self.proxies.push(proxy);
    }

    /// The same, not necessarily ready.
    pub async fn launch_proxy(&self) -> Proxy {
        self.launch_proxy_at(&[self.api()]).await
    }

    /// The same, registering at the first of these that is active.
    pub async fn launch_proxy_at(&self, dashboards: &[&Api]) -> Proxy {
        let addrs: Vec<&str> = dashboards.iter().map(|api| api.addr()).collect();
        let flag = format!("--dashboard={}", addrs.join(","));
        Proxy::launch(Setup {
            toml: &format!("product_auth = \"{SECRET}\""),
            flags: &[&flag],
            ..Setup::default()
        })
        .await
    }

    /// A dashboard beside the one that there is.
    pub fn another_dashboard(&self) -> Dashboard {
        Dashboard::launch(&self.etcd.endpoint(), &[AUTH])
    }

    /// A dashboard that ends or freezes at a certain place, instead of the one that there is.
    pub async fn replace_dashboard(&mut self, fault: &str) {
        self.dashboard.process.signal("TERM");
        self.dashboard.process.exit_code(Duration::from_secs(5)).await;
        self.dashboard = Dashboard::launch_with_fault(&self.etcd.endpoint(), &[AUTH], fault);
        self.dashboard.api.wait_active().await;
    }

    /// The group, once this holds of it at the dashboard in use.
    pub async fn wait_group(&self, id: i64, what: &str, holds: impl Fn(&GroupStatus) -> bool) -> GroupStatus {
        wait_group(self.api(), id, what, holds).await
    }

    /// The group, once so many replicas are in sync.
    pub async fn wait_in_sync(&self, id: i64, replicas: usize) -> GroupStatus {
        let what = format!("{replicas} replicas are in sync");
        self.wait_group(id, &what, |group| group.group.in_sync.len() == replicas)
            .await
    }

    /// The server of this address.
    pub fn server(&self, addr: &str) -> &Valkey {
        let mut all = self.groups.iter().flatten();
        all.find(|server| server.addr().as_str() == addr).unwrap()
    }
}

pub async fn wait_group(api: &Api, id: i64, what: &str, holds: impl Fn(&GroupStatus) -> bool) -> GroupStatus {
    eventually(&format!("group {id}: {what}"), Duration::from_secs(20), async || {
        api.group(id).await.filter(|group| holds(group))
    })
    .await
}
