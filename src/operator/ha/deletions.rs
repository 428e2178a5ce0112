//! Deletes pods: by UID, by the instance that leads, after everything that it rests on was read anew.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};

use super::act::{Actor, Failed, bounded};
use super::eyes::pod_sight;
use super::{live, volumes};
use crate::model::{Group, GroupId, HostPort};
use crate::operator::{events, rollout};
use crate::plan::ha::{NodeSight, Order, PodSight};

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

/// Deletes the pod of a server that is of no use: a replica's while its primary leads, a primary's while it hangs and its data is
/// on a volume.
pub(super) async fn restart_server(actor: &Actor, order: &Order, meant: Meant<'_>) -> Result<(), Failed> {
    live::check_lead(actor).await?;
    let Some(pod) = meant.server.pod() else { return Ok(()) };
    let record = live::record(actor, meant.group, meant.epoch).await?;
    if record.primary().is_some_and(|primary| primary.server == *meant.server) {
        let Some(pod) = live::pod(actor, pod).await?.filter(|pod| has_uid(pod, meant.uid)) else {
            return Ok(());
        };
        if !volumes::keeps_data(&pod) {
            return Err(Failed::InMemory(pod.name_any()));
        }
        live::check_hung(actor, &pod).await?;
    } else {
        live::check_primary(actor, &record).await?;
    }
    let params = DeleteParams {
        grace_period_seconds: Some(GRACE),
        ..exactly(meant.uid)
    };
    delete_pod(actor, pod, &params).await?;
    let note = format!("{} for {:?}: its pod is restarted", order.reason, order.after);
    actor.tell(events::warning("ServerRestarted", note));
    Ok(())
}

/// Deletes a pod. Where nobody is heard of who could confirm that it ended, it is gone at once.
pub(super) async fn end_pod(actor: &Actor, name: &str, uid: &str) -> Result<(), Failed> {
    let Some(pod) = live::pod(actor, name).await?.filter(|pod| has_uid(pod, uid)) else {
        return Ok(());
    };
    let params = match live::node(actor, &pod).await?.is_lost() {
        true => at_once(uid),
        false => exactly(uid),
    };
    delete_pod(actor, name, &params).await
}

/// Deletes a pod without data, whose node is still lost.
pub(super) async fn force_delete_pod(actor: &Actor, order: &Order, name: &str, uid: &str) -> Result<(), Failed> {
    live::check_lead(actor).await?;
    let Some(pod) = live::pod(actor, name).await?.filter(|pod| has_uid(pod, uid)) else {
        return Ok(());
    };
    if !live::node(actor, &pod).await?.is_lost() {
        return Err(Failed::NodeBack(name.to_owned()));
    }
    delete_pod(actor, name, &at_once(uid)).await?;
    actor.tell(events::warning(
        "PodForceDeleted",
        format!("{}: its pod is replaced", order.reason),
    ));
    Ok(())
}

/// Deletes a server's pod whose node is gone, or still lost; in the latter case it may run, and another one has to lead.
pub(super) async fn force_delete_server(actor: &Actor, order: &Order, meant: Meant<'_>) -> Result<(), Failed> {
    live::check_lead(actor).await?;
    let Some(name) = meant.server.pod() else { return Ok(()) };
    let Some(pod) = live::pod(actor, name).await?.filter(|pod| has_uid(pod, meant.uid)) else {
        return Ok(());
    };
    let record = live::record(actor, meant.group, meant.epoch).await?;
    match live::node(actor, &pod).await? {
        NodeSight::Well => return Err(Failed::NodeBack(name.to_owned())),
        NodeSight::Lost => check_spare(actor, &record, meant).await?,
        NodeSight::Gone => {}
    }
    delete_pod(actor, name, &at_once(meant.uid)).await?;
    let note = format!("{} for {:?}: its pod is replaced", order.reason, order.after);
    actor.tell(events::warning("ServerForceDeleted", note));
    Ok(())
}

/// Deletes the claim of a server that can start nowhere because its volume is gone with its node, and its pod, so that both are
/// made anew.
pub(super) async fn give_up_volume(actor: &Actor, order: &Order, meant: Meant<'_>) -> Result<(), Failed> {
    live::check_lead(actor).await?;
    let Some(name) = meant.server.pod() else { return Ok(()) };
    let pod = live::pod(actor, name).await?;
    if pod
        .filter(|pod| has_uid(pod, meant.uid) && volumes::waits_for_a_place(pod))
        .is_none()
    {
        return Ok(());
    }
    let record = live::record(actor, meant.group, meant.epoch).await?;
    check_spare(actor, &record, meant).await?;
    let (client, namespace) = (&actor.client, actor.namespace());
    let looked = volumes::lost_claim(client, &namespace, name);
    let Some(claim) = bounded(format!("looking for the volume of Pod {name}"), looked).await? else {
        return Ok(());
    };
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let claimed = claim.name_any();
    let params = exactly(claim.metadata.uid.as_deref().unwrap_or_default());
    delete(&claims, "PersistentVolumeClaim", &claimed, &params).await?;
    delete_pod(actor, name, &exactly(meant.uid)).await?;
    let note = format!(
        "{}: claim {claimed} is deleted, and the server begins anew",
        order.reason
    );
    actor.tell(events::warning("VolumeGivenUp", note));
    Ok(())
}

/// Whether another server leads the group.
async fn check_spare(actor: &Actor, record: &Group, meant: Meant<'_>) -> Result<(), Failed> {
    if record.primary().is_some_and(|primary| primary.server == *meant.server) {
        return Err(Failed::Changed(meant.group));
    }
    live::check_primary(actor, record).await
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

/// The same, without waiting for anybody on its node.
fn at_once(uid: &str) -> DeleteParams {
    DeleteParams {
        grace_period_seconds: Some(0),
        ..exactly(uid)
    }
}

async fn delete_pod(actor: &Actor, name: &str, params: &DeleteParams) -> Result<(), Failed> {
    let pods: Api<Pod> = Api::namespaced(actor.client.clone(), &actor.namespace());
    delete(&pods, "Pod", name, params).await
}

/// Deletes something; that it is gone, or another one has its name, is fine.
async fn delete<K>(api: &Api<K>, kind: &str, name: &str, params: &DeleteParams) -> Result<(), Failed>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let deletion = async {
        match api.delete(name, params).await {
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            result => result.map(drop),
        }
    };
    bounded(format!("deleting {kind} {name}"), deletion).await
}
