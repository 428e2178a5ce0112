//! Processes that end with the test, and waiting for what they do.

use std::future::Future;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The path of a tool that the tests need, in the folder `$CODIS_TOOLS` or the cache that `make tools` fills.
pub fn tool(name: &str) -> PathBuf {
    let folder = std::env::var_os("CODIS_TOOLS").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").expect("HOME is set");
        PathBuf::from(home).join(".cache/codis-operator/bin")
    });
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: run `make tools`", path.display());
    path
}

/// How long a server may take from its start to its first answer: on a machine that builds or tests besides, its disk
/// may be busy for long.
pub const START: Duration = Duration::from_secs(60);

/// A port that nobody listens at, and that no other caller of this process was told.
///
/// It is none of those that the kernel gives to outgoing connections (from 32768 on): such a one is often taken by the
/// time that a process which is just being started listens at it.
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u32> = 10_000..30_000;
    static CALLS: AtomicU32 = AtomicU32::new(0);
    // Processes begin far apart, so that two which run side by side do not try the same ones.
    let first = std::process::id().wrapping_mul(7_919);
    let ports = (0..PORTS.len()).map(|_| {
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        (PORTS.start + first.wrapping_add(call) % (PORTS.end - PORTS.start)) as u16
    });
    ports
        .into_iter()
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// A child process that ends with this value, and with the test even when that is killed.
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    pub fn start(command: &Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut guarded = Command::new("setpriv");
        guarded
            .args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => guarded.env(key, value),
                None => guarded.env_remove(key),
            };
        }
        let shown = || {
            if std::env::var_os("CODIS_TEST_LOGS").is_some() {
                Stdio::inherit()
            } else {
                Stdio::null()
            }
        };
        guarded.stdin(Stdio::null()).stdout(shown()).stderr(shown());
        let child = guarded
            .spawn()
            .unwrap_or_else(|error| panic!("starting {name}: {error}"));
        Self { child, name }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name: `TERM`, `STOP`, `CONT`, `KILL`.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(sent.success(), "sending {signal} to {}", self.name);
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The time that it used a core.
    pub fn cpu_time(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        // One that ended meanwhile did next to nothing.
        let times = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok());
        let nanoseconds = times.map(|times| times.split(' ').next().unwrap().parse::<u64>().unwrap());
        Duration::from_nanos(nanoseconds.sum())
    }

    /// The memory that it has in the machine.
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most that it ever had.
    pub fn peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, which: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(which)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Its exit code, when it ends within this time.
    pub async fn exit_code(&mut self, within: Duration) -> Option<i32> {
        let name = self.name.clone();
        eventually(&format!("{name} ends"), within, async || {
            self.child.try_wait().unwrap().map(|status| status.code())
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks again and again until there is an answer. Panics when there is none in time.
pub async fn eventually<T>(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < within, "it never happened within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether something holds all the time.
pub async fn holds_for<F: Future<Output = bool>>(what: &str, time: Duration, mut ask: impl FnMut() -> F) {
    let began = Instant::now();
    while began.elapsed() < time {
        assert!(ask().await, "it did not hold for {time:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
