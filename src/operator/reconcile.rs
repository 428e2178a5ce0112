//! One reconciliation of one cluster, from its object to its status.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{Error as FinalizerError, Event as FinalizerEvent, finalizer};
use kube::{Api, Resource, ResourceExt};
use rand::distr::{Alphanumeric, SampleString};

use super::apply::{apply, look};
use super::build::{auth_secret_name, build};
use super::controller::Context;
use super::deletion::{clean_up, clean_up_unreadable};
use super::dereference::{Dereferenced, PRODUCT_AUTH, dereference};
use super::error::{Error, Invalid};
use super::labels::{self, MANAGER};
use super::topology::Topology;
use super::validate::validate;
use super::{events, gates, status, topology};
use crate::api::{CodisCluster, CodisClusterStatus, Phase};

/// Keeps a deleted cluster's object until its keys have left the coordinator.
const FINALIZER: &str = "codis.dev/coordinator";
/// How often a cluster is looked at when nothing calls for it: what it refers to is not watched.
const WHEN_READY: Duration = Duration::from_secs(10);
/// How often while something is under way. The dashboard polls once a second.
const WHEN_WORKING: Duration = Duration::from_secs(1);
/// How often while something is broken that the operator can't mend.
const WHEN_DEGRADED: Duration = Duration::from_secs(5);

/// Reconciles whatever the API server holds, readable or not.
pub(super) async fn reconcile(
    object: Arc<DeserializeGuard<CodisCluster>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let _timer = context.metrics.reconciliation();
    let cluster = match &object.0 {
        Ok(cluster) => Arc::new(cluster.clone()),
        Err(unreadable) => {
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            tracing::warn!(cluster = %format!("{namespace}/{name}"), error = %unreadable, "the object can't be read");
            if object.meta().deletion_timestamp.is_some() {
                clean_up_unreadable(&context, &namespace, &name, FINALIZER).await?;
                return Ok(Action::await_change());
            }
            let message = format!("the object does not fit the CRD of this operator's version: {unreadable}");
            status::write_unreadable(&context.client, &namespace, &name, &message, Timestamp::now()).await?;
            return Ok(Action::await_change());
        }
    };
    let api: Api<CodisCluster> = Api::namespaced(context.client.clone(), &cluster.namespace().unwrap_or_default());
    let action = finalizer(&api, FINALIZER, cluster, |event| async {
        match event {
            FinalizerEvent::Apply(cluster) => keep(&context, &cluster).await,
            FinalizerEvent::Cleanup(cluster) => {
                context.metrics.forget(&cluster);
                context.known.forget(&cluster.uid().unwrap_or_default());
                context.mirrors.forget(&cluster.uid().unwrap_or_default());
                status::write_deleting(&context.client, &cluster).await?;
                clean_up(&context, &cluster).await
            }
        }
    })
    .await
    .map_err(|error| match error {
        FinalizerError::ApplyFailed(error) | FinalizerError::CleanupFailed(error) => error,
        other => Error::Finalizer(other.to_string()),
    })?;
    context.failures.forget(&object.meta().uid.clone().unwrap_or_default());
    Ok(action)
}

/// Brings one cluster closer to its spec, and tells how it stands.
async fn keep(context: &Context, object: &CodisCluster) -> Result<Action, Error> {
    let result = bring_closer(context, object).await;
    if let Err(error) = &result
        && error.is_refusal()
    {
        tracing::warn!(cluster = %id(object), %error, "the spec can't be carried out");
        let status = status::of_refused(object, error.reason(), &error.to_string(), Timestamp::now());
        if status::write(&context.client, object, status).await? {
            events::publish(
                &context.recorder,
                object,
                events::warning(error.reason(), error.to_string()),
            )
            .await;
        }
    }
    result
}

