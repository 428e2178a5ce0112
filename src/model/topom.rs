use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A dashboard process: the value of the lock, and `GET /topom/model`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Topom {
    /// Its identity.
    pub token: String,
    /// When it started. Opaque.
    pub start_time: String,
    /// Where its API is reached, `host:port`.
    pub admin_addr: String,
    /// The product it serves.
    pub product_name: String,
    /// Its process id.
    pub pid: i64,
    /// Its working directory.
    pub pwd: String,
    /// Its `uname`.
    pub sys: String,
}
