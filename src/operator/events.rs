use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder};

use super::validate::Cluster;
use crate::api::CodisCluster;
use crate::model::HostPort;
use crate::plan::Step;

/// What a step did, as an Event on the cluster; nothing for what is asked again and again.
pub(super) fn of_step(step: &Step, cluster: &Cluster) -> Option<Event> {
    let event = |reason: &str, note: String, secondary: Option<ObjectReference>| Event {
        type_: EventType::Normal,
        reason: reason.to_owned(),
        note: Some(note),
        action: "Topology".to_owned(),
        secondary,
    };
    let server = |addr: &HostPort| addr.pod().map(|pod| pod_reference(cluster, pod));
    let event = match step {
        Step::CreateGroup(group) => event(
            "GroupCreated",
            format!("created group {group}"),
            named(cluster, &format!("{}-g{group}", cluster.name)),
        ),
        Step::AddServer(group, addr) => event("ServerAdded", format!("added {addr} to group {group}"), server(addr)),
        Step::GiveRole(group, addr) => event(
            "RoleRequested",
            format!("asked that {addr} be given its role in group {group}"),
            server(addr),
        ),
        Step::AssignSlots(slots) => event("SlotsAssigned", format!("assigned {} slots", slots.len()), None),
        Step::BringProxyOnline(pod, _) => event(
            "ProxyOnline",
            format!("brought proxy {pod} online"),
            Some(pod_reference(cluster, pod)),
        ),
        Step::ForgetProxy(pod, _) => event(
            "ProxyForgotten",
            format!("forgot proxy {pod}, whose pod is gone"),
            Some(pod_reference(cluster, pod)),
        ),
        Step::AskAgain(..) => return None,
    };
    Some(event)
}

/// Something that a user has to know or mend.
pub(super) fn warning(reason: &str, note: String) -> Event {
    told(EventType::Warning, reason, note)
}

/// Something that was done, without being a step of the topology.
pub(super) fn normal(reason: &str, note: String) -> Event {
    told(EventType::Normal, reason, note)
}

fn told(type_: EventType, reason: &str, note: String) -> Event {
    let digest = crc32fast::hash(note.as_bytes());
    Event {
        type_,
        reason: reason.to_owned(),
        // Events of the same reason and action are counted as one, with the note of the first: another note, another action.
        action: format!("Reconcile-{digest:08x}"),
        note: Some(at_most(note, LONGEST_NOTE)),
        secondary: None,
    }
}

/// What the API server takes, in bytes.
const LONGEST_NOTE: usize = 1024;

fn at_most(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes - '…'.len_utf8()));
        text.push('…');
    }
    text
}

/// Tells an Event. That it can't be told never stops the work that it tells of.
pub(super) async fn publish(recorder: &Recorder, cluster: &CodisCluster, event: Event) {
    if let Err(error) = recorder.publish(&event, &cluster.object_ref(&())).await {
        tracing::warn!(%error, reason = event.reason, "an Event could not be recorded");
    }
}

fn pod_reference(cluster: &Cluster, pod: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.to_owned()),
        namespace: Some(cluster.namespace.clone()),
        ..ObjectReference::default()
    }
}

fn named(cluster: &Cluster, set: &str) -> Option<ObjectReference> {
    Some(ObjectReference {
        api_version: Some("apps/v1".to_owned()),
        kind: Some("StatefulSet".to_owned()),
        name: Some(set.to_owned()),
        namespace: Some(cluster.namespace.clone()),
        ..ObjectReference::default()
    })
}
