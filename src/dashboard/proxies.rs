//! Commands to proxies: bringing them online, telling them the routing, letting them go.

use std::time::Duration;

use futures::future::join_all;

use super::error::Error;
use super::rules::epochs::Expected;
use super::rules::{self, proxies::Registration};
use super::term::Term;
use super::{fault, sentinels, users, view};
use crate::client::{ClientError, ProxyClient};
use crate::model::{Proxy, ProxyToken, Slot, SlotId};

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

/// Tells a registered proxy all slots, has the servers let it in, and lets it begin.
///
/// # Errors
/// When it is not registered, or does not acknowledge.
pub(crate) async fn begin(term: &Term, token: &ProxyToken) -> Result<(), Error> {
    let proxy = registered(term, token)?;
    fault::point("online.recorded");
    admit(term, &proxy).await?;
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

/// Tells a proxy all slots until it knows them as they are, and then has the servers let it in.
async fn admit(term: &Term, proxy: &Proxy) -> Result<(), Error> {
    for last_try in [false, false, true] {
        let pushed = push(term, proxy, SlotId::all().collect(), None).await?;
        fault::point("online.pushed");
        let epochs: Vec<i64> = pushed.iter().map(|slot| slot.epoch).collect();
        match term
            .change(|topology| rules::proxies::let_in(topology, proxy, &epochs))
            .await
        {
            Ok(changes) => {
                if !changes.is_empty() {
                    fault::point("online.let_in");
                    users::tell_servers(term).await;
                }
                return Ok(());
            }
            // The slots changed meanwhile: it has to know them as they are.
            Err(Error::Refused(_)) if !last_try => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Ends a proxy and forgets it. With `force` it is forgotten even when it does not answer.
///
/// # Errors
/// When it is not registered, was changed since the caller saw it, or did not end and that is not forced.
pub(crate) async fn remove(term: &Term, token: &ProxyToken, force: bool, expected: &Expected) -> Result<(), Error> {
    let proxy = registered(term, token)?;
    // It is looked at before the proxy ends. What changes afterwards changes nothing: then it is to be forgotten.
    expected.check(&term.topology())?;
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
    users::tighten(term).await;
    Ok(())
}

/// What came of telling one proxy something.
pub(crate) struct Told {
    /// The proxy, as it was registered.
    pub(crate) proxy: Proxy,
    /// Why it did not acknowledge, if so.
    pub(crate) result: Result<(), Error>,
}

/// Tells all registered proxies these slots, at the same time, each with its own time-out. With `drop_after` they fail
/// what is still under way by the former routing instead of waiting for it. Those that servers keep out are left out: they
/// are told everything before they are let in.
pub(crate) async fn tell_all(term: &Term, slots: &[SlotId], drop_after: Option<Duration>) -> Vec<Told> {
    let topology = term.topology();
    let kept_out = topology.servers().all(|(_, server)| server.prepared);
    let told = topology.proxies().filter(|proxy| !(proxy.shut_off && kept_out));
    let pushes = told.map(|proxy| async move {
        let result = push(term, proxy, slots.to_vec(), drop_after).await.map(drop);
        let proxy = proxy.clone();
        Told { proxy, result }
    });
    join_all(pushes).await
}

/// Tells all registered proxies these slots, at the same time. Those that are shut off are not waited for.
///
/// # Errors
/// When not every proxy acknowledged; it names all that did not.
pub(crate) async fn push_all(term: &Term, slots: Vec<SlotId>) -> Result<(), Error> {
    let told = tell_all(term, &slots, None).await;
    term.check()?;
    let counted = told.into_iter().filter(|told| !told.proxy.shut_off);
    let failures: Vec<String> = counted
        .filter_map(|told| told.result.err())
        .map(|e| e.to_string())
        .collect();
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Error::Proxy(failures.join("; ")))
    }
}

async fn push(
    term: &Term,
    proxy: &Proxy,
    slots: Vec<SlotId>,
    drop_after: Option<Duration>,
) -> Result<Vec<Slot>, Error> {
    let link = term.links.of(&proxy.token);
    let all = slots.len() == crate::model::SLOT_COUNT;
    let failed = |reason: String| {
        let (token, addr) = (&proxy.token, &proxy.admin_addr);
        Error::Proxy(format!(
            "proxy-[{token}] resync slots failed: {reason} (its admin address is {addr})"
        ))
    };
    let Ok(_turn) = tokio::time::timeout(PATIENCE, link.turn.lock()).await else {
        link.doubt();
        return Err(failed("it is still busy with an earlier push".to_owned()));
    };
    term.check()?;
    let doubts = link.doubts();
    let slots = view::slots(&term.topology(), slots, term.means.forward_method);
    let client = client(term, &proxy.admin_addr, proxy);
    let pushed = async {
        match drop_after {
            Some(after) => client.fill_slots_dropping(&slots, after).await,
            None => client.fill_slots(&slots).await,
        }
    };
    match term.means.metrics.push(&proxy.token, pushed).await {
        Ok(()) => {
            link.note(&slots);
            if all {
                link.settle(doubts);
            }
            Ok(slots)
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
