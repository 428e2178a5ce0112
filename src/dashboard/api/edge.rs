use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use tower_http::compression::CompressionLayer;

use super::answer::not_found;
use super::bounded::bounded;
use super::{Api, counted, routes, token};

/// All routes, and what every request goes through before it gets to one.
pub(crate) fn router(api: Api) -> Router {
    routes::table()
        .into_router()
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .layer(from_fn_with_state(api.clone(), token::wanted))
        .layer(from_fn(bounded))
        .layer(from_fn_with_state(api.clone(), counted::counted))
        .layer(CompressionLayer::new())
        .with_state(api)
}
