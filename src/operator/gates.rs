//! The condition `codis.dev/in-sync` on servers' pods: without it a pod is not ready, and its group's disruption budget lets no
//! other pod of the group be drained.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};

use super::build::IN_SYNC;
use super::error::Error;
use super::labels::MANAGER;
use super::topology::Pods;
use crate::api::CodisClusterStatus;

/// Tells Kubernetes which servers hold their role and their group's data, as the status has it.
pub(super) async fn set(
    client: &Client,
    namespace: &str,
    pods: &Pods,
    status: &CodisClusterStatus,
    now: Timestamp,
) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    for server in status.groups.iter().flat_map(|group| &group.servers) {
        let Some(pod) = pods.servers.get(&server.pod).filter(|pod| differs(pod, server.in_sync)) else {
            continue;
        };
        let condition = serde_json::json!({
            "type": IN_SYNC,
            "status": if server.in_sync { "True" } else { "False" },
            "lastTransitionTime": Time(now),
        });
        let patch = serde_json::json!({
            "metadata": {"uid": pod.metadata.uid},
            "status": {"conditions": [condition]},
        });
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match api.patch_status(&server.pod, &params, &Patch::Strategic(patch)).await {
            // Another pod has its name by now, or none.
            Err(kube::Error::Api(refusal)) if [404, 409].contains(&refusal.code) => {}
            result => result
                .map(drop)
                .map_err(Error::kube(format!("telling whether Pod {} is in sync", server.pod)))?,
        }
    }
    Ok(())
}

/// Whether a pod that waits for the condition does not have it so.
fn differs(pod: &Pod, in_sync: bool) -> bool {
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let told = conditions.find(|condition| condition.type_ == IN_SYNC);
    let told = told.is_some_and(|condition| condition.status == "True");
    gates.into_iter().any(|gate| gate.condition_type == IN_SYNC) && told != in_sync
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn only_pods_that_wait_for_it_are_told_and_only_when_it_changed() {
        let pod = |gates: Value, conditions: Value| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [], "readinessGates": gates},
                "status": {"conditions": conditions}}))
            .unwrap()
        };
        let gates = || json!([{"conditionType": IN_SYNC}]);
        let is = |status: &str| json!([{"type": "Ready", "status": "False"}, {"type": IN_SYNC, "status": status}]);
        assert!(differs(&pod(gates(), json!([])), true) && !differs(&pod(gates(), json!([])), false));
        assert!(differs(&pod(gates(), is("True")), false) && !differs(&pod(gates(), is("True")), true));
        assert!(!differs(&pod(json!([]), json!([])), true));
    }
}
