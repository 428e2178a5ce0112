use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Addresses that are remembered. When more give wrong passwords at a time, the one that gave the fewest is forgotten.
const MAX_ADDRESSES: usize = 4096;
/// Wrong passwords that are looked at without a pause, as a multiple of those of a second.
const BURST: f64 = 5.0;

/// Wrong passwords by the address they came from, so that nobody tries all there are: those of a second are looked at,
/// further ones are refused unseen. Touched by logins only.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Guesses {
    /// Looked at per second and address. 0: all.
    per_second: u32,
    table: Mutex<HashMap<IpAddr, Level>>,
    /// How many addresses there are, for those who have to do with none of them.
    known: AtomicUsize,
    wrong: AtomicU64,
    refused: AtomicU64,
}

/// How many wrong ones count still; it sinks with time.
#[derive(Debug, Clone, Copy)]
struct Level {
    wrong: f64,
    at: Instant,
}

impl Level {
    fn sunk(self, per_second: f64, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.wrong - elapsed * per_second).max(0.0)
    }
}

/// Hosts get a whole network of IPv6 each.
fn origin(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V6(addr) => {
            let [a, b, c, d, ..] = addr.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        addr => addr,
    }
}

impl Guesses {
    /// Looks at so many wrong ones per second and address; 0: at all.
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            per_second,
            ..Self::default()
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<IpAddr, Level>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a password that comes from there is not looked at.
    pub(in crate::proxy) fn refuses(&self, addr: IpAddr, now: Instant) -> bool {
        if self.per_second == 0 || self.known.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let per_second = f64::from(self.per_second);
        let level = self.table().get(&origin(addr)).copied();
        let refused = level.is_some_and(|level| level.sunk(per_second, now) + 1.0 > BURST * per_second);
        if refused {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        refused
    }

    /// A wrong one came from there.
    pub(in crate::proxy) fn wrong(&self, addr: IpAddr, now: Instant) {
        self.wrong.fetch_add(1, Ordering::Relaxed);
        if self.per_second == 0 {
            return;
        }
        let (per_second, origin) = (f64::from(self.per_second), origin(addr));
        let mut table = self.table();
        if table.len() >= MAX_ADDRESSES && !table.contains_key(&origin) {
            table.retain(|_, level| level.sunk(per_second, now) > 0.0);
            let least = |(_, level): &(&IpAddr, &Level)| (level.sunk(per_second, now) * 1e3) as u64;
            if table.len() >= MAX_ADDRESSES
                && let Some(addr) = table.iter().min_by_key(least).map(|(addr, _)| *addr)
            {
                table.remove(&addr);
            }
        }
        let level = table.entry(origin).or_insert(Level { wrong: 0.0, at: now });
        *level = Level {
            wrong: level.sunk(per_second, now) + 1.0,
            at: now,
        };
        self.known.store(table.len(), Ordering::Relaxed);
    }

    /// Wrong passwords that were looked at, and passwords that were not.
    pub(in crate::proxy) fn counts(&self) -> (u64, u64) {
        (self.wrong.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn tried(guesses: &Guesses, addr: &str, now: Instant) -> usize {
        let addr = addr.parse().unwrap();
        (0..1000)
            .take_while(|_| {
                let looked_at = !guesses.refuses(addr, now);
                if looked_at {
                    guesses.wrong(addr, now);
                }
                looked_at
            })
            .count()
    }

    #[test]
    fn wrong_passwords_of_an_address_are_looked_at_by_the_second() {
        let (guesses, begin) = (Guesses::new(2), Instant::now());
        assert_eq!(tried(&guesses, "10.0.0.1", begin), 10);
        assert_eq!(tried(&guesses, "10.0.0.1", begin + Duration::from_secs(1)), 2);
        assert_eq!(tried(&guesses, "10.0.0.2", begin), 10, "others are not concerned");
        assert_eq!(tried(&guesses, "2001:db8::1", begin), 10);
        assert_eq!(
            tried(&guesses, "2001:db8::2", begin),
            0,
            "one host has many addresses of IPv6"
        );
        assert_eq!(tried(&guesses, "10.0.0.1", begin + Duration::from_secs(60)), 10);
        assert_eq!(tried(&Guesses::new(0), "10.0.0.1", begin), 1000);
    }

    #[test]
    fn addresses_that_are_remembered_are_bounded() {
        let (guesses, now) = (Guesses::new(1), Instant::now());
        assert_eq!(tried(&guesses, "10.0.0.1", now), 5);
        for host in 0..2 * MAX_ADDRESSES as u32 {
            guesses.wrong(IpAddr::from((host + (11 << 24)).to_be_bytes()), now);
        }
        assert_eq!(guesses.table().len(), MAX_ADDRESSES);
        assert_eq!(
            tried(&guesses, "10.0.0.1", now),
            0,
            "the one that gave most is remembered"
        );
    }
}
