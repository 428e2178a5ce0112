use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Where certificate and key lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those that lead to the authority, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// Why the API can't be served by TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("reading {path} ({key}): {reason}")]
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
    #[error("{cert} (admin_tls_cert) and {key} (admin_tls_key) don't belong together: {reason}")]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The server's side of TLS, with the certificate that lies in the files.
pub(crate) struct Tls {
    files: TlsFiles,
    acceptor: Mutex<TlsAcceptor>,
}

/// What lies in the files.
#[derive(PartialEq, Eq)]
struct Content {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// Reads the files; and again when they change, as long as [`Self`] is used.
    ///
    /// # Errors
    /// When they can't be used as they are now.
    pub(crate) async fn begin(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let content = files.read().await?;
        let tls = Arc::new(Self {
            acceptor: Mutex::new(files.acceptor(&content)?),
            files,
        });
        tokio::spawn(follow(Arc::downgrade(&tls), content));
        Ok(tls)
    }

    /// What takes the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes what is written into the files. What can't be used is said once, and the certificate before it stays.
async fn follow(tls: std::sync::Weak<Tls>, mut known: Content) {
    let mut complaint = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(tls) = tls.upgrade() else { return };
        let next = tls.files.read().await.and_then(|content| {
            let news = content != known;
            let acceptor = if news {
                Some(tls.files.acceptor(&content)?)
            } else {
                None
            };
            Ok((content, acceptor))
        });
        match next {
            Ok((content, acceptor)) => {
                complaint = None;
                if let Some(acceptor) = acceptor {
                    *tls.acceptor.lock().unwrap_or_else(PoisonError::into_inner) = acceptor;
                    known = content;
                    tracing::info!(cert = %tls.files.cert.display(), "the certificate was read again");
                }
            }
            Err(error) => {
                let text = error.to_string();
                if complaint.as_ref() != Some(&text) {
                    tracing::warn!(%error, "the certificate is not taken, the former one stays");
                    complaint = Some(text);
                }
            }
        }
    }
}

impl TlsFiles {
    async fn read(&self) -> Result<Content, TlsError> {
        Ok(Content {
            cert: read("admin_tls_cert", &self.cert).await?,
            key: read("admin_tls_key", &self.key).await?,
        })
    }

    fn acceptor(&self, content: &Content) -> Result<TlsAcceptor, TlsError> {
        let wrong = |key, path: &Path, reason: String, wanted| TlsError::Content {
            key,
            path: path.to_owned(),
            reason,
            wanted,
        };
        let wrong_cert = |reason| wrong("admin_tls_cert", &self.cert, reason, "the certificate");
        let certs = CertificateDer::pem_slice_iter(&content.cert)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| wrong_cert(error.to_string()))?;
        if certs.is_empty() {
            return Err(wrong_cert("it holds no certificate".to_owned()));
        }
        // The library's words may not show anything of the key: only its kind is told.
        let key = PrivateKeyDer::from_pem_slice(&content.key).map_err(|_| {
            wrong(
                "admin_tls_key",
                &self.key,
                "it holds no private key".to_owned(),
                "the private key",
            )
        })?;
        let pair = |reason: String| TlsError::Pair {
            cert: self.cert.clone(),
            key: self.key.clone(),
            reason,
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| pair(error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(certs, key)
            .map_err(|error| pair(error.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

async fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    tokio::fs::read(path).await.map_err(|reason| TlsError::Read {
        key,
        path: path.to_owned(),
        reason,
    })
}
