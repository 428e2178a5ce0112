//! Programs that clients are made of: built or fetched once, and run.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Runs it: what it says. Panics when it fails.
pub async fn run(command: Command) -> String {
    let mut command = tokio::process::Command::from(command);
    let output = command
        .kill_on_drop(true)
        .output()
        .await
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// A folder that outlives tests, and this one's lock on it.
pub fn cache(name: &str) -> (PathBuf, fs::File) {
    let home = PathBuf::from(std::env::var_os("HOME").expect("HOME is set"));
    let folder = home.join(".cache/codis-operator/clients").join(name);
    fs::create_dir_all(&folder).unwrap();
    let lock = fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    (folder, lock)
}

/// A program with arguments.
pub fn command(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// The program in `clients/go-redis`: where its source is.
pub fn go_source() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/go-redis"))
}
