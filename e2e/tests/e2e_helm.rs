//! The chart's life, on a cluster of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::Duration;

use e2e::operator::{NAMESPACE, RELEASE, chart, repository, wait_until_it_leads};
use e2e::{Cluster, Codis, eventually};

const SMALL: &str = "{servers: {groups: 1, replicasPerGroup: 1}, proxies: {replicas: 1}, dashboard: {replicas: 1}}";

#[tokio::test]
async fn helm_install_upgrade_uninstall() {
    let Some(cluster) = Cluster::start("helm", &["--nodes", "1"]).await else {
        return;
    };
    let chart = chart().to_string_lossy().into_owned();
    let helm = async |args: &[&str]| cluster.helm(args).await.unwrap_or_else(|failed| panic!("{failed}"));
    helm(&["lint", "--strict", &chart]).await;
    helm(&[
        "install",
        RELEASE,
        &chart,
        "--namespace",
        NAMESPACE,
        "--create-namespace",
        "--set",
        "replicas=1",
    ])
    .await;
    wait_until_it_leads(&cluster).await;
    let codis = Codis::ready(&cluster, "kept", SMALL).await;
    assert_eq!(codis.cli(&["SET", "k", "v"]).await.unwrap(), "OK");

    // An upgrade brings what changed, the definition of the resource included, and rolls no server.
    let pods = codis.pods().await;
    let older = r#"[{"op":"remove","path":"/spec/versions/0/additionalPrinterColumns"}]"#;
    cluster
        .kubectl(&["patch", "crd", "codisclusters.codis.dev", "--type=json", "-p", older])
        .await;
    let forced = ["--force-conflicts", "--set", "replicas=2,etcd.replicas=3,log=debug"];
    helm(&[&["upgrade", RELEASE, &chart, "--namespace", NAMESPACE][..], &forced].concat()).await;
    wait_until_it_leads(&cluster).await;
    let columns = cluster
        .kubectl(&[
            "get",
            "crd",
            "codisclusters.codis.dev",
            "-o",
            "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}",
        ])
        .await;
    assert!(columns.contains("Slots"), "{columns}");
    assert_eq!(codis.pods().await, pods);
    let wrong = cluster
        .helm(&[
            "upgrade",
            RELEASE,
            &chart,
            "--namespace",
            NAMESPACE,
            "--set",
            "etcd.replicas=2",
        ])
        .await;
    assert!(wrong.unwrap_err().stderr.contains("replicas"));
    let args = [
        "upgrade",
        RELEASE,
        &chart,
        "--namespace",
        NAMESPACE,
        "--set",
        "etcd.replicas=1",
    ];
    let fewer = cluster.helm(&args).await;
    assert!(
        fewer
            .unwrap_err()
            .stderr
            .contains("etcd.replicas can't be changed from 3 to 1")
    );

    // Uninstalled, the clusters and their slot maps stay, and serve.
    helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait"]).await;
    let left = cluster
        .kubectl(&[
            "--namespace",
            NAMESPACE,
            "get",
            "deployments,statefulsets",
            "-o",
            "name",
        ])
        .await;
    assert_eq!(left.trim(), "statefulset.apps/codis-operator-etcd");
    assert_eq!(codis.cli(&["GET", "k"]).await.unwrap(), "v");
    assert_eq!(codis.pods().await, pods);

    // Installed again it takes up where it was.
    helm(&["install", RELEASE, &chart, "--namespace", NAMESPACE, "--take-ownership"]).await;
    wait_until_it_leads(&cluster).await;
    codis.wait_ready().await;
    assert_eq!(codis.pods().await, pods);
    codis
        .kubectl(&["delete", "codis", "kept", "--timeout=60s"])
        .await
        .unwrap();
    helm(&[
        "upgrade",
        RELEASE,
        &chart,
        "--namespace",
        NAMESPACE,
        "--set",
        "crds.keep=false",
        "--set",
        "etcd.keep=false",
    ])
    .await;
    helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait"]).await;
    eventually(Duration::from_secs(60), "told to, it leaves nothing", async || {
        let crds = cluster.kubectl(&["get", "crds", "-o", "name"]).await;
        let sets = cluster
            .kubectl(&[
                "--namespace",
                NAMESPACE,
                "get",
                "deployments,statefulsets,services",
                "-o",
                "name",
            ])
            .await;
        if crds.is_empty() && sets.is_empty() {
            Ok(())
        } else {
            Err(format!("{crds}{sets}"))
        }
    })
    .await;
}

#[tokio::test]
async fn manifests_are_the_chart_rendered() {
    let output = std::process::Command::new(repository().join("e2e/manifests"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let committed = std::fs::read_to_string(repository().join("manifests/install.yaml")).unwrap();
    assert!(
        String::from_utf8_lossy(&output.stdout) == committed,
        "run `make manifests` and commit what it changed"
    );
}

#[tokio::test]
async fn manifests_install_the_operator() {
    let Some(cluster) = Cluster::start("manifests", &["--nodes", "1"]).await else {
        return;
    };
    let file = repository()
        .join("manifests/install.yaml")
        .to_string_lossy()
        .into_owned();
    cluster.kubectl(&["apply", "--server-side", "-f", &file]).await;
    wait_until_it_leads(&cluster).await;
    let codis = Codis::ready(&cluster, "applied", SMALL).await;
    assert_eq!(codis.cli(&["PING"]).await.unwrap(), "PONG");
}
