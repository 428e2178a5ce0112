//! One task for each cluster: look, decide, ask, again and again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::events::Recorder;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt};
use tokio::sync::{broadcast, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::act::{self, Actor};
use super::eyes::Eyes;
use super::marks;
use super::reports::{DataLossRecord, Reports};
use super::world::World;
use crate::api::CodisCluster;
use crate::client::Http;
use crate::operator::dereference::product_auth;
use crate::operator::error::Error;
use crate::operator::events;
use crate::operator::metrics::Metrics;
use crate::operator::reconcile::id;
use crate::operator::validate::{self, HaSettings};
use crate::plan::ha::{DataLoss, History, Notice, Round, Turn, Undone, decide};

/// How often the list of clusters is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How soon a password that could not be read is asked for again.
const RETRY: Duration = Duration::from_secs(1);
/// The shortest time that an answer is waited for.
const LEAST_PATIENCE: Duration = Duration::from_millis(200);
/// The longest such time.
const MOST_PATIENCE: Duration = Duration::from_secs(1);

/// A cluster to be reconciled.
pub(in crate::operator) type ClusterRef = ObjectRef<DeserializeGuard<CodisCluster>>;

/// What the loop works with.
pub(in crate::operator) struct Means {
    /// Carries orders to dashboards.
    pub(in crate::operator) http: Http,
    /// The API server.
    pub(in crate::operator) client: Client,
    /// Where Events go.
    pub(in crate::operator) recorder: Recorder,
    /// The operator's figures.
    pub(in crate::operator) metrics: Arc<Metrics>,
    /// What is told of each cluster.
    pub(in crate::operator) reports: Arc<Reports>,
    /// Clusters of which there is news for their status.
    pub(in crate::operator) news: broadcast::Sender<ClusterRef>,
    /// Whether this instance leads.
    pub(in crate::operator) leads: watch::Receiver<bool>,
    /// The namespace of the operator, where its Lease lies.
    pub(in crate::operator) namespace: String,
    /// This instance's name, as the Lease names its holder.
    pub(in crate::operator) identity: String,
}

impl Means {
    fn tell(&self, cluster: &CodisCluster) {
        let reference = ObjectRef::new(&cluster.name_any()).within(&cluster.namespace().unwrap_or_default());
        // Nobody listens while another instance leads.
        let _ = self.news.send(reference);
    }
}

/// Watches over all clusters until it is dropped.
pub(in crate::operator) async fn run(means: Means) {
    let (world, drive) = World::watch(&means.client);
    tokio::select! {
        () = drive => {}
        () = supervise(&world, Arc::new(means)) => {}
    }
}

/// Keeps one task for each cluster that has served once.
async fn supervise(world: &World, means: Arc<Means>) {
    world.complete().await;
    let mut tasks = JoinSet::new();
    let mut known: HashMap<String, AbortHandle> = HashMap::new();
    loop {
        let clusters = world.clusters();
        let of_uid = |uid: &str| clusters.iter().any(|cluster| cluster.uid().as_deref() == Some(uid));
        known.retain(|uid, task| {
            let stays = of_uid(uid) && !task.is_finished();
            if !stays {
                task.abort();
                means.reports.forget(uid);
            }
            stays
        });
        for cluster in clusters.iter().filter(|cluster| is_guarded(cluster)) {
            let Some(uid) = cluster.uid() else { continue };
            known.entry(uid).or_insert_with(|| {
                let (means, world, cluster) = (Arc::clone(&means), world.clone(), cluster.clone());
                tasks.spawn(async move { guard(&means, &world, cluster).await })
            });
        }
        while tasks.try_join_next().is_some() {}
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether a cluster is one to watch over: it has served, and is to stay.
fn is_guarded(cluster: &CodisCluster) -> bool {
    let served = cluster.status.as_ref().is_some_and(|status| status.bootstrapped);
    served && cluster.metadata.deletion_timestamp.is_none()
}

/// Watches over one cluster while it exists.
async fn guard(means: &Means, world: &World, first: CodisCluster) {
    let (namespace, name) = (first.namespace().unwrap_or_default(), first.name_any());
    let Ok(product) = validate::product(&first) else { return };
    let auth = password(means, &first).await;
    let began = Instant::now();
    let mut history = History::default();
    let mut risk = means.metrics.risk_of(&first);
    let mut operations = JoinSet::new();
    let mut eyes: Option<(Duration, Eyes)> = None;
    loop {
        let started = Instant::now();
        let now = world.cluster(&namespace, &name);
        let Some(cluster) = now.filter(|now| now.uid() == first.uid() && is_guarded(now)) else {
            return;
        };
        // What can't be read is told by the reconciliation, and the defaults do no harm.
        let settings = HaSettings::of(&cluster.spec.ha).unwrap_or_default();
        let patience = settings.probe_interval.clamp(LEAST_PATIENCE, MOST_PATIENCE);
        if eyes.as_ref().is_none_or(|(with, _)| *with != patience) {
            eyes = Http::new(patience).ok().map(|http| {
                (
                    patience,
                    Eyes::new(http, product.clone(), auth.clone(), means.client.clone()),
                )
            });
        }
        if let Some((_, eyes)) = eyes.as_mut() {
            let turn = if *means.leads.borrow() {
                Turn::Leader
            } else {
                Turn::Standby
            };
            let round = Round {
                interval: settings.probe_interval,
                paused: cluster.spec.paused,
                ..eyes.look(&cluster, world, (began.elapsed(), turn), patience).await
            };
            while let Some(ended) = operations.try_join_next() {
                if let Ok((action, result)) = ended {
                    history.ended(&action, began.elapsed(), result);
                    means.tell(&cluster);
                }
            }
            history.note(&round);
            for loss in history.data_losses() {
                tell_loss(means, &cluster, loss, turn);
            }
            let groups = round.groups.iter().map(|group| group.record.id);
            risk.tell(groups.filter_map(|id| Some((id, history.at_risk(id)?))));
            let decision = decide(&settings.policy, &history, &round);
            for order in decision.orders {
                tracing::warn!(cluster = %id(&cluster), action = ?order.action, reason = order.reason, ?turn, "acting");
                let tries = history.tries(&order.action);
                history.begun(&order.action);
                let dashboards = eyes.dashboards().to_vec();
                let login = (product.clone(), auth.clone());
                let actor = Actor::new(means, cluster.clone(), login, dashboards, tries);
                operations.spawn(async move {
                    let action = order.action.clone();
                    // In a task of its own: whatever becomes of it, the group is free again.
                    let done = tokio::spawn(async move { act::carry_out(actor, &order).await }).await;
                    (
                        action,
                        done.unwrap_or_else(|error| Err(Undone::Failed(error.to_string()))),
                    )
                });
            }
            let mut notices = decision.notices;
            notices.extend(marks::complaints(&cluster, &round));
            report(means, &cluster, &notices);
        }
        tokio::time::sleep_until((started + settings.probe_interval).into()).await;
    }
}

/// Hands on what people should know, once each time that it changes.
fn report(means: &Means, cluster: &CodisCluster, notices: &[Notice]) {
    if means.reports.note(&cluster.uid().unwrap_or_default(), notices) {
        for notice in notices {
            tracing::warn!(cluster = %id(cluster), reason = notice.reason.as_str(), message = notice.message, "found");
        }
        means.tell(cluster);
    }
}

/// Tells that a group lost its data: an Event of the instance that leads, and the status, whoever writes it.
fn tell_loss(means: &Means, cluster: &CodisCluster, loss: &DataLoss, turn: Turn) {
    let message = loss.message();
    tracing::warn!(cluster = %id(cluster), "{message}");
    let record = DataLossRecord {
        at: Timestamp::now(),
        keys: loss.keys,
    };
    means
        .reports
        .lost(&cluster.uid().unwrap_or_default(), loss.group, record);
    means.tell(cluster);
    if turn == Turn::Leader {
        act::tell(&means.recorder, cluster, events::warning("DataLost", message));
    }
}

/// The password that is used inside the cluster; waits until it can be read.
async fn password(means: &Means, cluster: &CodisCluster) -> String {
    loop {
        match product_auth(&means.client, cluster).await {
            Ok(Some(auth)) => return auth,
            Ok(None) => {}
            Err(error) => log(cluster, &error),
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn log(cluster: &CodisCluster, error: &Error) {
    tracing::warn!(cluster = %id(cluster), %error, "the cluster can't be watched over yet");
}
