use crate::dashboard::api::answer::{Done, Json};
use crate::dashboard::api::call::{Call, to_the_end};
use crate::dashboard::api::table::{Table, says};
use crate::dashboard::error::Error;
use crate::dashboard::rules::epochs::Subject;
use crate::dashboard::{proxies, report, users};
use crate::model::{ProxyToken, Status};

/// What is known of servers and proxies beyond Codis' stats, and keeping proxies out.
pub(super) fn routes() -> Table {
    Table::of("status")
        .get(
            "v2/status/X",
            status,
            says("What is known of servers and proxies beyond Codis' stats, with the epochs to name in changes.")
                .answers::<Status>(),
        )
        .put(
            "v2/proxy/shut-off/X/{token}",
            shut_off,
            says(
                "Has the servers keep a proxy out, and nothing wait for it, until it acknowledged the whole slot map.",
            )
            .expects("the proxy"),
        )
        .put(
            "v2/proxy/let-in/X/{token}",
            let_in,
            says("Tells a proxy the whole slot map, and has the servers let it in.").expects("the proxy"),
        )
}

async fn status(call: Call) -> Json<Status> {
    Json(report::status(&call.term))
}

async fn shut_off(call: Call) -> Result<Done, Error> {
    let token = ProxyToken::from(call.param("token"));
    let expected = call.expected(Subject::Proxy(token.clone()));
    to_the_end(async move { users::shut_off(&call.term, &token, &expected).await })
        .await
        .map(|()| Done)
}

/// The proxy has to acknowledge the whole slot map first.
async fn let_in(call: Call) -> Result<Done, Error> {
    let token = ProxyToken::from(call.param("token"));
    let expected = call.expected(Subject::Proxy(token.clone()));
    expected.check(&call.term.topology())?;
    to_the_end(async move { proxies::begin(&call.term, &token).await })
        .await
        .map(|()| Done)
}
