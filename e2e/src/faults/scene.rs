use std::collections::BTreeSet;
use std::time::Duration;

use kube::ResourceExt;

use crate::{Cluster, Codis, Node, Server, eventually, operator};

/// One group, with a limit of memory for what is to run out of it. Nothing waits because the fault before was not long ago.
const SPEC: &str = "{servers: {groups: 1, replicasPerGroup: 2, resources: {limits: {memory: 256Mi}}}, proxies: {replicas: 2}, ha: {cooldown: 0s}}";
/// How long the cluster may take to be as its spec says, after a node's return too.
const WHOLE: Duration = Duration::from_secs(180);

/// A cluster that faults are tried on, one after the other, and a client of it.
pub struct Scene {
    cluster: &'static Cluster,
    codis: Codis<'static>,
    /// The node that the client is on, which stays.
    home: String,
}

impl Scene {
    /// Makes one, on the cluster that all tests share. `None`, and a line that says so, where that is not the local one: then
    /// neither processes nor nodes can be made to fail.
    pub async fn new() -> Option<Self> {
        // For the whole run: values that are shared by tests have no other owner.
        let cluster: &'static Cluster = Box::leak(Box::new(Cluster::get().await));
        if cluster.state().is_none() {
            eprintln!("skipped: faults need the local cluster, and KUBECONFIG names another");
            return None;
        }
        operator::install(cluster).await;
        let codis = Codis::apply(cluster, "faults", SPEC).await;
        codis.start_client().await;
        let mut scene = Self {
            cluster,
            codis,
            home: String::new(),
        };
        scene.home = scene.node_of("client").await;
        scene.wait_until_whole().await;
        Some(scene)
    }

