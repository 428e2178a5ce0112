use super::*;
use crate::model::{ActionState, GroupServer, GroupStats, Proxy, ProxyStats, SentinelStats, SlotActionStats, SlotId};

fn addr(group: i64, index: usize) -> HostPort {
    format!("shop-g{group}-{index}.shop-servers.ns.svc:6379")
        .parse()
        .unwrap()
}

fn desired(groups: i64, servers: usize) -> Desired {
    let group = |id| DesiredGroup {
        id: GroupId::new(id).unwrap(),
        servers: (0..servers).map(|i| addr(id, i)).collect(),
    };
    Desired {
        groups: (1..=groups).map(group).collect(),
        proxy_prefix: "shop-proxy-".to_owned(),
    }
}

fn nothing() -> Stats {
    Stats {
        closed: false,
        slots: SlotId::all().map(SlotMapping::offline).collect(),
        group: GroupStats::default(),
        proxy: ProxyStats::default(),
        slot_action: SlotActionStats::default(),
        sentinels: SentinelStats::default(),
    }
}

/// A dashboard that does at once what it is asked for, with servers that do as they are told.
fn carry_out(stats: &mut Stats, steps: &[Step]) {
    for step in steps {
        match step {
            Step::CreateGroup(id) => stats.group.models.push(Group::new(*id)),
            Step::AddServer(id, server) => {
                group_mut(stats, *id).servers.push(GroupServer::new(server.clone(), ""));
                poll(
                    stats,
                    server,
                    &[("run_id", "1"), ("role", "slave"), ("master_link_status", "down")],
                );
            }
            Step::GiveRole(id, server) | Step::AskAgain(id, server) => {
                let group = group_mut(stats, *id);
                let index = group.servers.iter().position(|s| s.server == *server).unwrap();
                group.servers[index].admitted_run_id = Some("1".to_owned());
                group.servers[index].action.state = ActionState::Synced;
                let primary = group.servers[0].server.clone();
                if index == 0 {
                    poll(stats, server, &[("run_id", "1"), ("role", "master")]);
                } else {
                    group.in_sync.push(server.clone());
                    poll(
                        stats,
                        server,
                        &[
                            ("run_id", "1"),
                            ("role", "slave"),
                            ("master_server", primary.as_str()),
                            ("master_link_status", "up"),
                        ],
                    );
                }
            }
            Step::AssignSlots(slots) => slots.iter().for_each(|slot| stats.slots[slot.id.index()] = *slot),
            Step::BringProxyOnline(name, admin) => stats.proxy.models.push(proxy(name, admin)),
            Step::ForgetProxy(_, token) => stats.proxy.models.retain(|proxy| proxy.token != *token),
        }
    }
}

fn group_mut(stats: &mut Stats, id: GroupId) -> &mut Group {
    stats.group.models.iter_mut().find(|group| group.id == id).unwrap()
}

fn poll(stats: &mut Stats, server: &HostPort, info: &[(&str, &str)]) {
    let stats_of = info
        .iter()
        .map(|(field, value)| ((*field).to_owned(), (*value).to_owned()))
        .collect();
    stats.group.stats.insert(
        server.to_string(),
        RedisStats {
            stats: stats_of,
            unixtime: 1,
            ..RedisStats::default()
        },
    );
}

fn proxy(name: &str, admin_addr: &str) -> Proxy {
    serde_json::from_value(serde_json::json!({
        "token": format!("token-of-{name}"), "start_time": "", "admin_addr": admin_addr, "proto_type": "tcp4",
        "proxy_addr": "", "product_name": "p", "pid": 1, "pwd": "", "sys": "", "hostname": name,
    }))
    .unwrap()
}

fn observe<'a>(desired: &Desired, stats: &'a Stats, bootstrapped: bool) -> Observed<'a> {
    let running = desired
        .groups
        .iter()
        .flat_map(|group| group.servers.iter().cloned())
        .collect();
    Observed {
        stats,
        bootstrapped,
        running,
        renewed: BTreeSet::new(),
        proxies: Vec::new(),
    }
}

fn brought_up(desired: &Desired) -> Stats {
    let mut stats = nothing();
    for _ in 0..10 {
        let plan = plan_topology(desired, &observe(desired, &stats, false));
        carry_out(&mut stats, &plan.steps);
    }
    stats
}

#[test]
fn bring_up_ends_with_every_slot_assigned_and_nothing_left_to_do() {
    let desired = desired(3, 2);
    let stats = brought_up(&desired);
    assert!(stats.slots.iter().all(|slot| slot.group_id != 0));
    assert_eq!(
        plan_topology(&desired, &observe(&desired, &stats, true)),
        Plan::default()
    );
}

#[test]
fn the_primary_is_added_first_and_slots_wait_for_every_role() {
    let desired = desired(1, 3);
    let plan = plan_topology(&desired, &observe(&desired, &nothing(), false));
    let id = GroupId::new(1).unwrap();
    assert_eq!(plan.steps[0], Step::CreateGroup(id));
    assert_eq!(plan.steps[1], Step::AddServer(id, addr(1, 0)));
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::AssignSlots(_))));
}

