//! An etcd that is reached over TLS only, and asks for a client certificate.

use std::path::Path;
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tempfile::TempDir;

use super::certificates::{Ca, Files};
use super::etcd::Member;
use super::{Process, START, eventually, free_port};

impl Files {
    /// The flags that name them to a dashboard.
    pub fn flags(&self) -> Vec<String> {
        vec![
            format!("--etcd-ca={}", self.ca().display()),
            format!("--etcd-cert={}", self.cert().display()),
            format!("--etcd-key={}", self.key().display()),
        ]
    }

    fn options(&self) -> TlsOptions {
        let pem = |path: &Path| std::fs::read(path).unwrap();
        TlsOptions::new()
            .ca_certificate(Certificate::from_pem(pem(&self.ca())))
            .identity(Identity::from_pem(pem(&self.cert()), pem(&self.key())))
    }
}

pub struct TlsEtcd {
    process: Process,
    port: u16,
    peer_port: u16,
    folder: TempDir,
    files: Files,
}

impl TlsEtcd {
    pub async fn start(ca: &Ca) -> Self {
        let (port, peer_port, folder, files) = (free_port(), free_port(), TempDir::new().unwrap(), ca.files("etcd"));
        let process = run(port, peer_port, &folder, &files);
        let etcd = Self {
            process,
            port,
            peer_port,
            folder,
            files,
        };
        etcd.wait_ready(None).await;
        etcd
    }

    /// As it is named to a dashboard.
    pub fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// With certificates of this authority.
    pub async fn restart(&mut self, ca: &Ca, login: Option<(&str, &str)>) {
        ca.write("etcd", &self.files);
        self.process = run(self.port, self.peer_port, &self.folder, &self.files);
        self.wait_ready(login).await;
    }

    pub async fn client(&self, login: Option<(&str, &str)>) -> Option<Client> {
        let mut options = ConnectOptions::new().with_tls(self.files.options());
        if let Some((user, password)) = login {
            options = options.with_user(user, password);
        }
        Client::connect([self.endpoint()], Some(options)).await.ok()
    }

    async fn wait_ready(&self, login: Option<(&str, &str)>) {
        eventually("etcd answers over TLS", START, async || {
            let mut client = self.client(login).await?;
            let answer = tokio::time::timeout(Duration::from_secs(1), client.get("x", None));
            answer.await.ok()?.ok()
        })
        .await;
    }
}

fn run(port: u16, peer_port: u16, folder: &TempDir, files: &Files) -> Process {
    let member = Member {
        name: "one",
        scheme: "https",
        port,
        peer_port,
        folder: folder.path(),
        cluster: &format!("one=http://127.0.0.1:{peer_port}"),
    };
    let mut command = member.command();
    command.arg("--cert-file").arg(files.cert());
    command.arg("--key-file").arg(files.key());
    command.arg("--trusted-ca-file").arg(files.ca());
    command.arg("--client-cert-auth");
    Process::start(&command)
}
