use std::collections::BTreeMap;

use super::*;
use crate::model::{
    Failover, Group, GroupServer, GroupStats, ProxyStats, RedisStats, SentinelStats, SlotActionStats, SlotId,
    SlotMapping,
};
use crate::operator::apply::Rollout;
use crate::operator::build::build;
use crate::operator::build::fixtures::{shop, valid_shop};
use crate::plan::{Plan, Problem, ProblemReason};
use k8s_openapi::api::core::v1::Pod;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A dashboard's word that all is well with the cluster of the fixtures.
fn all_well(cluster: &Cluster) -> Stats {
    let mut group = GroupStats::default();
    for id in &cluster.groups {
        let mut record = Group::new(*id);
        for pod in cluster.server_pods(*id) {
            let addr = cluster.server_addr(&pod).unwrap();
            let mut info = BTreeMap::from([("run_id".to_owned(), "1".to_owned())]);
            match record.primary() {
                None => info.insert("role".to_owned(), "master".to_owned()),
                Some(primary) => {
                    info.insert("role".to_owned(), "slave".to_owned());
                    info.insert("master_link_status".to_owned(), "up".to_owned());
                    info.insert("master_server".to_owned(), primary.server.to_string())
                }
            };
            group.stats.insert(
                addr.to_string(),
                RedisStats {
                    stats: info,
                    ..RedisStats::default()
                },
            );
            if !record.servers.is_empty() {
                record.in_sync.push(addr.clone());
            }
            record.servers.push(GroupServer {
                admitted_run_id: Some("1".to_owned()),
                ..GroupServer::new(addr, "")
            });
        }
        group.models.push(record);
    }
    let owner = |slot: SlotId| crate::plan::even_owner(slot, &cluster.groups).unwrap().into();
    Stats {
        closed: false,
        slots: SlotId::all()
            .map(|id| SlotMapping {
                group_id: owner(id),
                ..SlotMapping::offline(id)
            })
            .collect(),
        group,
        proxy: ProxyStats::default(),
        slot_action: SlotActionStats::default(),
        sentinels: SentinelStats::default(),
    }
}

fn topology(stats: Result<Stats, String>, plan: Plan) -> Topology {
    Topology {
        stats: stats.map(Box::new),
        active: Some("shop-dashboard-0".into()),
        plan,
        taken: vec![],
        failed: vec![],
    }
}

/// All dashboards, and this many proxies, are ready and up to date.
fn rolled(proxies: i32) -> Rollouts {
    Rollouts {
        proxies: Rollout {
            ready: proxies,
            done: proxies == 2,
        },
        dashboards: Rollout { ready: 2, done: true },
        servers: build(&valid_shop())
            .servers
            .into_iter()
            .map(|set| (set.name_any(), set))
            .collect(),
    }
}

/// The pods of all servers, made as the spec says.
fn pods(cluster: &Cluster) -> Pods {
    let sets = build(cluster).servers.into_iter().zip(&cluster.groups);
    let pods = sets.flat_map(|(set, group)| {
        let template = set.spec.unwrap().template.metadata.unwrap();
        let pod = move |name: String| {
            let mut pod = Pod::default();
            pod.metadata.annotations = template.annotations.clone();
            (name, pod)
        };
        cluster.server_pods(*group).map(pod)
    });
    Pods {
        servers: pods.collect(),
        ..Pods::default()
    }
}

fn condition<'a>(status: &'a CodisClusterStatus, type_: &str) -> &'a Condition {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .unwrap()
}

#[test]
fn a_whole_cluster_is_ready() {
    let cluster = valid_shop();
    let topology = topology(Ok(all_well(&cluster)), Plan::default());
    let status = of_cluster(
        &shop(),
        &cluster,
        &topology,
        rolled(2),
        &pods(&valid_shop()),
        &Report::default(),
        at(1),
    );
    assert_eq!((status.phase, status.bootstrapped), (Some(Phase::Ready), true));
    assert_eq!(
        (
            status.slots,
            status.servers.ready,
            status.servers.total,
            status.proxies.ready
        ),
        (1024, 6, 6, 2)
    );
    assert_eq!(status.groups.iter().map(|group| group.slots).sum::<i32>(), 1024);
    assert_eq!(status.groups[1].primary.as_deref(), Some("shop-g2-0"));
    assert_eq!(condition(&status, "Ready").status, "True");
    assert_eq!(condition(&status, "Degraded").status, "False");
}

#[test]
fn an_unchanged_cluster_has_an_unchanged_status() {
    let cluster = valid_shop();
    let mut object = shop();
    let topology = topology(Ok(all_well(&cluster)), Plan::default());
    object.status = Some(of_cluster(
        &object,
        &cluster,
        &topology,
        rolled(2),
        &pods(&valid_shop()),
        &Report::default(),
        at(1),
    ));
    let later = of_cluster(
        &object,
        &cluster,
        &topology,
        rolled(2),
        &pods(&valid_shop()),
        &Report::default(),
        at(100),
    );
    assert_eq!(object.status, Some(later));
}

