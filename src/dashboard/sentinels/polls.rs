//! Asks every Sentinel once a second how it is and what it watches, each in a task of its own.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tokio::time::MissedTickBehavior;

use super::{SentinelClient, parse};
use crate::dashboard::error::Error;
use crate::dashboard::observations::unixtime;
use crate::dashboard::polls::{BUDGET, LOOK, PERIOD, Tasks};
use crate::dashboard::server::Standing;
use crate::dashboard::term::Term;
use crate::model::{HostPort, RedisStats, RemoteError, SentinelGroup};

/// Polls until it is dropped.
pub(crate) async fn run(term: Arc<Term>) {
    let mut tasks = Tasks::default();
    loop {
        let topology = term.topology();
        let recorded: HashSet<&String> = topology.sentinel().servers.iter().collect();
        tasks.keep(&recorded, |addr| tokio::spawn(poll(Arc::clone(&term), addr)));
        term.observations.retain_sentinels(|addr| recorded.contains(addr));
        tokio::time::sleep(LOOK).await;
    }
}

async fn poll(term: Arc<Term>, addr: String) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection = None;
    loop {
        ticks.tick().await;
        let unixtime = unixtime();
        let asked = tokio::time::timeout(BUDGET, ask(&term, &addr, &mut connection)).await;
        if !matches!(asked, Ok(Ok(_))) {
            connection = None;
        }
        let stats = match asked {
            Ok(Ok((stats, sentinel))) => RedisStats {
                stats,
                sentinel,
                ..RedisStats::default()
            },
            Ok(Err(error)) => RedisStats {
                error: Some(RemoteError::new(error.to_string())),
                ..RedisStats::default()
            },
            Err(_) => RedisStats {
                timeout: true,
                ..RedisStats::default()
            },
        };
        term.observations.note_sentinel(&addr, RedisStats { unixtime, ..stats });
    }
}

type Answer = (BTreeMap<String, String>, BTreeMap<String, SentinelGroup>);

async fn ask(term: &Term, addr: &str, connection: &mut Option<SentinelClient>) -> Result<Answer, Error> {
    let sentinel = match connection {
        Some(sentinel) => sentinel,
        None => {
            let addr: HostPort = parse(addr)?;
            connection.insert(SentinelClient::connect(&term.means.servers, &addr, Standing::Member, BUDGET).await?)
        }
    };
    let product = &term.means.product;
    let watched = sentinel.watched(|name| product.monitored(name).is_some()).await?;
    Ok((sentinel.info().await?, watched))
}
