//! nutcracker (twemproxy) of Debian, to compare with.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::backend::Backend;
use super::wire::Wire;
use super::{Process, eventually, free_port, tool};

pub struct Nutcracker {
    pub process: Process,
    pub port: u16,
    _folder: TempDir,
}

impl Nutcracker {
    /// Serves, with keys spread over these servers.
    pub async fn start(backends: &[Backend]) -> Self {
        let (port, stats, folder) = (free_port(), free_port(), TempDir::new().unwrap());
        let file = folder.path().join("nutcracker.yml");
        let servers: String = backends.iter().map(|b| format!("   - {}:1\n", b.addr())).collect();
        let settings = format!(
            "all:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: ketama\n  redis: true\n  servers:\n{servers}"
        );
        std::fs::write(&file, settings).unwrap();
        let mut command = Command::new(tool("nutcracker"));
        command.arg("-c").arg(&file).arg("-o").arg(folder.path().join("log"));
        command.args(["-a", "127.0.0.1", "-s", &stats.to_string()]);
        let process = Process::start(&command);
        eventually("nutcracker answers", Duration::from_secs(10), async || {
            Wire::try_connect(port).await?.try_call("GET key").await
        })
        .await;
        Self {
            process,
            port,
            _folder: folder,
        }
    }
}
