use std::sync::Arc;

use futures::{StreamExt, TryFutureExt};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};

use super::nodes;
use crate::api::CodisCluster;
use crate::operator::labels::{Component, MANAGER};
use crate::operator::rollout;
use crate::plan::ha::NodeSight;

/// What the API server told last, kept while it is away.
#[derive(Clone)]
pub(super) struct World {
    clusters: Store<DeserializeGuard<CodisCluster>>,
    pods: Store<Pod>,
    sets: Store<StatefulSet>,
    nodes: Store<Node>,
}

/// The pods of a cluster.
#[derive(Debug, Default)]
pub(super) struct Pods {
    pub(super) servers: Vec<Arc<Pod>>,
    pub(super) dashboards: Vec<Arc<Pod>>,
    pub(super) proxies: Vec<Arc<Pod>>,
}

impl World {
    /// Begins to watch. The future has to be driven for anything to be seen; it never ends.
    pub(super) fn watch(client: &Client) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let config = watcher::Config::default;
        let ours = config().labels(&format!("app.kubernetes.io/managed-by={MANAGER}"));
        let (clusters, cluster_writer) = reflector::store();
        let (pods, pod_writer) = reflector::store();
        let (sets, set_writer) = reflector::store();
        let (nodes, node_writer) = reflector::store();
        let watch_clusters = reflector::reflector(cluster_writer, watcher(Api::all(client.clone()), config()));
        let slim =
            watcher(Api::<Pod>::all(client.clone()), ours.clone()).modify(|pod| pod.metadata.managed_fields = None);
        let watch_pods = reflector::reflector(pod_writer, slim);
        let slim =
            watcher(Api::<StatefulSet>::all(client.clone()), ours).modify(|set| set.metadata.managed_fields = None);
        let watch_sets = reflector::reflector(set_writer, slim);
        let slim = watcher(Api::<Node>::all(client.clone()), config()).modify(|node| {
            node.metadata.managed_fields = None;
            if let Some(status) = &mut node.status {
                status.images = None;
            }
        });
        let watch_nodes = reflector::reflector(node_writer, slim);
        let drive = async move {
            tokio::join!(
                drain(watch_clusters.default_backoff(), "clusters"),
                drain(watch_pods.default_backoff(), "pods"),
                drain(watch_sets.default_backoff(), "StatefulSets"),
                drain(watch_nodes.default_backoff(), "nodes"),
            );
        };
        let world = Self {
            clusters,
            pods,
            sets,
            nodes,
        };
        (world, drive)
    }

    /// Resolves when everything was listed once: before that, what is not there may only not be known yet.
    pub(super) async fn complete(&self) {
        let ready = async {
            tokio::try_join!(
                self.clusters.wait_until_ready().map_err(drop),
                self.pods.wait_until_ready().map_err(drop),
                self.sets.wait_until_ready().map_err(drop),
                self.nodes.wait_until_ready().map_err(drop),
            )
        };
        if ready.await.is_err() {
            // The watches are gone, and with them whoever drives this.
            std::future::pending::<()>().await;
        }
    }

    /// The clusters that can be read.
    pub(super) fn clusters(&self) -> Vec<CodisCluster> {
        let state = self.clusters.state();
        state
            .iter()
            .filter_map(|object| object.0.as_ref().ok().cloned())
            .collect()
    }

    /// A cluster as it was told last.
    pub(super) fn cluster(&self, namespace: &str, name: &str) -> Option<CodisCluster> {
        let object = self.clusters.get(&ObjectRef::new(name).within(namespace))?;
        object.0.as_ref().ok().cloned()
    }

    /// The pods of a cluster.
    pub(super) fn pods(&self, namespace: &str, name: &str) -> Pods {
        let mut pods = Pods::default();
        for pod in self.pods.state() {
            let cluster = pod.labels().get("app.kubernetes.io/instance").map(String::as_str);
            if pod.namespace().as_deref() != Some(namespace) || cluster != Some(name) {
                continue;
            }
            match Component::of(&pod) {
                Some(Component::Server) => pods.servers.push(pod),
                Some(Component::Dashboard) => pods.dashboards.push(pod),
                Some(Component::Proxy) => pods.proxies.push(pod),
                None => {}
            }
        }
        pods
    }

    /// Whether a server's pod was made with something else than the spec says now.
    pub(super) fn is_outdated(&self, pod: &Pod) -> bool {
        let owner = pod.owner_references().iter().find(|owner| owner.kind == "StatefulSet");
        let Some((owner, namespace)) = owner.zip(pod.metadata.namespace.as_deref()) else {
            return false;
        };
        self.sets
            .get(&ObjectRef::new(&owner.name).within(namespace))
            .is_some_and(|set| rollout::is_outdated(pod, &set))
    }

    /// How the node of a pod is. While Kubernetes hears of no node at all, that says nothing of any.
    pub(super) fn node(&self, pod: &Pod) -> NodeSight {
        let Some(name) = nodes::name(pod) else {
            return NodeSight::Well;
        };
        match nodes::sight(self.nodes.get(&ObjectRef::new(name)).as_deref()) {
            NodeSight::Lost if !self.nodes.state().iter().any(|node| nodes::is_ready(node)) => NodeSight::Well,
            sight => sight,
        }
    }
}

async fn drain<K>(watch: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>>, what: &str) {
    let mut watch = std::pin::pin!(watch);
    while let Some(event) = watch.next().await {
        if let Err(error) = event {
            tracing::warn!(%error, what, "the API server can't be watched; going on with what it told last");
        }
    }
}
