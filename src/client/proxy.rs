use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::{ClientError, Http};
use crate::model::{ProductName, Proxy, ProxyStatsBody, ProxyToken, Sentinel, Slot};

/// One proxy's admin API.
#[derive(Debug, Clone)]
pub struct ProxyClient {
    http: Http,
    addr: String,
    xauth: String,
    incarnation: String,
}

impl ProxyClient {
    /// The proxy at this admin address. `incarnation` is the one its model told, empty for Codis' proxies: calls that
    /// change something name it, and a proxy that was restarted since refuses them.
    pub fn new(
        http: Http,
        addr: String,
        product: &ProductName,
        product_auth: &str,
        token: &ProxyToken,
        incarnation: &str,
    ) -> Self {
        Self {
            http,
            addr,
            xauth: product.proxy_xauth(product_auth, token),
            incarnation: incarnation.to_owned(),
        }
    }

    /// What the proxy at this address says it is. Needs no xauth.
    ///
    /// # Errors
    /// See [`ClientError`]; this holds for every call here.
    pub async fn model(http: &Http, addr: &str) -> Result<Proxy, ClientError> {
        http.get(addr, "/api/proxy/model").await
    }

    /// Whether product, password and token are right.
    pub async fn xping(&self) -> Result<(), ClientError> {
        self.http
            .get::<String>(&self.addr, &format!("/api/proxy/xping/{}", self.xauth))
            .await
            .map(drop)
    }

    /// Basic figures.
    pub async fn stats(&self) -> Result<ProxyStatsBody, ClientError> {
        self.http
            .get(&self.addr, &format!("/api/proxy/stats/{}", self.xauth))
            .await
    }

    /// What it routes.
    pub async fn slots(&self) -> Result<Vec<Slot>, ClientError> {
        self.http
            .get(&self.addr, &format!("/api/proxy/slots/{}", self.xauth))
            .await
    }

    /// Sets the routing of these slots. Acknowledged when nothing is under way any more by the former routing of them.
    pub async fn fill_slots(&self, slots: &[Slot]) -> Result<(), ClientError> {
        self.change("fillslots", &[], Some(slots)).await
    }

    /// The same, but what is not answered after this time is failed instead of waited for. Codis' proxies go on waiting.
    pub async fn fill_slots_dropping(&self, slots: &[Slot], drop_after: Duration) -> Result<(), ClientError> {
        let millis = drop_after.as_millis().to_string();
        self.change("fillslots", &[("drop_after", &millis)], Some(slots)).await
    }

    /// Tells it where servers were found, by the hosts of their names. Codis' proxies don't know that call.
    pub async fn set_addresses(&self, addresses: &BTreeMap<String, IpAddr>) -> Result<(), ClientError> {
        self.change("addresses", &[], Some(addresses)).await
    }

    /// Begins to serve clients.
    pub async fn start(&self) -> Result<(), ClientError> {
        self.change("start", &[], None::<&()>).await
    }

    /// Ends the process.
    pub async fn shutdown(&self) -> Result<(), ClientError> {
        self.change("shutdown", &[], None::<&()>).await
    }

    /// Tells it the sentinels to follow.
    pub async fn set_sentinels(&self, sentinel: &Sentinel) -> Result<(), ClientError> {
        self.change("sentinels", &[], Some(sentinel)).await
    }

    async fn change(
        &self,
        what: &str,
        options: &[(&str, &str)],
        body: Option<&(impl serde::Serialize + Sync + ?Sized)>,
    ) -> Result<(), ClientError> {
        let incarnation = ("incarnation", self.incarnation.as_str());
        let named = options.iter().chain(std::iter::once(&incarnation));
        let named: Vec<_> = named.filter(|(_, value)| !value.is_empty()).collect();
        let query = named
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>();
        let mark = if query.is_empty() { "" } else { "?" };
        let path = format!("/api/proxy/{what}/{}{mark}{}", self.xauth, query.join("&"));
        self.http
            .put::<String>(&self.addr, &path, body.as_ref())
            .await
            .map(drop)
    }
}
