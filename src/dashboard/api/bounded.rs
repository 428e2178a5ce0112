use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use futures::FutureExt;

use super::answer::with_status;
use crate::dashboard::error::Error;
use crate::model::RemoteError;

/// How long a request may take, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Bounds each request in time, keeps a bug to the request that met it, and logs what asks for a change.
pub(crate) async fn bounded(request: Request, next: Next) -> Response {
    let asked = (request.method() == Method::PUT).then(|| without_xauth(request.uri().path()));
    let served = AssertUnwindSafe(next.run(request)).catch_unwind();
    let answer = match tokio::time::timeout(REQUEST_TIMEOUT, served).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => {
            let text =
                "a bug in the dashboard: the request ended half way, its log says where; ask for the present state";
            with_status(StatusCode::INTERNAL_SERVER_ERROR, &RemoteError::new(text))
        }
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
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use http_body_util::BodyExt;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::*;
    use crate::dashboard::api::answer::Done;
    use crate::dashboard::api::call::to_the_end;

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let panics = async || -> &'static str { panic!("a test") };
        let spawned = async || to_the_end(async { panic!("a test") }).await.map(|()| Done);
        let router = Router::new()
            .route("/here", get(panics))
            .route("/elsewhere", get(spawned))
            .layer(from_fn(bounded));
        let service = TowerToHyperService::new(router);
        for path in ["/here", "/elsewhere"] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let answer = service.call(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR, "{path}");
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let error: RemoteError = serde_json::from_slice(&body).unwrap();
            assert!(error.cause.contains("bug"), "{path}: {error}");
        }
    }

    #[test]
    fn logged_paths_hold_the_token_and_not_the_xauth() {
        let (xauth, token) = ("948967642f9eea556aac8428e1162e3f", "c674f1f9ec5617b40f2514554c7ee887");
        assert_eq!(
            without_xauth(&format!("/api/topom/proxy/remove/{xauth}/{token}/0")),
            format!("/api/topom/proxy/remove/X/{token}/0")
        );
    }
}
