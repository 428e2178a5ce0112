//! What is wrong is refused by name, and stops nobody else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use e2e::{Cluster, Codis, operator};

#[tokio::test]
async fn invalid_spec_is_refused_by_name() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let namespace = cluster.namespace("refused").await;
    let long = "a".repeat(43);
    let cases = [
        ("engine", "shop", "{engine: Redis}"),
        ("groups", "shop", "{servers: {groups: 0}}"),
        ("groups", "shop", "{servers: {groups: 1025}}"),
        ("replicasPerGroup", "shop", "{servers: {replicasPerGroup: 17}}"),
        ("product", "shop", "{product: -shop}"),
        ("product", "shop", "{product: a/b}"),
        ("maxMemory", "shop", "{servers: {maxMemory: lots}}"),
        ("memory", "shop", "{servers: {resources: {limits: {memory: 1X}}}}"),
        ("endpoints", "shop", "{coordinator: {etcd: {endpoints: []}}}"),
        ("endpoints", "shop", "{coordinator: {etcd: {endpoints: ['etcd:2379']}}}"),
        ("replicas", "shop", "{proxies: {replicas: -1}}"),
        ("spec.storage", "shop", "{storage: {size: 1Gi}}"),
        ("size", "shop", "{servers: {storage: {size: much}}}"),
        (
            "whenDeleted",
            "shop",
            "{servers: {storage: {size: 1Gi, whenDeleted: Keep}}}",
        ),
        ("metadata.name", long.as_str(), "{}"),
        ("metadata.name", "1shop", "{}"),
    ];
    for (field, name, spec) in cases {
        let yaml = format!(
            "{{apiVersion: codis.dev/v1alpha1, kind: CodisCluster, metadata: {{name: {name}, namespace: {}}}, spec: {spec}}}",
            namespace.name()
        );
        let refused = cluster.try_kubectl(&["apply", "-f", "-"], &yaml).await.expect_err(spec);
        assert!(refused.stderr.contains(field), "{spec}: {}", refused.stderr);
    }
}

#[tokio::test]
async fn what_can_not_be_changed_yet_is_refused_by_name() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let codis = Codis::apply(&cluster, "fixed", "{servers: {groups: 1, replicasPerGroup: 1}}").await;
    let cases = [
        ("spec.servers.groups", "{servers: {groups: 2, replicasPerGroup: 1}}"),
        (
            "spec.servers.replicasPerGroup",
            "{servers: {groups: 1, replicasPerGroup: 2}}",
        ),
        (
            "spec.servers.storage",
            "{servers: {groups: 1, replicasPerGroup: 1, storage: {size: 1Gi}}}",
        ),
        (
            "spec.product",
            "{product: other, servers: {groups: 1, replicasPerGroup: 1}}",
        ),
        (
            "spec.coordinator",
            "{coordinator: {etcd: {endpoints: ['http://e:2379']}}, servers: {groups: 1, replicasPerGroup: 1}}",
        ),
    ];
    for (field, spec) in cases {
        let refused = codis.apply_spec(spec).await.expect_err(spec);
        assert!(
            refused.stderr.contains(field) && refused.stderr.contains("changed"),
            "{spec}: {}",
            refused.stderr
        );
    }
    let refused = codis
        .kubectl(&["scale", "codis", "fixed", "--replicas=2"])
        .await
        .expect_err("scale");
    assert!(refused.stderr.contains("spec.servers.groups"), "{}", refused.stderr);
}

