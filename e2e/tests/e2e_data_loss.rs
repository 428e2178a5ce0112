//! The newest copy of a group is gone for good, and an older one is left: whether that leads is for a person to say, or for the
//! mode.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::Duration;

use e2e::{Cluster, Codis, Server, eventually, operator};

/// How long what follows by itself may take.
const SOON: Duration = Duration::from_secs(60);
/// How soon an Event tells of something.
const TOLD: Duration = Duration::from_secs(20);
/// What is written that only the primary has, in MiB: more than the connection to a frozen replica takes in, so that it never
/// gets the last of it.
const LATE: u64 = 48;

fn spec(ha: &str) -> String {
    format!("{{servers: {{groups: 1, replicasPerGroup: 2}}, proxies: {{replicas: 1}}, ha: {{{ha}}}}}")
}

/// What the status says of the group.
async fn group(codis: &Codis<'_>) -> serde_json::Value {
    let object = codis.object().await.unwrap();
    object["status"]["groups"][0].clone()
}

/// Whether the primary would stop taking writes when it hears of no replica. It would as long as one is recorded as in sync.
async fn wait_for_fence(codis: &Codis<'_>, primary: &str, is_up: bool) {
    eventually(SOON, &format!("fence of {primary}: {is_up}"), async || {
        let replication = codis.info(primary, "replication").await?;
        // Told only where a number of replicas is asked for.
        if replication.contains_key("min_slaves_good_slaves") == is_up {
            Ok(())
        } else {
            Err(format!("{replication:?}"))
        }
    })
    .await;
}

/// The pod whose server ended with the newest copy, and the one whose server has an older copy.
struct Loss {
    newest: String,
    older: String,
}

impl Loss {
    /// Has the group's replica miss what is written, and the primary end, which keeps it in its memory. `round` is in the names
    /// of the keys.
    async fn happen(codis: &Codis<'_>, round: &str) -> Self {
        let newest = group(codis).await["primary"].as_str().unwrap().to_owned();
        let pods = [0, 1].map(|n| format!("{}-g1-{n}", codis.name()));
        let older = pods.into_iter().find(|pod| *pod != newest).unwrap();
        wait_for_fence(codis, &newest, true).await;
        assert_eq!(codis.cli(&["SET", &early(round), "1"]).await.unwrap(), "OK");
        let offset = async |pod: &str| -> Result<u64, String> {
            let replication = codis.info(pod, "replication").await?;
            replication["master_repl_offset"]
                .parse()
                .map_err(|error| format!("{error}: {replication:?}"))
        };
        let written = offset(&newest).await.unwrap();
        eventually(SOON, "the replica has the key", async || {
            let has = offset(&older).await?;
            if has >= written {
                Ok(())
            } else {
                Err(format!("{has} of {written}"))
            }
        })
        .await;
        let primary = Server::in_pod(codis, &newest).await;
        let mut replica = Server::in_pod(codis, &older).await;
        replica.freeze();
        wait_for_fence(codis, &newest, false).await;
        write_late(codis, round).await;
        primary.kill();
        eventually(SOON, "the primary ended", async || {
            if primary.runs() { Err("it runs") } else { Ok(()) }
        })
        .await;
        replica.wake();
        Self { newest, older }
    }

    /// Waits until the server with the older copy leads, and checks what is told of that; the record of the failover.
    async fn be_accepted(&self, codis: &Codis<'_>, why: &str) -> serde_json::Value {
        let leads = eventually(SOON, "the older copy leads", async || {
            let group = group(codis).await;
            let record = &group["lastFailover"];
            if group["primary"] == self.older.as_str() && record["to"] == self.older.as_str() {
                Ok(record.clone())
            } else {
                Err(group.to_string())
            }
        })
        .await;
        assert_eq!(leads["from"], self.newest.as_str(), "{leads}");
        assert!(leads["reason"].as_str().unwrap().contains(why), "{leads}");
        // It was seen before the end: what the connection took in is not lost.
        assert!(leads["lostBytes"].as_i64().is_some_and(|bytes| bytes > 0), "{leads}");
        codis
            .wait_for_event(TOLD, "Failover", &[&self.older, why, "are lost"])
            .await;
        leads
    }
}

fn early(round: &str) -> String {
    format!("early:{round}")
}

fn late(round: &str, number: u64) -> String {
    format!("late:{round}:{number}")
}

