use super::rules::Refusal;
use super::server::ServerError;
use super::store::StoreError;

/// Why a request to the dashboard was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// This dashboard is not the active one (any more). Another one may be; or this one, later.
    #[error("topom is not online: {0}")]
    NotActive(String),
    /// What was asked is not allowed as things are, or makes no sense.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed. After [`StoreError::is_unknown_outcome`] it may have been done.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A server failed.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A proxy failed, or did not acknowledge. What is stored stays, and is pushed again until it is acknowledged.
    #[error("{0}")]
    Proxy(String),
    /// One Sentinel, or several, failed.
    #[error("{0}")]
    Sentinel(String),
    /// It takes too long.
    #[error("{0}")]
    TimedOut(String),
}
