//! go-redis' own tests, at one server and through the proxy over three. `make go-redis` runs it.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is a failed test"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::backend::Backend;
use support::clients::{cache, command, go_source, run};
use support::proxy::cluster;

/// What fits no proxy, by reason.
const LISTED: &str = include_str!("../docs/go-redis.md");
/// The files whose cases want one server, and nothing else.
const FILES: [&str; 15] = [
    "acl_commands",
    "autopipeline",
    "bitmap_commands",
    "command",
    "commands",
    "error",
    "iterator",
    "pipeline",
    "pool",
    "pubsub",
    "race",
    "redis",
    "tx",
    "tx_unwatch",
    "universal",
];
/// Cases in them that want a cluster, Sentinels, or a server at a certain port.
const SKIPPED: &str = "UniversalClient .*(failover|lusters|ClusterMode)|cluster races|Credentials Provider";

/// The suite, built once for each version of go-redis. Of its set-up only the port of the one server stays.
async fn suite() -> PathBuf {
    let module = "github.com/redis/go-redis/v9";
    let in_source = |args: &[&str]| {
        let mut go = command("go", args);
        go.current_dir(go_source());
        go
    };
    run(in_source(&["mod", "download", module])).await;
    let version = run(in_source(&["list", "-m", "-f", "{{.Version}}", module])).await;
    let (folder, _lock) = cache(&format!("go-redis-suite-{}", version.trim()));
    let (source, program) = (folder.join("source"), folder.join("suite.test"));
    if !program.exists() {
        let module = run(in_source(&["list", "-m", "-f", "{{.Dir}}", module])).await;
        let _ = fs::remove_dir_all(&source);
        let source = source.to_str().unwrap();
        run(command("cp", &["-r", "--no-preserve=mode", module.trim(), source])).await;
        let main = Path::new(source).join("main_test.go");
        let text = fs::read_to_string(&main).unwrap();
        let text = text.replace(
            "redisStackPort = \"6379\"",
            "redisStackPort = os.Getenv(\"SUITE_PORT\")",
        );
        let text = text.replace("if !RECluster {", "if false {");
        fs::write(&main, text).unwrap();
        let mut build = command("go", &["test", "-c", "-o", program.to_str().unwrap(), "."]);
        build.current_dir(source).env("CGO_ENABLED", "0").env("GOFLAGS", "");
        run(build).await;
    }
    program
}

/// Runs the suite against the server at this port: of each case that ran, whether it passed.
async fn results(program: &Path, port: u16) -> BTreeMap<String, bool> {
    let report = program.with_file_name(format!("report-{port}.json"));
    let mut suite = tokio::process::Command::new(program);
    suite.args([
        "--test.run",
        "TestGinkgoSuite",
        "--test.timeout",
        "10m",
        "--ginkgo.skip",
        SKIPPED,
    ]);
    suite.args(FILES.map(|file| format!("--ginkgo.focus-file=/{file}_test.go")));
    suite.arg(format!("--ginkgo.json-report={}", report.display()));
    suite.current_dir(program.with_file_name("source")).kill_on_drop(true);
    suite.env("SUITE_PORT", port.to_string()).env("REDIS_VERSION", "8.0");
    suite.output().await.unwrap();
    let reports: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    fs::remove_file(report).unwrap();
    let mut results = BTreeMap::new();
    for case in reports[0]["SpecReports"].as_array().unwrap() {
        let words = case["ContainerHierarchyTexts"].as_array().into_iter().flatten();
        let words = words.chain([&case["LeafNodeText"]]).map(|word| word.as_str().unwrap());
        let name = words.collect::<Vec<_>>().join(" ");
        let state = case["State"].as_str().unwrap();
        if !name.is_empty() && state != "skipped" {
            results.insert(name, state == "passed");
        }
    }
    results
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes, and its cases wait for fixed times"]
async fn cases_that_pass_at_a_server_pass_through_the_proxy_or_are_listed() {
    let suite = suite().await;
    let server = Backend::start().await;
    let direct = results(&suite, server.addr().port()).await;
    let (_backends, proxy) = cluster(3, "session_allow_keys = true\nsession_allow_flush = true").await;
    let through = results(&suite, proxy.port).await;
    let passed = |results: &BTreeMap<String, bool>| results.values().filter(|passed| **passed).count();
    println!(
        "{} of {} cases pass at a server, {} through the proxy",
        passed(&direct),
        direct.len(),
        passed(&through)
    );
    let listed: BTreeSet<&str> = LISTED.lines().filter_map(|line| line.strip_prefix("- ")).collect();
    let fails_here = |name: &str| through.get(name) == Some(&false);
    let passing = direct
        .iter()
        .filter(|(_, passed)| **passed)
        .map(|(name, _)| name.as_str());
    let differing: BTreeSet<&str> = passing.filter(|name| fails_here(name)).collect();
    for name in listed.difference(&differing) {
        println!("listed, but did not fail: {name}");
    }
    let unlisted: Vec<_> = differing.difference(&listed).collect();
    assert!(unlisted.is_empty(), "not listed in docs/go-redis.md: {unlisted:#?}");
}
