//! Commands to proxies: bringing them online, telling them the routing, letting them go.

use std::time::Duration;

use futures::future::join_all;

use super::error::Error;
use super::rules::{self, proxies::Registration};
use super::term::Term;
use super::{sentinels, view};
use crate::client::{ClientError, ProxyClient};
use crate::model::{Proxy, ProxyToken, SlotId};

/// How long one proxy may take for each thing it is asked, waiting for its earlier answers included.
const PATIENCE: Duration = Duration::from_secs(1);

/// Registers the proxy at this admin address, tells it all slots, and lets it begin. Repeating it is harmless.
///
/// # Errors
/// When the proxy can't be reached, is of another product or has another password, or the registration is refused. A
/// failure after it was recorded leaves the record; polls bring it online later.
pub(crate) async fn online(term: &Term, addr: &str, how: Registration) -> Result<(), Error> {
    let model = ProxyClient::model(&term.means.http, addr)
        .await
        .map_err(|error| Error::Proxy(format!("proxy@{addr} fetch model failed, {}", words(&error))))?;
    rules::proxies::check(&model, addr, &term.means.product)?;
    client(term, addr, &model)
        .xping()
        .await
        .map_err(|error| Error::Proxy(format!("proxy@{addr} check xauth failed, {}", words(&error))))?;
    term.change(|topology| rules::proxies::register(topology, &model, how))
        .await?;
    begin(term, &model.token).await
}

/// Tells a registered proxy all slots, and lets it begin.
///
/// # Errors
/// When it is not registered, or does not acknowledge.
pub(crate) async fn begin(term: &Term, token: &ProxyToken) -> Result<(), Error> {
    let proxy = registered(term, token)?;
    push(term, &proxy, SlotId::all().collect()).await?;
    term.check()?;
    let failed = |reason: String| {
        term.links.of(token).doubt();
        Error::Proxy(format!("proxy-[{token}] start failed: {reason}"))
    };
    client(term, &proxy.admin_addr, &proxy)
        .start()
        .await
        .map_err(|error| failed(words(&error)))?;
    sentinels::tell(term, &proxy).await
}

/// Ends a proxy and forgets it. With `force` it is forgotten even when it does not answer.
///
/// # Errors
/// When it is not registered, or did not end and that is not forced.
pub(crate) async fn remove(term: &Term, token: &ProxyToken, force: bool) -> Result<(), Error> {
    let proxy = registered(term, token)?;
    term.check()?;
    if let Err(error) = client(term, &proxy.admin_addr, &proxy).shutdown().await {
        tracing::warn!(proxy = %token, %error, force, "the proxy did not shut down");
        if !force {
            return Err(Error::Proxy(format!(
                "proxy-[{token}] shutdown failed: {}",
                words(&error)
            )));
        }
    }
    term.change(|topology| rules::proxies::remove(topology, token)).await?;
    Ok(())
}

/// Tells all registered proxies these slots, at the same time.
///
/// # Errors
/// When not every proxy acknowledged; it names all that did not.
pub(crate) async fn push_all(term: &Term, slots: Vec<SlotId>) -> Result<(), Error> {
    let topology = term.topology();
    let pushes = topology.proxies().map(|proxy| push(term, proxy, slots.clone()));
    let failures: Vec<String> = join_all(pushes)
        .await
        .into_iter()
        .filter_map(Result::err)
        .map(|error| error.to_string())
        .collect();
    term.check()?;
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Error::Proxy(failures.join("; ")))
    }
}

async fn push(term: &Term, proxy: &Proxy, slots: Vec<SlotId>) -> Result<(), Error> {
    let link = term.links.of(&proxy.token);
    let all = slots.len() == crate::model::SLOT_COUNT;
    let failed = |reason: String| Error::Proxy(format!("proxy-[{}] resync slots failed: {reason}", proxy.token));
    let Ok(_turn) = tokio::time::timeout(PATIENCE, link.turn.lock()).await else {
        link.doubt();
        return Err(failed("it is still busy with an earlier push".to_owned()));
    };
    term.check()?;
    let doubts = link.doubts();
    let slots = view::slots(&term.topology(), slots, term.means.forward_method);
    match client(term, &proxy.admin_addr, proxy).fill_slots(&slots).await {
        Ok(()) => {
            if all {
                link.settle(doubts);
            }
            Ok(())
        }
        Err(error) => {
            link.doubt();
            Err(failed(words(&error)))
        }
    }
}

/// The client of a proxy, naming the incarnation that its record tells.
pub(crate) fn client(term: &Term, addr: &str, proxy: &Proxy) -> ProxyClient {
    ProxyClient::new(
        term.means.http.clone(),
        addr.to_owned(),
        &term.means.product,
        term.means.product_auth.reveal(),
        &proxy.token,
        &proxy.incarnation,
    )
}

fn registered(term: &Term, token: &ProxyToken) -> Result<Proxy, Error> {
    let missing = || rules::Refusal(format!("proxy-[{token}] doesn't exist"));
    Ok(term.topology().proxy(token).cloned().ok_or_else(missing)?)
}

/// What a proxy said, marked as Codis does; or why it said nothing.
fn words(error: &ClientError) -> String {
    match error.cause() {
        Some(cause) => format!("[Remote Error] {cause}"),
        None => error.to_string(),
    }
}
