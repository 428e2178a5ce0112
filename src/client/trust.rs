use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::tls::provider;

/// Whose certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Nobody's: nothing is reached by `https://`.
    Nobody,
    /// Those of the authorities that this host knows.
    Host,
    /// Those of these authorities (PEM) and no others.
    Authorities(Vec<u8>),
}

/// Why nobody can be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TrustError {
    /// The text holds something else.
    #[error("the authorities' certificates can't be read: {0}; write them as PEM")]
    Pem(String),
    /// The library is not built as it should be.
    #[error("TLS: {0}")]
    Library(String),
}

impl Trust {
    /// The authorities.
    pub(crate) fn roots(&self) -> Result<RootCertStore, TrustError> {
        let mut roots = RootCertStore::empty();
        match self {
            Self::Nobody => {}
            // What can't be read is left out: who needs it sees that its peer is not believed.
            Self::Host => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
            Self::Authorities(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|error| TrustError::Pem(error.to_string()))?;
                    roots
                        .add(certificate)
                        .map_err(|error| TrustError::Pem(error.to_string()))?;
                }
                if roots.is_empty() {
                    return Err(TrustError::Pem("there is none".to_owned()));
                }
            }
        }
        Ok(roots)
    }

    pub(super) fn config(&self) -> Result<ClientConfig, TrustError> {
        let roots = self.roots()?;
        Ok(ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TrustError::Library(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth())
    }
}
