use std::collections::BTreeMap;

/// A server's `INFO`, as a flat map and with the fields that decisions need by name. A field that is missing reads as
/// empty or 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Info {
    fields: BTreeMap<String, String>,
}

/// What one database of a server holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Database {
    /// Its keys.
    pub keys: u64,
    /// Those of them that expire.
    pub expires: u64,
    /// The mean time that these have left, in ms.
    pub average_ttl: u64,
}

impl Info {
    /// Reads the text that `INFO` answers.
    pub fn parse(text: &str) -> Self {
        let pairs = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(':'));
        Self {
            fields: pairs
                .map(|(key, value)| (key.to_owned(), value.trim_end().to_owned()))
                .collect(),
        }
    }

    /// All fields.
    pub fn into_fields(self) -> BTreeMap<String, String> {
        self.fields
    }

    /// Whether the server is still reading its data set from disk.
    pub fn is_loading(&self) -> bool {
        self.text("loading") == "1"
    }

    /// Whether it can't write what it has to keep to its disk: a primary refuses writes then (`-MISCONF`).
    pub fn disk_fails(&self) -> bool {
        self.text("aof_last_write_status") == "err"
    }

    /// Whether it refuses writes because its memory is used up (`-OOM`), by its own account of what counts.
    pub fn memory_is_full(&self) -> bool {
        let most = self.number("maxmemory");
        let counts = self.number("used_memory") - self.number("mem_not_counted_for_evict");
        most > 0 && counts >= most && self.text("maxmemory_policy") == "noeviction"
    }

    /// What it says that it is: `master` or `slave`.
    pub fn role(&self) -> &str {
        self.text("role")
    }

    /// Whether it is a primary.
    pub fn is_primary(&self) -> bool {
        self.text("role") == "master"
    }

    /// The process: another one after each start.
    pub fn run_id(&self) -> &str {
        self.text("run_id")
    }

    /// Keys in all databases.
    pub fn keys(&self) -> u64 {
        let counts = self.keyspace().map(|(_, database)| database.keys);
        counts.fold(0, u64::saturating_add)
    }

    /// The databases that hold keys.
    pub fn databases(&self) -> Vec<u32> {
        self.keyspace().map(|(number, _)| number).collect()
    }

    /// The databases that hold keys, and what they hold.
    pub fn keyspace(&self) -> impl Iterator<Item = (u32, Database)> {
        self.fields.iter().filter_map(|(name, figures)| {
            let figure = |name| pair(figures, name).and_then(|value| value.parse().ok()).unwrap_or(0);
            let database = Database {
                keys: figure("keys"),
                expires: figure("expires"),
                average_ttl: figure("avg_ttl"),
            };
            Some((name.strip_prefix("db")?.parse().ok()?, database))
        })
    }

    /// The history that the data set belongs to.
    pub fn history(&self) -> &str {
        self.text("master_replid")
    }

    /// The history before the server was promoted, and the first offset that it does not share with that.
    pub fn former_history(&self) -> Option<(&str, i64)> {
        let id = self.text("master_replid2");
        let end = self.number("second_repl_offset");
        (!id.is_empty() && id.bytes().any(|b| b != b'0') && end >= 0).then_some((id, end))
    }

    /// How far into its history the data set is.
    pub fn offset(&self) -> i64 {
        self.number("slave_repl_offset").max(self.number("master_repl_offset"))
    }

    /// Whether a replica's link to its primary is up and it copies nothing any more.
    pub fn is_linked(&self) -> bool {
        self.text("master_link_status") == "up" && self.text("master_sync_in_progress") != "1"
    }

    /// Whether a replica is copying its primary's data set.
    pub fn is_copying(&self) -> bool {
        self.text("master_sync_in_progress") == "1"
    }

    /// Seconds since a replica last heard of its primary, as far as it knows.
    /// -1: it never did, or does not say; less: its clock was put back since.
    pub fn silence(&self) -> i64 {
        let number = |field| self.text(field).parse().unwrap_or(-1);
        let (heard, down): (i64, i64) = (
            number("master_last_io_seconds_ago"),
            number("master_link_down_since_seconds"),
        );
        if heard < -1 || down < -1 {
            heard.min(down)
        } else {
            heard.max(down)
        }
    }

    /// Seconds since the process began.
    pub fn uptime(&self) -> i64 {
        self.number("uptime_in_seconds")
    }

    /// The replicas that a primary feeds, `ip:port`, and that it heard of within so many whole seconds.
    pub fn fed(&self, most: i64) -> impl Iterator<Item = String> + '_ {
        let slots = self.fields.iter().filter(|(name, _)| {
            name.strip_prefix("slave")
                .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
        });
        slots.filter_map(move |(_, value)| {
            let part = |name| pair(value, name);
            let lag: i64 = part("lag")?.parse().ok()?;
            let online = part("state")? == "online" && (0..=most).contains(&lag);
            let (ip, port) = (part("ip")?, part("port")?);
            let ip = if ip.contains(':') {
                format!("[{ip}]")
            } else {
                ip.to_owned()
            };
            online.then(|| format!("{ip}:{port}"))
        })
    }

    /// The primary that it was told to follow, `host:port`; `None` for a primary.
    pub fn followed(&self) -> Option<String> {
        let (host, port) = (self.text("master_host"), self.text("master_port"));
        (!host.is_empty()).then(|| {
            if host.contains(':') {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            }
        })
    }

    fn text(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }

    fn number(&self, field: &str) -> i64 {
        self.text(field).parse().unwrap_or_default()
    }
}

