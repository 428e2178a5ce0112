//! What clients may say to the proxy, and what they hear.

use crate::support::backend::Backend;
use crate::support::proxy::{Proxy, Setup, cluster, slots_over};
use crate::support::wire::{Wire, request};

#[tokio::test]
async fn multi_key_commands_are_split_over_the_servers_and_merged() {
    let (backends, proxy) = cluster(3, "").await;
    for hello in ["HELLO 2", "HELLO 3"] {
        let nil = if hello == "HELLO 3" { "_" } else { "$-" };
        let mut wire = proxy.wire().await;
        wire.call(hello).await;
        assert_eq!(wire.call("MSET a 1 b 2 c 3 d 4 e 5 a 6").await, "+OK");
        assert_eq!(
            wire.call("MGET e nosuch a b a c d").await,
            format!("*[$5 {nil} $6 $2 $6 $3 $4]")
        );
        assert_eq!(wire.call("EXISTS a b c nosuch a").await, ":4");
        assert_eq!(wire.call("TOUCH a b nosuch").await, ":2");
        assert_eq!(wire.call("UNLINK a b nosuch").await, ":2");
        assert_eq!(wire.call("DEL a c d e").await, ":3");
        assert_eq!(wire.call("MGET a").await, format!("*[{nil}]"));
        assert_eq!(wire.call("MGET {a}1 {a}2").await, format!("*[{nil} {nil}]"));
        assert_eq!(
            wire.call("MSET a 1 b").await,
            "-ERR wrong number of arguments for 'mset' command"
        );
        assert_eq!(wire.call("LPUSH l x").await, ":1");
        assert_eq!(wire.call("MGET l a").await, format!("*[{nil} {nil}]"));
        assert_eq!(wire.call("DEL l").await, ":1");
    }
    let mut wire = proxy.wire().await;
    let pairs: Vec<String> = (0..60).map(|n| format!("key{n} v")).collect();
    assert_eq!(wire.call(&format!("MSET {}", pairs.join(" "))).await, "+OK");
    for backend in &backends {
        assert_ne!(
            backend.wire().await.call("DBSIZE").await,
            ":0",
            "each server got a share"
        );
    }
}

