use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::serving::Acceptor;
use crate::tls::{Followed, Identity, IdentityPem, OfFiles, TlsError, provider};

/// The API's certificate: what takes connections is made of it.
pub(crate) struct ApiCertificate(Identity);

/// The server's side of TLS, with the certificate that lies in the files.
pub(crate) type Tls = Followed<ApiCertificate>;

/// Reads the files; and again when they change, as long as the result is used.
///
/// # Errors
/// When they can't be used as they are now.
pub(crate) fn begin(files: Identity) -> Result<Arc<Tls>, TlsError> {
    let tls = Followed::new(ApiCertificate(files))?;
    Followed::follow(&tls);
    Ok(tls)
}

/// What takes connections with the certificate as it is then.
pub(crate) fn acceptor(tls: Arc<Tls>) -> Acceptor {
    Arc::new(move || tls.current())
}

impl OfFiles for ApiCertificate {
    type Content = IdentityPem;
    type Made = TlsAcceptor;

    fn name(&self) -> &'static str {
        "admin_tls"
    }

    fn read(&self) -> Result<IdentityPem, TlsError> {
        self.0.read()
    }

    fn make(&self, content: &IdentityPem) -> Result<TlsAcceptor, TlsError> {
        let (certs, key) = self.0.parse(content)?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Library(error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(certs, key)
            .map_err(|error| self.0.mismatch(error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
