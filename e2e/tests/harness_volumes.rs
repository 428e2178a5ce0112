//! Volumes of the local cluster: bound where the pod runs, and handed on without what the last one left.

use std::time::Duration;

use e2e::{Cluster, Namespace, eventually};
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::Api;

const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn volume_is_handed_on_empty() {
    let cluster = Cluster::get().await;
    let Some(node) = cluster.node(1) else { return };
    // The last of its node: no other test that takes any volume is likely to be given it.
    let volume = format!("{}-12", node.name());
    let namespace = cluster.namespace("volumes").await;

    claim(&cluster, &namespace, "first", &volume).await;
    let files = cluster
        .exec_in_pod(
            namespace.name(),
            "first",
            &["sh", "-c", "echo mine > /data/note; ls /data"],
        )
        .await;
    assert_eq!(files.unwrap(), "note\n");
    cluster
        .kubectl(&[
            "delete",
            "pod/first",
            "persistentvolumeclaim/first",
            "--namespace",
            namespace.name(),
        ])
        .await;

    let volumes = Api::<PersistentVolume>::all(cluster.client());
    eventually(SOON, &format!("{volume} on offer again"), async || {
        let phase = volumes
            .get(&volume)
            .await
            .map_err(|error| error.to_string())?
            .status
            .and_then(|status| status.phase);
        if phase.as_deref() == Some("Available") {
            Ok(())
        } else {
            Err(format!("{phase:?}"))
        }
    })
    .await;

    claim(&cluster, &namespace, "second", &volume).await;
    assert_eq!(
        cluster
            .exec_in_pod(namespace.name(), "second", &["ls", "/data"])
            .await
            .unwrap(),
        ""
    );
}

/// A claim of this volume in the default storage class, and a pod that uses it.
async fn claim(cluster: &Cluster, namespace: &Namespace, name: &str, volume: &str) {
    cluster
        .apply(&format!(
            r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  accessModes: [ReadWriteOnce]
  volumeName: {volume}
  resources: {{requests: {{storage: 1Gi}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: {name}}}}}]
  containers:
  - name: it
    image: valkey/valkey:8.1
    imagePullPolicy: IfNotPresent
    command: [sleep, infinity]
    volumeMounts: [{{name: data, mountPath: /data}}]
"#,
            namespace = namespace.name()
        ))
        .await;
    let wait = [
        "wait",
        "--for=condition=Ready",
        "--timeout=60s",
        "--namespace",
        namespace.name(),
    ];
    cluster.kubectl(&[&wait[..], &[&format!("pod/{name}")]].concat()).await;
}