#[tokio::test]
async fn keys_of_one_command_have_to_lie_in_one_slot() {
    let (_backends, proxy) = cluster(3, "").await;
    let mut wire = proxy.wire().await;
    let cross = "-CROSSSLOT Keys in request don't hash to the same slot";
    for refused in [
        "SMOVE a b m",
        "SUNION a b",
        "ZUNIONSTORE a 1 b",
        "EVAL s 2 a b",
        "XREAD STREAMS a b 0 0",
        "SORT a STORE b",
        "GEORADIUS a 1 2 3 m STORE b",
        "GEORADIUS a 1 2 3 m STORE a STORE b",
        "XREADGROUP NOACK COUNT 1 GROUP g {b}STREAMS STREAMS a b > >",
        "PFMERGE a b",
        "LMPOP 2 a b LEFT",
        "COPY a b",
        "MSETNX a 1 b 2",
        "BITOP OR a a b",
        "RENAME a b",
        "RENAMENX a b",
    ] {
        assert_eq!(wire.call(refused).await, cross, "{refused}");
    }
    for (allowed, reply) in [
        ("SADD {t}a m", ":1"),
        ("SMOVE {t}a {t}b m", ":1"),
        ("SUNION {t}a {t}b", "*[$m]"),
        ("ZADD {t}z 1 m 2 n", ":2"),
        ("ZUNIONSTORE {t}d 1 {t}z", ":2"),
        (
            "EVAL return{KEYS[1],KEYS[2],ARGV[1]} 2 {t}a {t}b x",
            "*[${t}a ${t}b $x]",
        ),
        ("XADD {t}s 1-1 f v", "$1-1"),
        (
            "XREAD COUNT 1 STREAMS {t}s {t}s2 0 0",
            "*[*[${t}s *[*[$1-1 *[$f $v]]]]]",
        ),
        ("XGROUP CREATE {t}s g 0", "+OK"),
        (
            "XREADGROUP COUNT 1 NOACK GROUP g streams STREAMS {t}s >",
            "*[*[${t}s *[*[$1-1 *[$f $v]]]]]",
        ),
        ("XINFO STREAM {t}nosuch", "-ERR no such key"),
        ("RPUSH {t}l 2 1", ":2"),
        ("SORT {t}l BY {t}w_* GET # STORE {t}sorted", ":2"),
        ("SORT {t}l BY nosort", "*[$2 $1]"),
        ("LMPOP 2 {t}x {t}l LEFT", "*[${t}l *[$2]]"),
        ("MEMORY USAGE {t}nosuch", "$-"),
        ("MSETNX {t}i 1 {t}j 2", ":1"),
        ("MSETNX {t}i 1 {t}k 2", ":0"),
        ("OBJECT ENCODING {t}i", "$int"),
        ("BITOP OR {t}k {t}i {t}j", ":1"),
        ("RENAME {t}k {t}n", "+OK"),
        ("RENAMENX {t}n {t}i", ":0"),
        ("RESTORE {t}i 0 x", "-BUSYKEY Target key name already exists."),
        ("PEXPIRE {t}i 100000 NX", ":1"),
        ("PERSIST {t}i", ":1"),
    ] {
        assert_eq!(wire.call(allowed).await, reply, "{allowed}");
    }
    assert!(wire.call("SORT {t}l BY w_*").await.contains("pattern of SORT"));
    assert_eq!(
        wire.call("EVAL s x a").await,
        "-ERR value is not an integer or out of range"
    );
    assert_eq!(
        wire.call("COPY {t}a {t}b DB 1").await,
        "-ERR handle request, command 'COPY' with DB is not allowed"
    );
}