    /// The cluster under test.
    pub fn codis(&self) -> &Codis<'static> {
        &self.codis
    }

    /// The Kubernetes that it is in.
    pub fn cluster(&self) -> &'static Cluster {
        self.cluster
    }

    /// Waits until everything is as it was before a fault: the cluster, and those who look after it.
    pub async fn wait_until_whole(&self) {
        operator::wait_until_it_leads(self.cluster).await;
        self.codis.wait_ready_within(WHOLE).await;
        // The condition may be one from before the fault.
        eventually(WHOLE, "every pod is ready", async || {
            let path = "jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type==\"Ready\")].status}{.metadata.deletionTimestamp} {end}";
            let selector = format!("app.kubernetes.io/instance={}", self.codis.name());
            let pods = self.codis.kubectl(&["get", "pods", "-l", &selector, "-o", path]).await.map_err(|failed| failed.to_string())?;
            if pods.split_whitespace().all(|pod| pod.ends_with("=True")) && pods.contains("-proxy") { Ok(()) } else { Err(pods) }
        })
        .await;
        self.codis.wait_ready_within(WHOLE).await;
    }

    /// Replaces pods whose containers were restarted before, the operator's too: Kubernetes would wait longer each time until it
    /// restarts them again.
    pub async fn renew_pods(&self) {
        for pod in operator::pods(self.cluster).await {
            let containers = pod
                .status
                .iter()
                .flat_map(|status| status.container_statuses.iter().flatten());
            if containers.map(|container| container.restart_count).max() > Some(1) {
                let args = ["delete", "pod", "-n", operator::NAMESPACE, &pod.name_any()];
                self.cluster.kubectl(&args).await;
                self.wait_until_whole().await;
            }
        }
        let pods = self.codis.pods().await;
        let restarts = |pod: &String| pod.rsplit('/').next().and_then(|count| count.parse().ok()).unwrap_or(0);
        let worn: Vec<&str> = pods
            .iter()
            .filter(|(_, pod)| restarts(pod) > 1)
            .map(|(name, _)| name.as_str())
            .collect();
        for pod in worn {
            self.codis
                .kubectl(&["delete", "pod", pod])
                .await
                .unwrap_or_else(|failed| panic!("{failed}"));
            self.wait_until_whole().await;
        }
    }

    /// The pod that leads.
    pub async fn primary(&self) -> String {
        let object = self.codis.object().await.unwrap();
        object["status"]["groups"][0]["primary"].as_str().unwrap().to_owned()
    }

    /// The pod that follows.
    pub async fn replica(&self) -> String {
        let primary = self.primary().await;
        let servers = [0, 1].map(|n| format!("{}-g1-{n}", self.codis.name()));
        servers.into_iter().find(|pod| *pod != primary).unwrap()
    }

    /// The process of the server that leads.
    pub async fn primary_process(&self) -> Server {
        Server::in_pod(&self.codis, &self.primary().await).await
    }

    /// The pod of the active dashboard.
    pub async fn dashboard(&self) -> String {
        let object = self.codis.object().await.unwrap();
        object["status"]["dashboard"]["active"].as_str().unwrap().to_owned()
    }

    /// The pods of a part of the cluster: `server`, `proxy` or `dashboard`.
    pub async fn pods_of(&self, component: &str) -> Vec<String> {
        let pods = self.codis.pods().await;
        let prefix = match component {
            "server" => format!("{}-g", self.codis.name()),
            _ => format!("{}-{component}-", self.codis.name()),
        };
        pods.into_keys().filter(|pod| pod.starts_with(&prefix)).collect()
    }

    /// The node that a pod runs on.
    pub async fn node_of(&self, pod: &str) -> String {
        self.node_in(self.codis.namespace(), pod).await
    }

    /// The same in any namespace.
    pub async fn node_in(&self, namespace: &str, pod: &str) -> String {
        let args = ["get", "pod", pod, "-n", namespace, "-o", "jsonpath={.spec.nodeName}"];
        self.cluster.kubectl(&args).await
    }

    /// Waits until another pod than this one leads.
    pub async fn wait_for_other_primary(&self, former: &str) {
        eventually(
            Duration::from_secs(60),
            "the status names the new primary",
            async || {
                let now = self.primary().await;
                if now == former { Err(now) } else { Ok(()) }
            },
        )
        .await;
    }

    /// Has this pod lead, as a person would.
    pub async fn hand_over_to(&self, pod: &str) {
        let mark = format!("codis.dev/handover=g1={pod}");
        let args = ["annotate", "codis", self.codis.name(), &mark];
        self.codis
            .kubectl(&args)
            .await
            .unwrap_or_else(|failed| panic!("{failed}"));
        eventually(
            Duration::from_secs(30),
            "the named server leads, and the mark is gone",
            async || {
                let object = self.codis.object().await?;
                let marks = &object["metadata"]["annotations"]["codis.dev/handover"];
                let leads = &object["status"]["groups"][0]["primary"];
                if *leads == pod && marks.is_null() {
                    Ok(())
                } else {
                    Err(object["status"].to_string())
                }
            },
        )
        .await;
    }

    /// The node that the primary is on, once that is not the client's.
    pub async fn node_to_lose(&self) -> Node {
        if self.node_of(&self.primary().await).await == self.home {
            self.hand_over_to(&self.replica().await).await;
        }
        let name = self.node_of(&self.primary().await).await;
        let number = name.trim_start_matches("node").parse().unwrap();
        self.cluster.node(number).unwrap()
    }

    /// The pods of the operator and its coordinator, the cluster's and the client, by what is on this node: for people to read.
    pub async fn what_is_on(&self, node: &str) -> String {
        let path = "jsonpath={range .items[*]}{.metadata.name} {end}";
        let on_node = format!("spec.nodeName={node}");
        let mut found = BTreeSet::new();
        for namespace in [self.codis.namespace(), operator::NAMESPACE, "kube-system"] {
            let args = ["get", "pods", "-n", namespace, "--field-selector", &on_node, "-o", path];
            found.extend(self.cluster.kubectl(&args).await.split_whitespace().map(str::to_owned));
        }
        found.into_iter().collect::<Vec<_>>().join(" ")
    }
}
