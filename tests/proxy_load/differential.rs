//! The same requests through the proxy over three servers and to one server alone: the same replies.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};

use crate::support::backend::Backend;
use crate::support::grammar::{Form, forms};
use crate::support::proxy::{Proxy, slots_over};

/// Requests with each protocol, unless `CODIS_REQUESTS` says otherwise.
const REQUESTS: usize = 20_000;

/// Not compared: they wait, tell of the connection or the whole server, subscribe, or choose at random what they change.
/// Each kind has tests of its own.
const LEFT_OUT: [&str; 26] = [
    "auth",
    "client",
    "command",
    "config",
    "hello",
    "info",
    "quit",
    "reset",
    "select",
    "time",
    "multi",
    "exec",
    "discard",
    "watch",
    "unwatch",
    "script",
    "slowlog",
    "scan",
    "dbsize",
    "randomkey",
    "pubsub",
    "spop",
    "restore",
    "xautoclaim",
    "xclaim",
    "memory",
];

/// How two replies to a command compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Whole,
    /// The order is the server's choice.
    AnyOrder,
    /// Only whether it is an error.
    Kind,
}

#[tokio::test]
async fn replies_are_those_of_a_single_server() {
    let backends = Backend::several(3).await;
    let single = Backend::start().await;
    let addrs: Vec<_> = backends.iter().map(Backend::addr).collect();
    let proxy = Proxy::serving(slots_over(&addrs, 1)).await;
    let seed = number("CODIS_SEED").unwrap_or(1);
    let requests = number("CODIS_REQUESTS").map_or(REQUESTS, |requests| requests as usize);
    for protocol in ["resp2", "resp3"] {
        let mut through = connect(proxy.port, protocol).await;
        let mut direct = connect(single.addr().port(), protocol).await;
        let forms = compared(&mut through, &mut direct).await;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut succeeded = BTreeSet::new();
        for step in 0..requests {
            let (form, compare) = &forms[rng.random_range(0..forms.len())];
            let words = form.request(&mut rng);
            let (got, want) = (ask(&mut through, &words).await, ask(&mut direct, &words).await);
            assert!(
                is_same(*compare, &words, &got, &want),
                "seed {seed}, {protocol}, request {step}: {words:?}\nproxy:  {got:?}\nserver: {want:?}"
            );
            if want.is_ok() {
                succeeded.insert(form.name.as_str());
            }
        }
        let never: Vec<_> = forms
            .iter()
            .map(|(form, _)| form.name.as_str())
            .filter(|name| !succeeded.contains(name))
            .collect();
        println!(
            "{protocol}: {} commands compared, only errors from {never:?}",
            forms.len()
        );
        assert!(
            never.len() * 10 < forms.len(),
            "hardly anything was compared: only errors from {never:?}"
        );
        for server in backends.iter().chain([&single]) {
            assert_eq!(server.wire().await.call("FLUSHALL").await, "+OK");
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

async fn connect(port: u16, protocol: &str) -> MultiplexedConnection {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/?protocol={protocol}")).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

async fn ask(connection: &mut MultiplexedConnection, words: &[String]) -> Result<Value, RedisError> {
    let mut command = redis::Cmd::new();
    command.arg(words);
    command.query_async(connection).await
}

/// The commands that the proxy serves, and how their replies compare.
async fn compared(through: &mut MultiplexedConnection, direct: &mut MultiplexedConnection) -> Vec<(Form, Compare)> {
    let docs: Value = redis::cmd("COMMAND").arg("DOCS").query_async(direct).await.unwrap();
    let (served, known) = (infos(through).await, infos(direct).await);
    let served: BTreeSet<_> = served.into_keys().collect();
    forms(&docs)
        .into_values()
        .filter(|form| {
            let container = form.name.split('|').next().unwrap();
            served.contains(&form.name) && !LEFT_OUT.contains(&container)
        })
        .filter_map(|form| {
            let (flags, tips, has_subcommands) = &known[&form.name];
            let has = |list: &[String], word: &str| list.iter().any(|given| given == word);
            // Two servers' clocks are never the same.
            let tells_time = ["expiretime", "pexpiretime", "xinfo|stream"].contains(&form.name.as_str());
            let compare = if (has(tips, "nondeterministic_output") && form.name != "xadd") || tells_time {
                Compare::Kind
            } else if has(tips, "nondeterministic_output_order") {
                Compare::AnyOrder
            } else {
                Compare::Whole
            };
            let left_out = *has_subcommands || ["blocking", "pubsub"].iter().any(|flag| has(flags, flag));
            (!left_out).then_some((form, compare))
        })
        .collect()
}

/// By name: flags, tips, and whether it only has subcommands. Subcommands have entries of their own.
async fn infos(connection: &mut MultiplexedConnection) -> BTreeMap<String, (Vec<String>, Vec<String>, bool)> {
    let mut infos = BTreeMap::new();
    let mut open: Vec<Value> = redis::cmd("COMMAND").query_async(connection).await.unwrap();
    while let Some(info) = open.pop() {
        let parts: Vec<Value> = redis::from_redis_value(info).unwrap();
        let words = |place: usize| {
            parts
                .get(place)
                .map_or_else(Vec::new, |list| redis::from_redis_value(list.clone()).unwrap())
        };
        let name: String = redis::from_redis_value(parts[0].clone()).unwrap();
        let subs: Vec<Value> = parts
            .get(9)
            .map_or_else(Vec::new, |list| redis::from_redis_value(list.clone()).unwrap());
        infos.insert(name, (words(2), words(7), !subs.is_empty()));
        open.extend(subs);
    }
    infos
}

fn is_same(
    compare: Compare,
    words: &[String],
    got: &Result<Value, RedisError>,
    want: &Result<Value, RedisError>,
) -> bool {
    match (got, want) {
        (Ok(got), Ok(want)) => match compare {
            Compare::Whole => got == want,
            Compare::AnyOrder => sorted(got) == sorted(want),
            Compare::Kind => true,
        },
        (Err(got), Err(want)) => got.to_string() == want.to_string() || is_refusal(got),
        // The copy would be where no client of the proxy finds it.
        (Err(got), Ok(_)) => is_refusal(got) && words[0] == "copy" && words.iter().any(|word| word == "DB"),
        (Ok(_), Err(_)) => false,
    }
}

/// Whether the proxy itself refused it: by rule, or because it could not tell the keys, which it looks for before the
/// server looks at anything else.
fn is_refusal(error: &RedisError) -> bool {
    let text = error.to_string();
    text.contains("handle request") || text.contains("Number of keys can't be")
}

fn sorted(value: &Value) -> Vec<String> {
    let mut texts: Vec<_> = match value {
        Value::Array(list) | Value::Set(list) => list.iter().map(|value| format!("{value:?}")).collect(),
        Value::Map(map) => map.iter().map(|pair| format!("{pair:?}")).collect(),
        other => vec![format!("{other:?}")],
    };
    texts.sort_unstable();
    texts
}
