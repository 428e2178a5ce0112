//! Authorities and the certificates that they issue.

use std::path::{Path, PathBuf};
use std::time::Duration;

use codis_operator::client::{DashboardClient, Http, Trust};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::dashboard::product;

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
        }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Writes a certificate for loopback and its key.
    pub fn issue(&self, cert: &Path, key: &Path) {
        let pair = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let issued = params.signed_by(&pair, &self.issuer).unwrap();
        std::fs::write(key, pair.serialize_pem()).unwrap();
        std::fs::write(cert, issued.pem()).unwrap();
    }

    /// Writes its own certificate.
    pub fn write(&self, file: PathBuf) -> PathBuf {
        std::fs::write(&file, self.pem()).unwrap();
        file
    }

    /// A client that believes this authority only.
    pub fn client(&self, addr: &str) -> DashboardClient {
        let trust = Trust::Authorities(self.pem().into_bytes());
        let http = Http::trusting(Duration::from_secs(5), &trust).unwrap();
        DashboardClient::new(http, vec![format!("https://{addr}")], product())
    }
}
