//! Watches clusters and what they own, and reconciles them while this instance leads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{Action, Config as ControllerConfig};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::{broadcast, watch};

use super::apply::KnownChildren;
use super::error::Error;
use super::ha::{self, Reports};
use super::labels::MANAGER;
use super::metrics::Metrics;
use super::mirror::Mirrors;
use super::reconcile::{id, reconcile};
use super::settings::Settings;
use super::web::Health;
use super::{leader, purge, web};
use crate::api::CodisCluster;
use crate::client::Http;

/// How long one call of a dashboard may take. Assigning all slots is the longest.
const DASHBOARD_TIMEOUT: Duration = Duration::from_secs(5);
/// How many clusters are reconciled at the same time.
const CONCURRENCY: u16 = 16;
/// Changes that come within this time of each other are one.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How much news is kept for who is busy.
const NEWS: usize = 256;
/// The longest wait after failures.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What every reconciliation needs.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) http: Http,
    pub(super) settings: Settings,
    pub(super) recorder: Recorder,
    pub(super) metrics: Arc<Metrics>,
    pub(super) failures: Failures,
    pub(super) known: KnownChildren,
    pub(super) reports: Arc<Reports>,
    pub(super) mirrors: Mirrors,
}

/// How often each cluster failed in a row, by UID.
#[derive(Default)]
pub(super) struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    /// Counts one more; says how many came before.
    fn count(&self, uid: &str) -> u32 {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = map.entry(uid.to_owned()).or_default();
        *count += 1;
        *count - 1
    }

    /// Begins anew.
    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// Runs the operator until `stop` resolves.
///
/// # Errors
/// When the HTTP listener or client can't be set up.
pub async fn run(
    client: Client,
    settings: Settings,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let metrics = Arc::new(Metrics::new());
    let health = Arc::new(Health::default());
    let stop = futures::FutureExt::shared(futures::FutureExt::boxed(stop));
    let server = web::serve(settings.listen, health.clone(), metrics.clone()).await?;
    tokio::select! {
        () = stop.clone() => return Ok(()),
        () = await_crd(&client, &health) => {}
    }
    let recorder = Recorder::new(
        client.clone(),
        Reporter {
            controller: MANAGER.to_owned(),
            instance: Some(settings.identity.clone()),
        },
    );
    let reports = Arc::new(Reports::default());
    let (lead, leads) = watch::channel(false);
    let news = broadcast::Sender::new(NEWS);
    let context = Arc::new(Context {
        client: client.clone(),
        http: Http::new(DASHBOARD_TIMEOUT)?,
        recorder: recorder.clone(),
        settings: settings.clone(),
        metrics: Arc::clone(&metrics),
        failures: Failures::default(),
        known: KnownChildren::default(),
        reports: Arc::clone(&reports),
        mirrors: Mirrors::default(),
    });
    let guard = ha::run(ha::Means {
        http: Http::new(ha::DASHBOARD_TIMEOUT)?,
        client: client.clone(),
        recorder,
        metrics,
        reports,
        news: news.clone(),
        leads,
        namespace: settings.namespace.clone(),
        identity: settings.identity.clone(),
    });
    tokio::select! {
        () = take_turns(context, &health, lead, news, stop.clone()) => {}
        // In every instance, whoever leads.
        () = guard => {}
    }
    server.abort();
    Ok(())
}

/// Reconciles whenever this instance leads, and stands by otherwise, until `stop` resolves. Leadership that is lost, as when
/// the API server is away, does not end the process: what it knows is what its clusters are guarded by meanwhile.
async fn take_turns(
    context: Arc<Context>,
    health: &Health,
    lead: watch::Sender<bool>,
    news: broadcast::Sender<ha::ClusterRef>,
    stop: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) {
    let (client, settings) = (context.client.clone(), context.settings.clone());
    loop {
        health.say("standing by", true);
        let acquired = tokio::select! {
            () = stop.clone() => return,
            acquired = leader::acquire(&client, &settings) => acquired,
        };
        let mut lease = match acquired {
            Ok(lease) => lease,
            Err(error) => {
                tracing::warn!(%error, "the Lease can't be asked for");
                tokio::select! {
                    () = stop.clone() => return,
                    () = tokio::time::sleep(error.retry_after()) => continue,
                }
            }
        };
        health.say("leading", true);
        lead.send_replace(true);
        tracing::info!(identity = settings.identity, "leading");
        let stopped = tokio::select! {
            () = control(Arc::clone(&context), changes(news.subscribe()), stop.clone()) => true,
            () = purge::sweep(client.clone(), settings.clone()) => true,
            () = lease.lost() => false,
        };
        lead.send_replace(false);
        if stopped {
            return lease.release().await;
        }
        lease.abandon();
        tracing::warn!("not leading any more");
    }
}

