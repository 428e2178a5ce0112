//! What is read anew right before something is destroyed: who leads among operators, and among a group's servers.

use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, ResourceExt};

use super::act::{Actor, Failed, bounded};
use super::nodes;
use crate::client::{Answer, ServerProbe};
use crate::model::{Group, GroupId, ServerUser, ServerUserKind};
use crate::operator::labels::MANAGER;
use crate::operator::topology::pod_ip;
use crate::operator::validate::SERVER_PORT;
use crate::plan::ha::{NodeSight, leads};

/// How long a primary may take to say that it leads.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether the Lease names this instance just now.
pub(super) async fn check_lead(actor: &Actor) -> Result<(), Failed> {
    let (namespace, identity) = &actor.lease;
    let api: Api<Lease> = Api::namespaced(actor.client.clone(), namespace);
    let lease = bounded(format!("reading Lease {namespace}/{MANAGER}"), api.get(MANAGER)).await?;
    let holder = lease.spec.and_then(|spec| spec.holder_identity);
    if holder.as_deref() == Some(identity) {
        Ok(())
    } else {
        Err(Failed::NotLeading)
    }
}

/// A group's record as the dashboard has it just now, if it is the one that was decided on: then everybody has the role that he
/// had.
pub(super) async fn record(actor: &Actor, id: GroupId, epoch: i64) -> Result<Group, Failed> {
    let groups = actor.dashboard.status().await?.groups;
    let same = |known: &crate::model::GroupStatus| known.group.id == id && known.epoch == epoch;
    match groups.into_iter().find(same) {
        Some(known) if known.group.promoting.state.is_nothing() => Ok(known.group),
        _ => Err(Failed::Changed(id)),
    }
}

/// Whether the primary of this record answers, and leads: whoever is deleted now is not the last copy of anything.
pub(super) async fn check_primary(actor: &Actor, record: &Group) -> Result<(), Failed> {
    let not_led = |why: &str| Failed::NotLed(record.id, why.to_owned());
    let Some(primary) = record.primary() else {
        return Err(not_led("it has no server"));
    };
    let name = primary.server.pod().unwrap_or_default();
    let Some(pod) = pod(actor, name).await? else {
        return Err(not_led("its primary has no pod"));
    };
    match ask(actor, &pod).await {
        None => Err(not_led("its primary has no address")),
        Some(Answer::Info(info)) if leads(primary, &info) => Ok(()),
        Some(Answer::Info(_)) => Err(not_led("its primary has not got its role")),
        Some(Answer::Refused) => Err(not_led("its primary is gone")),
        Some(Answer::None(why)) => Err(not_led(&why)),
    }
}

/// Whether the server in this pod still does not answer.
pub(super) async fn check_hung(actor: &Actor, pod: &Pod) -> Result<(), Failed> {
    match ask(actor, pod).await {
        Some(Answer::Info(_)) => Err(Failed::Awake(pod.name_any())),
        _ => Ok(()),
    }
}

/// Asks the server in a pod how it is; `None`: it has no address.
async fn ask(actor: &Actor, pod: &Pod) -> Option<Answer> {
    let user = ServerUser::new(ServerUserKind::Probe, &pod.name_any());
    let password = user.password(&actor.product_auth);
    let peer = SocketAddr::new(pod_ip(pod)?, SERVER_PORT);
    Some(ServerProbe::default().ask(peer, &user, &password, PATIENCE).await)
}

/// How the node of a pod is, as the API server has it now.
pub(super) async fn node(actor: &Actor, pod: &Pod) -> Result<NodeSight, Failed> {
    let Some(name) = nodes::name(pod) else {
        return Ok(NodeSight::Well);
    };
    let api: Api<Node> = Api::all(actor.client.clone());
    let node = bounded(format!("reading Node {name}"), api.get_opt(name)).await?;
    Ok(nodes::sight(node.as_ref()))
}

/// A pod as the API server has it now.
pub(super) async fn pod(actor: &Actor, name: &str) -> Result<Option<Pod>, Failed> {
    let pods: Api<Pod> = Api::namespaced(actor.client.clone(), &actor.namespace());
    bounded(format!("reading Pod {name}"), pods.get_opt(name)).await
}
