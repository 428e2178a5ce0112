//! Clients of the two HTTP APIs. They know Codis' conventions (status 800 with a `Cause`, xauth in the path) and work
//! with Codis 3.2's own dashboard and proxy as with ours.

mod dashboard;
mod http;
mod proxy;
mod trust;

pub use dashboard::DashboardClient;
pub use http::{ClientError, Http};
pub use proxy::ProxyClient;
pub use trust::Trust;