/// Clusters of which there is news.
fn changes(news: broadcast::Receiver<ha::ClusterRef>) -> impl Stream<Item = ha::ClusterRef> + Send + 'static {
    futures::stream::unfold(news, async |mut news| {
        loop {
            match news.recv().await {
                Ok(cluster) => return Some((cluster, news)),
                // Each cluster is looked at every few seconds anyway.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    })
}

/// Waits until the API server knows our resource.
async fn await_crd(client: &Client, health: &Health) {
    let api: Api<CodisCluster> = Api::all(client.clone());
    loop {
        match api.list_metadata(&ListParams::default().limit(1)).await {
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "CodisCluster can't be listed: is its CustomResourceDefinition installed?");
                health.say("waiting for the CustomResourceDefinition of CodisCluster", false);
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn control(
    context: Arc<Context>,
    changed: impl Stream<Item = ha::ClusterRef> + Send + 'static,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let client = &context.client;
    let ours = || watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={MANAGER}"));
    let clusters: Api<DeserializeGuard<CodisCluster>> = Api::all(client.clone());
    Controller::new(clusters, watcher::Config::default())
        .with_config(ControllerConfig::default().concurrency(CONCURRENCY).debounce(DEBOUNCE))
        .owns(Api::<StatefulSet>::all(client.clone()), ours())
        .owns(Api::<Deployment>::all(client.clone()), ours())
        // Pods belong to StatefulSets and ReplicaSets; their labels say to which cluster.
        .watches(Api::<PartialObjectMeta<Pod>>::all(client.clone()), ours(), |pod| {
            let cluster = pod.labels().get("app.kubernetes.io/instance")?;
            Some(ObjectRef::new(cluster).within(pod.namespace()?.as_str()))
        })
        .reconcile_on(changed)
        .graceful_shutdown_on(stop)
        .run(reconcile, failed, context.clone())
        .for_each(|result| async move {
            match result {
                Ok(_) => {}
                // Told by `failed`, with the cluster's name.
                Err(kube::runtime::controller::Error::ReconcilerFailed(..)) => {}
                Err(kube::runtime::controller::Error::ObjectNotFound(_)) => {}
                Err(error) => tracing::warn!(%error, "a watch failed"),
            }
        })
        .await;
}

/// When to try a cluster again that failed: later each time, and not all at the same moment.
fn failed(object: Arc<DeserializeGuard<CodisCluster>>, error: &Error, context: Arc<Context>) -> Action {
    match error {
        Error::Waiting(what) => {
            tracing::info!(cluster = %id(&*object), what, "waiting");
            return Action::requeue(error.retry_after());
        }
        // Told already, in the status. What would mend it is not watched: it is looked for at a steady pace.
        Error::Invalid(_) => return Action::requeue(error.retry_after()),
        _ => {}
    }
    let before = context.failures.count(&object.meta().uid.clone().unwrap_or_default());
    context.metrics.failed(error.reason());
    let wait = wait(error.retry_after(), before, rand::random());
    tracing::warn!(cluster = %id(&*object), %error, wait_ms = wait.as_millis() as u64, "reconciliation failed");
    Action::requeue(wait)
}

/// Doubles with each failure in a row, up to a minute; `jitter` in 0..1 adds up to a quarter.
fn wait(first: Duration, failures_before: u32, jitter: f64) -> Duration {
    let doubled = first.saturating_mul(1 << failures_before.min(10)).min(LONGEST_WAIT);
    doubled.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end_at_a_minute() {
        let at = |failures| wait(Duration::from_secs(2), failures, 0.0).as_secs();
        assert_eq!((at(0), at(1), at(4), at(5), at(1000)), (2, 4, 32, 60, 60));
        assert_eq!(wait(Duration::from_secs(4), 0, 1.0), Duration::from_secs(5));
    }

    #[test]
    fn failures_are_counted_per_cluster_and_forgotten_after_success() {
        let failures = Failures::default();
        assert_eq!(
            (failures.count("a"), failures.count("a"), failures.count("b")),
            (0, 1, 0)
        );
        failures.forget("a");
        assert_eq!(failures.count("a"), 0);
    }
}
