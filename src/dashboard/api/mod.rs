//! The HTTP API: Codis 3.2's routes and conventions. Mutations are `PUT` with their parameters in the path and answer
//! `"OK"`; a refused one has status 800 and a `Cause`; the path holds an xauth that proves which product is meant.

mod answer;
mod body;
mod bounded;
mod call;
mod counted;
mod edge;
mod openapi;
mod routes;
mod table;
mod tls;
mod token;

use std::sync::Arc;

use tokio::sync::watch;

use super::config::{Config, Secret};
use super::lead::Candidate;
use super::logging::Logging;

pub(crate) use edge::router;
pub use openapi::openapi;
pub(crate) use tls::{acceptor, begin as begin_tls};

/// What the routes work with.
#[derive(Clone)]
pub(crate) struct Api {
    candidate: Arc<Candidate>,
    config: Arc<Config>,
    logging: Logging,
    stop: Arc<watch::Sender<bool>>,
    xauth: Arc<str>,
    /// What changes are made with; empty: nothing is wanted.
    token: Secret,
}

impl Api {
    /// The API of this candidate.
    pub(crate) fn new(
        candidate: Arc<Candidate>,
        config: Config,
        logging: Logging,
        stop: Arc<watch::Sender<bool>>,
    ) -> Self {
        let token = config.admin_token.clone();
        let xauth = candidate.means.product.dashboard_xauth().into();
        Self {
            candidate,
            config: Arc::new(config),
            logging,
            stop,
            xauth,
            token,
        }
    }
}
