//! A client that writes through the Service all the time, and notes each write that was acknowledged.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{Codis, eventually};

/// Writes one key after the other, each through a connection of its own, which may take a second. Notes the time of each
/// acknowledgement. Ends when its stop file appears.
const SCRIPT: &str = r#"cd /tmp; rm -f stop; : > acknowledged; : > refused; n=0
while [ ! -e stop ]; do
  n=$((n + 1))
  answer=$(timeout 1 valkey-cli -h "$1" SET "w:$n" "$n" 2>&1)
  case $answer in
  OK) echo "$(date +%s%3N) $n" >> acknowledged ;;
  *) echo "$(date +%s%3N) $n $answer" >> refused ;;
  esac
done
: > stopped
"#;

/// A writer at work in the client's pod.
pub struct Writer<'a, 'c> {
    codis: &'a Codis<'c>,
}

/// What a writer wrote.
#[derive(Debug, Default)]
pub struct Log {
    /// Milliseconds since 1970 of each acknowledged write, and its number.
    pub acknowledged: Vec<(u64, u64)>,
    /// What was answered otherwise, with the time.
    pub refused: Vec<(u64, String)>,
    /// Numbers that were acknowledged and are not there at the end.
    pub lost: Vec<u64>,
}

impl<'a, 'c> Writer<'a, 'c> {
    /// Starts to write, and returns when the first writes were acknowledged.
    pub async fn start(codis: &'a Codis<'c>) -> Self {
        // By its address: what a node that is lost does to the cluster's DNS is not what is looked at.
        let service = format!("{}-proxy", codis.name());
        let host = codis
            .kubectl(&["get", "service", &service, "-o", "jsonpath={.spec.clusterIP}"])
            .await
            .unwrap_or_else(|failed| panic!("{failed}"));
        let start = format!(
            "cat > /tmp/writer.sh <<'END'\n{SCRIPT}END\nrm -f /tmp/stopped; nohup sh /tmp/writer.sh {host} > /dev/null 2>&1 &"
        );
        codis
            .kubectl(&["exec", "client", "--", "sh", "-c", &start])
            .await
            .unwrap_or_else(|failed| panic!("{failed}"));
        let writer = Self { codis };
        eventually(Duration::from_secs(20), "writes are acknowledged", async || {
            let text = writer.read("acknowledged").await?;
            if text.lines().count() > 20 { Ok(()) } else { Err(text) }
        })
        .await;
        writer
    }

    async fn read(&self, file: &str) -> Result<String, String> {
        let path = format!("/tmp/{file}");
        let text = self.codis.kubectl(&["exec", "client", "--", "cat", &path]).await;
        text.map_err(|failed| failed.to_string())
    }

    /// Waits until a write is acknowledged that was begun after `since` (milliseconds since 1970), and some more after it.
    pub async fn wait_for_writes_after(&self, since: u64, within: Duration) {
        eventually(within, "writes are acknowledged again", async || {
            let text = self.read("acknowledged").await?;
            let later = pairs(&text).filter(|(at, _)| *at > since).count();
            if later > 20 {
                Ok(())
            } else {
                Err(format!("{later} since {since}"))
            }
        })
        .await;
    }

    /// Stops, and reads back everything that was acknowledged.
    pub async fn stop(self) -> Log {
        let stop = "touch /tmp/stop; while [ ! -e /tmp/stopped ]; do sleep 0.1; done";
        self.codis
            .kubectl(&["exec", "client", "--", "sh", "-c", stop])
            .await
            .unwrap_or_else(|failed| panic!("{failed}"));
        let acknowledged = self.read("acknowledged").await.expect("the writer's log");
        let refused = self.read("refused").await.expect("the writer's log");
        let mut log = Log {
            acknowledged: pairs(&acknowledged)
                .map(|(at, n)| (at, n.parse().expect("a number")))
                .collect(),
            refused: pairs(&refused).map(|(at, rest)| (at, rest.to_owned())).collect(),
            lost: Vec::new(),
        };
        let commands: String = log.acknowledged.iter().map(|(_, n)| format!("GET w:{n}\n")).collect();
        let answers = self.codis.cli_lines(&commands).await;
        assert_eq!(answers.len(), log.acknowledged.len(), "an answer to each question");
        let written: BTreeMap<u64, &String> = log.acknowledged.iter().map(|(_, n)| *n).zip(&answers).collect();
        log.lost = written
            .iter()
            .filter(|(n, answer)| ***answer != n.to_string())
            .map(|(n, _)| *n)
            .collect();
        log
    }
}

impl Log {
    /// The longest time without an acknowledged write from `since` on (milliseconds since 1970), and what was answered
    /// meanwhile.
    pub fn longest_gap(&self, since: u64) -> Duration {
        let times = self.acknowledged.iter().map(|(at, _)| *at).filter(|at| *at > since);
        let all: Vec<u64> = std::iter::once(since).chain(times).collect();
        let longest = all.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(u64::MAX);
        Duration::from_millis(longest)
    }
}

/// Now, in milliseconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock");
    since.as_millis() as u64
}

fn pairs(text: &str) -> impl Iterator<Item = (u64, &str)> {
    text.lines().filter_map(|line| {
        let (at, rest) = line.split_once(' ')?;
        Some((at.parse().ok()?, rest))
    })
}
