//! Two groups of three servers, of which several end at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::faults::{Loss, Promise};
use e2e::{Cluster, Codis, Server, Verdict, Writer, eventually, judge, now, operator, slot_of};

/// Nothing waits because the failover before was not long ago.
const SPEC: &str = "{servers: {groups: 2, replicasPerGroup: 3}, proxies: {replicas: 2}, ha: {cooldown: 0s}}";
/// What is promised of each.
const PROMISE: Promise = Promise {
    goal: Duration::from_secs(2),
    loss: Loss::LastMoment,
    errors: true,
};
/// How often it is tried on a machine that may be busy.
const TRIES: usize = 3;

/// A group, as the status tells.
struct Group {
    primary: String,
    /// Its other servers; first those whose containers were restarted least often: Kubernetes lets the others wait.
    replicas: Vec<String>,
    in_sync: usize,
}

async fn groups(codis: &Codis<'_>) -> Result<Vec<Group>, String> {
    let (object, pods) = (codis.object().await?, codis.pods().await);
    let groups = object["status"]["groups"].as_array().ok_or("no groups")?;
    let read = |group: &serde_json::Value| {
        let primary = group["primary"].as_str()?.to_owned();
        let servers = group["servers"].as_array()?;
        let names = servers.iter().filter_map(|server| server["pod"].as_str());
        let mut replicas: Vec<String> = names.filter(|pod| *pod != primary).map(str::to_owned).collect();
        replicas.sort_by_key(|pod| restarts(&pods, pod));
        let in_sync = servers.iter().filter(|server| server["inSync"] == true).count();
        Some(Group {
            primary,
            replicas,
            in_sync,
        })
    };
    let read: Option<Vec<Group>> = groups.iter().map(read).collect();
    read.ok_or_else(|| object["status"]["groups"].to_string())
}

fn restarts(pods: &BTreeMap<String, String>, pod: &str) -> Option<u32> {
    pods.get(pod)?.rsplit('/').next()?.parse().ok()
}

/// A hash tag whose slot this group owns: the first of two has the lower half.
fn tag_of(group: u32) -> String {
    let mut numbers = (0..).map(|number: u32| number.to_string());
    numbers.find(|tag| slot_of(tag) / 512 == group - 1).unwrap()
}

/// Waits until every group has three servers in sync, those that were killed as other processes, and all others untouched.
async fn wait_until_whole(codis: &Codis<'_>, killed: &[String], before: &BTreeMap<String, String>) {
    eventually(
        Duration::from_secs(120),
        "three servers in sync in each group",
        async || {
            let pods = codis.pods().await;
            for group in groups(codis).await? {
                let leads = codis.info(&group.primary, "replication").await?;
                let history = leads.get("master_replid");
                let mut well = group.in_sync == 3 && leads["role"] == "master" && !killed.contains(&group.primary);
                for replica in &group.replicas {
                    let follows = codis.info(replica, "replication").await?;
                    let link = follows.get("master_link_status").map(String::as_str);
                    well &= link == Some("up") && follows.get("master_replid") == history;
                }
                for pod in group.replicas.iter().chain([&group.primary]) {
                    well &= killed.contains(pod) == (pods.get(pod) != before.get(pod));
                }
                if !well {
                    return Err(format!(
                        "{leads:?}, {pods:?}, {}",
                        codis.object().await?["status"]["groups"]
                    ));
                }
            }
            Ok(())
        },
    )
    .await;
    codis.wait_ready().await;
}

/// Kills servers at once under writers of their own to each group; what it cost.
async fn kill_at_once(codis: &Codis<'_>, what: &str, pods: &[String]) -> Verdict {
    let before = codis.pods().await;
    let mut processes = Vec::new();
    for pod in pods {
        processes.push(Server::in_pod(codis, pod).await);
    }
    let writer = Writer::start_for(codis, &[1, 2].map(tag_of)).await;
    for group in groups(codis).await.unwrap() {
        let keyspace = codis.info(&group.primary, "keyspace").await.unwrap();
        assert!(keyspace.contains_key("db0"), "{} is written to", group.primary);
    }
    let since = now();
    processes.iter().for_each(Server::kill);
    writer
        .wait_for_writes_after(since + 1000, Duration::from_secs(90))
        .await;
    wait_until_whole(codis, pods, &before).await;
    judge(what, &writer.stop().await, since, PROMISE)
}

/// Does so until it was done in its time: what took too long may be the machine's fault, and what is lost is not.
async fn try_out(codis: &Codis<'_>, what: &str, choose: impl Fn(&[Group]) -> Vec<String>) {
    for tried in 1.. {
        let chosen = choose(&groups(codis).await.unwrap());
        let verdict = kill_at_once(codis, what, &chosen).await;
        let Err(why) = verdict.check() else { return };
        assert!(tried < TRIES && verdict.may_be_the_machine(), "{why}");
    }
}

#[tokio::test]
async fn primaries_of_both_groups_end_at_once_and_then_a_primary_with_one_of_its_replicas() {
    let cluster = Cluster::get().await;
    if cluster.node(1).is_none() {
        return;
    }
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "wide", SPEC).await;
    let primaries = |groups: &[Group]| groups.iter().map(|group| group.primary.clone()).collect();
    try_out(&codis, "primaries of both groups killed at once", primaries).await;
    // The one that is left was, as a rule, the primary before.
    let two_of_three = |groups: &[Group]| vec![groups[0].primary.clone(), groups[0].replicas[0].clone()];
    try_out(
        &codis,
        "primary and one of its two replicas killed at once",
        two_of_three,
    )
    .await;
}