#[test]
fn a_condition_changes_its_time_only_with_its_status() {
    let cluster = valid_shop();
    let mut object = shop();
    let well = topology(Ok(all_well(&cluster)), Plan::default());
    object.status = Some(of_cluster(
        &object,
        &cluster,
        &well,
        rolled(2),
        &pods(&valid_shop()),
        &Report::default(),
        at(1),
    ));
    let short = of_cluster(
        &object,
        &cluster,
        &well,
        rolled(1),
        &pods(&valid_shop()),
        &Report::default(),
        at(9),
    );
    assert_eq!(condition(&short, "Ready").last_transition_time.0, at(9));
    assert_eq!(condition(&short, "Degraded").last_transition_time.0, at(1));
    assert_eq!(short.phase, Some(Phase::Progressing));
}

#[test]
fn a_problem_degrades_and_its_words_are_told() {
    let cluster = valid_shop();
    let problem = Problem {
        reason: ProblemReason::RoleRefused,
        message: "it came back empty".to_owned(),
    };
    let topology = topology(
        Ok(all_well(&cluster)),
        Plan {
            problems: vec![problem],
            ..Plan::default()
        },
    );
    let status = of_cluster(
        &shop(),
        &cluster,
        &topology,
        rolled(2),
        &pods(&valid_shop()),
        &Report::default(),
        at(1),
    );
    assert_eq!(status.phase, Some(Phase::Degraded));
    let degraded = condition(&status, "Degraded");
    assert_eq!(
        (degraded.status.as_str(), degraded.reason.as_str()),
        ("True", "RoleRefused")
    );
    assert!(condition(&status, "Ready").message.contains("it came back empty"));
}

#[test]
fn without_a_dashboard_what_was_known_of_slots_stays() {
    let cluster = valid_shop();
    let mut object = shop();
    let well = topology(Ok(all_well(&cluster)), Plan::default());
    object.status = Some(of_cluster(
        &object,
        &cluster,
        &well,
        rolled(2),
        &pods(&valid_shop()),
        &Report::default(),
        at(1),
    ));
    let gone = Topology {
        active: None,
        ..topology(Err("connection refused".to_owned()), Plan::default())
    };
    let status = of_cluster(
        &object,
        &cluster,
        &gone,
        rolled(2),
        &pods(&valid_shop()),
        &Report::default(),
        at(9),
    );
    assert_eq!(
        (status.slots, status.bootstrapped, status.phase),
        (1024, true, Some(Phase::Degraded))
    );
    assert_eq!(condition(&status, "Degraded").reason, "DashboardUnavailable");
    assert_eq!(condition(&status, "Ready").status, "False");
}

#[test]
fn proxies_that_are_being_replaced_are_waited_for() {
    let cluster = valid_shop();
    let topology = topology(Ok(all_well(&cluster)), Plan::default());
    let mut rollouts = rolled(2);
    rollouts.proxies.done = false;
    let status = of_cluster(
        &shop(),
        &cluster,
        &topology,
        rollouts,
        &pods(&valid_shop()),
        &Report::default(),
        at(1),
    );
    assert_eq!(status.phase, Some(Phase::Progressing));
    assert!(condition(&status, "Ready").message.contains("replaced"));
}

#[test]
fn servers_that_are_to_be_replaced_are_a_rollout_and_no_fault() {
    let cluster = valid_shop();
    let plan = Plan {
        waiting: vec!["group 1: shop-g1-1 is being replaced".to_owned()],
        ..Plan::default()
    };
    let topology = topology(Ok(all_well(&cluster)), plan);
    let mut object = shop();
    object.status = Some(CodisClusterStatus {
        bootstrapped: true,
        ..CodisClusterStatus::default()
    });
    let mut pods = pods(&cluster);
    let outdated = pods.servers.get_mut("shop-g1-0").unwrap();
    outdated.metadata.annotations = None;
    let report = Report::default();
    let status = of_cluster(&object, &cluster, &topology, rolled(2), &pods, &report, at(1));
    assert_eq!(status.phase, Some(Phase::Progressing));
    let progress = condition(&status, "Progressing");
    assert_eq!(
        (progress.status.as_str(), progress.reason.as_str()),
        ("True", "RollingOut")
    );
    assert!(progress.message.contains("5 of 6 servers"), "{}", progress.message);
    assert_eq!(condition(&status, "Degraded").status, "False");
}

#[test]
fn the_default_coordinator_of_the_beginning_is_kept() {
    let cluster = valid_shop();
    let mut object = shop();
    let topology = topology(Ok(all_well(&cluster)), Plan::default());
    object.status = Some(of_cluster(
        &object,
        &cluster,
        &topology,
        rolled(2),
        &pods(&valid_shop()),
        &Report::default(),
        at(1),
    ));
    let mut settings = crate::operator::build::fixtures::settings();
    settings.coordinator = vec!["http://another:2379".to_owned()];
    let later = crate::operator::validate(&object, &crate::operator::build::fixtures::refs(), &settings).unwrap();
    assert_eq!(later.coordinator, cluster.coordinator);
}

