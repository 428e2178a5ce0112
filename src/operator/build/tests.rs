use std::collections::BTreeSet;

use kube::ResourceExt;

use super::fixtures::valid_shop;
use super::*;
use crate::api::AntiAffinity;

#[test]
fn servers_start_in_parallel_roll_on_delete_and_as_replicas_of_nothing() {
    let children = build(&valid_shop());
    assert_eq!(children.servers.len(), 3);
    for set in &children.servers {
        let spec = set.spec.as_ref().unwrap();
        assert_eq!(spec.pod_management_policy.as_deref(), Some("Parallel"));
        assert_eq!(
            spec.update_strategy.as_ref().unwrap().type_.as_deref(),
            Some("OnDelete")
        );
        let pod = spec.template.spec.as_ref().unwrap();
        assert_eq!(
            pod.containers[0].command.as_ref().unwrap()[1],
            "/etc/codis/config/start.sh"
        );
        assert!(
            pod.tolerations
                .as_ref()
                .unwrap()
                .iter()
                .all(|t| t.toleration_seconds.is_none())
        );
    }
    let start = &children.config.data.as_ref().unwrap()["start.sh"];
    assert!(start.contains("--replicaof 127.0.0.1 1 --replica-serve-stale-data no"));
}

#[test]
fn every_child_is_owned_by_the_cluster_and_carries_its_labels() {
    let cluster = valid_shop();
    let Children {
        config,
        users,
        services,
        disruption_budgets,
        proxies,
        dashboard,
        servers,
    } = build(&cluster);
    let mut metas: Vec<ObjectMeta> = vec![config.metadata, proxies.metadata, dashboard.metadata];
    metas.extend(users.into_iter().map(|o| o.metadata));
    metas.extend(services.into_iter().map(|o| o.metadata));
    metas.extend(disruption_budgets.into_iter().map(|o| o.metadata));
    metas.extend(servers.into_iter().map(|o| o.metadata));
    for meta in metas {
        assert_eq!(
            meta.owner_references,
            Some(vec![cluster.owner.clone()]),
            "{:?}",
            meta.name
        );
        assert_eq!(meta.labels.unwrap()["app.kubernetes.io/instance"], "shop");
        assert!(meta.name.unwrap().len() <= 63);
    }
}

#[test]
fn no_password_stands_in_clear_outside_secrets() {
    let cluster = valid_shop();
    let children = build(&cluster);
    let users = children.users.clone();
    let text = serde_json::to_string(&(
        &children.config,
        &children.services,
        &children.proxies,
        &children.dashboard,
        &children.servers,
    ))
    .unwrap();
    assert!(!text.contains(&cluster.product_auth));
    for secret in users {
        for (file, content) in secret.data.unwrap() {
            let content = String::from_utf8(content.0).unwrap();
            assert!(!content.contains(&cluster.product_auth), "{file}");
        }
    }
}

#[test]
fn each_pod_of_a_group_has_its_own_users() {
    let secret = &build(&valid_shop()).users[1];
    let files: BTreeSet<&str> = secret.data.as_ref().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        files,
        BTreeSet::from(["shop-g2-0.conf", "shop-g2-0.probe", "shop-g2-1.conf", "shop-g2-1.probe"])
    );
    let users = String::from_utf8(secret.data.as_ref().unwrap()["shop-g2-0.conf"].0.clone()).unwrap();
    assert!(
        users.contains("user admin@shop-g2-0 reset on #") && users.contains("user repl@shop-g2-0 "),
        "{users}"
    );
    assert!(!users.contains("proxy@"), "proxies are let in by the dashboard only");
}

#[test]
fn servers_of_a_group_keep_off_each_other_as_the_spec_says() {
    let mut cluster = valid_shop();
    let anti = |cluster: &Cluster| {
        let set = build(cluster).servers.remove(0);
        set.spec
            .unwrap()
            .template
            .spec
            .unwrap()
            .affinity
            .and_then(|affinity| affinity.pod_anti_affinity)
    };
    assert!(
        anti(&cluster)
            .unwrap()
            .required_during_scheduling_ignored_during_execution
            .is_none()
    );
    cluster.anti_affinity = AntiAffinity::Required;
    assert_eq!(
        anti(&cluster)
            .unwrap()
            .required_during_scheduling_ignored_during_execution
            .unwrap()
            .len(),
        1
    );
    cluster.anti_affinity = AntiAffinity::None;
    assert!(anti(&cluster).is_none());
}

#[test]
fn single_pods_have_no_disruption_budget() {
    let mut cluster = valid_shop();
    assert_eq!(build(&cluster).disruption_budgets.len(), 5);
    cluster.replicas_per_group = 1;
    cluster.proxies.replicas = 1;
    cluster.dashboard.replicas = 1;
    assert!(build(&cluster).disruption_budgets.is_empty());
}

#[test]
fn a_changed_client_password_rolls_the_proxies_only() {
    let mut cluster = valid_shop();
    let before = build(&cluster);
    cluster.session_auth = Some((
        crate::api::SecretKeyRef {
            name: "pw".into(),
            key: "password".into(),
        },
        "1".into(),
    ));
    let first = build(&cluster);
    cluster.session_auth.as_mut().unwrap().1 = "2".to_owned();
    let second = build(&cluster);
    assert_ne!(
        first.proxies.spec.as_ref().unwrap().template,
        second.proxies.spec.as_ref().unwrap().template
    );
    assert_eq!((before.servers, before.dashboard), (second.servers, second.dashboard));
    assert_eq!(second.proxies.name_any(), "shop-proxy");
}

/// The ConfigMap that the servers of a cluster are made with.
fn mounted(children: &Children) -> String {
    let pod = children.servers[0]
        .spec
        .as_ref()
        .unwrap()
        .template
        .spec
        .as_ref()
        .unwrap();
    let mut volumes = pod.volumes.iter().flatten();
    let config = volumes.find(|volume| volume.name == "config").unwrap();
    config.config_map.as_ref().unwrap().name.clone()
}

#[test]
fn each_content_of_the_servers_configuration_has_a_name_of_its_own() {
    let mut cluster = valid_shop();
    let before = build(&cluster);
    assert_eq!(mounted(&before), before.config.name_any());
    assert!(is_config_map_name("shop", &before.config.name_any()));
    cluster.server_config.insert("no-such-setting".into(), "1".into());
    let changed = build(&cluster);
    assert_eq!(mounted(&changed), changed.config.name_any());
    assert_ne!(before.config.name_any(), changed.config.name_any());
    cluster.server_config.clear();
    assert_eq!(build(&cluster).config, before.config);
}

/// Upgrades of the operator replace no server: what is compared is what a person said.
#[test]
fn other_content_alone_outdates_no_server() {
    let children = build(&valid_shop());
    let mut set = children.servers[0].clone();
    let pod = k8s_openapi::api::core::v1::Pod {
        metadata: set.spec.as_ref().unwrap().template.metadata.clone().unwrap(),
        ..Default::default()
    };
    let template = set.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    let config = template
        .volumes
        .as_mut()
        .unwrap()
        .iter_mut()
        .find(|v| v.name == "config");
    config.unwrap().config_map.as_mut().unwrap().name = "shop-servers-0123abcd".to_owned();
    assert!(!crate::operator::rollout::is_outdated(&pod, &set));
}
