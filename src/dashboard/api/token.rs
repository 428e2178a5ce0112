use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq;

use super::Api;
use super::answer::with_status;
use crate::model::RemoteError;

/// Lets a change pass only with the admin token, where one is set. What only reads needs none.
pub(crate) async fn wanted(State(api): State<Api>, request: Request, next: Next) -> Response {
    let token = api.token.reveal();
    if token.is_empty() || request.method() != Method::PUT || is_right(&request, token) {
        return next.run(request).await;
    }
    let cause = "this dashboard takes changes only with its admin token; give it in the header \
                 `Authorization: Bearer TOKEN` (codis-proxy: --dashboard-token or CODIS_DASHBOARD_TOKEN)";
    let mut answer = with_status(StatusCode::UNAUTHORIZED, &RemoteError::new(cause));
    answer
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

fn is_right(request: &Request, token: &str) -> bool {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().split_at_checked("Bearer ".len()))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "))
        .map_or(&b""[..], |(_, given)| given);
    given.ct_eq(token.as_bytes()).into()
}
