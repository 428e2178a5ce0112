//! Registration for Jodis clients: a key in etcd that is there while this proxy serves.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error, PutOptions};
use serde_json::json;
use tracing::{info, warn};

use super::config::JodisSettings;
use super::state::{Phase, Proxy};
use crate::model::{HostPort, Proxy as Record};

/// The longest call.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// The first pause between tries, and the longest; as Codis.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Why this proxy is not registered now.
#[derive(Debug, thiserror::Error)]
enum JodisError {
    #[error(transparent)]
    Etcd(#[from] Error),
    #[error("no answer within {CALL_TIMEOUT:?}")]
    TimeOut,
    #[error("the lease ended")]
    LeaseGone,
}

/// This proxy's entry.
#[derive(Debug)]
pub(super) struct Jodis {
    settings: JodisSettings,
    key: String,
    value: String,
}

/// An entry that is there.
struct Held {
    client: Client,
    lease: i64,
}

/// The key of a proxy's entry; as Codis.
pub(super) fn path(settings: &JodisSettings, product: &str, token: &str) -> String {
    if settings.compatible {
        format!("/zk/codis/db_{product}/proxy/{token}")
    } else {
        format!("/jodis/{product}/proxy-{token}")
    }
}

impl Jodis {
    /// The entry of the proxy with this record.
    pub(super) fn new(settings: JodisSettings, record: &Record) -> Self {
        let value = json!({
            "addr": record.proxy_addr, "admin": record.admin_addr, "start": record.start_time,
            "token": record.token, "state": "online",
        });
        Self {
            settings,
            key: record.jodis_path.clone(),
            value: value.to_string(),
        }
    }

    /// Keeps the entry there from the time when the proxy serves until it is about to end.
    pub(super) async fn announce(self, proxy: &Proxy) {
        let (mut held, mut phases) = (None, proxy.phases());
        let ends = phases.wait_for(|phase| *phase != Phase::Serving);
        let serves = async {
            proxy.went_online().await;
            self.keep(&mut held).await
        };
        tokio::select! {
            _ = ends => {}
            never = serves => match never {},
        }
        let Some(Held { mut client, lease }) = held else { return };
        match within(client.lease_revoke(lease)).await {
            Ok(_) => info!(key = self.key, "no longer registered for Jodis clients"),
            Err(error) => {
                warn!(key = self.key, %error, "the registration for Jodis clients stays until its time is up")
            }
        }
    }

    async fn keep(&self, held: &mut Option<Held>) -> Infallible {
        let (mut pause, mut last_error) = (PAUSES.0, String::new());
        let mut endpoints = self.settings.endpoints.iter().cycle();
        loop {
            if let Some(endpoint) = endpoints.next()
                && let Err(error) = self.hold(endpoint, held, &mut pause).await
            {
                let error = format!("etcd at {endpoint}: {error}");
                if error != last_error {
                    warn!(key = self.key, error, "not registered for Jodis clients, trying again");
                    last_error = error;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Registers, and looks after the entry until that fails.
    async fn hold(&self, endpoint: &HostPort, held: &mut Option<Held>, pause: &mut Duration) -> Result<(), JodisError> {
        let mut options = ConnectOptions::new().with_connect_timeout(CALL_TIMEOUT);
        if let Some((user, password)) = &self.settings.auth {
            options = options.with_user(user, password);
        }
        let mut client = within(Client::connect([endpoint.to_string()], Some(options))).await?;
        let ttl = self.settings.ttl.as_secs();
        let lease = within(client.lease_grant(i64::try_from(ttl).unwrap_or(i64::MAX), None))
            .await?
            .id();
        *held = Some(Held {
            client: client.clone(),
            lease,
        });
        self.put(&mut client, lease).await?;
        info!(key = self.key, "registered for Jodis clients");
        *pause = PAUSES.0;
        let (mut keeper, mut answers) = within(client.lease_keep_alive(lease)).await?;
        loop {
            tokio::time::sleep(self.settings.ttl / 3).await;
            within(keeper.keep_alive()).await?;
            if within(answers.message()).await?.is_none_or(|answer| answer.ttl() <= 0) {
                return Err(JodisError::LeaseGone);
            }
            let found = within(client.get(self.key.as_str(), None)).await?;
            if found.kvs().first().map(|kv| kv.value()) != Some(self.value.as_bytes()) {
                self.put(&mut client, lease).await?;
            }
        }
    }

    async fn put(&self, client: &mut Client, lease: i64) -> Result<(), JodisError> {
        let options = PutOptions::new().with_lease(lease);
        within(client.put(self.key.as_str(), self.value.as_str(), Some(options))).await?;
        Ok(())
    }
}

async fn within<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, JodisError> {
    let answer = tokio::time::timeout(CALL_TIMEOUT, call).await;
    Ok(answer.map_err(|_| JodisError::TimeOut)??)
}
