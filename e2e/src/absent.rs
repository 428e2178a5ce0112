use crate::Cluster;

/// A workload that was scaled to nothing; it is scaled back when the value is dropped.
pub struct Absent<'a> {
    cluster: &'a Cluster,
    namespace: &'static str,
    workload: &'static str,
    replicas: String,
}

impl<'a> Absent<'a> {
    /// Takes all of its pods away.
    pub async fn begin(cluster: &'a Cluster, namespace: &'static str, workload: &'static str) -> Self {
        let path = "jsonpath={.spec.replicas}";
        let replicas = cluster.kubectl(&["get", "-n", namespace, workload, "-o", path]).await;
        let absent = Self {
            cluster,
            namespace,
            workload,
            replicas,
        };
        cluster
            .kubectl(&["scale", "-n", namespace, workload, "--replicas=0"])
            .await;
        absent
    }

    /// Brings it back, and waits until it is.
    pub async fn end(self) {
        let (cluster, namespace, workload) = (self.cluster, self.namespace, self.workload);
        drop(self);
        cluster
            .kubectl(&["rollout", "status", "-n", namespace, workload, "--timeout=120s"])
            .await;
    }
}

impl Drop for Absent<'_> {
    fn drop(&mut self) {
        let replicas = format!("--replicas={}", self.replicas);
        self.cluster
            .kubectl_now(&["scale", "-n", self.namespace, self.workload, &replicas]);
    }
}
