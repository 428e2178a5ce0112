//! Programs that tests run, with all that they said when they fail.

use std::fmt;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A program that did not exit with 0.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The program and its arguments.
    pub command: String,
    /// Its exit code; absent when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to its standard error.
    pub stderr: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "`{}` exited with {code}: {}", self.command, self.stderr.trim_end()),
            None => write!(
                f,
                "`{}` was ended by a signal: {}",
                self.command,
                self.stderr.trim_end()
            ),
        }
    }
}

impl std::error::Error for Failed {}

/// Runs a program, gives it `input`, and returns what it wrote to its standard output. It is killed when the caller stops waiting.
///
/// # Errors
/// [`Failed`] when it exits with anything but 0.
///
/// # Panics
/// When it can't be started at all.
pub async fn run(command: &mut Command, input: &str) -> Result<String, Failed> {
    let named = format!("{:?}", command.as_std()).replace('"', "");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("`{named}` can't be started: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let feed = async move {
        // A program that does not read its input to the end closes it: its exit code says whether that was right.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    let output = output.unwrap_or_else(|error| panic!("waiting for `{named}`: {error}"));
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(Failed {
            command: named,
            code: output.status.code(),
            stderr,
        })
    }
}
