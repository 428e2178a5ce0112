//! TLS with clients and with servers: certificates, and handshakes up to the connection that the event loops use.

mod clients;
mod servers;

use std::sync::Arc;

pub(super) use self::clients::ClientTls;
pub(super) use self::servers::{ServerTls, explain};
use super::config::Config;
use crate::tls::{Followed, OfFiles, TlsError};

/// What of TLS is set up.
#[derive(Debug, Clone, Default)]
pub(super) struct Tls {
    /// With clients, at a port of its own.
    pub(super) clients: Option<Arc<ClientTls>>,
    /// With servers.
    pub(super) servers: Option<Arc<ServerTls>>,
}

/// How the files of one side are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FilesFigures {
    /// Whether they can't be used, so that what was in them before is.
    pub(super) stale: bool,
    /// When the certificate in use ends, in seconds since 1970.
    pub(super) not_after: Option<i64>,
}

/// What one side of TLS is made of.
struct Certified<C> {
    config: Arc<C>,
    /// When the certificate ends, in seconds since 1970.
    not_after: Option<i64>,
}

impl FilesFigures {
    fn of<C, F: OfFiles<Made = Certified<C>>>(files: &Followed<F>) -> Self {
        Self {
            stale: files.is_stale(),
            not_after: files.current().not_after,
        }
    }
}

/// Figures of all sides that are set up.
#[derive(Debug, Default)]
pub(super) struct TlsFigures {
    /// Of each side, by its name.
    pub(super) files: Vec<(&'static str, FilesFigures)>,
    /// Handshakes with clients, by what came of them.
    pub(super) handshakes: Vec<(&'static str, u64)>,
}

impl Tls {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// When one can't be used; names its key.
    pub(super) fn new(config: &Config) -> Result<Self, TlsError> {
        Ok(Self {
            clients: ClientTls::new(config)?.map(Arc::new),
            servers: ServerTls::new(config)?.map(Arc::new),
        })
    }

    /// Takes what is written into the files from now on.
    pub(super) fn follow(&self) {
        if let Some(clients) = &self.clients {
            clients.follow();
        }
        if let Some(servers) = &self.servers {
            servers.follow();
        }
    }

    /// What there is to tell.
    pub(super) fn figures(&self) -> TlsFigures {
        let clients = self.clients.as_ref();
        let files = [
            clients.map(|clients| ("clients", clients.files())),
            self.servers.as_ref().map(|servers| ("servers", servers.files())),
        ];
        TlsFigures {
            files: files.into_iter().flatten().collect(),
            handshakes: clients.map(|clients| clients.handshakes()).unwrap_or_default(),
        }
    }
}
