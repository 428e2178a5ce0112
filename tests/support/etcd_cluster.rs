//! An etcd of three members.

use std::time::Duration;

use etcd_client::Client;
use tempfile::TempDir;

use super::etcd::Member;
use super::{Process, START, eventually, free_port};

pub struct Cluster {
    members: Vec<Process>,
    ports: Vec<u16>,
    _folder: TempDir,
}

impl Cluster {
    /// Returns when all answer.
    pub async fn start() -> Self {
        let names = ["one", "two", "three"];
        let (ports, peers) = (names.map(|_| free_port()), names.map(|_| free_port()));
        let folder = TempDir::new().unwrap();
        let cluster = [0, 1, 2].map(|i| format!("{}=http://127.0.0.1:{}", names[i], peers[i]));
        let members = (0..3)
            .map(|i| {
                let member = Member {
                    name: names[i],
                    scheme: "http",
                    port: ports[i],
                    peer_port: peers[i],
                    folder: &folder.path().join(names[i]),
                    cluster: &cluster.join(","),
                };
                Process::start(&member.command())
            })
            .collect();
        let cluster = Self {
            members,
            ports: ports.to_vec(),
            _folder: folder,
        };
        for endpoint in cluster.endpoints().split(',') {
            eventually("a member answers", START, async || {
                let mut client = Client::connect([endpoint], None).await.ok()?;
                let answer = tokio::time::timeout(Duration::from_secs(1), client.get("x", None));
                answer.await.ok()?.ok()
            })
            .await;
        }
        cluster
    }

    /// All of them, in the order of their numbers.
    pub fn endpoints(&self) -> String {
        let endpoints: Vec<_> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        endpoints.join(",")
    }

    /// Freezes a member, or wakes it.
    pub fn signal(&self, member: usize, signal: &str) {
        self.members[member].signal(signal);
    }

    /// Kills a member for good.
    pub fn kill(&mut self, member: usize) {
        self.members[member].kill();
    }
}
