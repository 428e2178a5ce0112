//! A CodisCluster under test, and a client pod that uses it as any application would.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::{Cluster, Failed, Namespace, eventually};

/// A cluster of the kind under test, in a namespace of its own that goes away with the value.
pub struct Codis<'a> {
    cluster: &'a Cluster,
    namespace: Namespace,
    name: String,
}

/// How long a small cluster may take until it is as its spec says.
pub const BRING_UP: Duration = Duration::from_secs(120);

impl<'a> Codis<'a> {
    /// A cluster of this name that is not applied yet, in a new namespace.
    pub async fn in_new_namespace(cluster: &'a Cluster, name: &str) -> Self {
        Self {
            cluster,
            namespace: cluster.namespace(name).await,
            name: name.to_owned(),
        }
    }

    /// Applies a cluster with this `spec` (YAML in one line, such as `{servers: {groups: 1}}`); does not wait for it.
    pub async fn apply(cluster: &'a Cluster, name: &str, spec: &str) -> Self {
        let codis = Self::in_new_namespace(cluster, name).await;
        codis.apply_spec(spec).await.unwrap_or_else(|failed| panic!("{failed}"));
        codis
    }

    /// Applies another spec.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn apply_spec(&self, spec: &str) -> Result<String, Failed> {
        let yaml = format!(
            "apiVersion: codis.dev/v1alpha1\nkind: CodisCluster\nmetadata: {{name: {}, namespace: {}}}\nspec: {spec}\n",
            self.name,
            self.namespace.name()
        );
        self.cluster.try_kubectl(&["apply", "-f", "-"], &yaml).await
    }

    /// Applies a cluster and waits until it is Ready and has a client pod.
    pub async fn ready(cluster: &'a Cluster, name: &str, spec: &str) -> Self {
        let codis = Self::apply(cluster, name, spec).await;
        codis.start_client().await;
        codis.wait_ready().await;
        // So that what follows, through one long connection, need not care.
        codis.cli(&["PING"]).await.unwrap_or_else(|failed| panic!("{failed}"));
        codis
    }

    /// The Kubernetes that it is in.
    pub fn cluster(&self) -> &Cluster {
        self.cluster
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.namespace.name()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until it is as its spec says.
    pub async fn wait_ready(&self) {
        self.wait_for_condition("Ready", "True").await;
    }

    /// The same with patience of another length.
    pub async fn wait_ready_within(&self, patience: Duration) {
        self.wait_for_condition_within(patience, "Ready", "True").await;
    }

    /// Waits until a condition has this status; returns its reason and message.
    pub async fn wait_for_condition(&self, type_: &str, status: &str) -> (String, String) {
        self.wait_for_condition_within(BRING_UP, type_, status).await
    }

    async fn wait_for_condition_within(&self, patience: Duration, type_: &str, status: &str) -> (String, String) {
        eventually(patience, &format!("condition {type_}={status}"), async || {
            let object = self.object().await?;
            let generation = &object["metadata"]["generation"];
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let found = conditions
                .iter()
                .find(|c| c["type"] == type_ && c["observedGeneration"] == *generation);
            match found {
                Some(found) if found["status"] == status => {
                    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
                    Ok((text("reason"), text("message")))
                }
                _ => Err(format!("{conditions:?}")),
            }
        })
        .await
    }

    /// Waits until an Event of this reason, or one whose reason begins so, tells of all this.
    pub async fn wait_for_event(&self, within: Duration, reason: &str, words: &[&str]) {
        let path = "jsonpath={range .items[*]}{.reason}: {.note}{\"\\n\"}{end}";
        eventually(within, "an Event tells of it", async || {
            let events = self.kubectl(&["get", "events.events.k8s.io", "-o", path]).await;
            let events = events.map_err(|failed| failed.to_string())?;
            let tells = |line: &str| line.starts_with(reason) && words.iter().all(|word| line.contains(word));
            if events.lines().any(tells) {
                Ok(())
            } else {
                Err(format!("{reason}, {words:?}, in: {events}"))
            }
        })
        .await;
    }

    /// The object as the API server holds it.
    ///
    /// # Errors
    /// When it can't be read, in words.
    pub async fn object(&self) -> Result<serde_json::Value, String> {
        let text = self
            .kubectl(&["get", "codis", &self.name, "-o", "json"])
            .await
            .map_err(|failed| failed.to_string())?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// `kubectl ARGS…` in its namespace.
    ///
    /// # Errors
    /// [`Failed`] with what it said.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String, Failed> {
        self.cluster
            .try_kubectl(&[&["--namespace", self.namespace()], args].concat(), "")
            .await
    }

    /// Starts the pod with the stock client in it.
    pub async fn start_client(&self) {
        self.start_client_on("").await;
    }

    /// The same on this node; an empty name: on any.
    pub async fn start_client_on(&self, node: &str) {
        self.cluster
            .apply(&format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: client, namespace: {}}}, spec: {{terminationGracePeriodSeconds: 0, \
                 nodeName: '{node}', containers: [{{name: client, image: 'valkey/valkey:8.1', imagePullPolicy: IfNotPresent, command: [sleep, infinity]}}]}}}}",
                self.namespace()
            ))
            .await;
        self.kubectl(&["wait", "pod/client", "--for=condition=Ready", "--timeout=120s"])
            .await
            .unwrap_or_else(|failed| panic!("{failed}"));
    }

    /// Runs one command through the Service with the stock valkey-cli. A refused connection is tried again for some
    /// seconds: a node learns of a Service's new pods a moment after the pods are ready.
    ///
    /// # Errors
    /// [`Failed`] when it can't be run; an error reply is part of the output.
    pub async fn cli(&self, args: &[&str]) -> Result<String, Failed> {
        let host = format!("{}-proxy", self.name);
        let command = [&["valkey-cli", "-h", &host], args].concat();
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            match self.cluster.exec_in_pod(self.namespace(), "client", &command).await {
                Ok(answer) => return Ok(answer.trim_end().to_owned()),
                Err(failed) if failed.stderr.contains("Connection refused") && Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(failed) => return Err(failed),
            }
        }
    }

    /// Runs many commands, one a line, through one connection; the answers, one a line.
    pub async fn cli_lines(&self, commands: &str) -> Vec<String> {
        let host = format!("{}-proxy", self.name);
        let args = [
            "exec",
            "-i",
            "--namespace",
            self.namespace(),
            "client",
            "--",
            "valkey-cli",
            "-h",
            &host,
        ];
        let answers = self
            .cluster
            .try_kubectl(&args, commands)
            .await
            .unwrap_or_else(|failed| panic!("{failed}"));
        answers.lines().map(str::to_owned).collect()
    }

    /// What the server in this pod says of itself, asked as the operator's own user that may only read.
    ///
    /// # Errors
    /// When the pod or the server does not answer, in words.
    pub async fn info(&self, pod: &str, section: &str) -> Result<BTreeMap<String, String>, String> {
        let script = format!(
            "REDISCLI_AUTH=$(cat /etc/codis/users/{pod}.probe) valkey-cli --no-auth-warning --user probe@{pod} INFO {section}"
        );
        let text = self
            .cluster
            .exec_in_pod(self.namespace(), pod, &["sh", "-c", &script])
            .await
            .map_err(|failed| failed.to_string())?;
        Ok(text
            .lines()
            .filter_map(|line| line.trim().split_once(':'))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect())
    }

    /// `kind/name → resourceVersion` of everything that belongs to the cluster, pods left out.
    pub async fn versions(&self) -> BTreeMap<String, String> {
        let selector = format!("app.kubernetes.io/instance={}", self.name);
        let kinds = "statefulsets,deployments,services,configmaps,secrets,poddisruptionbudgets";
        let path = "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}{\"\\n\"}{end}";
        let text = self.kubectl(&["get", kinds, "-l", &selector, "-o", path]).await;
        let text = text.unwrap_or_else(|failed| panic!("{failed}"));
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    }

    /// The versions, as soon as Kubernetes' own controllers have nothing to add to them: they write what they saw of a
    /// pod's readiness a moment after everybody else sees it.
    pub async fn settled_versions(&self) -> BTreeMap<String, String> {
        let mut last = self.versions().await;
        eventually(Duration::from_secs(60), "nothing is written any more", async || {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let before = std::mem::replace(&mut last, self.versions().await);
            if before == last {
                Ok(())
            } else {
                Err(format!("{last:?}"))
            }
        })
        .await;
        last
    }

    /// `name → (uid, restarts)` of its pods.
    pub async fn pods(&self) -> BTreeMap<String, String> {
        let selector = format!("app.kubernetes.io/instance={}", self.name);
        let path = "jsonpath={range .items[*]}{.metadata.name} {.metadata.uid}/{.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
        let text = self.kubectl(&["get", "pods", "-l", &selector, "-o", path]).await;
        let text = text.unwrap_or_else(|failed| panic!("{failed}"));
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    }
}
