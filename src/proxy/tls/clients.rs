use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::{NoClientAuth, WebPkiClientVerifier};
use tokio_rustls::rustls::{AlertDescription, Connection, Error, InvalidMessage, ServerConfig};

use super::{Certified, FilesFigures};
use crate::proxy::config::{AuthClients, Config};
use crate::proxy::transport::Detached;
use crate::tls::{Followed, Identity, IdentityPem, OfFiles, PemFile, TlsError, not_after, provider};

/// How long a handshake may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Outcome {
    /// A connection.
    Done,
    /// What came was no TLS.
    Plain,
    /// It took too long.
    Slow,
    /// The client went away.
    Left,
    /// The client gave no certificate, or one that is not believed.
    Certificate,
    /// The client did not believe the proxy's certificate.
    Disbelief,
    /// Anything else.
    Other,
}

impl Outcome {
    const ALL: [Self; 7] = [
        Self::Done,
        Self::Plain,
        Self::Slow,
        Self::Left,
        Self::Certificate,
        Self::Disbelief,
        Self::Other,
    ];

    /// Its name among the figures.
    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Plain => "plain",
            Self::Slow => "slow",
            Self::Left => "left",
            Self::Certificate => "certificate",
            Self::Disbelief => "disbelief",
            Self::Other => "other",
        }
    }

    fn of(error: &io::Error) -> Self {
        use AlertDescription::{BadCertificate, CertificateExpired, CertificateUnknown, DecryptError, UnknownCA};
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            return Self::Left;
        };
        match error {
            Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
                Self::Plain
            }
            Error::NoCertificatesPresented | Error::InvalidCertificate(_) => Self::Certificate,
            // The last one: by another authority of the same name.
            Error::AlertReceived(
                UnknownCA | BadCertificate | CertificateUnknown | CertificateExpired | DecryptError,
            ) => Self::Disbelief,
            _ => Self::Other,
        }
    }
}

/// TLS with clients.
#[derive(Debug)]
pub(in crate::proxy) struct ClientTls {
    files: Arc<Followed<ClientFiles>>,
    handshakes: [AtomicU64; Outcome::ALL.len()],
}

/// What clients are shown, and what they have to show.
struct ClientFiles {
    identity: Identity,
    /// Authorities of clients' certificates.
    authorities: Option<PemFile>,
    auth: AuthClients,
}

impl OfFiles for ClientFiles {
    type Content = (IdentityPem, Option<Vec<u8>>);
    type Made = Certified<ServerConfig>;

    fn name(&self) -> &'static str {
        "proxy_tls"
    }

    fn read(&self) -> Result<Self::Content, TlsError> {
        let authorities = self.authorities.as_ref().map(PemFile::read).transpose()?;
        Ok((self.identity.read()?, authorities))
    }

    fn make(&self, (identity, authorities): &Self::Content) -> Result<Certified<ServerConfig>, TlsError> {
        let library = |error: String| TlsError::Library(error);
        let verifier = match (&self.authorities, authorities) {
            (Some(file), Some(pem)) => {
                let roots = Arc::new(file.authorities(pem)?);
                let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let builder = match self.auth {
                    AuthClients::Yes => builder,
                    AuthClients::No | AuthClients::Optional => builder.allow_unauthenticated(),
                };
                builder.build().map_err(|error| library(error.to_string()))?
            }
            _ => Arc::new(NoClientAuth),
        };
        let (certs, key) = self.identity.parse(identity)?;
        let not_after = certs.first().and_then(not_after);
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| library(error.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certs, key)
            .map_err(|error| self.identity.mismatch(error))?;
        Ok(Certified {
            config: Arc::new(config),
            not_after,
        })
    }
}

impl ClientTls {
    /// What the settings say; `None`: there is no port for it.
    ///
    /// # Errors
    /// When a file can't be used; names its key.
    pub(super) fn new(config: &Config) -> Result<Option<Self>, TlsError> {
        if config.proxy_tls_addr.is_empty() {
            return Ok(None);
        }
        let authorities = PemFile::new("proxy_tls_ca", &config.proxy_tls_ca);
        let files = ClientFiles {
            identity: Identity {
                cert: PemFile::new("proxy_tls_cert", &config.proxy_tls_cert),
                key: PemFile::new("proxy_tls_key", &config.proxy_tls_key),
            },
            authorities: (config.proxy_tls_auth_clients != AuthClients::No).then_some(authorities),
            auth: config.proxy_tls_auth_clients,
        };
        Ok(Some(Self {
            files: Followed::new(files)?,
            handshakes: Default::default(),
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

    /// How many handshakes ended how.
    pub(super) fn handshakes(&self) -> Vec<(&'static str, u64)> {
        let counts = self.handshakes.iter().map(|count| count.load(Ordering::Relaxed));
        Outcome::ALL.iter().map(|outcome| outcome.name()).zip(counts).collect()
    }

    /// Does the handshake with a client. What became of it, where there is no connection, and why.
    pub(in crate::proxy) async fn greet(&self, socket: TcpStream) -> Result<Detached, String> {
        let acceptor = TlsAcceptor::from(self.files.current().config.clone());
        let (outcome, done) = match timeout(PATIENCE, acceptor.accept(socket)).await {
            Ok(Ok(stream)) => {
                let (socket, session) = stream.into_inner();
                let detached = socket
                    .into_std()
                    .map(|socket| Detached::secured(socket, Connection::Server(session)));
                (Outcome::Done, detached.map_err(|error| error.to_string()))
            }
            Ok(Err(error)) => (Outcome::of(&error), Err(error.to_string())),
            Err(_) => (Outcome::Slow, Err(format!("it took more than {PATIENCE:?}"))),
        };
        self.handshakes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        done
    }
}
