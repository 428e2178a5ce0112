use k8s_openapi::api::core::v1::Node;

/// Whether a node's kubelet says, as far as Kubernetes believes it, that it works.
pub(super) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};

    #[test]
    fn a_node_is_ready_only_when_it_says_so() {
        let node = |status: &str| Node {
            status: Some(NodeStatus {
                conditions: Some(vec![NodeCondition {
                    type_: "Ready".to_owned(),
                    status: status.to_owned(),
                    ..NodeCondition::default()
                }]),
                ..NodeStatus::default()
            }),
            ..Node::default()
        };
        assert!(is_ready(&node("True")) && !is_ready(&node("False")) && !is_ready(&node("Unknown")));
        assert!(!is_ready(&Node::default()));
    }
}
