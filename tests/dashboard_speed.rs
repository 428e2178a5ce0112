//! Measures what the dashboard promises: `make bench`. Each line tells the goal beside what was measured.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed expectation is a failed test; figures are part of the result"
)]

mod support;

use std::time::{Duration, Instant};

use codis_operator::model::SlotId;
use support::shop::Shop;
use support::wire::request;
use support::writer::Writer;

/// Runs of the quick things.
const RUNS: usize = 21;
/// Runs of those that wait for something.
const FEW: usize = 5;

fn report(what: &str, goal: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1000.0;
    println!(
        "| {what} | {goal} | {:.1} ms | {:.1} ms | {:.1} ms | {} |",
        at(50),
        at(90),
        at(100),
        times.len()
    );
}

/// `group/promote`, as Codis' tools call it, to the replica of group 1.
async fn promote(shop: &Shop) -> Duration {
    let group = shop.wait_in_sync(1, 1).await;
    let path = format!("/api/topom/group/promote/X/1/{}", group.servers[1].server);
    let began = Instant::now();
    shop.api().done(&path).await;
    began.elapsed()
}

#[tokio::test]
#[ignore = "it measures; run it by `make bench`"]
async fn promotions_and_assignments_take_as_long_as_promised() {
    println!("| what | goal | median | p90 | max | runs |\n|---|---|---|---|---|---|");
    let shop = Shop::start(2, 2, 2).await;

    let all = |group: i64| -> String {
        let slots: Vec<_> = SlotId::all()
            .map(|id| serde_json::json!({"id": id, "group_id": group, "action": {}}))
            .collect();
        serde_json::to_string(&slots).unwrap()
    };
    let mut times = Vec::new();
    for run in 0..RUNS {
        let body = all(1 + run as i64 % 2);
        let began = Instant::now();
        assert_eq!(shop.api().put("/api/topom/slots/assign/X", body).await.0, 200);
        times.push(began.elapsed());
    }
    report("1024 slots assigned, pushed to 2 proxies", "< 300 ms", times);
    let half: Vec<_> = SlotId::all()
        .map(|id| serde_json::json!({"id": id, "group_id": 1 + id.index() / 512, "action": {}}))
        .collect();
    let half = serde_json::to_string(&half).unwrap();
    assert_eq!(shop.api().put("/api/topom/slots/assign/X", half).await.0, 200);

    let mut times = Vec::new();
    for _ in 0..RUNS {
        times.push(promote(&shop).await);
    }
    report("promotion, healthy, 512 slots, 2 proxies", "≤ 50 ms", times);

    let load = Writer::start(&[shop.proxies[0].port, shop.proxies[1].port], 4);
    load.wait_for(100).await;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        times.push(promote(&shop).await);
    }
    let log = load.stop().await;
    report("the same under the load of 8 clients", "no error, nothing lost", times);
    let lost = log.lost(shop.proxies[0].port).await;
    println!(
        "{} writes acknowledged meanwhile, the slowest in {:?}; errors {}, lost {lost}",
        log.writes,
        log.slowest,
        log.errors.len()
    );
    assert!(log.errors.is_empty() && lost == 0, "{:?}", log.errors);

    let key = (0..)
        .map(|n| format!("key{n}"))
        .find(|key| SlotId::of_key(key.as_bytes()).index() < 512)
        .unwrap();
    let (mut times, mut lost) = (Vec::new(), 0);
    for run in 0..FEW {
        let group = shop.wait_in_sync(1, 1).await;
        let primary = shop.server(group.servers[0].server.as_str());
        let load = Writer::start(&[shop.proxies[1].port], 4);
        load.wait_for(100).await;
        let mut wire = shop.proxies[0].wire().await;
        primary.signal("STOP");
        wire.send(request(&["SET", key.as_str(), &run.to_string()])).await;
        let path = format!("/api/topom/group/promote/X/1/{}", group.servers[1].server);
        let began = Instant::now();
        shop.api().done(&path).await;
        times.push(began.elapsed());
        load.wait_for(50).await;
        primary.signal("CONT");
        lost += load.stop().await.lost(shop.proxies[0].port).await;
    }
    report(
        "promotion, primary hung, requests in flight",
        "≤ 1.5 s (Codis: 29 s)",
        times,
    );
    println!("acknowledged by the primary before it hung, and lost with it: {lost} (asynchronous replication)");
}

#[tokio::test]
#[ignore = "it measures; run it by `make bench`"]
async fn take_overs_take_as_long_as_promised() {
    let mut shop = Shop::start(2, 2, 1).await;
    for (signal, goal) in [("TERM", "at once"), ("KILL", "≤ 3 s + 0.5 s")] {
        let mut times = Vec::new();
        for _ in 0..FEW {
            let standby = shop.another_dashboard();
            support::eventually("the other one stands by", Duration::from_secs(10), async || {
                standby.api.client.model().await.ok()?;
                (standby.api.get("/readyz").await.0 == 200).then_some(())
            })
            .await;
            let former = std::mem::replace(&mut shop.dashboard, standby);
            let began = Instant::now();
            former.process.signal(signal);
            shop.api().wait_active().await;
            times.push(began.elapsed());
        }
        report(&format!("the standby is active after SIG{signal}"), goal, times);
    }
}
