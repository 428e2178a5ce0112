use axum::body::Body;
use futures::future::join_all;

use crate::client::ProxyClient;
use crate::dashboard::api::answer::{Done, Json};
use crate::dashboard::api::body;
use crate::dashboard::api::call::{Call, to_the_end};
use crate::dashboard::api::table::{Table, says};
use crate::dashboard::error::Error;
use crate::dashboard::proxies;
use crate::dashboard::rules::{Refusal, mirror};
use crate::dashboard::server::ServerError;
use crate::dashboard::term::Term;
use crate::model::{Export, Proxy};

/// Writing down what the store holds, and going on from that when the store was lost.
pub(super) fn routes() -> Table {
    Table::of("mirror")
        .get(
            "v2/export/X",
            export,
            says("All that the store holds, to go on from when it is lost.").answers::<Export>(),
        )
        .put(
            "v2/import/X",
            import,
            says("Goes on from what was exported: slots, groups and epochs.").takes::<Export>(),
        )
}

async fn export(call: Call) -> Json<Export> {
    Json(mirror::export(&call.term.topology()))
}

async fn import(call: Call, body: Body) -> Result<Done, Error> {
    let bytes = body::read(body).await?;
    let exported: Export = serde_json::from_slice(&bytes)
        .map_err(|error| Refusal(format!("the body is not what v2/export answers: {error}")))?;
    to_the_end(async move {
        let term = call.term;
        let known = largest_known(&term, &exported).await;
        let changes = term
            .change(|topology| mirror::import(topology, &exported, known))
            .await?;
        tracing::warn!(records = changes.len(), epoch = known, "a slot map was imported");
        // All that was derived from the former records goes with the term. The next begins at once.
        term.end("a slot map was imported");
        Ok(Done)
    })
    .await
}

/// The largest epoch that a proxy or a server knows: what is told next has to be newer.
async fn largest_known(term: &Term, exported: &Export) -> i64 {
    let servers = exported
        .group
        .iter()
        .flat_map(|group| &group.servers)
        .map(|record| async {
            match term.connect(&record.server).await {
                Err(ServerError::Superseded { theirs, .. }) => theirs,
                _ => 0,
            }
        });
    let proxies = exported.proxy.iter().map(|record| largest_at(term, record));
    let (servers, proxies) = tokio::join!(join_all(servers), join_all(proxies));
    servers.into_iter().chain(proxies).max().unwrap_or_default()
}

async fn largest_at(term: &Term, record: &Proxy) -> i64 {
    // It may have been restarted since.
    let Ok(model) = ProxyClient::model(&term.means.http, &record.admin_addr).await else {
        return 0;
    };
    let slots = proxies::client(term, &record.admin_addr, &model).slots().await;
    let epochs = slots.unwrap_or_default().into_iter().map(|slot| slot.epoch);
    epochs.max().unwrap_or_default()
}
