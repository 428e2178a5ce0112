use reqwest::Url;
use serde::Serialize;

use super::{ClientError, Http};
use crate::model::{
    Export, GroupId, HostPort, Overview, ProductName, Promotion, PromotionCause, PromotionOptions, ProxyToken, Slot,
    SlotMapping, Stats, Status, Topom,
};

/// A dashboard's API. Where several instances are named they are asked in turn until one is active.
#[derive(Debug, Clone)]
pub struct DashboardClient {
    http: Http,
    addrs: Vec<String>,
    product: ProductName,
}

impl DashboardClient {
    /// The dashboard of this product; `addrs` are the admin addresses (`host:port`) of all its instances.
    pub fn new(http: Http, addrs: Vec<String>, product: ProductName) -> Self {
        Self { http, addrs, product }
    }

    /// The instances' addresses.
    pub fn addrs(&self) -> &[String] {
        &self.addrs
    }

    /// Who answers at the first instance that answers at all, active or not.
    ///
    /// # Errors
    /// See [`ClientError`]; this holds for every call here.
    pub async fn model(&self) -> Result<Topom, ClientError> {
        self.get("/api/topom/model").await
    }

    /// Whether the active instance takes this product's calls.
    pub async fn xping(&self) -> Result<(), ClientError> {
        let path = format!("/api/topom/xping/{}", self.product.dashboard_xauth());
        self.get::<String>(&path).await.map(drop)
    }

    /// Everything.
    pub async fn overview(&self) -> Result<Overview, ClientError> {
        self.get("/topom").await
    }

    /// Slots, groups, proxies and their last polls.
    pub async fn stats(&self) -> Result<Stats, ClientError> {
        self.get(&format!("/api/topom/stats/{}", self.product.dashboard_xauth()))
            .await
    }

    /// What proxies are meant to route.
    pub async fn slots(&self) -> Result<Vec<Slot>, ClientError> {
        self.get(&format!("/api/topom/slots/{}", self.product.dashboard_xauth()))
            .await
    }

    /// All that the store holds.
    pub async fn export(&self) -> Result<Export, ClientError> {
        self.get(&format!("/api/topom/v2/export/{}", self.product.dashboard_xauth()))
            .await
    }

    /// Goes on from what was exported. The dashboard begins anew with that.
    pub async fn import(&self, exported: &Export) -> Result<(), ClientError> {
        self.change("v2/import/X", Some(exported)).await
    }

    /// Creates an empty group.
    pub async fn create_group(&self, group: GroupId) -> Result<(), ClientError> {
        self.change(&format!("group/create/X/{group}"), None::<&()>).await
    }

    /// Removes an empty group.
    pub async fn remove_group(&self, group: GroupId) -> Result<(), ClientError> {
        self.change(&format!("group/remove/X/{group}"), None::<&()>).await
    }

    /// Appends a server to a group.
    pub async fn add_server(&self, group: GroupId, server: &HostPort, datacenter: &str) -> Result<(), ClientError> {
        let tail = if datacenter.is_empty() {
            String::new()
        } else {
            format!("/{datacenter}")
        };
        self.change(&format!("group/add/X/{group}/{server}{tail}"), None::<&()>)
            .await
    }

    /// Removes a server from its group.
    pub async fn remove_server(&self, group: GroupId, server: &HostPort) -> Result<(), ClientError> {
        self.change(&format!("group/del/X/{group}/{server}"), None::<&()>).await
    }

    /// Asks that a server be given the role that its group says.
    pub async fn create_sync_action(&self, server: &HostPort) -> Result<(), ClientError> {
        self.change(&format!("group/action/create/X/{server}"), None::<&()>)
            .await
    }

    /// Forgets a server's sync-action.
    pub async fn remove_sync_action(&self, server: &HostPort) -> Result<(), ClientError> {
        self.change(&format!("group/action/remove/X/{server}"), None::<&()>)
            .await
    }

    /// Assigns slots to groups. Moves no data.
    pub async fn assign_slots(&self, slots: &[SlotMapping]) -> Result<(), ClientError> {
        self.change("slots/assign/X", Some(slots)).await
    }

    /// Registers the proxy at this admin address and brings it online. Repeating it is harmless.
    pub async fn online_proxy(&self, admin_addr: &str) -> Result<(), ClientError> {
        self.change(&format!("proxy/online/X/{admin_addr}"), None::<&()>).await
    }

