use std::time::Duration;

use crate::client::ClientError;

/// Why a reconciliation ended early. Each variant says whether trying again by itself can help.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or could not be reached.
    #[error("{action}: {source}")]
    Kube {
        /// What was being done, and to what.
        action: String,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// The spec, or something that it refers to, can't be carried out. Waits for a change.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// The dashboard refused, or could not be reached.
    #[error("dashboard: {0}")]
    Dashboard(#[from] ClientError),
    /// The coordinator could not be reached, or refused.
    #[error("coordinator {endpoints}: {action}: {source}")]
    Coordinator {
        /// Its endpoints.
        endpoints: String,
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        source: Box<etcd_client::Error>,
    },
    /// The cluster's finalizer could not be put on or taken off.
    #[error("finalizer: {0}")]
    Finalizer(String),
    /// Nothing is wrong: something has to come about first.
    #[error("waiting: {0}")]
    Waiting(String),
    /// The HTTP server for probes and metrics could not be started.
    #[error("listening on {listen}: {source}")]
    Listen {
        /// Where.
        listen: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The Lease could not be used, or another instance took it.
    #[error("Lease {name}: {reason}")]
    Lease {
        /// Its namespace and name.
        name: String,
        /// What happened.
        reason: String,
    },
}

/// What is wrong with a spec or what it refers to. The text names the field and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    /// The field, from `spec.` on.
    pub field: &'static str,
    /// What is wrong, and the remedy.
    pub message: String,
}

impl Error {
    /// Wraps an error of the API server.
    pub fn kube(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        move |source| Self::Kube {
            action,
            source: Box::new(source),
        }
    }

    /// Whether somebody said no, and will say it again until something is changed: told in the cluster's status. What
    /// may pass by itself is only logged.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Invalid(_) => true,
            Self::Kube { source, .. } => {
                matches!(&**source, kube::Error::Api(status) if [400, 403, 422].contains(&status.code))
            }
            _ => false,
        }
    }

    /// In one word, for Events, conditions and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Kube { .. } => "KubernetesError",
            Self::Invalid(_) => "InvalidSpec",
            Self::Dashboard(_) => "DashboardError",
            Self::Coordinator { .. } => "CoordinatorError",
            Self::Finalizer(_) => "FinalizerError",
            Self::Waiting(_) => "Waiting",
            Self::Listen { .. } => "ListenError",
            Self::Lease { .. } => "LeaseError",
        }
    }

    /// How long to wait before the next try, the first time. Further failures wait longer.
    pub fn retry_after(&self) -> Duration {
        match self {
            // A change of the object comes by itself; this is for Secrets, which are not watched.
            Self::Invalid(_) => Duration::from_secs(5),
            Self::Kube { .. } | Self::Coordinator { .. } | Self::Finalizer(_) | Self::Lease { .. } => {
                Duration::from_secs(2)
            }
            Self::Dashboard(_) | Self::Waiting(_) => Duration::from_secs(1),
            // This ends the process.
            Self::Listen { .. } => Duration::ZERO,
        }
    }
}
