//! What the proxy tells of the machine and the process it runs in.

use std::fs;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::Instant;

use serde_json::json;

use crate::model::{AddrError, HostPort, Rusage};

/// Ticks of `/proc/*/stat` in a second, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE: i64 = 4096;

/// Hardware addresses of this host, those of loopbacks left out.
pub(super) fn hardware_addresses() -> Vec<String> {
    let Ok(interfaces) = fs::read_dir("/sys/class/net") else {
        return Vec::new();
    };
    let read = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("address")).ok();
    let addresses = interfaces.flatten().filter_map(read).map(|text| text.trim().to_owned());
    addresses
        .filter(|mac| !mac.is_empty() && mac.bytes().any(|byte| !matches!(byte, b'0' | b':')))
        .collect()
}

/// This host's name.
pub(super) fn hostname() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

/// What `uname` would say.
pub(super) fn uname() -> String {
    let read = |name: &str| {
        fs::read_to_string(format!("/proc/sys/kernel/{name}"))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    format!(
        "{} {} {} {}",
        read("ostype"),
        read("hostname"),
        read("osrelease"),
        read("version")
    )
}

/// Memory that the process uses.
pub(super) fn resident_bytes() -> i64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<i64>().ok());
    pages.unwrap_or(0) * PAGE
}

/// Seconds of processor time that the process used itself, and in the system for it.
pub(super) fn cpu_seconds() -> (f64, f64) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field, in brackets, may hold blanks.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut ticks = fields
        .split_whitespace()
        .skip(11)
        .map(|field| field.parse::<f64>().unwrap_or(0.0));
    let mut seconds = || ticks.next().unwrap_or(0.0) / TICKS_PER_SECOND;
    (seconds(), seconds())
}

/// How many files the process may have open.
pub fn open_files_limit() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    if soft == "unlimited" {
        Some(u64::MAX)
    } else {
        soft.parse().ok()
    }
}

/// Where others reach what listens at `bound`: as `given`, which has to be resolvable, or else this host's own address.
///
/// # Errors
/// When what was given can't be reached by others.
pub(super) fn advertised(given: Option<&str>, bound: SocketAddr) -> Result<String, String> {
    if let Some(given) = given {
        let addr: HostPort = given.parse().map_err(|error: AddrError| error.to_string())?;
        let found = (addr.host(), addr.port())
            .to_socket_addrs()
            .map_err(|error| format!("{given:?} can't be resolved: {error}"))?;
        return match found.map(|addr| addr.ip()).next() {
            None => Err(format!("{given:?} has no address")),
            Some(ip) if ip.is_unspecified() => Err(format!("{given:?} is no address that others can reach")),
            Some(_) => Ok(given.to_owned()),
        };
    }
    let ip = if bound.ip().is_unspecified() {
        outgoing_address()
    } else {
        bound.ip()
    };
    Ok(SocketAddr::new(ip, bound.port()).to_string())
}

/// The address that this host would send from. Nothing is sent.
fn outgoing_address() -> IpAddr {
    let ask = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        // An address kept for documentation: it stands for anywhere outside.
        socket.connect("192.0.2.1:9")?;
        Ok(socket.local_addr()?.ip())
    };
    ask().unwrap_or(IpAddr::from([127, 0, 0, 1]))
}

/// Samples what the process uses.
#[derive(Debug)]
pub(super) struct UsageMeter {
    at: Instant,
    cpu_seconds: f64,
    usage: Rusage,
}

impl Default for UsageMeter {
    fn default() -> Self {
        Self {
            at: Instant::now(),
            cpu_seconds: 0.0,
            usage: Rusage::default(),
        }
    }
}

impl UsageMeter {
    /// Looks again; cores are counted over the time since the last look.
    pub(super) fn sample(&mut self) {
        let Ok(stat) = fs::read_to_string("/proc/self/stat") else {
            return;
        };
        // The second field, in brackets, may hold blanks.
        let fields: Vec<i64> = stat
            .rsplit_once(')')
            .map(|(_, rest)| {
                rest.split_whitespace()
                    .map(|field| field.parse().unwrap_or(0))
                    .collect()
            })
            .unwrap_or_default();
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
        let cpu_seconds = (field(14) + field(15)) as f64 / TICKS_PER_SECOND;
        let elapsed = self.at.elapsed().as_secs_f64();
        let cpu = if elapsed > 0.0 {
            (cpu_seconds - self.cpu_seconds).max(0.0) / elapsed
        } else {
            0.0
        };
        let nanos = |number: usize| field(number) * 10_000_000;
        self.usage = Rusage {
            now: jiff::Timestamp::now().to_string(),
            cpu,
            mem: field(24) * PAGE,
            raw: Some(json!({
                "utime": nanos(14), "stime": nanos(15), "cutime": nanos(16), "cstime": nanos(17),
                "num_threads": field(20), "vm_size": field(23), "vm_rss": field(24) * PAGE,
            })),
        };
        (self.at, self.cpu_seconds) = (Instant::now(), cpu_seconds);
    }

    /// The last sample.
    pub(super) fn usage(&self) -> Rusage {
        self.usage.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advertised_addresses_have_to_be_reachable() {
        let bound: SocketAddr = "0.0.0.0:19000".parse().unwrap();
        assert_eq!(advertised(Some("127.0.0.1:1"), bound), Ok("127.0.0.1:1".to_owned()));
        assert_eq!(advertised(Some("localhost:1"), bound), Ok("localhost:1".to_owned()));
        for bad in ["0.0.0.0:1", "127.0.0.1:0", "127.0.0.1", "no.such.name.invalid:1"] {
            assert!(advertised(Some(bad), bound).is_err(), "{bad}");
        }
        assert_eq!(
            advertised(None, "127.0.0.1:5".parse().unwrap()),
            Ok("127.0.0.1:5".to_owned())
        );
        assert!(!advertised(None, bound).unwrap().starts_with("0.0.0.0"));
    }

    #[test]
    fn usage_is_read_from_the_kernel() {
        let mut meter = UsageMeter::default();
        meter.sample();
        assert!(meter.usage().mem > 0 && meter.usage().raw.unwrap()["num_threads"].as_i64().unwrap() > 0);
        assert!(open_files_limit().unwrap() > 0);
    }
}
