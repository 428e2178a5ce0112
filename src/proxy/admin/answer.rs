use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::ext::ReasonPhrase;
use serde::Serialize;

use crate::model::{REMOTE_ERROR_STATUS, RemoteError};

/// Of a call that may be refused.
pub(super) type Answer = Result<Response, Refusal>;

/// Any value as JSON, with Codis' content type.
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => json(StatusCode::OK, body),
            Err(error) => refused(format!("the answer can't be written: {error}")),
        }
    }
}

/// Why a call is refused; the text is the answer's `Cause`.
#[derive(Debug)]
pub(super) struct Refusal(String);

impl From<String> for Refusal {
    fn from(cause: String) -> Self {
        Self(cause)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        refused(self.0)
    }
}

/// What calls that change something answer.
pub(super) fn ok() -> Response {
    Json("OK").into_response()
}

/// Codis' way to refuse.
pub(super) fn refused(cause: impl Into<String>) -> Response {
    let status = StatusCode::from_u16(REMOTE_ERROR_STATUS).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // Texts, which can always be written.
    let body = serde_json::to_vec(&RemoteError::new(cause)).unwrap_or_default();
    let mut response = json(status, body);
    response
        .extensions_mut()
        .insert(ReasonPhrase::from_static(b"status code 800"));
    response
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    (status, [(header::CONTENT_TYPE, kind)], Body::from(body)).into_response()
}
