use axum::body::Body;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use crate::dashboard::api::Api;
use crate::dashboard::api::answer::{Done, Json};
use crate::dashboard::api::body;
use crate::dashboard::api::call::{Call, to_the_end};
use crate::dashboard::api::table::{Table, says};
use crate::dashboard::error::Error;
use crate::dashboard::observations::unixtime_ms;
use crate::dashboard::promotion::{self, Manner};
use crate::dashboard::rules::Refusal;
use crate::dashboard::rules::groups::parse_id;
use crate::dashboard::rules::promotion::Wish;
use crate::model::{Promotion, PromotionCause, PromotionOptions};

/// Replacing the primary of a group.
pub(super) fn routes() -> Table {
    Table::of("promotion")
        .put(
            "group/promote/X/{gid}/{addr}",
            promote_as_codis,
            says("Makes a replica the primary of its group; while the primary answers, nothing is lost.")
                .expects("the group"),
        )
        .put(
            "v2/group/promote/X/{gid}/{addr}",
            promote,
            says("Makes a replica the primary of its group, on conditions.")
                .expects("the group")
                .asks::<PromotionCause>()
                .takes::<PromotionOptions>()
                .answers::<Promotion>(),
        )
        .put(
            "v2/group/handover/X/{gid}/{addr}",
            hand_over,
            says("Has the primary of a group hand over to a replica: nothing is lost, and no client sees an error.")
                .expects("the group")
                .takes::<PromotionOptions>()
                .answers::<Promotion>(),
        )
}

async fn promote_as_codis(call: Call) -> Result<Done, Error> {
    let options = PromotionOptions::default();
    run(call, options, PromotionCause::default(), false).await.map(|_| Done)
}

async fn promote(call: Call, Told(cause): Told, body: Body) -> Result<Json<Promotion>, Error> {
    let options = body::parse(body).await?;
    run(call, options, cause, false).await
}

async fn hand_over(call: Call, body: Body) -> Result<Json<Promotion>, Error> {
    let options = body::parse(body).await?;
    run(call, options, PromotionCause::default(), true).await
}

/// Why a promotion is asked for. It stands behind the path, where a dashboard passes over what it does not know: an older one
/// would refuse it in the body.
struct Told(PromotionCause);

impl FromRequestParts<Api> for Told {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Error> {
        let Query(cause) = Query::<PromotionCause>::try_from_uri(&parts.uri)
            .map_err(|error| Refusal(format!("the query can't be read: {error}")))?;
        Ok(Self(cause.bounded()))
    }
}

async fn run(
    call: Call,
    options: PromotionOptions,
    cause: PromotionCause,
    planned: bool,
) -> Result<Json<Promotion>, Error> {
    let wish = Wish {
        group: parse_id(call.param("gid"))?,
        server: call.addr()?,
        epoch: options.epoch.or(call.epoch),
        forced: options.force,
        planned,
        at_ms: unixtime_ms(),
        cause,
    };
    let manner = Manner {
        shut_off: options.shut_off,
    };
    let term = call.term;
    let done = to_the_end(async move { promotion::promote(&term, &wish, manner).await }).await?;
    let millis = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
    Ok(Json(Promotion {
        took_ms: millis(done.took),
        locked_ms: millis(done.locked),
        unlock_ms: millis(done.unlocking),
        handed_over: done.handed_over,
    }))
}
