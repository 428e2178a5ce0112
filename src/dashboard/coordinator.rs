//! Which coordinator keeps the records, and how it is reached: what the `coordinator_*` keys mean.

use std::path::PathBuf;

use super::config::{Config, ConfigError, Secret, wrong};
use crate::model::{AddrError, HostPort};

/// Where the records are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coordinator {
    /// In etcd, by its v3 API.
    Etcd(EtcdSettings),
    /// In files below this folder, for development and tests.
    Filesystem(PathBuf),
}

/// How etcd is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdSettings {
    /// At least one.
    pub endpoints: Vec<HostPort>,
    /// User and password.
    pub auth: Option<(String, Secret)>,
    /// The files of a TLS connection; `None`: plain HTTP.
    pub tls: Option<EtcdTls>,
}

/// The files of a TLS connection to etcd, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdTls {
    /// The CAs that may have signed etcd's certificate.
    pub ca: PathBuf,
    /// Certificate and key that etcd is shown.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// The key of [`EtcdTls::ca`].
pub(super) const CA_KEY: &str = "coordinator_tls_ca";
/// The key of the certificate in [`EtcdTls::identity`].
pub(super) const CERT_KEY: &str = "coordinator_tls_cert";
/// The key of the private key in [`EtcdTls::identity`].
pub(super) const KEY_KEY: &str = "coordinator_tls_key";

impl Coordinator {
    /// Checks the keys, without looking at any file.
    ///
    /// # Errors
    /// [`ConfigError::Value`], for the first that is wrong.
    pub(super) fn parse(config: &Config) -> Result<Self, ConfigError> {
        match config.coordinator_name.as_str() {
            "etcd" => etcd(config).map(Self::Etcd),
            "filesystem" | "fs" => filesystem(config).map(Self::Filesystem),
            "zookeeper" | "zk" => {
                let reason = "this dashboard does not speak zookeeper; keep the records in etcd (v3 API): set \
                              coordinator_name = \"etcd\", or --etcd=ENDPOINTS";
                Err(wrong("coordinator_name", &config.coordinator_name, reason))
            }
            other => Err(wrong("coordinator_name", other, "write \"etcd\" or \"filesystem\"")),
        }
    }
}

fn filesystem(config: &Config) -> Result<PathBuf, ConfigError> {
    if let Some((key, value)) = tls_keys(config).into_iter().find(|(_, value)| !value.is_empty()) {
        return Err(wrong(key, value, "it is for etcd; leave it out with a filesystem"));
    }
    let root = PathBuf::from(&config.coordinator_addr);
    if root.is_absolute() {
        Ok(root)
    } else {
        let reason =
            "name the folder of the records by its absolute path, for example /tmp/codis, or --filesystem=ROOT";
        Err(wrong("coordinator_addr", &config.coordinator_addr, reason))
    }
}

fn etcd(config: &Config) -> Result<EtcdSettings, ConfigError> {
    let texts = config.coordinator_addr.split(',').map(str::trim);
    let endpoints = texts
        .filter(|text| !text.is_empty())
        .map(endpoint)
        .collect::<Result<Vec<_>, _>>()?;
    let (secure, endpoints): (Vec<bool>, Vec<HostPort>) = endpoints.into_iter().unzip();
    let Some(&first) = secure.first() else {
        return Err(wrong(
            "coordinator_addr",
            "\"\"",
            "name at least one endpoint of etcd, host:port",
        ));
    };
    if secure.iter().any(|secure| *secure != first) {
        let reason = "write https:// before every endpoint, or before none";
        return Err(wrong("coordinator_addr", &config.coordinator_addr, reason));
    }
    Ok(EtcdSettings {
        endpoints,
        auth: login(config)?,
        tls: if first { Some(tls(config)?) } else { no_tls(config)? },
    })
}

/// Whether TLS is spoken there, and where it is.
fn endpoint(text: &str) -> Result<(bool, HostPort), ConfigError> {
    let (secure, rest) = match text.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix("http://").unwrap_or(text)),
    };
    let addr = rest.trim_end_matches('/').parse();
    addr.map(|addr| (secure, addr))
        .map_err(|error: AddrError| wrong("coordinator_addr", text, error.to_string()))
}

fn login(config: &Config) -> Result<Option<(String, Secret)>, ConfigError> {
    match config.coordinator_auth.reveal() {
        "" => Ok(None),
        text => {
            let (user, password) = text
                .split_once(':')
                .filter(|(user, _)| !user.is_empty())
                .ok_or_else(|| wrong("coordinator_auth", "***", "write it as user:password"))?;
            Ok(Some((user.to_owned(), Secret::from(password.to_owned()))))
        }
    }
}

