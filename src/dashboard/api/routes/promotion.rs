use axum::body::Body;

use crate::dashboard::api::answer::{Done, Json};
use crate::dashboard::api::body;
use crate::dashboard::api::call::{Call, to_the_end};
use crate::dashboard::api::table::{Table, says};
use crate::dashboard::error::Error;
use crate::dashboard::promotion::{self, Manner};
use crate::dashboard::rules::groups::parse_id;
use crate::dashboard::rules::promotion::Wish;
use crate::model::{Promotion, PromotionOptions};

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
    run(call, PromotionOptions::default(), false).await.map(|_| Done)
}

async fn promote(call: Call, body: Body) -> Result<Json<Promotion>, Error> {
    let options = body::parse(body).await?;
    run(call, options, false).await
}

async fn hand_over(call: Call, body: Body) -> Result<Json<Promotion>, Error> {
    let options = body::parse(body).await?;
    run(call, options, true).await
}

async fn run(call: Call, options: PromotionOptions, planned: bool) -> Result<Json<Promotion>, Error> {
    let wish = Wish {
        group: parse_id(call.param("gid"))?,
        server: call.addr()?,
        epoch: options.epoch.or(call.epoch),
        forced: options.force,
        planned,
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
