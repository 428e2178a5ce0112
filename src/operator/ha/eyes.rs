//! Looks at one cluster: asks its servers, dashboards and proxies, all at the same time, and adds what Kubernetes told.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};

use super::marks;
use super::volumes::Volumes;
use super::world::{Pods, World};
use crate::api::CodisCluster;
use crate::client::{Answer, DashboardClient, Http, ProxyClient, ServerProbe};
use crate::model::{
    GroupId, GroupStatus, HostPort, ProductName, ProxyStatus, ServerUser, ServerUserKind, ServerWitness, Status,
};
use crate::operator::build::SERVER_CONTAINER;
use crate::operator::rollout;
use crate::operator::topology::pod_ip;
use crate::operator::validate::{DASHBOARD_PORT, SERVER_PORT};
use crate::plan::ha::{GroupSight, Mark, PodSight, Probe, ProxySight, Round, ServerSight, StatelessPod, Turn};

/// How long replies may be due from a server before a proxy counts as a witness against it, in ms.
const PROXY_PATIENCE_MS: i64 = 800;

/// What is kept from one look to the next.
pub(super) struct Eyes {
    http: Http,
    product: ProductName,
    product_auth: String,
    volumes: Volumes,
    probes: HashMap<String, ServerProbe>,
    last: Option<Status>,
    dashboards: Vec<String>,
}

impl Eyes {
    /// Looks by `http`, whose calls end within the time that a round may take.
    pub(super) fn new(http: Http, product: ProductName, product_auth: String, client: Client) -> Self {
        Self {
            http,
            product,
            product_auth,
            volumes: Volumes::new(client),
            probes: HashMap::new(),
            last: None,
            dashboards: Vec::new(),
        }
    }

    /// Where the instances of the dashboard are, the active one first. These are the addresses of their pods: names take a way
    /// that may be down.
    pub(super) fn dashboards(&self) -> &[String] {
        &self.dashboards
    }

    /// Looks once. Servers may take `patience` to answer.
    pub(super) async fn look(
        &mut self,
        cluster: &CodisCluster,
        world: &World,
        (at, turn): (Duration, Turn),
        patience: Duration,
    ) -> Round {
        let pods = world.pods(&cluster.namespace().unwrap_or_default(), &cluster.name_any());
        self.probes
            .retain(|name, _| pods.servers.iter().any(|pod| pod.name_any() == *name));
        for pod in &pods.servers {
            self.probes.entry(pod.name_any()).or_default();
        }
        self.volumes
            .retain(|uid| pods.servers.iter().any(|pod| pod.uid().as_deref() == Some(uid)));
        let known_proxies = self
            .last
            .as_ref()
            .map(|status| status.proxies.clone())
            .unwrap_or_default();
        let (asked, answers, proxies) = tokio::join!(
            ask_dashboards(&self.http, &self.product, &pods),
            ask_servers(&mut self.probes, &self.product_auth, &pods, patience),
            ask_proxies(&self.http, &known_proxies),
        );
        let dashboard = asked.active.is_some();
        let active = asked.active.as_ref().map(|(addr, _)| addr.clone());
        let others = dashboard_ips(&pods).map(|(_, addr)| addr);
        let others = others.filter(|addr| active.as_ref() != Some(addr));
        self.dashboards = active.iter().cloned().chain(others).collect();
        if let Some((_, status)) = asked.active {
            self.last = Some(status);
        }
        let mut stateless = stateless(&pods.dashboards, &asked.heard, world);
        let Some(status) = &self.last else {
            return Round {
                at,
                turn,
                stateless,
                ..Round::default()
            };
        };
        // Who is registered is known only as long as a dashboard tells it.
        if dashboard {
            let is_registered = |pod: &&Arc<Pod>| status.proxies.iter().any(|proxy| is_of(proxy, pod));
            let others: Vec<_> = pods.proxies.iter().filter(|pod| !is_registered(pod)).cloned().collect();
            stateless.extend(self::stateless(&others, &[], world));
        }
        let wanted = marks::read(cluster, Mark::HandOver).0;
        let accepted = marks::read(cluster, Mark::AcceptDataLoss).0;
        let volumes = cluster.spec.servers.storage.is_some().then_some(&self.volumes);
        let group = |group: &GroupStatus| GroupSight {
            servers: servers(group, status, dashboard, &answers, &pods, (world, volumes)),
            persistent: cluster.spec.servers.storage.is_some(),
            wanted_primary: named(group, &wanted),
            accepted_loss: named(group, &accepted),
            record: group.group.clone(),
            epoch: group.epoch,
        };
        Round {
            at,
            turn,
            dashboard,
            groups: status.groups.iter().map(group).collect(),
            proxies: proxies_seen(status, &proxies, &pods, world),
            stateless,
            ..Round::default()
        }
    }
}

