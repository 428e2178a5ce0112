use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use futures::StreamExt;

use super::Api;
use super::answer::{Done, Json, not_found};
use super::call::{Call, XAUTH, to_the_end};
use crate::dashboard::error::Error;
use crate::dashboard::rules::{self, Refusal, Ruling, proxies::Registration};
use crate::dashboard::server::ServerError;
use crate::dashboard::stats;
use crate::dashboard::term::Term;
use crate::dashboard::topology::{Change, Topology};
use crate::dashboard::{proxies, view};
use crate::model::{GroupId, HostPort, Overview, ProxyToken, SlotId, SlotMapping, Stats, Topom};

/// The largest body that is read; the whole slot map is a tenth of it.
const MAX_BODY: usize = 1 << 20;
/// How long a request may take, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server that is to be added may take to answer.
const REACH_TIMEOUT: Duration = Duration::from_secs(1);

/// All routes.
pub(crate) fn router(api: Api) -> Router {
    // `X` stands for the xauth, as in Codis' own description.
    let path = |text: &str| format!("/api/topom/{}", text.replace("/X", &format!("/{{{XAUTH}}}")));
    Router::new()
        .route("/", get(to_overview))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/topom", get(overview))
        .route("/topom/model", get(model))
        .route("/topom/stats", get(read_stats))
        .route("/topom/slots", get(slots))
        .route(&path("model"), get(model))
        .route(&path("xping/X"), get(xping))
        .route(&path("stats/X"), get(read_stats))
        .route(&path("slots/X"), get(slots))
        .route(&path("reload/X"), put(reload))
        .route(&path("shutdown/X"), put(shutdown))
        .route(&path("loglevel/X/{value}"), put(loglevel))
        .route(&path("proxy/create/X/{addr}"), put(create_proxy))
        .route(&path("proxy/online/X/{addr}"), put(online_proxy))
        .route(&path("proxy/reinit/X/{token}"), put(reinit_proxy))
        .route(&path("proxy/remove/X/{token}/{force}"), put(remove_proxy))
        .route(&path("group/create/X/{gid}"), put(create_group))
        .route(&path("group/remove/X/{gid}"), put(remove_group))
        .route(&path("group/resync/X/{gid}"), put(resync_group))
        .route(&path("group/resync-all/X"), put(resync_all))
        .route(&path("group/add/X/{gid}/{addr}"), put(add_server))
        .route(&path("group/add/X/{gid}/{addr}/{datacenter}"), put(add_server))
        .route(&path("group/del/X/{gid}/{addr}"), put(remove_server))
        .route(&path("group/action/create/X/{addr}"), put(create_action))
        .route(&path("group/action/remove/X/{addr}"), put(remove_action))
        .route(&path("group/info/{addr}"), get(server_info))
        .route(&path("slots/assign/X"), put(assign))
        .route(&path("slots/assign/X/offline"), put(assign_offline))
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .layer(from_fn(bounded))
        .with_state(api)
}

/// Bounds each request in time, and logs what asks for a change.
async fn bounded(request: Request, next: Next) -> Response {
    let asked = (request.method() == Method::PUT).then(|| without_xauth(request.uri().path()));
    let answer = match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => {
            let text = "the request took too long; what it asked for may be done or not, ask for the present state";
            Error::TimedOut(text.to_owned()).into_response()
        }
    };
    if let Some(path) = asked {
        tracing::info!(path, status = answer.status().as_u16(), "change asked for");
    }
    answer
}

fn without_xauth(path: &str) -> String {
    let is_xauth = |part: &str| part.len() == 32 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let mut cut = false;
    let parts = path.split('/').map(|part| {
        let first = !cut && is_xauth(part);
        cut |= first;
        if first { "X" } else { part }
    });
    parts.collect::<Vec<_>>().join("/")
}

async fn to_overview() -> Response {
    (StatusCode::FOUND, [(header::LOCATION, "/topom")]).into_response()
}

async fn readyz(State(api): State<Api>) -> Result<&'static str, Error> {
    api.candidate.ready().map(|()| "ok\n")
}

async fn model(State(api): State<Api>) -> Json<Topom> {
    Json(api.candidate.topom.clone())
}