fn tls_keys(config: &Config) -> [(&'static str, &str); 3] {
    [
        (CA_KEY, &config.coordinator_tls_ca),
        (CERT_KEY, &config.coordinator_tls_cert),
        (KEY_KEY, &config.coordinator_tls_key),
    ]
}

fn tls(config: &Config) -> Result<EtcdTls, ConfigError> {
    let [ca, cert, key] = tls_keys(config).map(|(_, value)| value);
    if ca.is_empty() {
        let reason = "https:// needs it: name the PEM file of the CA that signed etcd's certificate";
        return Err(wrong(CA_KEY, "\"\"", reason));
    }
    let identity = match (cert, key) {
        ("", "") => None,
        (cert, "") => {
            let reason = "a certificate needs its key: name its PEM file with coordinator_tls_key";
            return Err(wrong(CERT_KEY, cert, reason));
        }
        ("", key) => {
            let reason = "a key needs its certificate: name its PEM file with coordinator_tls_cert";
            return Err(wrong(KEY_KEY, key, reason));
        }
        (cert, key) => Some((cert.into(), key.into())),
    };
    Ok(EtcdTls {
        ca: ca.into(),
        identity,
    })
}

fn no_tls(config: &Config) -> Result<Option<EtcdTls>, ConfigError> {
    match tls_keys(config).into_iter().find(|(_, value)| !value.is_empty()) {
        None => Ok(None),
        Some((key, value)) => {
            let reason =
                "it is for https:// endpoints: write https:// before each one in coordinator_addr, or leave it out";
            Err(wrong(key, value, reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(toml: &str) -> Result<Coordinator, ConfigError> {
        Coordinator::parse(&Config::parse(toml)?)
    }

    fn etcd_with(toml: &str) -> EtcdSettings {
        match with(toml).unwrap() {
            Coordinator::Etcd(settings) => settings,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn endpoints_are_taken_with_and_without_scheme() {
        let settings = etcd_with("coordinator_addr = \"http://a:1/, b:2,\"\ncoordinator_auth = \"root:a:b\"");
        let endpoints: Vec<_> = settings.endpoints.iter().map(HostPort::as_str).collect();
        assert_eq!(endpoints, ["a:1", "b:2"]);
        let (user, password) = settings.auth.unwrap();
        assert_eq!((user.as_str(), password.reveal()), ("root", "a:b"));
        assert_eq!(settings.tls, None);
    }

    #[test]
    fn https_takes_a_ca_and_a_client_certificate_with_user_and_password() {
        let toml = "coordinator_addr = \"https://a:1,https://b:2/\"\ncoordinator_tls_ca = \"/ca\"\n";
        let anonymous = etcd_with(toml);
        assert_eq!((anonymous.endpoints.len(), anonymous.auth.is_some()), (2, false));
        assert_eq!(anonymous.tls.unwrap().identity, None);
        let rest = "coordinator_tls_cert = \"/cert\"\ncoordinator_tls_key = \"/key\"\ncoordinator_auth = \"u:p\"";
        let both = etcd_with(&format!("{toml}{rest}"));
        let identity = Some(("/cert".into(), "/key".into()));
        assert_eq!(
            both.tls,
            Some(EtcdTls {
                ca: "/ca".into(),
                identity
            })
        );
        assert!(both.auth.is_some());
    }

    #[test]
    fn what_does_not_fit_together_is_refused_by_key_and_with_the_remedy() {
        let https = "coordinator_addr = \"https://e:1\"\n";
        let https_ca = format!("{https}coordinator_tls_ca = \"/ca\"\n");
        for (toml, key, remedy) in [
            (https.to_owned(), CA_KEY, "PEM file of the CA"),
            (
                format!("{https_ca}coordinator_tls_key = \"/k\""),
                KEY_KEY,
                "with coordinator_tls_cert",
            ),
            (
                format!("{https_ca}coordinator_tls_cert = \"/c\""),
                CERT_KEY,
                "with coordinator_tls_key",
            ),
            ("coordinator_tls_ca = \"/ca\"".to_owned(), CA_KEY, "write https://"),
            (
                "coordinator_addr = \"http://e:1\"\ncoordinator_tls_key = \"/k\"".to_owned(),
                KEY_KEY,
                "write https://",
            ),
            (
                "coordinator_addr = \"https://e:1,f:2\"\ncoordinator_tls_ca = \"/ca\"".to_owned(),
                "coordinator_addr",
                "before every endpoint",
            ),
            (
                "coordinator_name = \"zk\"".to_owned(),
                "coordinator_name",
                "--etcd=ENDPOINTS",
            ),
            (
                "coordinator_name = \"consul\"".to_owned(),
                "coordinator_name",
                "\"etcd\" or \"filesystem\"",
            ),
            (
                "coordinator_name = \"fs\"".to_owned(),
                "coordinator_addr",
                "absolute path",
            ),
            (
                "coordinator_name = \"fs\"\ncoordinator_addr = \"/r\"\ncoordinator_tls_ca = \"/ca\"".to_owned(),
                CA_KEY,
                "leave it out",
            ),
        ] {
            let error = with(&toml).unwrap_err().to_string();
            assert!(error.starts_with(key) && error.contains(remedy), "{toml}: {error}");
        }
    }

    #[test]
    fn a_filesystem_is_named_as_codis_does_and_needs_no_login() {
        for name in ["filesystem", "fs"] {
            let toml = format!(
                "coordinator_name = \"{name}\"\ncoordinator_addr = \"/tmp/codis\"\ncoordinator_auth = \"ignored\""
            );
            assert_eq!(with(&toml).unwrap(), Coordinator::Filesystem("/tmp/codis".into()));
        }
    }
}