#[test]
fn replicas_are_not_added_before_their_primary_runs() {
    let desired = desired(1, 2);
    let stats = nothing();
    let mut observed = observe(&desired, &stats, false);
    observed.running.remove(&addr(1, 0));
    let plan = plan_topology(&desired, &observed);
    assert_eq!(plan.steps, [Step::CreateGroup(GroupId::new(1).unwrap())]);
    assert!(plan.waiting.iter().any(|text| text.contains("shop-g1-0")));
}

#[test]
fn a_replica_without_a_node_does_not_keep_the_cluster_from_serving() {
    let desired = desired(1, 2);
    let mut stats = nothing();
    for _ in 0..5 {
        let mut observed = observe(&desired, &stats, false);
        observed.running.remove(&addr(1, 1));
        let plan = plan_topology(&desired, &observed);
        carry_out(&mut stats, &plan.steps);
    }
    assert!(stats.slots.iter().all(|slot| slot.group_id == 1));
}

#[test]
fn a_restarted_replica_gets_its_role_again() {
    let desired = desired(2, 2);
    let mut stats = brought_up(&desired);
    poll(
        &mut stats,
        &addr(2, 1),
        &[("run_id", "2"), ("role", "slave"), ("master_host", "127.0.0.1")],
    );
    let plan = plan_topology(&desired, &observe(&desired, &stats, true));
    assert_eq!(plan.steps, [Step::GiveRole(GroupId::new(2).unwrap(), addr(2, 1))]);
}

#[test]
fn a_replica_of_a_wrong_server_is_repointed() {
    let desired = desired(1, 2);
    let mut stats = brought_up(&desired);
    poll(
        &mut stats,
        &addr(1, 1),
        &[("run_id", "1"), ("role", "slave"), ("master_link_status", "up")],
    );
    let plan = plan_topology(&desired, &observe(&desired, &stats, true));
    assert_eq!(plan.steps, [Step::GiveRole(GroupId::new(1).unwrap(), addr(1, 1))]);
}

/// Somebody made it one by hand, or it comes back from a time when it led.
#[test]
fn a_second_primary_of_a_group_is_told_to_follow() {
    let desired = desired(1, 2);
    let mut stats = brought_up(&desired);
    for run_id in ["1", "2"] {
        poll(&mut stats, &addr(1, 1), &[("run_id", run_id), ("role", "master")]);
        let plan = plan_topology(&desired, &observe(&desired, &stats, true));
        assert_eq!(plan.steps, [Step::GiveRole(GroupId::new(1).unwrap(), addr(1, 1))]);
    }
    carry_out(&mut stats, &[Step::GiveRole(GroupId::new(1).unwrap(), addr(1, 1))]);
    assert_eq!(
        plan_topology(&desired, &observe(&desired, &stats, true)),
        Plan::default()
    );
}

#[test]
fn a_replica_that_is_not_recorded_as_in_sync_is_waited_for() {
    let desired = desired(1, 2);
    let mut stats = brought_up(&desired);
    stats.group.models[0].in_sync.clear();
    let plan = plan_topology(&desired, &observe(&desired, &stats, true));
    assert_eq!((plan.steps.len(), plan.waiting.len(), plan.problems.len()), (0, 1, 0));
}

#[test]
fn a_role_that_is_being_given_is_not_asked_for_again() {
    let desired = desired(1, 1);
    let mut stats = brought_up(&desired);
    poll(&mut stats, &addr(1, 0), &[("run_id", "2"), ("role", "slave")]);
    stats.group.models[0].servers[0].action.state = ActionState::Pending;
    let plan = plan_topology(&desired, &observe(&desired, &stats, true));
    assert_eq!((plan.steps.len(), plan.waiting.len()), (0, 1));
}

#[test]
fn a_refused_role_is_a_problem_that_names_the_reason() {
    let desired = desired(1, 2);
    let mut stats = brought_up(&desired);
    poll(
        &mut stats,
        &addr(1, 0),
        &[("run_id", "2"), ("role", "slave"), ("admission", "it came back empty")],
    );
    // Said while it is still being tried, it is something to wait for.
    stats.group.models[0].servers[0].action.state = ActionState::Pending;
    let plan = plan_topology(&desired, &observe(&desired, &stats, true));
    assert!(
        plan.problems.is_empty() && plan.waiting[0].contains("it came back empty"),
        "{plan:?}"
    );
    stats.group.models[0].servers[0].action.state = ActionState::SyncedFailed;
    let plan = plan_topology(&desired, &observe(&desired, &stats, true));
    assert_eq!(plan.problems[0].reason, ProblemReason::RoleRefused);
    assert!(plan.problems[0].message.contains("it came back empty"), "{plan:?}");
    assert_eq!(plan.steps, [Step::AskAgain(GroupId::new(1).unwrap(), addr(1, 0))]);
}

#[test]
fn an_empty_store_of_a_cluster_that_served_is_never_filled_afresh() {
    let desired = desired(3, 2);
    let plan = plan_topology(&desired, &observe(&desired, &nothing(), true));
    assert_eq!(
        (plan.steps.len(), plan.problems[0].reason),
        (0, ProblemReason::StoreLost)
    );
}

