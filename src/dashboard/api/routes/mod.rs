//! The routes, a file for each subject.

mod group;
mod proxy;
mod replica_groups;
mod sentinels;
mod slot_action;
mod slots;
mod topom;

use axum::Router;
use axum::middleware::from_fn;

use super::Api;
use super::answer::not_found;
use super::bounded::bounded;
use super::call::XAUTH;

/// All routes.
pub(crate) fn router(api: Api) -> Router {
    Router::new()
        .merge(topom::routes())
        .merge(group::routes())
        .merge(proxy::routes())
        .merge(slots::routes())
        .merge(slot_action::routes())
        .merge(replica_groups::routes())
        .merge(sentinels::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .layer(from_fn(bounded))
        .with_state(api)
}

/// The path of a route under `/api/topom`. `X` stands for the xauth, as in Codis' own description.
fn path(text: &str) -> String {
    format!("/api/topom/{}", text.replace("/X", &format!("/{{{XAUTH}}}")))
}
