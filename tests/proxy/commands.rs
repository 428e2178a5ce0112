//! The committed command table against a real server.

use std::fmt::Write;

use crate::support::backend::Backend;

#[tokio::test]
async fn committed_command_table_is_that_of_a_real_server() {
    let server = Backend::start().await;
    let mut connection = redis::Client::open(format!("redis://{}", server.addr()))
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap();
    let commands: Vec<redis::Value> = redis::cmd("COMMAND").query_async(&mut connection).await.unwrap();
    let mut lines = Vec::new();
    commands.iter().for_each(|command| describe(command, &mut lines));
    lines.sort_unstable();
    let text = lines.join("\n") + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/proxy/command/commands.txt");
    if std::env::var_os("CODIS_WRITE_COMMANDS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap();
    let differing = text
        .lines()
        .zip(committed.lines())
        .find(|(server, committed)| server != committed);
    assert!(
        text == committed,
        "run this test with CODIS_WRITE_COMMANDS=1 and commit {path}; first difference: {differing:?}"
    );
}

/// One line for a command and each of its subcommands.
fn describe(command: &redis::Value, lines: &mut Vec<String>) {
    let list = |value: &redis::Value| value.as_sequence().unwrap().to_vec();
    let text = |value: &redis::Value| redis::from_redis_value::<String>(value.clone()).unwrap();
    let number = |value: &redis::Value| redis::from_redis_value::<i64>(value.clone()).unwrap();
    let field = |map: &redis::Value, name: &str| {
        let pairs = list(map);
        let found = pairs
            .chunks(2)
            .find(|pair| text(&pair[0]) == name)
            .map(|pair| pair[1].clone());
        found.unwrap_or(redis::Value::Nil)
    };
    let parts = list(command);
    let mut flags: Vec<_> = list(&parts[2]).iter().map(text).collect();
    flags.sort_unstable();
    let flags = if flags.is_empty() {
        "-".to_owned()
    } else {
        flags.join(",")
    };
    let mut line = format!(
        "{} {} {} {} {} {flags}",
        text(&parts[0]),
        number(&parts[1]),
        number(&parts[3]),
        number(&parts[4]),
        number(&parts[5])
    );
    for keys in list(&parts[8]) {
        if list(&field(&keys, "flags")).iter().any(|flag| text(flag) == "not_key") {
            continue;
        }
        let (begin, find) = (field(&keys, "begin_search"), field(&keys, "find_keys"));
        let (begin_kind, find_kind) = (text(&field(&begin, "type")), text(&field(&find, "type")));
        if begin_kind == "unknown" || find_kind == "unknown" {
            line.push_str(" ?");
            continue;
        }
        let (begin, find) = (field(&begin, "spec"), field(&find, "spec"));
        match begin_kind.as_str() {
            "index" => write!(line, " {}", number(&field(&begin, "index"))).unwrap(),
            _ => write!(
                line,
                " {}@{}",
                text(&field(&begin, "keyword")),
                number(&field(&begin, "startfrom"))
            )
            .unwrap(),
        }
        let (kind, names) = match find_kind.as_str() {
            "range" => ("range", ["lastkey", "keystep", "limit"]),
            _ => ("count", ["keynumidx", "firstkey", "keystep"]),
        };
        let [one, two, three] = names.map(|name| number(&field(&find, name)));
        write!(line, ":{kind},{one},{two},{three}").unwrap();
    }
    lines.push(line);
    list(&parts[9])
        .iter()
        .for_each(|subcommand| describe(subcommand, lines));
}