    /// Shuts a proxy down and forgets it; with `force` it is forgotten even when it does not answer.
    pub async fn remove_proxy(&self, token: &ProxyToken, force: bool) -> Result<(), ClientError> {
        self.change(&format!("proxy/remove/X/{token}/{}", u8::from(force)), None::<&()>)
            .await
    }

    /// What our own dashboard knows of servers and proxies beyond Codis' stats.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get(&format!("/api/topom/v2/status/{}", self.product.dashboard_xauth()))
            .await
    }

    /// Makes a replica the primary of its group, whether the former one answers or not.
    pub async fn promote(
        &self,
        group: GroupId,
        server: &HostPort,
        options: &PromotionOptions,
        cause: &PromotionCause,
    ) -> Result<Promotion, ClientError> {
        let path = format!("v2/group/promote/X/{group}/{server}{}", behind_the_path(cause));
        self.ask(&path, Some(options)).await
    }

    /// Has the primary of a group hand over to a replica; refused when it can't.
    pub async fn hand_over(
        &self,
        group: GroupId,
        server: &HostPort,
        options: &PromotionOptions,
    ) -> Result<Promotion, ClientError> {
        self.ask(&format!("v2/group/handover/X/{group}/{server}"), Some(options))
            .await
    }

    /// Tells that a replica is about to end, if its group's record has this epoch; returns when its primary goes on without it.
    pub async fn set_aside(&self, server: &HostPort, epoch: i64) -> Result<(), ClientError> {
        self.change(&format!("v2/group/set-aside/X/{server}?epoch={epoch}"), None::<&()>)
            .await
    }

    /// Asks that the primary of a group lead with the data that it has, if its group's record has this epoch.
    pub async fn keep_primary(&self, server: &HostPort, epoch: i64) -> Result<(), ClientError> {
        self.change(&format!("v2/group/keep-primary/X/{server}?epoch={epoch}"), None::<&()>)
            .await
    }

    /// Has the servers keep a proxy out, if its record has this epoch.
    pub async fn shut_off_proxy(&self, token: &ProxyToken, epoch: i64) -> Result<(), ClientError> {
        self.change(&format!("v2/proxy/shut-off/X/{token}?epoch={epoch}"), None::<&()>)
            .await
    }

    async fn change(&self, path: &str, body: Option<&(impl Serialize + Sync + ?Sized)>) -> Result<(), ClientError> {
        self.ask::<String>(path, body).await.map(drop)
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&(impl Serialize + Sync + ?Sized)>,
    ) -> Result<T, ClientError> {
        let path = format!(
            "/api/topom/{}",
            path.replacen("/X", &format!("/{}", self.product.dashboard_xauth()), 1)
        );
        let mut last = None;
        for addr in &self.addrs {
            match self.http.put(addr, &path, body.as_ref()).await {
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_transient() => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(no_address))
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let mut last: Option<ClientError> = None;
        for addr in &self.addrs {
            match self.http.get(addr, path).await {
                Ok(answer) => return Ok(answer),
                // What a standby says tells more than that another instance can't be reached.
                Err(error) if error.is_transient() => {
                    if last.as_ref().is_none_or(|last| last.cause().is_none()) {
                        last = Some(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(no_address))
    }
}

/// What is known, as it stands behind a path.
fn behind_the_path(cause: &PromotionCause) -> String {
    let PromotionCause {
        reason,
        detect_ms,
        behind,
    } = cause;
    let figures = [("detect_ms", detect_ms), ("behind", behind)];
    let figures = figures
        .into_iter()
        .filter_map(|(name, figure)| Some((name, (*figure)?.to_string())));
    let reason = Some(("reason", reason.clone())).filter(|(_, reason)| !reason.is_empty());
    // Only what is behind the path is wanted of it.
    let url = Url::parse_with_params("http://dashboard", reason.into_iter().chain(figures));
    let query = url.ok().and_then(|url| url.query().map(str::to_owned));
    query
        .filter(|query| !query.is_empty())
        .map_or_else(String::new, |query| format!("?{query}"))
}

fn no_address() -> ClientError {
    ClientError::Unreachable {
        method: reqwest::Method::GET,
        url: String::new(),
        reason: "no address of a dashboard was given".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_promotion_is_asked_for_stands_behind_the_path() {
        let cause = PromotionCause {
            reason: "a:1 is gone; 50 % & more…".to_owned(),
            detect_ms: Some(0),
            behind: None,
        };
        assert_eq!(
            behind_the_path(&cause),
            "?reason=a%3A1+is+gone%3B+50+%25+%26+more%E2%80%A6&detect_ms=0"
        );
        assert_eq!(behind_the_path(&PromotionCause::default()), "");
    }
}