/// The status of the cluster after `object`, where the dashboard has this on record of group 2.
fn told(object: &CodisCluster, record: Option<Failover>) -> CodisClusterStatus {
    let cluster = valid_shop();
    let mut stats = all_well(&cluster);
    stats.group.models[1].last_failover = record.map(Box::new);
    let (topology, report) = (topology(Ok(stats), Plan::default()), Report::default());
    of_cluster(
        object,
        &cluster,
        &topology,
        rolled(2),
        &pods(&cluster),
        &report,
        at(9000),
    )
}

fn failover_of_group_2(at_ms: i64) -> Failover {
    let addr = |pod: &str| valid_shop().server_addr(pod).unwrap();
    Failover {
        from: addr("shop-g2-0"),
        to: addr("shop-g2-1"),
        at_ms,
        epoch: 3,
        reason: "nobody listens there".to_owned(),
        forced: false,
        detect_ms: Some(5),
        promote_ms: Some(40),
        write_ms: Some(6),
        lost_bytes: Some(12),
    }
}

#[test]
fn the_last_failover_is_told_from_the_record_whoever_asked_for_it() {
    let status = told(&shop(), Some(failover_of_group_2(1_234_567)));
    assert_eq!(status.groups[0].last_failover, None);
    let expected = FailoverStatus {
        at: Time(at(1234)),
        from: "shop-g2-0".to_owned(),
        to: "shop-g2-1".to_owned(),
        reason: "nobody listens there".to_owned(),
        detect_ms: 5,
        promote_ms: 40,
        write_ms: 6,
        lost_bytes: Some(12),
    };
    assert_eq!(status.groups[1].last_failover, Some(expected));
    // Somebody asked the dashboard, and knew nothing; nor is the promotion over.
    let bare = Failover {
        reason: String::new(),
        detect_ms: None,
        write_ms: None,
        lost_bytes: None,
        ..failover_of_group_2(1_234_567)
    };
    let told = told(&shop(), Some(bare)).groups[1].last_failover.clone().unwrap();
    assert!(told.reason.contains("dashboard"));
    assert_eq!((told.detect_ms, told.write_ms, told.lost_bytes), (0, 0, None));
}

#[test]
fn what_was_told_of_the_last_failover_stays_until_there_is_another_record() {
    let mut object = shop();
    let status = told(&object, Some(failover_of_group_2(5_000)));
    let first = status.groups[1].last_failover.clone();
    object.status = Some(status);
    let none = told(&object, None);
    assert_eq!(
        none.groups[1].last_failover, first,
        "an older dashboard keeps no record"
    );
    let cluster = valid_shop();
    let (gone, report) = (topology(Err("refused".to_owned()), Plan::default()), Report::default());
    let gone = of_cluster(&object, &cluster, &gone, rolled(2), &pods(&cluster), &report, at(9));
    assert_eq!(gone.groups[1].last_failover, first, "nobody tells");
    // The clock of the dashboard that did this one is behind.
    let other = told(&object, Some(failover_of_group_2(4_000)));
    assert_ne!(other.groups[1].last_failover, first);
}

#[test]
fn a_refused_spec_says_who_refused_what() {
    let status = of_refused(&shop(), "InvalidSpec", "spec.auth.secretRef: there is no Secret", at(1));
    assert_eq!(status.phase, Some(Phase::Invalid));
    let ready = condition(&status, "Ready");
    assert_eq!(
        (ready.reason.as_str(), ready.message.as_str()),
        ("InvalidSpec", "spec.auth.secretRef: there is no Secret")
    );
}

#[test]
fn last_data_loss_of_a_group_is_kept_in_its_status() {
    let cluster = valid_shop();
    let topology = topology(Ok(all_well(&cluster)), Plan::default());
    let mut object = shop();
    let told = |object: &CodisCluster, report: &Report| {
        let status = of_cluster(object, &cluster, &topology, rolled(2), &pods(&cluster), report, at(9));
        let losses: Vec<_> = status.groups.iter().map(|group| group.last_data_loss.clone()).collect();
        (status, losses)
    };
    let mut report = Report::default();
    let loss = |second, keys| crate::operator::ha::DataLossRecord { at: at(second), keys };
    report.losses.insert(cluster.groups[0], loss(5, 42));
    let (status, losses) = told(&object, &report);
    let first = losses[0].clone().unwrap();
    assert_eq!((first.at.0, first.keys, &losses[1]), (at(5), 42, &None));
    assert_eq!(condition(&status, "Degraded").status, "False");
    object.status = Some(status);
    assert_eq!(told(&object, &Report::default()).1[0], Some(first.clone()));
    // What another instance found later counts.
    report.losses.insert(cluster.groups[0], loss(3, 7));
    assert_eq!(told(&object, &report).1[0], Some(first));
}
