use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::ext::ReasonPhrase;
use serde::Serialize;

use crate::dashboard::error::Error;
use crate::model::{REMOTE_ERROR_STATUS, RemoteError};

/// Any value as JSON, with Codis' content type.
pub(crate) struct Json<T>(pub(crate) T);

/// What a mutation answers: the JSON text `"OK"`.
pub(crate) struct Done;

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => json(StatusCode::OK, body),
            Err(error) => failure(&RemoteError::new(format!("the answer can't be written: {error}"))),
        }
    }
}

impl IntoResponse for Done {
    fn into_response(self) -> Response {
        Json("OK").into_response()
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let error = RemoteError::new(self.to_string());
        match self {
            Self::NotActive(_) => with_status(StatusCode::SERVICE_UNAVAILABLE, &error),
            _ => failure(&error),
        }
    }
}

/// What Codis answers where there is no such route, or not with this method.
pub(crate) async fn not_found() -> Response {
    let plain = (
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    (StatusCode::NOT_FOUND, [plain], "404 page not found\n").into_response()
}

fn failure(error: &RemoteError) -> Response {
    let status = StatusCode::from_u16(REMOTE_ERROR_STATUS).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = with_status(status, error);
    response
        .extensions_mut()
        .insert(ReasonPhrase::from_static(b"status code 800"));
    response
}

/// An error with a status of HTTP's own.
pub(crate) fn with_status(status: StatusCode, error: &RemoteError) -> Response {
    json(status, serde_json::to_vec(error).unwrap_or_default())
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