#[test]
fn slots_left_over_by_an_interrupted_assignment_are_assigned_to_their_group() {
    let desired = desired(2, 1);
    let mut stats = brought_up(&desired);
    let before = stats.slots.clone();
    stats.slots[600] = SlotMapping::offline(SlotId::new(600).unwrap());
    let plan = plan_topology(&desired, &observe(&desired, &stats, false));
    assert_eq!(plan.steps, [Step::AssignSlots(vec![before[600]])]);
}

#[test]
fn proxies_without_a_pod_are_forgotten_and_foreign_ones_left_alone() {
    let desired = desired(1, 1);
    let mut stats = brought_up(&desired);
    stats.proxy.models = vec![
        proxy("shop-proxy-a", "10.0.0.1:11080"),
        proxy("shop-proxy-b", "10.0.0.2:11080"),
        proxy("other", "10.9.9.9:11080"),
    ];
    let mut observed = observe(&desired, &stats, true);
    // The pod of `b` was made anew at another address; a third one is not registered yet.
    let pod = |name: &str, ip: &str| ProxyPod {
        name: name.to_owned(),
        admin_addr: (!ip.is_empty()).then(|| format!("{ip}:11080")),
        running: true,
    };
    observed.proxies = vec![
        pod("shop-proxy-a", "10.0.0.1"),
        pod("shop-proxy-b", "10.0.0.9"),
        pod("shop-proxy-c", "10.0.0.3"),
    ];
    let plan = plan_topology(&desired, &observed);
    assert_eq!(
        plan.steps,
        [
            Step::ForgetProxy("shop-proxy-b".to_owned(), ProxyToken::from("token-of-shop-proxy-b")),
            Step::BringProxyOnline("shop-proxy-b".to_owned(), "10.0.0.9:11080".to_owned()),
            Step::BringProxyOnline("shop-proxy-c".to_owned(), "10.0.0.3:11080".to_owned()),
        ]
    );
}

#[test]
fn servers_with_keys_and_an_empty_store_are_never_assigned_afresh() {
    let desired = desired(2, 2);
    let mut stats = nothing();
    for _ in 0..2 {
        let plan = plan_topology(&desired, &observe(&desired, &stats, false));
        carry_out(
            &mut stats,
            &plan
                .steps
                .into_iter()
                .filter(|step| !matches!(step, Step::GiveRole(..)))
                .collect::<Vec<_>>(),
        );
    }
    poll(
        &mut stats,
        &addr(2, 1),
        &[("run_id", "1"), ("role", "slave"), ("db0", "keys=7,expires=0")],
    );
    let plan = plan_topology(&desired, &observe(&desired, &stats, false));
    assert_eq!(
        (plan.steps.len(), plan.problems[0].reason),
        (0, ProblemReason::StoreLost)
    );
    assert!(plan.problems[0].message.contains("shop-g2-1"), "{plan:?}");
}

#[test]
fn a_server_that_a_new_dashboard_has_not_polled_yet_is_not_lost() {
    let desired = desired(1, 2);
    let mut stats = brought_up(&desired);
    stats.group.stats.clear();
    let plan = plan_topology(&desired, &observe(&desired, &stats, true));
    assert_eq!((plan.steps.len(), plan.problems.len(), plan.waiting.len()), (0, 0, 2));
}

#[test]
fn a_replica_that_is_being_replaced_is_waited_for_and_one_that_is_lost_is_a_problem() {
    let desired = desired(1, 2);
    let mut stats = brought_up(&desired);
    let lose = |stats: &mut Stats, server: HostPort| {
        let polled = stats.group.stats.get_mut(server.as_str()).unwrap();
        polled.timeout = true;
    };
    lose(&mut stats, addr(1, 1));
    let lost = plan_topology(&desired, &observe(&desired, &stats, true));
    assert_eq!(lost.problems[0].reason, ProblemReason::ServerLost);
    let mut observed = observe(&desired, &stats, true);
    observed.renewed = [addr(1, 0), addr(1, 1)].into();
    let replaced = plan_topology(&desired, &observed);
    assert_eq!(replaced.problems, []);
    assert!(replaced.waiting[0].contains("g1-1") && replaced.waiting[0].contains("is being replaced"));
    // Nobody serves in place of a primary.
    lose(&mut stats, addr(1, 0));
    let mut observed = observe(&desired, &stats, true);
    observed.renewed = [addr(1, 0), addr(1, 1)].into();
    assert_eq!(plan_topology(&desired, &observed).problems.len(), 1);
}

#[test]
fn a_proxy_whose_pod_has_no_address_yet_is_kept() {
    let desired = desired(1, 1);
    let mut stats = brought_up(&desired);
    stats.proxy.models = vec![proxy("shop-proxy-a", "10.0.0.1:11080")];
    let mut observed = observe(&desired, &stats, true);
    observed.proxies = vec![ProxyPod {
        name: "shop-proxy-a".to_owned(),
        admin_addr: None,
        running: false,
    }];
    assert_eq!(plan_topology(&desired, &observed), Plan::default());
}
