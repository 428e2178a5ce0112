//! What etcd's errors mean.

use std::error::Error as StdError;

use etcd_client::Error;

/// Whether etcd understood the call and will not do it: nothing was changed.
pub(super) fn is_refusal(error: &Error) -> bool {
    use code::*;
    match error {
        Error::GRpcStatus(status) => {
            matches!(
                status.code() as i32,
                INVALID_ARGUMENT
                    | NOT_FOUND
                    | PERMISSION_DENIED
                    | RESOURCE_EXHAUSTED
                    | FAILED_PRECONDITION
                    | UNAUTHENTICATED
            )
        }
        Error::LeaseKeepAliveError(_) => true,
        _ => false,
    }
}

/// Whether these are etcd's words, or the client's, for a lease that ended.
pub(super) fn is_lease_gone(reason: &str) -> bool {
    reason.contains("lease not found")
}

/// gRPC's status codes; the library that names them is not one of ours.
mod code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

/// What etcd said, without the wrapping.
pub(super) fn words(error: &Error) -> String {
    let text = match error {
        Error::GRpcStatus(status) => innermost(status).unwrap_or_else(|| status.message().to_owned()),
        Error::TransportError(error) => innermost(error).unwrap_or_else(|| error.to_string()),
        Error::InvalidArgs(text) => text.clone(),
        other => other.to_string(),
    };
    match remedy(&text) {
        Some(remedy) => format!("{text}; {remedy}"),
        None => text,
    }
}

fn innermost(error: &dyn StdError) -> Option<String> {
    let mut inner = error.source()?;
    while let Some(source) = inner.source() {
        inner = source;
    }
    Some(inner.to_string())
}

/// What helps where TLS fails, which the library tells in one word.
fn remedy(text: &str) -> Option<&'static str> {
    let wrong_ca = "coordinator_tls_ca must be the CA that signed etcd's certificate";
    [
        ("UnknownIssuer", wrong_ca),
        // By another CA of the same name.
        ("BadSignature", wrong_ca),
        (
            "NotValidForName",
            "name the endpoint in coordinator_addr as etcd's certificate does",
        ),
        (
            "CertificateRequired",
            "etcd asks for a client certificate: set coordinator_tls_cert and coordinator_tls_key",
        ),
        (
            "KeyMismatch",
            "coordinator_tls_key must be the key of coordinator_tls_cert",
        ),
    ]
    .into_iter()
    .find_map(|(word, remedy)| text.contains(word).then_some(remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_the_lease_is_the_end_of_the_lock() {
        let told = Error::LeaseKeepAliveError("lease not found".to_owned());
        assert!(is_lease_gone(&words(&told)));
        assert!(is_lease_gone("etcdserver: requested lease not found"));
        for passing in [
            "etcdserver: permission denied",
            "etcdserver: invalid auth token",
            "too many requests",
        ] {
            assert!(!is_lease_gone(passing), "{passing}");
        }
    }
}
