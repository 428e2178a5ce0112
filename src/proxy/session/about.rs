use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

/// Who a client is and what it did last, for those who look from outside.
#[derive(Debug)]
pub(super) struct About {
    /// Where it comes from.
    pub(super) addr: SocketAddr,
    /// Where it came to.
    pub(super) local: SocketAddr,
    /// When it came.
    pub(super) came: Instant,
    /// The command that it gave last.
    pub(super) last: &'static str,
    /// What it says of its library.
    pub(super) library: Vec<u8>,
    /// And of the library's version.
    pub(super) version: Vec<u8>,
}

impl About {
    /// One that comes now.
    pub(super) fn new(now: Instant) -> Self {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Self {
            addr: nowhere,
            local: nowhere,
            came: now,
            last: "NULL",
            library: Vec::new(),
            version: Vec::new(),
        }
    }

    /// What is known of its connection; where it is gone already, nothing.
    pub(super) fn learn(&mut self, socket: &tokio::net::TcpStream) {
        self.addr = socket.peer_addr().unwrap_or(self.addr);
        self.local = socket.local_addr().unwrap_or(self.local);
    }
}