async fn overview(State(api): State<Api>, call: Call) -> Result<Json<Overview>, Error> {
    let config = serde_json::to_value(&*api.config)
        .map_err(|error| Refusal(format!("the configuration can't be shown: {error}")))?;
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    Ok(Json(Overview {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        compile: format!("{} {} {profile}", std::env::consts::OS, std::env::consts::ARCH),
        config,
        model: api.candidate.topom.clone(),
        stats: stats::stats(&call.term),
    }))
}

async fn read_stats(call: Call) -> Json<Stats> {
    Json(stats::stats(&call.term))
}

async fn slots(call: Call) -> Json<Vec<crate::model::Slot>> {
    Json(view::slots(
        &call.term.topology(),
        SlotId::all(),
        call.term.means.forward_method,
    ))
}

async fn xping(_: Call) -> Done {
    Done
}

async fn reload(call: Call) -> Result<Done, Error> {
    to_the_end(async move { call.term.reload().await }).await.map(|()| Done)
}

async fn shutdown(State(api): State<Api>, _: Call) -> Done {
    api.stop.send_replace(true);
    Done
}

async fn loglevel(State(api): State<Api>, call: Call) -> Result<Done, Error> {
    let level = call
        .param("value")
        .parse()
        .map_err(|error: super::super::LevelError| Refusal(error.to_string()))?;
    api.logging.set(level);
    Ok(Done)
}

async fn create_group(call: Call) -> Result<Done, Error> {
    let id = rules::groups::parse_id(call.param("gid"))?;
    change(call.term, move |topology| rules::groups::create(topology, id)).await
}

async fn remove_group(call: Call) -> Result<Done, Error> {
    let id = rules::groups::parse_id(call.param("gid"))?;
    change(call.term, move |topology| rules::groups::remove(topology, id)).await
}

async fn add_server(call: Call) -> Result<Done, Error> {
    let (id, addr) = (rules::groups::parse_id(call.param("gid"))?, call.addr()?);
    let datacenter = call.param("datacenter").to_owned();
    let term = Arc::clone(&call.term);
    // What can't be added is not logged into either.
    rules::groups::add_server(&term.topology(), id, &addr, &datacenter, None)?;
    let run_id = Some(reach(&term, &addr).await?).filter(|run_id| !run_id.is_empty());
    change(term, move |topology| {
        rules::groups::add_server(topology, id, &addr, &datacenter, run_id.as_deref())
    })
    .await
}

/// The run id of a server that answers.
async fn reach(term: &Term, addr: &HostPort) -> Result<String, Error> {
    match tokio::time::timeout(REACH_TIMEOUT, term.ask(addr)).await {
        Ok(asked) => Ok(asked?.0.run_id().to_owned()),
        Err(_) => Err(ServerError::Dial {
            addr: addr.clone(),
            reason: "i/o timeout".to_owned(),
        }
        .into()),
    }
}

async fn remove_server(call: Call) -> Result<Done, Error> {
    let (id, addr) = (rules::groups::parse_id(call.param("gid"))?, call.addr()?);
    change(call.term, move |topology| {
        rules::groups::remove_server(topology, id, &addr)
    })
    .await
}

async fn create_action(call: Call) -> Result<Done, Error> {
    let (addr, term) = (call.addr()?, Arc::clone(&call.term));
    let done = change(call.term, move |topology| rules::actions::create(topology, &addr)).await;
    term.actions_asked.notify_one();
    done
}

async fn remove_action(call: Call) -> Result<Done, Error> {
    let (addr, term) = (call.addr()?, Arc::clone(&call.term));
    let named = addr.clone();
    let done = change(call.term, move |topology| rules::actions::remove(topology, &named)).await?;
    term.observations.note_admission(&addr, None);
    Ok(done)
}

/// `INFO` of a server of the product. Codis asks any address whatever, with the product's password.
async fn server_info(call: Call) -> Result<Json<std::collections::BTreeMap<String, String>>, Error> {
    let addr = call.addr()?;
    if call.term.topology().group_of(&addr).is_none() {
        return Err(Refusal(format!("server-[{addr}] doesn't exist")).into());
    }
    let mut server = call.term.connect(&addr).await?;
    let info = server.info().await?;
    let followed = info.followed();
    let mut fields = info.into_fields();
    fields.extend(server.max_memory().await?.map(|limit| ("maxmemory".to_owned(), limit)));
    fields.extend(followed.map(|addr| ("master_addr".to_owned(), addr)));
    Ok(Json(fields))
}

