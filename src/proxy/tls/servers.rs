use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{AlertDescription, CertificateError, ClientConfig, Connection, Error, InvalidMessage};

use super::{Certified, FilesFigures};
use crate::client::Trust;
use crate::model::HostPort;
use crate::proxy::config::Config;
use crate::proxy::transport::Transport;
use crate::tls::{Followed, Identity, IdentityPem, OfFiles, PemFile, TlsError, not_after, provider};

/// TLS with servers.
#[derive(Debug)]
pub(in crate::proxy) struct ServerTls {
    files: Arc<Followed<ServerFiles>>,
    /// Instead of the port that slots name.
    port: Option<u16>,
}

/// Whom to believe, and what servers are shown.
struct ServerFiles {
    /// `None`: those that this host knows.
    authorities: Option<PemFile>,
    /// `None`: nothing.
    identity: Option<Identity>,
}

impl OfFiles for ServerFiles {
    type Content = (Option<Vec<u8>>, Option<IdentityPem>);
    type Made = Certified<ClientConfig>;

    fn name(&self) -> &'static str {
        "backend_tls"
    }

    fn read(&self) -> Result<Self::Content, TlsError> {
        Ok((
            self.authorities.as_ref().map(PemFile::read).transpose()?,
            self.identity.as_ref().map(Identity::read).transpose()?,
        ))
    }

    fn make(&self, (authorities, identity): &Self::Content) -> Result<Certified<ClientConfig>, TlsError> {
        let roots = match (&self.authorities, authorities) {
            (Some(file), Some(pem)) => file.authorities(pem)?,
            _ => Trust::Host
                .roots()
                .map_err(|error| TlsError::Library(error.to_string()))?,
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Library(error.to_string()))?
            .with_root_certificates(roots);
        let (config, not_after) = match (&self.identity, identity) {
            (Some(files), Some(pem)) => {
                let (certs, key) = files.parse(pem)?;
                let not_after = certs.first().and_then(not_after);
                let config = builder.with_client_auth_cert(certs, key);
                (config.map_err(|error| files.mismatch(error))?, not_after)
            }
            _ => (builder.with_no_client_auth(), None),
        };
        Ok(Certified {
            config: Arc::new(config),
            not_after,
        })
    }
}

impl ServerTls {
    /// What the settings say; `None`: servers are talked to as they are.
    ///
    /// # Errors
    /// When a file can't be used; names its key.
    pub(super) fn new(config: &Config) -> Result<Option<Self>, TlsError> {
        if !config.backend_tls {
            return Ok(None);
        }
        let named = |key, path: &String| (!path.is_empty()).then(|| PemFile::new(key, path));
        let cert = named("backend_tls_cert", &config.backend_tls_cert);
        let key = named("backend_tls_key", &config.backend_tls_key);
        let files = ServerFiles {
            authorities: named("backend_tls_ca", &config.backend_tls_ca),
            identity: cert.zip(key).map(|(cert, key)| Identity { cert, key }),
        };
        Ok(Some(Self {
            files: Followed::new(files)?,
            port: Some(config.backend_tls_port).filter(|port| *port != 0),
        }))
    }

    /// Takes what is written into the files from now on.
    pub(super) fn follow(&self) {
        Followed::follow(&self.files);
    }

    /// How the files are.
    pub(super) fn files(&self) -> FilesFigures {
        FilesFigures::of(&self.files)
    }

    /// The port at which the server with this address speaks TLS.
    pub(in crate::proxy) fn port(&self, addr: &HostPort) -> u16 {
        self.port.unwrap_or_else(|| addr.port())
    }

    /// Does the handshake with a server that has to prove that it is `host`, a name or an IP.
    ///
    /// # Errors
    /// When it does not, or the connection breaks.
    pub(in crate::proxy) async fn secure(&self, socket: TcpStream, host: &str) -> io::Result<Transport> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{host}: {error}")))?;
        let connector = TlsConnector::from(self.files.current().config.clone());
        let (socket, session) = connector.connect(name, socket).await?.into_inner();
        Ok(Transport::secured(socket, Connection::Client(session)))
    }
}

/// What TLS failed with, and what helps; `None` when it was not TLS that failed.
pub(in crate::proxy) fn explain(error: &io::Error) -> Option<String> {
    use AlertDescription::{
        BadCertificate, CertificateRequired, CertificateUnknown, DecryptError, HandshakeFailure, UnknownCA,
    };
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    let remedy = match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "backend_tls_ca must hold the authority that issued the server's certificate"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate must hold its name, as slots name it (of an IP: as an IP)",
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            "there is no TLS at this port: set backend_tls_port to the servers' TLS port, or backend_tls = false"
        }
        Error::AlertReceived(CertificateRequired | HandshakeFailure) => {
            "the server may want a certificate: set backend_tls_cert and backend_tls_key"
        }
        Error::AlertReceived(UnknownCA | BadCertificate | CertificateUnknown | DecryptError) => {
            "the server does not believe the certificate of backend_tls_cert"
        }
        _ => return Some(error.to_string()),
    };
    Some(format!("{error}; {remedy}"))
}
