use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

use super::Api;

/// Counts answers by route; what has none is counted together, so that nobody can make series without end.
pub(crate) async fn counted(State(api): State<Api>, request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let method = match *request.method() {
        Method::GET => "GET",
        Method::PUT => "PUT",
        _ => "other",
    };
    let answer = next.run(request).await;
    let status = answer.status().as_u16();
    api.candidate.means.metrics.answered(method, route, status);
    answer
}
