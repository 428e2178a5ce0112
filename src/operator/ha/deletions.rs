//! Deletes pods: by UID, by the instance that leads, after everything that it rests on was read anew.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

use super::act::{Actor, Failed, bounded};
use super::eyes::pod_sight;
use super::live;
use crate::model::{GroupId, HostPort};
use crate::operator::{events, rollout};
use crate::plan::ha::{Order, PodSight};

/// How long a useless server has to end by itself, in seconds.
const GRACE: u32 = 5;

/// A server's pod, and the epoch of its group's record, that something was decided on.
#[derive(Clone, Copy)]
pub(super) struct Meant<'a> {
    group: GroupId,
    server: &'a HostPort,
    uid: &'a str,
    epoch: i64,
}

impl<'a> Meant<'a> {
    pub(super) fn new(group: GroupId, server: &'a HostPort, uid: &'a str, epoch: i64) -> Self {
        Self {
            group,
            server,
            uid,
            epoch,
        }
    }
}

/// Deletes a server's pod that is not made as the spec says now. The server is told to end as by anybody: it hands over if it
/// has to, and its replicas catch up.
pub(super) async fn replace_server(actor: &Actor, order: &Order, meant: Meant<'_>) -> Result<(), Failed> {
    live::check_lead(actor).await?;
    let Some(name) = meant.server.pod() else { return Ok(()) };
    let Some(pod) = live::pod(actor, name).await?.filter(|pod| has_uid(pod, meant.uid)) else {
        return Ok(());
    };
    let set = name.rsplit_once('-').map_or(name, |(set, _)| set);
    let sets: Api<StatefulSet> = Api::namespaced(actor.client.clone(), &actor.namespace());
    let set = bounded(format!("reading StatefulSet {set}"), sets.get(set)).await?;
    if !rollout::is_outdated(&pod, &set) {
        return Ok(());
    }
    let record = live::record(actor, meant.group, meant.epoch).await?;
    let is_primary = record.primary().is_some_and(|primary| primary.server == *meant.server);
    // What does not run holds nothing in its memory that could be lost.
    if !is_primary && matches!(pod_sight(&pod), PodSight::Running(_)) {
        live::check_primary(actor, &record).await?;
    }
    delete_pod(actor, name, &exactly(meant.uid)).await?;
    actor.tell(events::normal("ServerReplaced", order.reason.clone()));
    Ok(())
}

/// Deletes the pod of a replica that is of no use, while its primary leads.
pub(super) async fn restart_server(actor: &Actor, order: &Order, meant: Meant<'_>) -> Result<(), Failed> {
    live::check_lead(actor).await?;
    let Some(pod) = meant.server.pod() else { return Ok(()) };
    let record = live::record(actor, meant.group, meant.epoch).await?;
    live::check_primary(actor, &record).await?;
    let params = DeleteParams {
        grace_period_seconds: Some(GRACE),
        ..exactly(meant.uid)
    };
    delete_pod(actor, pod, &params).await?;
    let note = format!("{} for {:?}: its pod is restarted", order.reason, order.after);
    actor.tell(events::warning("ServerRestarted", note));
    Ok(())
}

fn has_uid(pod: &Pod, uid: &str) -> bool {
    pod.metadata.uid.as_deref() == Some(uid)
}

/// Deletes this pod, and none that has its name since.
fn exactly(uid: &str) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    }
}

/// Deletes a pod; that it is gone, or another one has its name, is fine.
pub(super) async fn delete_pod(actor: &Actor, name: &str, params: &DeleteParams) -> Result<(), Failed> {
    let api: Api<Pod> = Api::namespaced(actor.client.clone(), &actor.namespace());
    let deletion = async {
        match api.delete(name, params).await {
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            result => result.map(drop),
        }
    };
    bounded(format!("deleting Pod {name}"), deletion).await
}
