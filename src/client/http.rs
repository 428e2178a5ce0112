use std::time::Duration;

use reqwest::{Method, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::lookup::OurLookup;
use super::trust::Trust;
use crate::model::{CHANGED, REMOTE_ERROR_STATUS, RemoteError};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The largest body that is read.
const MAX_BODY: usize = 64 << 20;

/// Why a call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The peer understood and refused. Repeating the same call gets the same answer until something changes.
    #[error("{method} {url}: {cause}")]
    Refused {
        /// The HTTP method.
        method: Method,
        /// The URL, its xauth left out.
        url: String,
        /// The peer's words.
        cause: String,
    },
    /// The peer is there and not the one to ask: a standby, or one that is starting or stopping.
    #[error("{method} {url}: not active: {cause}")]
    NotActive {
        /// The HTTP method.
        method: Method,
        /// The URL, its xauth left out.
        url: String,
        /// The peer's words.
        cause: String,
    },
    /// The client can't be set up.
    #[error("the HTTP client can't be set up: {0}")]
    Setup(String),
    /// No answer, or none that makes sense. What was asked may have been done.
    #[error("{method} {url}: {reason}")]
    Unreachable {
        /// The HTTP method.
        method: Method,
        /// The URL, its xauth left out.
        url: String,
        /// What happened.
        reason: String,
    },
}

impl ClientError {
    /// The peer's own words, if it said any.
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::Refused { cause, .. } | Self::NotActive { cause, .. } => Some(cause),
            Self::Unreachable { .. } | Self::Setup(_) => None,
        }
    }

    /// Whether it was refused because what it names was changed since the caller saw it.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Refused { cause, .. } if cause.contains(CHANGED))
    }

    /// Whether another instance, or the same one later, may answer differently with nothing changed.
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::Refused { .. } | Self::Setup(_))
    }
}

/// An HTTP client with Codis' conventions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
    /// The header that proves that changes may be asked for.
    authorization: Option<header::HeaderValue>,
}

impl Http {
    /// A client whose calls take `timeout` at most, each as a whole.
    ///
    /// # Errors
    /// When the HTTP library can't be set up.
    pub fn new(timeout: Duration) -> Result<Self, ClientError> {
        Self::trusting(timeout, &Trust::Nobody)
    }

    /// The same, for peers that are reached by `https://`.
    ///
    /// # Errors
    /// When the certificates can't be used, or the HTTP library can't be set up.
    pub fn trusting(timeout: Duration, trust: &Trust) -> Result<Self, ClientError> {
        let tls = trust.config().map_err(|error| ClientError::Setup(error.to_string()))?;
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            // Less than servers keep an idle connection, so that a call does not meet one that is just being closed.
            .pool_idle_timeout(Duration::from_secs(5))
            .no_proxy()
            .dns_resolver(OurLookup)
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("codis-operator/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ClientError::Setup(error.to_string()))?;
        Ok(Self {
            client,
            authorization: None,
        })
    }

    /// Sends this token with everything that is asked.
    ///
    /// # Errors
    /// When a header can't carry it.
    pub fn with_token(self, token: &str) -> Result<Self, ClientError> {
        let mut value = header::HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| ClientError::Setup("the token holds characters that a header can't carry".to_owned()))?;
        value.set_sensitive(true);
        Ok(Self {
            authorization: Some(value),
            ..self
        })
    }

    /// `GET http://{addr}{path}`; an address that begins with `https://` is reached by TLS.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, addr: &str, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, addr, path, None::<&()>).await
    }

    /// `PUT http://{addr}{path}` with a JSON body, if there is one; the address as in [`Self::get`].
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put<T: DeserializeOwned>(
        &self,
        addr: &str,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, ClientError> {
        self.call(Method::PUT, addr, path, body).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        addr: &str,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, ClientError> {
        let url = match addr.split_once("://") {
            Some(_) => format!("{}{path}", addr.trim_end_matches('/')),
            None => format!("http://{addr}{path}"),
        };
        // What stands behind the path is the caller's own, and may be long.
        let shown = without_xauth(url.split('?').next().unwrap_or(&url));
        let unreachable = |reason: String| ClientError::Unreachable {
            method: method.clone(),
            url: shown.clone(),
            reason,
        };
        let mut request = self.client.request(method.clone(), &url);
        if let Some(value) = &self.authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let mut response = request.send().await.map_err(|error| unreachable(root_cause(error)))?;
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(root_cause(error)))? {
            if bytes.len() + chunk.len() > MAX_BODY {
                return Err(unreachable("the answer is too large".to_owned()));
            }
            bytes.extend_from_slice(&chunk);
        }
        if status == 200 {
            return serde_json::from_slice(&bytes)
                .map_err(|error| unreachable(format!("the answer can't be read: {error}")));
        }
        let cause = serde_json::from_slice::<RemoteError>(&bytes)
            .ok()
            .map(|error| error.cause);
        match (status, cause) {
            (503, Some(cause)) => Err(ClientError::NotActive {
                method,
                url: shown,
                cause,
            }),
            (REMOTE_ERROR_STATUS | 1500, Some(cause)) if cause.starts_with("topom is not online") => {
                Err(ClientError::NotActive {
                    method,
                    url: shown,
                    cause,
                })
            }
            (_, Some(cause)) => Err(ClientError::Refused {
                method,
                url: shown,
                cause,
            }),
            (status, None) => Err(unreachable(format!("status {status} without a cause"))),
        }
    }
}

/// An error with the reasons behind it, and without the URL, which may hold an xauth.
fn root_cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(reason) = source {
        text = reason.to_string();
        source = reason.source();
    }
    // The library has no other way to tell it.
    if text.contains("UnknownIssuer") {
        text.push_str("; name the authority that issued it (codis-proxy: --dashboard-ca=FILE)");
    }
    text
}

/// The URL with path segments of 32 hex digits (xauth and tokens) cut out.
fn without_xauth(url: &str) -> String {
    let hidden = |part: &str| part.len() >= 32 && part.bytes().take(32).all(|b| b.is_ascii_hexdigit());
    url.split('/')
        .map(|part| if hidden(part) { "…" } else { part })
        .collect::<Vec<_>>()
        .join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xauth_is_not_shown() {
        let url = "http://h:1/api/proxy/start/729d2b4cfc0e671fc1fc496fc9f1eaf7?incarnation=1";
        assert!(without_xauth("http://h:1/api/topom/xping/948967642f9eea556aac8428e1162e3f").ends_with("/xping/…"));
        assert!(!without_xauth(url).contains("729d2b"));
    }
}
