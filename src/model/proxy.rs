use std::fmt;

use md5::{Digest, Md5};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ServerUserKind;
use super::slot::{is_false, is_zero};

/// A proxy's identity: lower-case hex of 16 bytes, the same after a restart at the same place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ProxyToken(String);

impl ProxyToken {
    /// Codis' formula: MD5 over `Codis-Token@[mac mac …]` and `-{segment}` for each segment (product, bound RESP
    /// address, bound admin address for a proxy; product and bound admin address for a dashboard).
    /// `macs` are the hardware addresses of this host, in any order.
    pub fn derive(macs: &[String], segments: &[&str]) -> Self {
        let mut macs: Vec<&str> = macs.iter().map(String::as_str).filter(|mac| !mac.is_empty()).collect();
        macs.sort_unstable();
        let mut text = format!("Codis-Token@[{}]", macs.join(" "));
        for segment in segments {
            text.push_str(&format!("-{segment}"));
        }
        Self(hex::encode(Md5::digest(text.as_bytes())))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ProxyToken {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for ProxyToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The record of a proxy: stored by the dashboard, and (without `id`) a proxy's own `/proxy/model`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Proxy {
    /// Given by the dashboard: the largest known plus one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub id: i64,
    /// Its identity.
    pub token: ProxyToken,
    /// When the process started. Opaque.
    pub start_time: String,
    /// Where its admin API is reached, `host:port`.
    pub admin_addr: String,
    /// `tcp`, `tcp4`, …
    pub proto_type: String,
    /// Where clients reach it, `host:port`.
    pub proxy_addr: String,
    /// Where it registered itself for Jodis clients.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jodis_path: String,
    /// The product it serves.
    pub product_name: String,
    /// Its process id.
    pub pid: i64,
    /// Its working directory.
    pub pwd: String,
    /// Its `uname`.
    pub sys: String,
    /// Its host's name.
    #[serde(default)]
    pub hostname: String,
    /// Where it is.
    #[serde(default)]
    pub datacenter: String,
    /// Our own: random for each start of the process. A push that names another one is refused, so that what was meant
    /// for a former process never reaches its successor. Empty in Codis' proxies.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub incarnation: String,
    /// Our own: it did not acknowledge what nothing could go on without, so the servers let it in no more, and nobody
    /// waits for it, until it acknowledged everything. Known to the dashboard only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shut_off: bool,
}

impl Proxy {
    /// Who this process is at servers.
    pub fn server_user(&self) -> ServerUserKind {
        ServerUserKind::Proxy {
            token: self.token.clone(),
            incarnation: self.incarnation.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_does_not_depend_on_the_order_of_interfaces() {
        let macs = [
            "02:00:00:00:00:02".to_owned(),
            String::new(),
            "02:00:00:00:00:01".to_owned(),
        ];
        let token = ProxyToken::derive(&macs, &["demo", "0.0.0.0:19000", "[::]:11080"]);
        let text = "Codis-Token@[02:00:00:00:00:01 02:00:00:00:00:02]-demo-0.0.0.0:19000-[::]:11080";
        assert_eq!(token.as_str(), hex::encode(Md5::digest(text.as_bytes())));
    }

    #[test]
    fn json_of_a_proxy_is_that_of_codis() {
        let json = r#"{"id":1,"token":"c674f1f9ec5617b40f2514554c7ee887","start_time":"2026-11-21 19:25:43.31054587 +0000 UTC m=+0.004765691","admin_addr":"127.0.0.1:31080","proto_type":"tcp4","proxy_addr":"127.0.0.1:39000","product_name":"refdemo","pid":20683,"pwd":"/var/lib/codis","sys":"Linux vm","hostname":"vm","datacenter":""}"#;
        assert_eq!(
            serde_json::to_string(&serde_json::from_str::<Proxy>(json).unwrap()).unwrap(),
            json
        );
    }
}
