//! Carries out what was decided. Everything may be repeated, and comes to nothing when it is late: the dashboard compares
//! epochs, and pods are deleted by UID, by the instance that leads, after both were read anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, Recorder};
use kube::{Api, Client, ResourceExt};

use super::deletions::{
    Meant, end_pod, force_delete_pod, force_delete_server, give_up_volume, replace_server, restart_server,
};
use super::live::check_lead;
use super::marks;
use super::patrol::Means;
use crate::api::CodisCluster;
use crate::client::{ClientError, DashboardClient};
use crate::model::{GroupId, HostPort, ProductName, Promotion, PromotionCause, PromotionOptions, ProxyToken};
use crate::operator::error::Error;
use crate::operator::events;
use crate::operator::labels::MANAGER;
use crate::operator::metrics::Metrics;
use crate::operator::reconcile::id;
use crate::plan::ha::{Action, Mark, Order, Undone};

/// How long a dashboard may take for an order. A promotion past a proxy that nobody reaches waits until its primary has
/// stopped.
pub(in crate::operator) const DASHBOARD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a call of the API server may take.
const KUBERNETES_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the pod of a proxy waits for the servers to keep the proxy out.
const SHUT_OFF_PATIENCE: Duration = Duration::from_secs(1);

/// Who carries out one order for one cluster.
pub(super) struct Actor {
    pub(super) client: Client,
    recorder: Recorder,
    metrics: Arc<Metrics>,
    /// The namespace of the Lease, and the name that this instance has in it.
    pub(super) lease: (String, String),
    cluster: CodisCluster,
    pub(super) dashboard: DashboardClient,
    /// The password that is used inside the cluster.
    pub(super) product_auth: String,
    /// How often the order was carried out before, in vain.
    tries: u32,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Dashboard(#[from] ClientError),
    #[error(transparent)]
    Kubernetes(#[from] Error),
    #[error("another instance leads now")]
    NotLeading,
    #[error("group {0} was changed meanwhile")]
    Changed(GroupId),
    #[error("group {0} is not led just now: {1}")]
    NotLed(GroupId, String),
    #[error("the node of {0} is back")]
    NodeBack(String),
    #[error("{0} answers again")]
    Awake(String),
    #[error("the data of {0} is in its memory only")]
    InMemory(String),
    #[error("{0}: the API server does not answer")]
    Slow(String),
}

impl Failed {
    /// Whether what was decided on had changed by then.
    fn is_late(&self) -> bool {
        match self {
            Self::Changed(_) | Self::NodeBack(_) | Self::Awake(_) => true,
            Self::Dashboard(error) => error.is_late(),
            _ => false,
        }
    }
}

impl Actor {
    /// Asks the instances of the dashboard at these addresses, in this order.
    pub(super) fn new(
        means: &Means,
        cluster: CodisCluster,
        (product, product_auth): (ProductName, String),
        dashboards: Vec<String>,
        tries: u32,
    ) -> Self {
        Self {
            client: means.client.clone(),
            recorder: means.recorder.clone(),
            metrics: Arc::clone(&means.metrics),
            lease: (means.namespace.clone(), means.identity.clone()),
            dashboard: DashboardClient::new(means.http.clone(), dashboards, product),
            product_auth,
            cluster,
            tries,
        }
    }

    /// The namespace of the cluster.
    pub(super) fn namespace(&self) -> String {
        self.cluster.namespace().unwrap_or_default()
    }

    /// Tells it when it can be told; the work is done, and does not wait for that.
    pub(super) fn tell(&self, event: Event) {
        tell(&self.recorder, &self.cluster, event);
    }
}

/// Tells an Event of a cluster when it can be told; nobody waits for that.
pub(super) fn tell(recorder: &Recorder, cluster: &CodisCluster, event: Event) {
    let (recorder, cluster) = (recorder.clone(), cluster.clone());
    tokio::spawn(tokio::time::timeout(KUBERNETES_TIMEOUT, async move {
        events::publish(&recorder, &cluster, event).await;
    }));
}

/// Carries out an order; says why not, if it was not done.
pub(super) async fn carry_out(actor: Actor, order: &Order) -> Result<(), Undone> {
    let result = match &order.action {
        Action::Promote {
            group,
            from,
            to,
            epoch,
            force,
            behind,
        } => promote(&actor, order, (*group, from, to), *epoch, *force, *behind).await,
        Action::HandOver { group, from, to, epoch } => hand_over(&actor, order, (*group, from, to), *epoch).await,
        Action::KeepPrimary { group, server, epoch } => keep_primary(&actor, order, *group, server, *epoch).await,
        Action::DropProxy { token, pod, uid, epoch } => drop_proxy(&actor, order, token, (pod, uid), *epoch).await,
        Action::SetAside { server, epoch, .. } => actor.dashboard.set_aside(server, *epoch).await.map_err(Failed::from),
        Action::ReplaceServer {
            group,
            server,
            uid,
            epoch,
        } => replace_server(&actor, order, Meant::new(*group, server, uid, *epoch)).await,
        Action::RestartServer {
            group,
            server,
            uid,
            epoch,
        } => restart_server(&actor, order, Meant::new(*group, server, uid, *epoch)).await,
        Action::ForceDeletePod { pod, uid } => force_delete_pod(&actor, order, pod, uid).await,
        Action::ForceDeleteServer {
            group,
            server,
            uid,
            epoch,
        } => force_delete_server(&actor, order, Meant::new(*group, server, uid, *epoch)).await,
        Action::GiveUpVolume {
            group,
            server,
            uid,
            epoch,
        } => give_up_volume(&actor, order, Meant::new(*group, server, uid, *epoch)).await,
        Action::ClearMark { group, mark, server } => clear_mark(&actor, *group, *mark, server).await,
    };
    let cluster = id(&actor.cluster);
    let (result, word) = match result {
        Ok(()) => {
            tracing::info!(%cluster, action = ?order.action, "done");
            (Ok(()), "done")
        }
        Err(error) if error.is_late() => {
            tracing::info!(%cluster, action = ?order.action, %error, "not done: it came too late");
            (Err(Undone::Late(error.to_string())), "late")
        }
        Err(error) => {
            tracing::warn!(%cluster, action = ?order.action, %error, "not done");
            (Err(Undone::Failed(error.to_string())), "failed")
        }
    };
    actor.metrics.acted(order.action.kind(), word);
    result
}

async fn promote(
    actor: &Actor,
    order: &Order,
    (group, from, to): (GroupId, &HostPort, &HostPort),
    epoch: i64,
    force: bool,
    behind: Option<u64>,
) -> Result<(), Failed> {
    let began = Instant::now();
    let options = PromotionOptions {
        epoch: Some(epoch),
        force,
        shut_off: true,
    };
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    // The dashboard keeps it with the group: the status is told from there, whoever asked and whether or not the answer arrives.
    let cause = PromotionCause {
        reason: order.reason.clone(),
        detect_ms: Some(millis(order.after)),
        behind,
    };
    let Promotion {
        handed_over, unlock_ms, ..
    } = actor.dashboard.promote(group, to, &options, &cause).await?;
    let took = began.elapsed();
    let write = Duration::try_from_secs_f64(unlock_ms / 1000.0)
        .unwrap_or_default()
        .min(took);
    let promote = took - write;
    let lost = if handed_over { Some(0) } else { behind };
    actor.metrics.failed_over(order.after, promote, write);
    let kept = match (handed_over, force, lost) {
        (true, ..) => "; it handed over".to_owned(),
        (_, true, None) => "; what the new primary lacked is lost".to_owned(),
        (_, _, Some(bytes)) if bytes > 0 => {
            format!("; {bytes} bytes that the former primary was seen to have are lost")
        }
        _ => String::new(),
    };
    let note = format!(
        "group {group}: {to} leads instead of {from}: {} (found after {} ms, done in {} ms){kept}",
        order.reason,
        millis(order.after),
        millis(took)
    );
    actor.tell(events::warning("Failover", note));
    Ok(())
}

async fn hand_over(
    actor: &Actor,
    order: &Order,
    (group, from, to): (GroupId, &HostPort, &HostPort),
    epoch: i64,
) -> Result<(), Failed> {
    let options = PromotionOptions {
        epoch: Some(epoch),
        force: false,
        shut_off: false,
    };
    let done = actor.dashboard.hand_over(group, to, &options).await?;
    let note = format!(
        "group {group}: {from} handed over to {to}: {} (writes waited {:.1} ms)",
        order.reason, done.locked_ms
    );
    actor.tell(events::normal("HandedOver", note));
    Ok(())
}

async fn keep_primary(
    actor: &Actor,
    order: &Order,
    group: GroupId,
    server: &HostPort,
    epoch: i64,
) -> Result<(), Failed> {
    actor.dashboard.keep_primary(server, epoch).await?;
    let note = format!(
        "group {group}: {server} is to lead again with what it has: {}",
        order.reason
    );
    if is_worth_telling(actor.tries) {
        actor.tell(events::warning("PrimaryKept", note));
    }
    Ok(())
}

/// Whether an Event is due when something is done again that did not help so many times: after the first one ever later. Why it
/// does not help is told by the cluster's conditions.
fn is_worth_telling(tries: u32) -> bool {
    tries == 0 || (tries >= 8 && tries.is_power_of_two())
}

async fn drop_proxy(
    actor: &Actor,
    order: &Order,
    token: &ProxyToken,
    (pod, uid): (&str, &str),
    epoch: i64,
) -> Result<(), Failed> {
    check_lead(actor).await?;
    // The servers keep it out: it may wake up and go on with an old map. Its record goes last: while it is there, what failed
    // is tried again.
    let shut_off = async { Ok(actor.dashboard.shut_off_proxy(token, epoch).await?) };
    shut_off_and_end(shut_off, SHUT_OFF_PATIENCE, end_pod(actor, pod, uid)).await?;
    actor.dashboard.remove_proxy(token, true).await?;
    actor.tell(events::warning(
        "ProxyDropped",
        format!("{}: it is replaced", order.reason),
    ));
    Ok(())
}

/// Ends a proxy's pod after the proxy is shut off. One that registered anew meanwhile works, maybe in the same pod, and stays. The
/// proxy leaves the Service only with its pod, which therefore waits no longer than `patience` for whatever the dashboard waits for.
async fn shut_off_and_end(
    shut_off: impl Future<Output = Result<(), Failed>>,
    patience: Duration,
    end: impl Future<Output = Result<(), Failed>>,
) -> Result<(), Failed> {
    let mut shut_off = std::pin::pin!(shut_off);
    let (shut_off, ended) = match tokio::time::timeout(patience, &mut shut_off).await {
        Ok(Err(error)) if error.is_late() => return Err(error),
        Ok(result) => (result, end.await),
        Err(_) => tokio::join!(shut_off, end),
    };
    shut_off.and(ended)
}

/// Bounds a call of the API server: one that hangs must not keep a group from being helped.
pub(super) async fn bounded<T>(
    action: String,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failed> {
    match tokio::time::timeout(KUBERNETES_TIMEOUT, call).await {
        Ok(result) => result.map_err(|error| Error::kube(action)(error).into()),
        Err(_) => Err(Failed::Slow(action)),
    }
}

/// Takes a group out of an annotation, if it still names this server for it.
async fn clear_mark(actor: &Actor, group: GroupId, mark: Mark, server: &HostPort) -> Result<(), Failed> {
    let annotation = marks::annotation(mark);
    let name = actor.cluster.name_any();
    let api: Api<CodisCluster> = Api::namespaced(actor.client.clone(), &actor.namespace());
    let now = bounded(format!("reading CodisCluster {name}"), api.get(&name)).await?;
    let (mut named, _) = marks::read(&now, mark);
    if named.get(&group).map(String::as_str) != server.pod() {
        return Ok(());
    }
    named.remove(&group);
    let rest: Vec<String> = named.iter().map(|(group, pod)| format!("g{group}={pod}")).collect();
    let text = (!rest.is_empty()).then(|| rest.join(","));
    let patch = serde_json::json!({"metadata": {
        "resourceVersion": now.resource_version(),
        "annotations": {annotation: text},
    }});
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(patch);
    let action = format!("taking group {group} out of the annotation {annotation} of {name}");
    bounded(action, api.patch_metadata(&name, &params, &patch)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    /// What comes of it, and whether the pod was ended.
    async fn dropped(shut_off: Result<(), Failed>) -> (Result<(), Failed>, bool) {
        let mut is_ended = false;
        let end = async {
            is_ended = true;
            Ok(())
        };
        let result = shut_off_and_end(std::future::ready(shut_off), LONG, end).await;
        (result, is_ended)
    }

    fn one() -> GroupId {
        GroupId::new(1).unwrap()
    }

    #[test]
    fn what_is_done_again_in_vain_is_told_ever_later() {
        let told: Vec<u32> = (0..100).filter(|tries| is_worth_telling(*tries)).collect();
        assert_eq!(told, [0, 8, 16, 32, 64]);
    }

    #[tokio::test]
    async fn proxy_that_registered_anew_keeps_its_pod() {
        let (result, is_ended) = dropped(Err(Failed::Changed(one()))).await;
        assert!(matches!(result, Err(Failed::Changed(_))) && !is_ended);
    }

    #[tokio::test]
    async fn proxy_that_can_not_be_shut_off_loses_its_pod_and_keeps_its_record() {
        let (result, is_ended) = dropped(Err(Failed::Slow("shutting it off".to_owned()))).await;
        assert!(matches!(result, Err(Failed::Slow(_))) && is_ended);
        let (result, is_ended) = dropped(Ok(())).await;
        assert!(result.is_ok() && is_ended);
    }

    #[tokio::test]
    async fn proxy_leaves_the_service_though_shutting_it_off_takes_long() {
        let (tell, ended) = oneshot::channel();
        // It ends only after the pod did.
        let shut_off = async { ended.await.map_err(|_| Failed::NotLeading) };
        let end = async { tell.send(()).map_err(|()| Failed::NotLeading) };
        shut_off_and_end(shut_off, Duration::ZERO, end).await.unwrap();
    }
}
