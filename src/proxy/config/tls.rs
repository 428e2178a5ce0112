use serde::{Deserialize, Serialize};

use super::Config;

/// `proxy_tls_auth_clients`: whether clients have to show a certificate. The words are Valkey's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthClients {
    /// They are not asked for one.
    No,
    /// They may; one that is not believed is refused.
    Optional,
    /// They have to.
    Yes,
}

impl Config {
    /// What is wrong with the settings of TLS: the key, and what it has to be.
    pub(super) fn wrong_tls(&self) -> Option<(&'static str, &'static str)> {
        let clients = !self.proxy_tls_addr.is_empty();
        let asks = self.proxy_tls_auth_clients != AuthClients::No;
        let (cert, key) = (&self.proxy_tls_cert, &self.proxy_tls_key);
        let (backend_cert, backend_key) = (&self.backend_tls_cert, &self.backend_tls_key);
        let without_port = "needs proxy_tls_addr, the address of the TLS port";
        let without_backend_tls = "needs backend_tls = true";
        let rules = [
            (
                !clients && self.proxy_addr.is_empty(),
                "proxy_addr",
                "must be host:port, unless proxy_tls_addr is set",
            ),
            (!clients && !cert.is_empty(), "proxy_tls_cert", without_port),
            (!clients && !key.is_empty(), "proxy_tls_key", without_port),
            (!clients && !self.proxy_tls_ca.is_empty(), "proxy_tls_ca", without_port),
            (!clients && asks, "proxy_tls_auth_clients", without_port),
            (
                clients && cert.is_empty(),
                "proxy_tls_cert",
                "proxy_tls_addr is set: name the file of the certificate",
            ),
            (
                clients && key.is_empty(),
                "proxy_tls_key",
                "proxy_tls_addr is set: name the file of the certificate's key",
            ),
            (
                asks && self.proxy_tls_ca.is_empty(),
                "proxy_tls_ca",
                "proxy_tls_auth_clients is set: name the file of the authorities that clients' certificates must be of",
            ),
            (
                !asks && !self.proxy_tls_ca.is_empty(),
                "proxy_tls_auth_clients",
                "proxy_tls_ca is set: say whether certificates are wanted with yes or optional",
            ),
            (
                !self.backend_tls && self.backend_tls_port != 0,
                "backend_tls_port",
                without_backend_tls,
            ),
            (
                !self.backend_tls && !self.backend_tls_ca.is_empty(),
                "backend_tls_ca",
                without_backend_tls,
            ),
            (
                !self.backend_tls && !backend_cert.is_empty(),
                "backend_tls_cert",
                without_backend_tls,
            ),
            (
                !self.backend_tls && !backend_key.is_empty(),
                "backend_tls_key",
                without_backend_tls,
            ),
            (
                backend_cert.is_empty() && !backend_key.is_empty(),
                "backend_tls_cert",
                "backend_tls_key is set: name its certificate, too",
            ),
            (
                backend_key.is_empty() && !backend_cert.is_empty(),
                "backend_tls_key",
                "backend_tls_cert is set: name its key, too",
            ),
        ];
        let (_, key, what) = rules.into_iter().find(|(wrong, ..)| *wrong)?;
        Some((key, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_tls_have_to_fit_together() {
        let port = "proxy_tls_addr = \"0.0.0.0:1\"\n";
        let pair = "proxy_tls_cert = \"/c\"\nproxy_tls_key = \"/k\"\n";
        let whole = format!("{port}{pair}");
        let asks = "proxy_tls_auth_clients = \"yes\"\n";
        for (text, key) in [
            ("proxy_addr = \"\"".to_owned(), "proxy_addr: "),
            (port.to_owned(), "proxy_tls_cert: "),
            (pair.to_owned(), "proxy_tls_cert: needs proxy_tls_addr"),
            (format!("{port}proxy_tls_cert = \"/c\""), "proxy_tls_key: "),
            (format!("{whole}{asks}"), "proxy_tls_ca: "),
            (format!("{whole}proxy_tls_ca = \"/a\""), "proxy_tls_auth_clients: "),
            (format!("{whole}proxy_tls_auth_clients = \"maybe\""), "maybe"),
            (asks.to_owned(), "proxy_tls_auth_clients: needs"),
            ("proxy_tls_addr = \"x\"".to_owned(), "proxy_tls_addr: "),
            ("backend_tls_ca = \"/a\"".to_owned(), "backend_tls_ca: needs"),
            (
                "backend_tls = true\nbackend_tls_key = \"/k\"".to_owned(),
                "backend_tls_cert: ",
            ),
            (
                "backend_tls = true\nbackend_tls_cert = \"/c\"".to_owned(),
                "backend_tls_key: ",
            ),
        ] {
            let error = Config::parse(&text).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
        for text in [
            format!("{whole}proxy_addr = \"\""),
            format!("{whole}{asks}proxy_tls_ca = \"/a\""),
            "backend_tls = true".to_owned(),
        ] {
            assert!(Config::parse(&text).is_ok(), "{text}");
        }
    }
}