#[tokio::test]
async fn commands_that_no_client_may_use_are_refused() {
    let (_backends, proxy) = cluster(1, "").await;
    let mut wire = proxy.wire().await;
    for name in [
        "ASKING",
        "BGREWRITEAOF",
        "BGSAVE",
        "CONFIG SET maxclients 1",
        "CONFIG RESETSTAT",
        "CLUSTER INFO",
        "DEBUG SLEEP 0",
        "FLUSHALL",
        "FLUSHDB",
        "KEYS *",
        "LASTSAVE",
        "LATENCY RESET",
        "MONITOR",
        "PSYNC ? -1",
        "REPLCONF a b",
        "SAVE",
        "SHUTDOWN",
        "SLAVEOF NO ONE",
        "REPLICAOF NO ONE",
        "SLOWLOG HELP",
        "SYNC",
        "WAIT 0 0",
        "MIGRATE h 1 a 0 1",
        "MOVE a 1",
        "RESTORE-ASKING a 0 x",
        "ACL WHOAMI",
        "FUNCTION STATS",
        "MODULE LIST",
        "SWAPDB 0 1",
        "FAILOVER",
        "WAITAOF 0 0 0",
        "PFDEBUG x a",
        "SLOTSRESTORE-ASYNC delete k",
        "SLOTSMGRTTAGSLOT-ASYNC a",
        "SLOTSDEL 1",
        "MEMORY DOCTOR",
        "PUBSUB HELP",
        "XGROUP HELP",
        "CLIENT PAUSE 1",
        "CLIENT TRACKING ON",
        "CLIENT REPLY OFF",
        "CLIENT NO-TOUCH ON",
        "COMMAND HELP",
    ] {
        let reply = wire.call(name).await;
        assert!(
            reply.starts_with("-ERR handle request, command '") && reply.contains("is not allowed"),
            "{name}: {reply}"
        );
    }
    assert_eq!(
        wire.call("monitor").await,
        "-ERR handle request, command 'MONITOR' is not allowed"
    );
    assert!(wire.call("POST / HTTP/1.1").await.contains("'POST' is not allowed"));
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn mistakes_get_the_errors_that_redis_gives() {
    let (backends, proxy) = cluster(1, "").await;
    let (mut through, mut direct) = (proxy.wire().await, backends[0].wire().await);
    for mistake in [
        "nosuch",
        "nosuch a b c",
        "GET",
        "GET a b",
        "SET a",
        "XGROUP nosuch a",
        "XGROUP CREATE a",
        "PING a b",
        "ECHO",
        "HELLO 4",
        "HELLO x",
        "HELLO 2 NOSUCH",
        "CLIENT NOSUCH",
        "CLIENT SETNAME",
        "CLIENT SETINFO nosuch x",
        "MGET",
        "DEL",
        "INCRBY a x",
        "EVALSHA abc 1 a",
    ] {
        assert_eq!(through.call(mistake).await, direct.call(mistake).await, "{mistake}");
    }
    let long = format!("nosuch {}", "x".repeat(300));
    assert_eq!(through.call(&long).await, direct.call(&long).await);
    let name = "x".repeat(65);
    assert_eq!(
        through.call(&name).await,
        "-ERR handle request, bad command length, too short or too long"
    );
}

#[tokio::test]
async fn the_proxy_answers_what_needs_no_server() {
    let (_backends, proxy) = cluster(1, "").await;
    let mut wire = proxy.wire().await;
    for (words, reply) in [
        ("PING", "+PONG"),
        ("ping hello", "$hello"),
        ("ECHO x", "$x"),
        ("SELECT 0", "+OK"),
        ("SELECT 16", "-ERR invalid DB index, only accept DB [0,16)"),
        ("SELECT -1", "-ERR invalid DB index, only accept DB [0,16)"),
        ("SELECT x", "-ERR invalid DB index"),
        (
            "AUTH x",
            "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        ),
        ("AUTH default x", "+OK"),
        ("CLIENT GETNAME", "$-"),
        ("CLIENT SETNAME me", "+OK"),
        ("CLIENT GETNAME", "$me"),
        ("CLIENT SETINFO LIB-NAME x", "+OK"),
        (
            "COMMAND INFO get nosuch keys",
            "*[*[$get :2 *[+fast +readonly] :1 :1 :1 *[] *[] *[] *[]] $- $-]",
        ),
        ("RESET", "+RESET"),
        ("CLIENT GETNAME", "$-"),
    ] {
        assert_eq!(wire.call(words).await, reply, "{words}");
    }
    assert!(wire.call("TIME").await.starts_with("*[$1"));
    assert!(wire.call("INFO").await.contains("product_name:refdemo"));
    assert!(wire.call("COMMAND").await.contains("$get :2"));
    let count: usize = wire.call("COMMAND COUNT").await[1..].parse().unwrap();
    assert!((120..240).contains(&count), "{count}");
    assert!(
        wire.call("HELLO 3")
            .await
            .starts_with("%[$server $redis $version $7.2.4 $proto :3 $id :")
    );
    assert_eq!(wire.call("CLIENT GETNAME").await, "_");
    assert_eq!(wire.call("COMMAND DOCS nosuch").await, "%[]");
    assert!(wire.call("HELLO 2 SETNAME you").await.starts_with("*[$server"));
    assert_eq!(wire.call("CLIENT GETNAME").await, "$you");
    assert_eq!(wire.call("QUIT").await, "+OK");
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn what_is_asked_about_commands_a_server_answers() {
    let (backends, proxy) = cluster(2, "").await;
    for hello in ["HELLO 2", "HELLO 3"] {
        let (mut through, mut direct) = (proxy.wire().await, backends[0].wire().await);
        through.call(hello).await;
        direct.call(hello).await;
        for words in [
            "COMMAND DOCS get",
            "COMMAND DOCS nosuch",
            "COMMAND DOCS",
            "COMMAND GETKEYS eval script 2 a b c",
            "COMMAND GETKEYS get",
            "COMMAND GETKEYSANDFLAGS lmove a b left right",
            "COMMAND LIST",
            "COMMAND LIST FILTERBY ACLCAT geo",
            "COMMAND LIST FILTERBY PATTERN xgroup*",
            "COMMAND LIST FILTERBY MODULE nosuch",
        ] {
            assert_eq!(through.call(words).await, direct.call(words).await, "{hello}: {words}");
        }
    }
}

#[tokio::test]
async fn resp3_clients_get_resp3_replies_and_others_do_not() {
    let (_backends, proxy) = cluster(2, "").await;
    let (mut two, mut three) = (proxy.wire().await, proxy.wire().await);
    three.call("HELLO 3").await;
    two.call("HSET h f v").await;
    assert_eq!(two.call("HGETALL h").await, "*[$f $v]");
    assert_eq!(three.call("HGETALL h").await, "%[$f $v]");
    assert_eq!(three.call("GET nosuch").await, "_");
    assert_eq!(two.call("GET nosuch").await, "$-");
    // A change in the middle of a pipeline holds for what follows.
    let pipeline = ["HGETALL h", "HELLO 3", "HGETALL h", "HELLO 2", "HGETALL h"];
    two.send(
        pipeline
            .map(|words| request(&words.split(' ').collect::<Vec<_>>()))
            .concat(),
    )
    .await;
    assert_eq!(two.reply().await, "*[$f $v]");
    assert!(two.reply().await.starts_with('%'));
    assert_eq!(two.reply().await, "%[$f $v]");
    assert!(two.reply().await.starts_with('*'));
    assert_eq!(two.reply().await, "*[$f $v]");
}

#[tokio::test]
async fn clients_without_the_password_may_do_nothing() {
    let backend = Backend::with_password("inner").await;
    let setup = Setup {
        toml: "product_auth = \"inner\"\nsession_auth = \"outer\"",
        ..Setup::default()
    };
    let proxy = Proxy::serving_with(slots_over(&[backend.addr()], 1), setup).await;
    let mut wire = proxy.wire().await;
    let noauth = "-NOAUTH Authentication required.";
    for words in ["GET a", "PING", "nosuch", "KEYS *", "CLIENT ID", "COMMAND"] {
        assert_eq!(wire.call(words).await, noauth, "{words}");
    }
    assert!(wire.call("HELLO 3").await.starts_with("-NOAUTH HELLO must be called"));
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.";
    for words in [
        "AUTH inner",
        "AUTH default inner",
        "AUTH someone outer",
        "HELLO 3 AUTH default inner",
        "AUTH outerx",
    ] {
        assert_eq!(wire.call(words).await, wrong, "{words}");
    }
    assert_eq!(wire.call("AUTH outer").await, "+OK");
    assert_eq!(wire.call("SET a 1").await, "+OK");
    assert_eq!(wire.call("RESET").await, "+RESET");
    assert_eq!(wire.call("GET a").await, noauth);
    assert!(wire.call("HELLO 3 AUTH default outer SETNAME x").await.starts_with('%'));
    assert_eq!(wire.call("GET a").await, "$1");
    let mut stranger = proxy.wire().await;
    stranger.send("*1000\r\n").await;
    assert_eq!(
        stranger.rest().await,
        "-ERR Protocol error: unauthenticated multibulk length\r\n"
    );
}

#[tokio::test]
async fn malformed_input_gets_redis_errors_and_the_connection_ends() {
    let (backends, proxy) = cluster(1, "").await;
    let nested = format!("*2\r\n*{}", "1\r\n*".repeat(100));
    for bytes in [
        "*x\r\n",
        "*99999999999999999999\r\n",
        "*1\r\n$-1\r\n",
        "*1\r\n$x\r\n",
        "*1\r\n$536870913\r\n",
        "*1\r\n$99999999999999999999\r\n",
        "*1\r\nxGET\r\n",
        "*1\r\n:1\r\n",
        "SET 'a\r\n",
        "SET \"a\"b\r\n",
        nested.as_str(),
    ] {
        let heard = async |mut wire: Wire| {
            wire.send(format!("PING\r\n{bytes}")).await;
            wire.rest().await
        };
        let through = heard(proxy.wire().await).await;
        assert_eq!(through, heard(backends[0].wire().await).await, "{bytes:?}");
        assert!(
            through.starts_with("+PONG\r\n-ERR Protocol error: "),
            "{bytes:?}: {through}"
        );
    }
    for ours in ["*1048577\r\n", "*1\r\n$4\r\nPINGxx\r\n", "*1\n"] {
        let mut wire = proxy.wire().await;
        wire.send(ours).await;
        let heard = wire.rest().await;
        assert!(
            heard.starts_with("-ERR Protocol error: ") && heard.lines().count() == 1,
            "{ours:?}: {heard}"
        );
    }
    let mut wire = proxy.wire().await;
    wire.send(vec![b'x'; 70_000]).await;
    assert_eq!(wire.rest().await, "-ERR Protocol error: too big inline request\r\n");
    // Truncated, then gone: nobody hears anything, and nothing is left behind.
    for truncated in [
        "*3\r\n$3\r\nSET\r\n$1\r\nq\r\n$5\r\nab",
        "*1048576\r\n$536870912\r\nabc",
        "*2\r\n",
    ] {
        let mut wire = proxy.wire().await;
        wire.send(truncated).await;
        wire.finish().await;
        assert_eq!(wire.rest().await, "");
    }
    assert_eq!(proxy.wire().await.call("EXISTS q").await, ":0");
}

#[tokio::test]
async fn requests_split_at_every_byte_are_understood() {
    let (_backends, proxy) = cluster(2, "").await;
    let bytes = [
        request(&["MSET", "a", "x\r\ny", "b", "2"]),
        b"GET b\r\n".to_vec(),
        request(&["MGET", "a", "b"]),
    ]
    .concat();
    for split in 1..bytes.len() {
        let mut wire = proxy.wire().await;
        wire.send(&bytes[..split]).await;
        tokio::task::yield_now().await;
        wire.send(&bytes[split..]).await;
        assert_eq!(
            [wire.reply().await, wire.reply().await, wire.reply().await],
            ["+OK", "$2", "*[$x\r\ny $2]"],
            "at {split}"
        );
    }
    let mut wire = proxy.wire().await;
    for byte in &bytes {
        wire.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(
        [wire.reply().await, wire.reply().await, wire.reply().await],
        ["+OK", "$2", "*[$x\r\ny $2]"]
    );
}

#[tokio::test]
async fn large_values_and_many_keys_pass() {
    let (_backends, proxy) = cluster(2, "").await;
    let mut wire = proxy.wire().await;
    let value = "v".repeat(20 << 20);
    wire.send(request(&["SET", "big", &value])).await;
    assert_eq!(wire.reply().await, "+OK");
    assert_eq!(wire.call("GET big").await.len(), value.len() + 1);
    let keys: Vec<String> = (0..20_000).map(|n| format!("key{n}")).collect();
    let mut words = vec!["MSET"];
    words.extend(keys.iter().flat_map(|key| [key.as_str(), key.as_str()]));
    wire.send(request(&words)).await;
    assert_eq!(wire.reply().await, "+OK");
    let mut words = vec!["MGET"];
    words.extend(keys.iter().map(String::as_str));
    wire.send(request(&words)).await;
    let want: Vec<String> = keys.iter().map(|key| format!("${key}")).collect();
    assert_eq!(wire.reply().await, format!("*[{}]", want.join(" ")));
    words[0] = "DEL";
    wire.send(request(&words)).await;
    assert_eq!(wire.reply().await, ":20000");
}
