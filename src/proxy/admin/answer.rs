use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::model::{REMOTE_ERROR_STATUS, RemoteError};

/// Of a call that may be refused.
pub(super) type Answer = Result<Response, Refusal>;

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
    (status, Json(RemoteError::new(cause))).into_response()
}
