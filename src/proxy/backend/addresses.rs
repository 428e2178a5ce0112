use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use tokio::time::timeout;

use super::connect::{ConnectError, STEP_TIMEOUT};
use crate::client::lookup;

/// How long the name service may take where the dashboard told an address.
const TOLD_PATIENCE: Duration = Duration::from_millis(300);

/// Where the dashboard found servers last: the way to them when their names can't be resolved. Logins are made for one server,
/// so that an address which meanwhile belongs to somebody else does no harm.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Addresses(RwLock<HashMap<String, IpAddr>>);

impl Addresses {
    /// Takes the addresses of these hosts in place of all that were told before.
    pub(in crate::proxy) fn tell(&self, told: HashMap<String, IpAddr>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = told;
    }

    fn told(&self, host: &str) -> Option<IpAddr> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(host).copied()
    }

    /// The addresses of a host, the preferred one first: as the name service tells them, or else as the dashboard did.
    ///
    /// # Errors
    /// When neither does.
    pub(super) async fn of(&self, host: &str) -> Result<Vec<IpAddr>, ConnectError> {
        let told = self.told(host);
        let patience = if told.is_some() { TOLD_PATIENCE } else { STEP_TIMEOUT };
        match (timeout(patience, lookup(host)).await, told) {
            (Ok(Ok(found)), _) if !found.is_empty() => Ok(found),
            (_, Some(told)) => Ok(vec![told]),
            (Ok(Ok(found)), None) => Ok(found),
            (Ok(Err(error)), None) => Err(ConnectError::Lookup(host.to_owned(), error)),
            (Err(_), None) => Err(ConnectError::Slow("the lookup of its name")),
        }
    }
}