async fn resync_group(call: Call) -> Result<Done, Error> {
    let id = rules::groups::parse_id(call.param("gid"))?;
    rules::existing(&call.term.topology(), id)?;
    to_the_end(async move {
        let slots = rules::slots::of_group(&call.term.topology(), id);
        proxies::push_all(&call.term, slots).await?;
        mark_in_sync(&call.term, vec![id]).await
    })
    .await
}

async fn resync_all(call: Call) -> Result<Done, Error> {
    to_the_end(async move {
        let groups = call.term.topology().groups().map(|group| group.id).collect();
        proxies::push_all(&call.term, SlotId::all().collect()).await?;
        mark_in_sync(&call.term, groups).await
    })
    .await
}

async fn assign(call: Call, body: Body) -> Result<Done, Error> {
    map_slots(call, body, rules::slots::assign).await
}

async fn assign_offline(call: Call, body: Body) -> Result<Done, Error> {
    map_slots(call, body, rules::slots::offline).await
}

async fn map_slots(call: Call, body: Body, rule: fn(&Topology, &[SlotMapping]) -> Ruling) -> Result<Done, Error> {
    let wanted = rules::slots::parse(&read(body).await?)?;
    to_the_end(async move {
        let changes = call
            .term
            .change(|topology| rule(topology, &wanted))
            .await
            .inspect_err(|error| {
                // A part of it may be stored, and no proxy was told.
                if matches!(error, Error::Store(_)) {
                    call.term.links.forget_all();
                }
            })?;
        proxies::push_all(&call.term, wanted.iter().map(|slot| slot.id).collect()).await?;
        let groups = changes.into_iter().filter_map(|change| match change {
            Change::PutGroup(group) => Some(group.id),
            _ => None,
        });
        mark_in_sync(&call.term, groups.collect()).await
    })
    .await
}

/// Reads a body. One that is too large is read to its end all the same, within reason: who is still sending would not see
/// the answer.
async fn read(body: Body) -> Result<Vec<u8>, Refusal> {
    let (mut stream, mut kept, mut size) = (body.into_data_stream(), Vec::new(), 0);
    while size < 32 * MAX_BODY
        && let Some(part) = stream.next().await
    {
        let part = part.map_err(|error| Refusal(format!("the body can't be read: {error}")))?;
        size += part.len();
        if size <= MAX_BODY {
            kept.extend_from_slice(&part);
        }
    }
    if size > MAX_BODY {
        Err(Refusal(format!("the body is larger than {MAX_BODY} bytes")))
    } else {
        Ok(kept)
    }
}

async fn mark_in_sync(term: &Term, groups: Vec<GroupId>) -> Result<Done, Error> {
    term.change(|topology| rules::groups::in_sync(topology, &groups))
        .await
        .map(|_| Done)
}

async fn create_proxy(call: Call) -> Result<Done, Error> {
    register(call, Registration::New).await
}

async fn online_proxy(call: Call) -> Result<Done, Error> {
    register(call, Registration::NewOrKnown).await
}

async fn register(call: Call, how: Registration) -> Result<Done, Error> {
    let addr = call.addr()?;
    to_the_end(async move { proxies::online(&call.term, addr.as_str(), how).await })
        .await
        .map(|()| Done)
}

async fn reinit_proxy(call: Call) -> Result<Done, Error> {
    let token = ProxyToken::from(call.param("token"));
    to_the_end(async move { proxies::begin(&call.term, &token).await })
        .await
        .map(|()| Done)
}

async fn remove_proxy(call: Call) -> Result<Done, Error> {
    let (token, force) = (ProxyToken::from(call.param("token")), call.switch("force")?);
    to_the_end(async move { proxies::remove(&call.term, &token, force).await })
        .await
        .map(|()| Done)
}

async fn change<F>(term: Arc<Term>, rule: F) -> Result<Done, Error>
where
    F: Fn(&Topology) -> Ruling + Send + Sync + 'static,
{
    to_the_end(async move { term.change(rule).await }).await.map(|_| Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logged_paths_hold_the_token_and_not_the_xauth() {
        let (xauth, token) = ("948967642f9eea556aac8428e1162e3f", "c674f1f9ec5617b40f2514554c7ee887");
        assert_eq!(
            without_xauth(&format!("/api/topom/proxy/remove/{xauth}/{token}/0")),
            format!("/api/topom/proxy/remove/X/{token}/0")
        );
    }
}
