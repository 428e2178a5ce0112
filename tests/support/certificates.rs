//! A certificate authority, and files of certificates for both sides of a connection.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

/// A certificate authority.
pub struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// The files of one side of a connection.
pub struct Files {
    folder: TempDir,
    host: String,
}

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    /// Its own certificate, and a new one with its key for whoever is at 127.0.0.1, whom it names so.
    pub fn files(&self, name: &str) -> Files {
        self.files_for("127.0.0.1", name)
    }

    /// The same for whoever is at this name or IP.
    pub fn files_for(&self, host: &str, name: &str) -> Files {
        let files = Files {
            folder: TempDir::new().unwrap(),
            host: host.to_owned(),
        };
        self.write(name, &files);
        files
    }

    /// New ones in the place of others.
    pub fn write(&self, name: &str, files: &Files) {
        let mut params = CertificateParams::new([files.host.clone()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(files.ca(), &self.pem).unwrap();
        std::fs::write(files.cert(), certificate.pem()).unwrap();
        std::fs::write(files.key(), key.serialize_pem()).unwrap();
    }
}

impl Files {
    /// Who is at this name or IP has the certificate.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub fn cert(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// What lies in the certificate's file.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.cert()).unwrap()
    }

    /// A client that believes their authority and shows nothing.
    pub fn connector(&self, versions: &[&'static SupportedProtocolVersion]) -> TlsConnector {
        let config = self.client(versions).with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }

    /// A client that believes their authority and shows `shown`.
    pub fn connector_showing(&self, shown: &Self, versions: &[&'static SupportedProtocolVersion]) -> TlsConnector {
        let key = PrivateKeyDer::from_pem_file(shown.key()).unwrap();
        let config = self.client(versions).with_client_auth_cert(vec![shown.der()], key);
        TlsConnector::from(Arc::new(config.unwrap()))
    }

    fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> tokio_rustls::rustls::ConfigBuilder<ClientConfig, tokio_rustls::rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca()).unwrap()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
    }
}
