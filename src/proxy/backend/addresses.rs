use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use tokio::time::timeout;

use super::connect::{ConnectError, STEP_TIMEOUT};
use crate::client::lookup;

/// How long the name service may take where the dashboard told an address.
const TOLD_PATIENCE: Duration = Duration::from_millis(100);
/// How many of a name's addresses are used.
const MAX_ADDRESSES: usize = 4;

/// Where the dashboard found servers last: the way to them when their names can't be resolved, or name servers still tell
/// where a pod was that was made anew, which they do for some seconds. Logins are made for one server, so that an address
/// which meanwhile belongs to somebody else does no harm.
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

    /// The addresses of a host, those to be tried first in front: as the name service tells them, then as the dashboard did.
    ///
    /// # Errors
    /// When neither does.
    pub(super) async fn of(&self, host: &str) -> Result<Vec<IpAddr>, ConnectError> {
        let told = self.told(host);
        let patience = if told.is_some() { TOLD_PATIENCE } else { STEP_TIMEOUT };
        let found = match (timeout(patience, lookup(host)).await, told) {
            (Ok(Ok(found)), _) => found,
            (_, Some(_)) => Vec::new(),
            (Ok(Err(error)), None) => return Err(ConnectError::Lookup(host.to_owned(), error)),
            (Err(_), None) => return Err(ConnectError::Lookup(host.to_owned(), io::ErrorKind::TimedOut.into())),
        };
        Ok(in_order(found, told))
    }
}

fn in_order(mut found: Vec<IpAddr>, told: Option<IpAddr>) -> Vec<IpAddr> {
    found.truncate(MAX_ADDRESSES);
    if let Some(told) = told
        && !found.contains(&told)
    {
        found.push(told);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_that_the_dashboard_told_comes_last_and_once() {
        let [one, two] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        assert_eq!(in_order(vec![one], Some(two)), [one, two]);
        assert_eq!(in_order(vec![one, two], Some(one)), [one, two]);
        assert_eq!(in_order(vec![one], None), [one]);
        assert_eq!(in_order(Vec::new(), Some(two)), [two]);
        assert_eq!(in_order(vec![one; 9], Some(two)), [one, one, one, one, two]);
    }
}