/// The value of a name in a list like `keys=3,expires=1`.
fn pair<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = list.split(',').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_with_dos_line_ends() {
        let info = Info::parse(
            "# Server\r\nrun_id:abc\r\n\r\n# Replication\r\nrole:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379\r\n\
             slave_repl_offset:12\r\nmaster_repl_offset:14\r\nloading:0\r\nmaster_replid2:0000\r\nsecond_repl_offset:-1\r\n",
        );
        assert_eq!((info.run_id(), info.is_primary(), info.offset()), ("abc", false, 14));
        assert_eq!(info.followed().as_deref(), Some("10.0.0.1:6379"));
        assert_eq!(
            (info.former_history(), info.keys(), info.is_loading()),
            (None, 0, false)
        );
    }

    #[test]
    fn memory_is_full_where_nothing_may_be_evicted_and_all_that_counts_reaches_the_bound() {
        let full = |used: u32, spared: u32, most: u32, policy: &str| {
            let text = format!(
                "used_memory:{used}\nmem_not_counted_for_evict:{spared}\nmaxmemory:{most}\nmaxmemory_policy:{policy}\n"
            );
            Info::parse(&text).memory_is_full()
        };
        assert!(full(100, 0, 100, "noeviction"));
        for other in [
            full(100, 1, 100, "noeviction"),
            full(100, 0, 0, "noeviction"),
            full(100, 0, 100, "allkeys-lru"),
        ] {
            assert!(!other);
        }
    }

    #[test]
    fn keys_of_all_databases_count() {
        let info = Info::parse("db0:keys=3,expires=0,avg_ttl=0\ndb12:keys=4,expires=1\ndbsize:keys=9\n");
        assert_eq!(info.keys(), 7);
        let nonsense = format!("db0:keys={0}\ndb1:keys={0}\n", u64::MAX);
        assert_eq!(Info::parse(&nonsense).keys(), u64::MAX);
    }

    #[test]
    fn replicas_that_a_primary_feeds_are_those_it_heard_of() {
        let info = Info::parse(
            "slave0:ip=10.0.0.1,port=6379,state=online,offset=5,lag=0,type=replica\n\
             slave1:ip=10.0.0.2,port=6379,state=wait_bgsave,offset=0,lag=0\n\
             slave2:ip=::1,port=7,state=online,offset=5,lag=1\nslave3:ip=10.0.0.3,port=6379,state=online,offset=5,lag=2\n\
             slave_repl_offset:5\n",
        );
        assert_eq!(info.fed(1).collect::<Vec<_>>(), ["10.0.0.1:6379", "[::1]:7"]);
    }

    #[test]
    fn a_replica_tells_how_long_it_heard_nothing() {
        let silence = |text: &str| Info::parse(text).silence();
        assert_eq!(silence("master_link_status:up\nmaster_last_io_seconds_ago:3\n"), 3);
        assert_eq!(
            silence("master_last_io_seconds_ago:-1\nmaster_link_down_since_seconds:7\n"),
            7
        );
        assert_eq!(silence("role:master\n"), -1);
        // Its clock was put back.
        assert_eq!(silence("master_last_io_seconds_ago:-30\n"), -30);
        assert_eq!(
            silence("master_last_io_seconds_ago:-1\nmaster_link_down_since_seconds:-30\n"),
            -30
        );
    }

    #[test]
    fn a_former_history_has_an_end() {
        let info = Info::parse("master_replid:b\nmaster_replid2:a\nsecond_repl_offset:100\n");
        assert_eq!(info.former_history(), Some(("a", 100)));
    }
}