/// Writes what nobody but the primary gets, and waits until the operator knows of that.
async fn write_late(codis: &Codis<'_>, round: &str) {
    // A script is replicated as what it did, so that little goes through kubectl.
    let write = |n| {
        format!(
            "EVAL \"return redis.call('SET', KEYS[1], string.rep('x', 1048576))\" 1 {}\n",
            late(round, n)
        )
    };
    let commands: String = (0..LATE).map(write).collect();
    let answers = codis.cli_lines(&commands).await;
    assert!(
        answers.len() as u64 == LATE && answers.iter().all(|answer| answer == "OK"),
        "{answers:?}"
    );
    eventually(SOON, "the operator sees what is at risk", async || {
        let risk = operator::bytes_at_risk(codis.cluster(), codis.namespace(), codis.name(), 1).await;
        if risk.is_some_and(|bytes| bytes >= LATE << 20) {
            Ok(())
        } else {
            Err(format!("{risk:?} bytes"))
        }
    })
    .await;
}

/// Waits until the condition says all this.
async fn wait_until_degraded(codis: &Codis<'_>, words: &[&str]) {
    eventually(SOON, "the condition tells of it", async || {
        let (_, message) = codis.wait_for_condition("Degraded", "True").await;
        if words.iter().all(|word| message.contains(word)) {
            Ok(())
        } else {
            Err(format!("{words:?}, in: {message}"))
        }
    })
    .await;
}

async fn accept(codis: &Codis<'_>, pod: &str) {
    let mark = format!("codis.dev/accept-data-loss=g1={pod}");
    let args = ["annotate", "codis", codis.name(), "--overwrite", &mark];
    codis.kubectl(&args).await.unwrap();
}

/// Clients write again, and find what the older copy has.
async fn check(codis: &Codis<'_>, round: &str) {
    eventually(SOON, "it takes writes", async || {
        let answer = codis.cli(&["SET", "after", round]).await;
        match answer.map_err(|failed| failed.to_string())?.as_str() {
            "OK" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
    assert_eq!(codis.cli(&["GET", &early(round)]).await.unwrap(), "1");
    let last = late(round, LATE - 1);
    assert_eq!(
        codis.cli(&["EXISTS", &last]).await.unwrap(),
        "0",
        "only the former primary had it"
    );
    codis.wait_ready().await;
    assert_eq!(codis.cli(&["GET", "after"]).await.unwrap(), round);
}

#[tokio::test]
async fn older_copy_leads_when_a_person_accepts_that_and_in_aggressive_mode_unasked() {
    let cluster = Cluster::get().await;
    if cluster.node(1).is_none() {
        return;
    }
    operator::install(&cluster).await;
    let codis = Codis::ready(&cluster, "older", &spec("")).await;

    let loss = Loss::happen(&codis, "asked").await;
    let before = group(&codis).await["lastFailover"].clone();
    let remedy = "codis.dev/accept-data-loss=g1=";
    wait_until_degraded(&codis, &["nobody is promoted", remedy]).await;
    codis.wait_for_event(TOLD, "", &["nobody is promoted", remedy]).await;
    // Whom it does not mean is not taken for somebody else.
    accept(&codis, "older-g1-7").await;
    let told = "g1=older-g1-7, and group 1 has no such pod; its pods are: older-g1-";
    wait_until_degraded(&codis, &["nobody is promoted", told]).await;
    let meanwhile = group(&codis).await;
    assert_eq!(meanwhile["primary"], loss.newest.as_str(), "{meanwhile}");
    assert_eq!(meanwhile["lastFailover"], before, "{meanwhile}");
    for pod in [&loss.newest, &loss.older] {
        assert_eq!(codis.info(pod, "replication").await.unwrap()["role"], "slave", "{pod}");
    }
    accept(&codis, &loss.older).await;
    loss.be_accepted(&codis, "a person accepted").await;
    eventually(SOON, "the mark is used up", async || {
        let object = codis.object().await?;
        let annotations = &object["metadata"]["annotations"];
        if annotations["codis.dev/accept-data-loss"].is_null() {
            Ok(())
        } else {
            Err(annotations.to_string())
        }
    })
    .await;
    check(&codis, "asked").await;

    // Longer than the replica is frozen: it must not be started anew for that.
    codis
        .apply_spec(&spec("mode: Aggressive, restartAfter: 15s"))
        .await
        .unwrap();
    codis.wait_ready().await;
    let loss = Loss::happen(&codis, "unasked").await;
    let record = loss.be_accepted(&codis, "ha.mode is Aggressive").await;
    assert!(
        record["detectMs"].as_i64().is_some_and(|after| after >= 15_000),
        "it had that long to come back: {record}"
    );
    check(&codis, "unasked").await;
}