async fn bring_closer(context: &Context, object: &CodisCluster) -> Result<Action, Error> {
    let client = &context.client;
    let mut refs = dereference(client, object).await?;
    if refs.product_auth.is_none() {
        refs.product_auth = Some(make_product_auth(context, object, &refs).await?);
    }
    let cluster = validate(object, &refs, &context.settings)?;
    let rollouts = if cluster.paused {
        look(client, &cluster).await?
    } else {
        apply(client, &context.known, &cluster, build(&cluster)).await?
    };
    let (topology, pods) = topology::drive(context, object, &cluster).await?;
    tell_steps(context, object, &cluster, &topology).await;
    let report = context.reports.of(&cluster.uid);
    let status = status::of_cluster(object, &cluster, &topology, rollouts, &pods, &report, Timestamp::now());
    if !cluster.paused {
        gates::set(client, &cluster.namespace, &pods, &status, Timestamp::now()).await?;
    }
    context.metrics.observe(object, &status);
    tell_phase(context, object, &status).await;
    let again = match status.phase {
        Some(Phase::Ready) => WHEN_READY,
        Some(Phase::Degraded) => WHEN_DEGRADED,
        _ => WHEN_WORKING,
    };
    status::write(client, object, status).await?;
    Ok(Action::requeue(again))
}

/// Makes the password that is used inside the cluster. Made once: with another one nobody could log in any more.
async fn make_product_auth(context: &Context, object: &CodisCluster, refs: &Dereferenced) -> Result<String, Error> {
    let name = auth_secret_name(&object.name_any());
    if object.status.as_ref().is_some_and(|status| status.bootstrapped) {
        return Err(Invalid {
            field: "metadata.name",
            message: format!(
                "the Secret {name} with the cluster's own password is gone although the cluster served; restore it (its \
                 key {PRODUCT_AUTH}): with another password nobody could log in to the running servers"
            ),
        }
        .into());
    }
    // What else is wrong with the spec is told before anything is made.
    let probe = Dereferenced {
        product_auth: Some("to be made".to_owned()),
        ..refs.clone()
    };
    validate(object, &probe, &context.settings)?;
    let password = Alphanumeric.sample_string(&mut rand::rng(), 40);
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels::of_cluster(&object.name_any())),
            owner_references: object.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        string_data: Some([(PRODUCT_AUTH.to_owned(), password.clone())].into()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    match api.create(&params, &secret).await {
        Ok(_) => Ok(password),
        // A Secret of that name without the key: not ours to overwrite.
        Err(kube::Error::Api(status)) if status.code == 409 => Err(Invalid {
            field: "metadata.name",
            message: format!(
                "there is a Secret {name} without the key {PRODUCT_AUTH}; remove it or name the cluster otherwise"
            ),
        }
        .into()),
        Err(error) => Err(Error::kube(format!("creating Secret {name}"))(error)),
    }
}

async fn tell_steps(context: &Context, object: &CodisCluster, cluster: &super::Cluster, topology: &Topology) {
    for step in &topology.taken {
        // What is asked for again and again would drown the rest; the condition tells of it.
        if let Some(event) = events::of_step(step, cluster) {
            tracing::info!(cluster = %id(object), ?step, "asked the dashboard");
            events::publish(&context.recorder, object, event).await;
        }
    }
    for (step, error) in &topology.failed {
        tracing::debug!(cluster = %id(object), ?step, %error, "the dashboard could not do it yet");
    }
    if let Err(cause) = &topology.stats {
        tracing::debug!(cluster = %id(object), cause, "no dashboard is active");
    }
}

/// Tells when a cluster became whole, and each time that what is wrong with it changed.
async fn tell_phase(context: &Context, object: &CodisCluster, status: &CodisClusterStatus) {
    let before = object.status.clone().unwrap_or_default();
    let degraded = |status: &CodisClusterStatus| {
        let condition = status
            .conditions
            .iter()
            .find(|c| c.type_ == "Degraded" && c.status == "True");
        condition.map(|condition| (condition.reason.clone(), condition.message.clone()))
    };
    if before.phase != status.phase {
        tracing::info!(cluster = %id(object), before = ?before.phase, phase = ?status.phase, "phase changed");
    }
    let event = match degraded(status) {
        now if now == degraded(&before) => None,
        Some((reason, message)) => Some(events::warning(&reason, message)),
        None => None,
    };
    let whole = before.phase != status.phase && status.phase == Some(Phase::Ready);
    let ready = whole.then(|| {
        events::normal(
            "Ready",
            "every slot is served and everything is as the spec says".to_owned(),
        )
    });
    for event in event.into_iter().chain(ready) {
        events::publish(&context.recorder, object, event).await;
    }
}

/// `namespace/name`, as it stands in logs.
pub(super) fn id(object: &impl Resource) -> String {
    format!(
        "{}/{}",
        object.meta().namespace.as_deref().unwrap_or_default(),
        object.meta().name.as_deref().unwrap_or_default()
    )
}
