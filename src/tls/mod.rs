//! Certificates and keys in files that the configuration names: read, checked, and taken anew when they change.

mod followed;
mod pem;
mod validity;

pub(crate) use followed::{Followed, OfFiles};
pub use pem::{Identity, PemFile, TlsError};
pub(crate) use pem::{IdentityPem, provider};
pub(crate) use validity::not_after;
