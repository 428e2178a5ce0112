//! Clients of the two HTTP APIs, and the probe of a server. They know Codis' conventions (status 800 with a `Cause`, xauth in the path) and work
//! with Codis 3.2's own dashboard and proxy as with ours.

mod dashboard;
mod http;
mod lookup;
mod probe;
mod proxy;
mod trust;

pub use dashboard::{DashboardClient, PromotionConditions};
pub use http::{ClientError, Http};
pub use lookup::lookup;
pub use probe::{Answer, ServerProbe};
pub use proxy::ProxyClient;
pub use trust::Trust;
