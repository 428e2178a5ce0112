//! What the operator was allowed and what it did, by the API server's own record. Runs after all other end-to-end tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::io::BufRead;

use e2e::{Cluster, operator};

/// (API group, resource with subresource, verb)
type Right = (String, String, String);

#[tokio::test]
async fn operator_may_do_what_it_does_and_nothing_more() {
    let cluster = Cluster::get().await;
    let Some(state) = cluster.state() else {
        eprintln!("skipped: needs the audit log of the local cluster, and KUBECONFIG names another");
        return;
    };
    let account = format!("system:serviceaccount:{}:codis-operator", operator::NAMESPACE);
    let (mut done, mut denied) = (BTreeSet::<Right>::new(), BTreeSet::new());
    let log = std::io::BufReader::new(std::fs::File::open(state.join("logs/audit.log")).expect("the audit log"));
    for line in log.lines() {
        let Ok(entry) = serde_json::from_str::<serde_json::Value>(&line.expect("text")) else {
            continue;
        };
        if entry["user"]["username"] != account.as_str() {
            continue;
        }
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let object = &entry["objectRef"];
        let resource = match object["subresource"].as_str() {
            Some(sub) => format!("{}/{sub}", text(&object["resource"])),
            None => text(&object["resource"]),
        };
        let right = (text(&object["apiGroup"]), resource, text(&entry["verb"]));
        if entry["annotations"]["authorization.k8s.io/decision"] == "forbid" || entry["responseStatus"]["code"] == 403 {
            denied.insert(right);
        } else if !right.1.is_empty() {
            done.insert(right);
        }
    }
    assert_eq!(denied, BTreeSet::new(), "denied");
    assert!(done.len() > 20, "the log says little: {done:?}");
    let granted = granted(&cluster).await;
    let unused: Vec<&Right> = granted.difference(&done).filter(|right| !is_for_later(right)).collect();
    assert_eq!(unused, Vec::<&Right>::new(), "granted and never used");
}

/// Wanted only by clusters whose admission asks for it of whoever sets an owner that blocks deletion.
fn is_for_later(right: &Right) -> bool {
    right.1 == "codisclusters/finalizers"
}

async fn granted(cluster: &Cluster) -> BTreeSet<Right> {
    let mut granted = BTreeSet::new();
    for kind in ["clusterrole", "role"] {
        let text = cluster
            .kubectl(&[
                "--namespace",
                operator::NAMESPACE,
                "get",
                kind,
                "codis-operator",
                "-o",
                "json",
            ])
            .await;
        let role: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for rule in role["rules"].as_array().expect("rules") {
            let list = |field: &str| -> Vec<String> {
                rule[field]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|v| v.as_str().map(str::to_owned))
                    .collect()
            };
            for group in list("apiGroups") {
                for resource in list("resources") {
                    granted.extend(
                        list("verbs")
                            .into_iter()
                            .map(|verb| (group.clone(), resource.clone(), verb)),
                    );
                }
            }
        }
    }
    granted
}