#[tokio::test]
async fn bad_cluster_does_not_stop_others() {
    let cluster = Cluster::get().await;
    operator::install(&cluster).await;
    let small = "servers: {groups: 1, replicasPerGroup: 1}, proxies: {replicas: 1}";
    let without_secret = Codis::apply(
        &cluster,
        "nosecret",
        &format!("{{{small}, auth: {{secretRef: {{name: nothere}}}}}}"),
    )
    .await;
    let without_etcd = Codis::apply(
        &cluster,
        "noetcd",
        &format!("{{{small}, coordinator: {{etcd: {{endpoints: ['http://nothere:2379']}}}}}}"),
    )
    .await;
    let unreadable = unreadable_cluster(&cluster).await;
    let good = Codis::ready(&cluster, "good", &format!("{{{small}}}")).await;
    assert_eq!(good.cli(&["PING"]).await.unwrap(), "PONG");
    let (reason, message) = without_secret.wait_for_condition("Ready", "False").await;
    assert_eq!(reason, "InvalidSpec");
    assert!(
        message.contains("spec.auth.secretRef") && message.contains("nothere"),
        "{message}"
    );
    e2e::eventually(
        e2e::BRING_UP,
        "the condition names the etcd that is not there",
        async || {
            let (_, message) = without_etcd.wait_for_condition("Ready", "False").await;
            if message.contains("nothere:2379") {
                Ok(())
            } else {
                Err(message)
            }
        },
    )
    .await;
    let (reason, message) = unreadable.wait_for_condition("Ready", "False").await;
    assert_eq!(reason, "UnreadableSpec", "{message}");
    // Names that somebody else uses are not taken over.
    let squatted = squatted_cluster(&cluster, &format!("{{{small}}}")).await;
    e2e::eventually(e2e::BRING_UP, "the condition names what is in the way", async || {
        let (_, message) = squatted.wait_for_condition("Ready", "False").await;
        if message.contains("Service squatted-proxy") {
            Ok(())
        } else {
            Err(message)
        }
    })
    .await;
    squatted
        .kubectl(&["delete", "codis", "squatted", "--timeout=60s"])
        .await
        .unwrap();
    assert!(
        squatted
            .kubectl(&[
                "get",
                "service",
                "squatted-proxy",
                "-o",
                "jsonpath={.spec.ports[0].port}"
            ])
            .await
            .unwrap()
            == "80"
    );
    // Another cluster of the same product is kept off its keys.
    let product = format!("{}.good", good.namespace());
    let thief = Codis::apply(&cluster, "thief", &format!("{{product: {product}, {small}}}")).await;
    e2e::eventually(
        e2e::BRING_UP,
        "the second claimant is told who owns the product",
        async || {
            let text = thief.object().await?["status"]["conditions"].to_string();
            if text.contains("is owned by") {
                Ok(())
            } else {
                Err(text)
            }
        },
    )
    .await;
    assert_eq!(good.cli(&["SET", "k", "v"]).await.unwrap(), "OK");
}

/// A cluster in a namespace where somebody has a Service of the name that its proxies' would have.
async fn squatted_cluster<'a>(cluster: &'a Cluster, spec: &str) -> Codis<'a> {
    let codis = Codis::in_new_namespace(cluster, "squatted").await;
    codis
        .kubectl(&["create", "service", "clusterip", "squatted-proxy", "--tcp=80:80"])
        .await
        .unwrap();
    codis.apply_spec(spec).await.unwrap();
    codis
}

/// An object from the time of an older, laxer definition: the API server holds it, and it does not fit the new one.
async fn unreadable_cluster(cluster: &Cluster) -> Codis<'_> {
    let crd = std::fs::read_to_string(operator::repository().join("crds/codisclusters.codis.dev.yaml")).unwrap();
    let lax = r#"[{"op":"replace","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec","value":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}]"#;
    cluster
        .kubectl(&["patch", "crd", "codisclusters.codis.dev", "--type=json", "-p", lax])
        .await;
    let unreadable = e2e::eventually(e2e::BRING_UP, "the lax definition is in force", async || {
        let namespace = cluster.namespace("probe").await;
        let yaml = format!(
            "{{apiVersion: codis.dev/v1alpha1, kind: CodisCluster, metadata: {{name: lax, namespace: {}}}, spec: {{servers: {{antiAffinity: Sometimes}}}}}}",
            namespace.name()
        );
        cluster
            .try_kubectl(&["apply", "--dry-run=server", "-f", "-"], &yaml)
            .await
            .map(drop)
            .map_err(|failed| failed.to_string())
    });
    unreadable.await;
    let codis = Codis::apply(cluster, "unreadable", "{servers: {antiAffinity: Sometimes}}").await;
    cluster
        .try_kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &crd)
        .await
        .unwrap();
    codis
}
