use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How all TLS is done.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A PEM file that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemFile {
    key: &'static str,
    path: PathBuf,
}

/// The files of a certificate and of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate and those that lead to the authority.
    pub cert: PemFile,
    /// Its key, without a passphrase.
    pub key: PemFile,
}

/// What lies in the files of an [`Identity`].
#[derive(PartialEq, Eq)]
pub(crate) struct IdentityPem {
    cert: Vec<u8>,
    key: Vec<u8>,
}

/// Why certificates and keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{path} ({key}) can't be read: {reason}; name a PEM file that this process may read")]
    Read {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: std::io::Error,
    },
    /// A file holds something else.
    #[error("{path} ({key}) can't be used: {reason}; write {wanted} as PEM into it")]
    Content {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
        /// What should be in it.
        wanted: &'static str,
    },
    /// The key is not that of the certificate.
    #[error("{cert} ({cert_key}) and {key} ({key_key}) don't belong together: {reason}")]
    Pair {
        /// The certificate's key of the configuration.
        cert_key: &'static str,
        /// The certificate's file.
        cert: PathBuf,
        /// The private key's key of the configuration.
        key_key: &'static str,
        /// The private key's file.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The library can't do what is wanted.
    #[error("TLS: {0}")]
    Library(String),
}

impl PemFile {
    /// The file that this key of the configuration names.
    pub fn new(key: &'static str, path: impl Into<PathBuf>) -> Self {
        Self { key, path: path.into() }
    }

    /// What lies in it now.
    ///
    /// # Errors
    /// [`TlsError::Read`].
    pub(crate) fn read(&self) -> Result<Vec<u8>, TlsError> {
        std::fs::read(&self.path).map_err(|reason| TlsError::Read {
            key: self.key,
            path: self.path.clone(),
            reason,
        })
    }

    /// The authorities in it, one at least.
    ///
    /// # Errors
    /// [`TlsError::Content`].
    pub(crate) fn authorities(&self, pem: &[u8]) -> Result<RootCertStore, TlsError> {
        let wanted = "the authorities' certificates";
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(pem, wanted)? {
            let added = roots.add(certificate);
            added.map_err(|error| self.wrong(error.to_string(), wanted))?;
        }
        Ok(roots)
    }

    fn certificates(&self, pem: &[u8], wanted: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let found = found.map_err(|error| self.wrong(error.to_string(), wanted))?;
        if found.is_empty() {
            return Err(self.wrong("it holds no certificate".to_owned(), wanted));
        }
        Ok(found)
    }

    fn private_key(&self, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
        // The library's words may not show anything of the key: only its kind is told.
        PrivateKeyDer::from_pem_slice(pem)
            .map_err(|_| self.wrong("it holds no private key".to_owned(), "the private key"))
    }

    fn wrong(&self, reason: String, wanted: &'static str) -> TlsError {
        TlsError::Content {
            key: self.key,
            path: self.path.clone(),
            reason,
            wanted,
        }
    }
}

impl Identity {
    /// What lies in the files now.
    ///
    /// # Errors
    /// [`TlsError::Read`].
    pub(crate) fn read(&self) -> Result<IdentityPem, TlsError> {
        Ok(IdentityPem {
            cert: self.cert.read()?,
            key: self.key.read()?,
        })
    }

    /// The certificate and its key.
    ///
    /// # Errors
    /// [`TlsError::Content`].
    pub(crate) fn parse(
        &self,
        pem: &IdentityPem,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let certs = self.cert.certificates(&pem.cert, "the certificate")?;
        Ok((certs, self.key.private_key(&pem.key)?))
    }

    /// They don't belong together.
    pub(crate) fn mismatch(&self, reason: impl Display) -> TlsError {
        TlsError::Pair {
            cert_key: self.cert.key,
            cert: self.cert.path.clone(),
            key_key: self.key.key,
            key: self.key.path.clone(),
            reason: reason.to_string(),
        }
    }
}
