//! Removes a deleted cluster's keys from its coordinator. Where that can't be done in time (the etcd is gone, its Secret
//! is gone), a note is kept and the operator tries again later, so that no deletion ever hangs.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_client::{Client as Etcd, Compare, CompareOp, ConnectOptions, DeleteOptions, Txn, TxnOp};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::labels::MANAGER;
use super::settings::Settings;
use super::validate::{Coordinator, EtcdLogin};
use crate::model::{ProductName, store_paths};

/// How long one try may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often what was left is tried again.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// The ConfigMap, in the operator's namespace, that notes what was left.
const NOTES: &str = "codis-operator-unfinished-deletions";

/// A prefix that is still to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Leftover {
    /// The product.
    pub(super) product: ProductName,
    /// The cluster's UID, which owns the prefix.
    pub(super) uid: String,
    /// The coordinator's members.
    pub(super) endpoints: Vec<String>,
    /// The namespace and name of the Secret with its login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<(String, String)>,
}

/// Deletes everything below the product's prefix, if this UID owns it; somebody else's is left alone.
pub(super) async fn purge(coordinator: &Coordinator, product: &ProductName, uid: &str) -> Result<(), Error> {
    let endpoints = coordinator.endpoints.join(",");
    let fail = |action| {
        let endpoints = endpoints.clone();
        move |source| Error::Coordinator {
            endpoints,
            action,
            source: Box::new(source),
        }
    };
    let mut options = ConnectOptions::new()
        .with_connect_timeout(TIMEOUT)
        .with_timeout(TIMEOUT);
    if let Some((_, EtcdLogin { username, password })) = &coordinator.login {
        options = options.with_user(username, password);
    }
    let action = "removing the product's keys";
    let work = async {
        let mut etcd = Etcd::connect(&coordinator.endpoints, Some(options)).await?;
        let owner = store_paths::owner(product);
        let below = format!("{}/", store_paths::product(product));
        let transaction = Txn::new()
            .when([Compare::value(owner, CompareOp::Equal, uid)])
            .and_then([TxnOp::delete(below, Some(DeleteOptions::new().with_prefix()))]);
        etcd.txn(transaction).await
    };
    match tokio::time::timeout(TIMEOUT, work).await {
        Ok(done) => done.map(drop).map_err(fail(action)),
        Err(_) => {
            let timeout = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time");
            Err(fail(action)(etcd_client::Error::IoError(timeout)))
        }
    }
}

/// Notes that a prefix is still to be removed.
pub(super) async fn note(client: &Client, settings: &Settings, leftover: &Leftover) -> Result<(), Error> {
    let text = serde_json::to_string(leftover).unwrap_or_default();
    write_notes(client, settings, &leftover.uid, Some(text)).await
}

/// Tries again, for ever, to remove what is noted. Runs on the leader only.
pub(super) async fn sweep(client: Client, settings: Settings) {
    let mut timer = tokio::time::interval(SWEEP_EVERY);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        if let Err(error) = sweep_once(&client, &settings).await {
            tracing::warn!(%error, "what deleted clusters left in their coordinators can't be swept");
        }
    }
}

async fn sweep_once(client: &Client, settings: &Settings) -> Result<(), Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &settings.namespace);
    let notes = api
        .get_opt(NOTES)
        .await
        .map_err(Error::kube(format!("reading ConfigMap {NOTES}")))?;
    for (uid, text) in notes.and_then(|notes| notes.data).unwrap_or_default() {
        let Ok(leftover) = serde_json::from_str::<Leftover>(&text) else {
            tracing::warn!(uid, "a note in ConfigMap {NOTES} can't be read; remove it by hand");
            continue;
        };
        let coordinator = Coordinator {
            login: login(client, &leftover).await?,
            endpoints: leftover.endpoints.clone(),
        };
        match purge(&coordinator, &leftover.product, &leftover.uid).await {
            Ok(()) => {
                tracing::info!(product = %leftover.product, uid, "removed what a deleted cluster had left in its coordinator");
                write_notes(client, settings, &uid, None).await?;
            }
            Err(error) => {
                tracing::warn!(product = %leftover.product, uid, %error, "a deleted cluster's keys are still there")
            }
        }
    }
    Ok(())
}

async fn login(client: &Client, leftover: &Leftover) -> Result<Option<(String, EtcdLogin)>, Error> {
    let Some((namespace, name)) = &leftover.secret else {
        return Ok(None);
    };
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = api
        .get_opt(name)
        .await
        .map_err(Error::kube(format!("reading Secret {name}")))?;
    let data: BTreeMap<_, _> = secret.and_then(|secret| secret.data).unwrap_or_default();
    let text = |key: &str| data.get(key).and_then(|value| String::from_utf8(value.0.clone()).ok());
    Ok(text("username")
        .zip(text("password"))
        .map(|(username, password)| (name.clone(), EtcdLogin { username, password })))
}

async fn write_notes(client: &Client, settings: &Settings, uid: &str, text: Option<String>) -> Result<(), Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &settings.namespace);
    let failed = || Error::kube(format!("writing ConfigMap {NOTES}"));
    let patch = serde_json::json!({"data": {uid: text}});
    match api.patch(NOTES, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => return Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(failed()(error)),
    }
    let Some(text) = text else { return Ok(()) };
    let notes = ConfigMap {
        metadata: ObjectMeta {
            name: Some(NOTES.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(uid.to_owned(), text)])),
        ..ConfigMap::default()
    };
    let params = kube::api::PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..kube::api::PostParams::default()
    };
    api.create(&params, &notes).await.map_err(failed()).map(drop)
}
