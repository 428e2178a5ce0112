//! Faults of a node of the local cluster.

use std::cell::Cell;

use crate::cluster::Local;

/// A node of the local cluster. Faults that are still in force when the value is dropped are undone, so that a test which fails
/// half-way does not spoil the next one's cluster.
#[derive(Debug)]
pub struct Node {
    cluster: Local,
    number: u32,
    undo: Cell<Option<&'static str>>,
}

/// Which packets of a node are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// All.
    Both,
    /// Those to the node: it still speaks, and hears nothing.
    In,
    /// Those from the node: it hears all, and is not heard.
    Out,
}

impl Node {
    pub(crate) fn new(cluster: Local, number: u32) -> Self {
        Self {
            cluster,
            number,
            undo: Cell::new(None),
        }
    }

    /// Its name in Kubernetes.
    pub fn name(&self) -> String {
        format!("node{}", self.number)
    }

    /// Power cut: every process is gone at once and nobody is told. The disk stays.
    pub async fn kill(&self) {
        self.fault("kill", &[], "start").await;
    }

    /// Power on; returns when the node is Ready.
    pub async fn start(&self) {
        self.heal_with("start").await;
    }

    /// Freezes every process of the node, those of its pods included.
    pub async fn pause(&self) {
        self.fault("pause", &[], "resume").await;
    }

    /// Undoes [`Self::pause`].
    pub async fn resume(&self) {
        self.heal_with("resume").await;
    }

    /// Drops the node's packets; its links stay up, its processes run.
    pub async fn cut(&self, direction: Direction) {
        let flag: &[&str] = match direction {
            Direction::Both => &[],
            Direction::In => &["--in"],
            Direction::Out => &["--out"],
        };
        self.fault("cut", flag, "heal").await;
    }

    /// Undoes [`Self::cut`].
    pub async fn heal(&self) {
        self.heal_with("heal").await;
    }

    /// A disk of its own with so many MiB, which can be filled without harm to others; where it is on the node. It is gone when
    /// the node is switched off.
    pub async fn disk(&self, name: &str, mib: u32) -> String {
        let (number, mib) = (self.number.to_string(), mib.to_string());
        self.cluster.run(&["node", "disk", &number, name, &mib]).await;
        format!("/run/e2e/disk/{name}")
    }

    async fn fault(&self, verb: &str, flags: &[&str], undo: &'static str) {
        // Noted first: a fault that went wrong half-way is to be undone too.
        self.undo.set(Some(undo));
        self.cluster
            .run(&[&["node", verb, &self.number.to_string()], flags].concat())
            .await;
    }

    async fn heal_with(&self, verb: &str) {
        self.cluster.run(&["node", verb, &self.number.to_string()]).await;
        self.undo.set(None);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(verb) = self.undo.take() {
            self.cluster.run_now(&["node", verb, &self.number.to_string()]);
        }
    }
}