/// The server of a group that runs in the pod which an annotation names.
fn named(group: &GroupStatus, pods: &BTreeMap<GroupId, String>) -> Option<HostPort> {
    let pod = pods.get(&group.group.id)?;
    let mut servers = group.group.servers.iter();
    servers
        .find(|record| record.server.pod() == Some(pod))
        .map(|record| record.server.clone())
}

/// What came of asking all instances of the dashboard.
#[derive(Default)]
struct Dashboards {
    /// The one that is active, and what it says.
    active: Option<(String, Status)>,
    /// Those that said anything at all.
    heard: Vec<IpAddr>,
}

/// The addresses of the dashboard's pods, and of its API in each.
fn dashboard_ips(pods: &Pods) -> impl Iterator<Item = (IpAddr, String)> {
    let ips = pods.dashboards.iter().filter_map(|pod| pod_ip(pod));
    ips.map(|ip| (ip, SocketAddr::new(ip, DASHBOARD_PORT).to_string()))
}

/// Asks all instances; the one that holds the newest lock counts.
async fn ask_dashboards(http: &Http, product: &ProductName, pods: &Pods) -> Dashboards {
    let asked = dashboard_ips(pods).map(async |(ip, addr)| {
        let client = DashboardClient::new(http.clone(), vec![addr.clone()], product.clone());
        (ip, addr, client.status().await)
    });
    let mut dashboards = Dashboards::default();
    for (ip, addr, answer) in join_all(asked).await {
        match answer {
            Ok(status) => {
                dashboards.heard.push(ip);
                let newest = dashboards.active.as_ref().map(|(_, newest)| newest.lock_epoch);
                if newest.is_none_or(|newest| status.lock_epoch >= newest) {
                    dashboards.active = Some((addr, status));
                }
            }
            // A standby is not the one to ask, and is there.
            Err(error) => dashboards.heard.extend(error.cause().map(|_| ip)),
        }
    }
    dashboards
}

/// Pods without data; `heard` are those that answered.
fn stateless(pods: &[Arc<Pod>], heard: &[IpAddr], world: &World) -> Vec<StatelessPod> {
    let sight = |pod: &Arc<Pod>| {
        Some(StatelessPod {
            pod: pod.name_any(),
            uid: pod.uid()?,
            answered: pod_ip(pod).is_some_and(|ip| heard.contains(&ip)),
            node: world.node(pod),
        })
    };
    pods.iter().filter_map(sight).collect()
}

/// Whether a proxy is the one in this pod.
fn is_of(proxy: &ProxyStatus, pod: &Pod) -> bool {
    let ip = proxy.admin_addr.parse::<SocketAddr>().map(|addr| addr.ip());
    ip.is_ok_and(|ip| pod_ip(pod) == Some(ip))
}

/// Asks all servers, each at the address of its pod: names take a way that may be down.
async fn ask_servers(
    probes: &mut HashMap<String, ServerProbe>,
    product_auth: &str,
    pods: &Pods,
    patience: Duration,
) -> HashMap<String, Probe> {
    let ips: HashMap<String, IpAddr> = pods
        .servers
        .iter()
        .filter_map(|pod| Some((pod.name_any(), pod_ip(pod)?)))
        .collect();
    let asked = probes.iter_mut().map(async |(pod, probe)| {
        let Some(ip) = ips.get(pod) else {
            return (pod.clone(), Probe::Nowhere);
        };
        let user = ServerUser::new(ServerUserKind::Probe, pod);
        let peer = SocketAddr::new(*ip, SERVER_PORT);
        let answer = probe.ask(peer, &user, &user.password(product_auth), patience).await;
        let probe = match answer {
            Answer::Info(info) => Probe::Answered(info),
            Answer::Refused => Probe::Refused,
            Answer::None(why) => Probe::Silent(why),
        };
        (pod.clone(), probe)
    });
    join_all(asked).await.into_iter().collect()
}

