use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::dashboard::api::Api;
use crate::dashboard::api::openapi::openapi;
use crate::dashboard::api::table::{Table, says};

/// For other programs: figures, and the description of all this.
pub(super) fn routes() -> Table {
    Table::of("dashboard")
        .get(
            "/metrics",
            metrics,
            says("Figures for Prometheus, of this instance, active or not.").answers_text(),
        )
        .get(
            "v2/openapi.json",
            description,
            says("This description.").answers::<serde_json::Value>(),
        )
}

async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let term = api.candidate.term().ok();
    (
        [(header::CONTENT_TYPE, kind)],
        api.candidate.means.metrics.text(term.as_deref()),
    )
}

async fn description() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], openapi())
}
