use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

use super::build::auth_secret_name;
use super::error::{Error, Invalid};
use crate::api::CodisCluster;

/// What a spec refers to, as it was read. `None`: not there.
#[derive(Clone, Default)]
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
    let product_auth = read_product_auth(&secrets, cluster).await?;
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
    Ok(Dereferenced {
        product_auth,
        session_auth: session,
        coordinator,
    })
}

/// The key of the cluster's own Secret that holds the generated password.
pub(super) const PRODUCT_AUTH: &str = "product_auth";

/// The generated password of a cluster.
pub(super) async fn product_auth(client: &Client, cluster: &CodisCluster) -> Result<Option<String>, Error> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &cluster.namespace().unwrap_or_default());
    read_product_auth(&secrets, cluster).await
}

/// The generated password, from the cluster's own Secret. One that a deleted cluster of the same name left is not taken:
/// it goes soon, and servers that were given it would then know a password that nobody else knows.
async fn read_product_auth(secrets: &Api<Secret>, cluster: &CodisCluster) -> Result<Option<String>, Error> {
    let name = auth_secret_name(&cluster.name_any());
    let secret = secrets
        .get_opt(&name)
        .await
        .map_err(Error::kube(format!("reading Secret {name}")))?;
    let Some(secret) = secret else { return Ok(None) };
    let invalid = |message: String| {
        Err(Error::from(Invalid {
            field: "metadata.name",
            message,
        }))
    };
    let owners = secret.owner_references();
    let restored = owners.is_empty() && cluster.status.as_ref().is_some_and(|status| status.bootstrapped);
    if !restored
        && !owners
            .iter()
            .any(|owner| Some(&owner.uid) == cluster.metadata.uid.as_ref())
    {
        return invalid(format!(
            "the Secret {name} is not this cluster's; if a deleted cluster left it, it goes by itself; else remove it, or \
             name the cluster otherwise"
        ));
    }
    let value = secret
        .data
        .unwrap_or_default()
        .remove(PRODUCT_AUTH)
        .map(|value| value.0)
        .unwrap_or_default();
    match String::from_utf8(value) {
        Ok(text) if text.len() >= SHORTEST && !text.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Ok(Some(text))
        }
        _ => invalid(format!(
            "the key {PRODUCT_AUTH} of the Secret {name} is absent or is not a password of at least {SHORTEST} characters; \
             restore it"
        )),
    }
}

/// The shortest password that is taken for one.
const SHORTEST: usize = 8;

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