/// The admin addresses that answered.
async fn ask_proxies(http: &Http, proxies: &[ProxyStatus]) -> Vec<String> {
    let asked = proxies.iter().map(async |proxy| {
        let answered = ProxyClient::model(http, &proxy.admin_addr).await;
        answered
            .is_ok_and(|model| model.token == proxy.token)
            .then(|| proxy.admin_addr.clone())
    });
    join_all(asked).await.into_iter().flatten().collect()
}

fn servers(
    group: &GroupStatus,
    status: &Status,
    dashboard: bool,
    answers: &HashMap<String, Probe>,
    pods: &Pods,
    (world, volumes): (&World, Option<&Volumes>),
) -> Vec<ServerSight> {
    let sight = |server: &HostPort| {
        let name = server.pod().unwrap_or_default();
        let pod = pods.servers.iter().find(|pod| pod.name_any() == name);
        let polled = group.servers.iter().find(|polled| polled.server == *server);
        let witnesses = status.proxies.iter().filter(|proxy| proxy.reachable && dashboard);
        let witnesses: Vec<&ServerWitness> = witnesses
            .flat_map(|proxy| &proxy.servers)
            .filter(|witness| witness.server == *server)
            .collect();
        ServerSight {
            server: server.clone(),
            probe: answers.get(name).cloned().unwrap_or(Probe::Nowhere),
            pod: pod.map_or(PodSight::Absent, |pod| pod_sight(pod)),
            uid: pod.and_then(|pod| pod.uid()),
            outdated: pod.is_some_and(|pod| world.is_outdated(pod)),
            trouble: pod.map(|pod| rollout::trouble(pod)).unwrap_or_default(),
            node: pod.map(|pod| world.node(pod)).unwrap_or_default(),
            volume_lost: pod.zip(volumes).is_some_and(|(pod, volumes)| volumes.is_lost(pod)),
            polled: polled
                .filter(|polled| dashboard && (polled.reachable || tells_of_server(&polled.error)))
                .map(|polled| polled.reachable),
            proxies_without: witnesses.iter().filter(|witness| can_not_use(witness)).count(),
            proxies_asked: witnesses.len(),
        }
    };
    group.group.servers.iter().map(|record| sight(&record.server)).collect()
}

/// Whether an error of the dashboard's poll speaks of the server, and not of a name service that does not answer.
fn tells_of_server(error: &str) -> bool {
    !error.is_empty() && !error.starts_with("lookup ")
}

fn can_not_use(witness: &ServerWitness) -> bool {
    witness.silent_ms >= PROXY_PATIENCE_MS || (witness.open == 0 && witness.closed > 0)
}

/// How a server's pod is.
pub(super) fn pod_sight(pod: &Pod) -> PodSight {
    if pod.metadata.deletion_timestamp.is_some() {
        return PodSight::Leaving;
    }
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    // Others may have put containers of theirs beside it.
    let server = statuses.and_then(|list| list.iter().find(|status| status.name == SERVER_CONTAINER));
    let Some((server, state)) = server.and_then(|status| Some((status, status.state.as_ref()?))) else {
        return PodSight::Pending;
    };
    if state.running.is_some() {
        PodSight::Running(pod.uid().unwrap_or_default())
    } else if state.terminated.is_some() || server.restart_count > 0 {
        // It waits for its next start, if it waits.
        PodSight::Ended
    } else {
        PodSight::Pending
    }
}

fn proxies_seen(status: &Status, answered: &[String], pods: &Pods, world: &World) -> Vec<ProxySight> {
    let sight = |proxy: &ProxyStatus| {
        // Proxies that no pod belongs to are somebody else's.
        let pod = pods.proxies.iter().find(|pod| is_of(proxy, pod))?;
        Some(ProxySight {
            token: proxy.token.clone(),
            pod: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            pod_stays: pod.metadata.deletion_timestamp.is_none(),
            answered: answered.contains(&proxy.admin_addr),
            polled: proxy.answered(),
            epoch: proxy.epoch,
            node: world.node(pod),
        })
    };
    status.proxies.iter().filter_map(sight).collect()
}
