//! Who this dashboard is: token, address, host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use crate::model::{AddrError, HostPort, ProductName, ProxyToken, Topom};

/// The value of the lock, and `GET /topom/model`. `bound` is where the API listens, `advertised` what others are told.
pub(crate) fn topom(product: &ProductName, bound: SocketAddr, advertised: &HostPort) -> Topom {
    let token = ProxyToken::derive(&hardware_addresses(), &[product.as_str(), &bound.to_string()]);
    Topom {
        token: token.as_str().to_owned(),
        start_time: jiff::Timestamp::now()
            .strftime("%Y-%m-%d %H:%M:%S.%f +0000 UTC")
            .to_string(),
        admin_addr: advertised.to_string(),
        product_name: product.to_string(),
        pid: i64::from(std::process::id()),
        pwd: std::env::current_dir()
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        sys: system(),
    }
}

/// Where others reach what listens at `bound`, when nobody said: that address, or the host's own where it listens on all.
///
/// # Errors
/// When the host has no address; name one with --host-admin.
pub(crate) fn advertised(bound: SocketAddr) -> Result<HostPort, AddrError> {
    let host = match bound.ip() {
        ip if ip.is_unspecified() => outgoing_ip().map_or_else(|| kernel("hostname"), |ip| ip.to_string()),
        ip => ip.to_string(),
    };
    HostPort::new(&host, bound.port())
}

/// The address that packets to elsewhere would leave from. Nothing is sent.
fn outgoing_ip() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // A network that is set aside for documentation: only the route to it is looked up.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

fn hardware_addresses() -> Vec<String> {
    let Ok(interfaces) = std::fs::read_dir("/sys/class/net") else {
        return Vec::new();
    };
    interfaces
        .flatten()
        .filter_map(|interface| std::fs::read_to_string(interface.path().join("address")).ok())
        .map(|address| address.trim().to_owned())
        .filter(|address| address.bytes().any(|b| b != b'0' && b != b':'))
        .collect()
}

fn system() -> String {
    let [kind, host, release, version] = ["ostype", "hostname", "osrelease", "version"].map(kernel);
    format!("{kind} {host} {release} {version} {}", std::env::consts::ARCH)
}

fn kernel(name: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/kernel/{name}"))
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_bound_is_told_as_it_is_and_a_wildcard_is_not() {
        assert_eq!(
            advertised("127.0.0.1:5".parse().unwrap()).unwrap().as_str(),
            "127.0.0.1:5"
        );
        assert_eq!(advertised("0.0.0.0:5".parse().unwrap()).unwrap().port(), 5);
    }
}
