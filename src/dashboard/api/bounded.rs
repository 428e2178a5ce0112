use std::time::Duration;

use axum::extract::Request;
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::dashboard::error::Error;

/// How long a request may take, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Bounds each request in time, and logs what asks for a change.
pub(crate) async fn bounded(request: Request, next: Next) -> Response {
    let asked = (request.method() == Method::PUT).then(|| without_xauth(request.uri().path()));
    let answer = match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => {
            let text = "the request took too long; what it asked for may be done or not, ask for the present state";
            Error::TimedOut(text.to_owned()).into_response()
        }
    };
    if let Some(path) = asked {
        tracing::info!(path, status = answer.status().as_u16(), "change asked for");
    }
    answer
}

fn without_xauth(path: &str) -> String {
    let is_xauth = |part: &str| part.len() == 32 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let mut cut = false;
    let parts = path.split('/').map(|part| {
        let first = !cut && is_xauth(part);
        cut |= first;
        if first { "X" } else { part }
    });
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logged_paths_hold_the_token_and_not_the_xauth() {
        let (xauth, token) = ("948967642f9eea556aac8428e1162e3f", "c674f1f9ec5617b40f2514554c7ee887");
        assert_eq!(
            without_xauth(&format!("/api/topom/proxy/remove/{xauth}/{token}/0")),
            format!("/api/topom/proxy/remove/X/{token}/0")
        );
    }
}
