use k8s_openapi::api::core::v1::{Node, Pod};

use crate::plan::ha::NodeSight;

/// What a person puts on a node that was shut down for good, or that it is certain of.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// How a node is, as far as Kubernetes knows; `None`: there is no such node any more.
pub(super) fn sight(node: Option<&Node>) -> NodeSight {
    match node {
        None => NodeSight::Gone,
        Some(node) if is_ready(node) => NodeSight::Well,
        Some(node) => {
            let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
            let mut declared = taints.filter(|taint| taint.key == OUT_OF_SERVICE);
            match declared.next() {
                Some(_) => NodeSight::Gone,
                None => NodeSight::Lost,
            }
        }
    }
}

/// The node that a pod was given.
pub(super) fn name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

/// Whether a node's kubelet says, as far as Kubernetes believes it, that it works.
pub(super) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(ready: &str, taint: &str) -> Node {
        let taint = json!({"key": taint, "effect": "NoExecute"});
        let condition = json!({"type": "Ready", "status": ready});
        serde_json::from_value(json!({"spec": {"taints": [taint]}, "status": {"conditions": [condition]}})).unwrap()
    }

    #[test]
    fn a_node_is_well_only_when_it_says_so_and_gone_only_when_that_is_certain() {
        let unreachable = "node.kubernetes.io/unreachable";
        assert_eq!(sight(Some(&node("True", "any"))), NodeSight::Well);
        for silent in [
            node("False", unreachable),
            node("Unknown", unreachable),
            Node::default(),
        ] {
            assert_eq!(sight(Some(&silent)), NodeSight::Lost);
        }
        assert_eq!(sight(Some(&node("Unknown", OUT_OF_SERVICE))), NodeSight::Gone);
        assert_eq!(sight(None), NodeSight::Gone);
        // A mistake: it is at work.
        assert_eq!(sight(Some(&node("True", OUT_OF_SERVICE))), NodeSight::Well);
    }
}
