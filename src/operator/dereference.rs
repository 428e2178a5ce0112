use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

use super::build::auth_secret_name;
use super::error::Error;
use crate::api::CodisCluster;

/// What a spec refers to, as it was read. `None`: not there.
#[derive(Debug, Clone, Default)]
pub struct Dereferenced {
    /// The cluster's own Secret with the generated password.
    pub product_auth: Option<String>,
    /// The Secret of `spec.auth.secretRef`.
    pub session_auth: Option<BTreeMap<String, Vec<u8>>>,
    /// The Secret of `spec.coordinator.etcd.secretRef`.
    pub coordinator: Option<BTreeMap<String, Vec<u8>>>,
}

/// Reads what the spec refers to.
pub(super) async fn dereference(client: &Client, cluster: &CodisCluster) -> Result<Dereferenced, Error> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &cluster.namespace().unwrap_or_default());
    let own = read(&secrets, &auth_secret_name(&cluster.name_any())).await?;
    let session = match &cluster.spec.auth {
        Some(auth) => read(&secrets, &auth.secret_ref.name).await?,
        None => None,
    };
    let coordinator = match cluster
        .spec
        .coordinator
        .as_ref()
        .and_then(|c| c.etcd.secret_ref.as_ref())
    {
        Some(secret) => read(&secrets, &secret.name).await?,
        None => None,
    };
    let product_auth = own.and_then(|data| String::from_utf8(data.get(PRODUCT_AUTH)?.clone()).ok());
    Ok(Dereferenced {
        product_auth,
        session_auth: session,
        coordinator,
    })
}

/// The key of the cluster's own Secret that holds the generated password.
pub(super) const PRODUCT_AUTH: &str = "product_auth";

async fn read(secrets: &Api<Secret>, name: &str) -> Result<Option<BTreeMap<String, Vec<u8>>>, Error> {
    let secret = secrets
        .get_opt(name)
        .await
        .map_err(Error::kube(format!("reading Secret {name}")))?;
    Ok(secret.map(|secret| {
        secret
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, value.0))
            .collect()
    }))
}
