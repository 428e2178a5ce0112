//! Clients of the two HTTP APIs: they know Codis' conventions (status 800 with a `Cause`, xauth in the path) and work with
//! Codis 3.2's own dashboard and proxy as with ours. And what all parts need to reach servers: names, connections, a probe.

mod dashboard;
mod http;
mod link;
mod lookup;
mod names;
mod probe;
mod proxy;
mod trust;

pub use dashboard::DashboardClient;
pub use http::{ClientError, Http};
pub(crate) use link::Link;
pub use lookup::lookup;
pub use probe::{Answer, ServerProbe};
pub use proxy::ProxyClient;
pub use trust::Trust;
