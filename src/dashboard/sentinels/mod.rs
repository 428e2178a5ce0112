//! The Sentinels that the user runs: telling them which primaries to watch, telling proxies which Sentinels there are, and
//! asking both how they are.
//!
//! What they decide is shown and never followed: whoever promotes is asked by the API. Codis' own proxies follow them by
//! themselves.

mod client;
mod policy;
pub(crate) mod polls;
mod primaries;

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::{join_all, try_join_all};

use super::error::Error;
use super::rules::{self, Refusal};
use super::server::{ServerError, Standing};
use super::term::Term;
use super::{fault, proxies};
use crate::model::{GroupId, HostPort, Proxy, SentinelStats};

pub(crate) use client::SentinelClient;
pub(crate) use policy::Policy;

/// How long a proxy's earlier answers are waited for, and a Sentinel while a promotion waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// Records a Sentinel that answers. It watches nothing of this product until the next resync.
///
/// # Errors
/// When it is recorded already, or does not answer as a Sentinel.
pub(crate) async fn add(term: &Term, policy: &Policy, addr: &HostPort) -> Result<(), Error> {
    // What can't be added is not talked to either.
    rules::sentinels::add(&term.topology(), addr)?;
    let mut sentinel = SentinelClient::connect(&term.means.servers, addr, Standing::Stranger, policy.patience).await?;
    sentinel.flush_config().await?;
    fault::point("sentinels.reached");
    term.change(|topology| rules::sentinels::add(topology, addr)).await?;
    Ok(())
}

/// Makes a Sentinel watch nothing of this product any more, and forgets it. With `force` it is forgotten even when it
/// does not answer.
///
/// # Errors
/// When it is not recorded, or did not do it and that is not forced.
pub(crate) async fn remove(term: &Term, policy: &Policy, addr: &str, force: bool) -> Result<(), Error> {
    term.change(|topology| rules::sentinels::begin_removal(topology, addr))
        .await?;
    fault::point("sentinels.leaving");
    if let Err(error) = instruct(term, policy, addr, &[]).await {
        tracing::warn!(sentinel = addr, %error, force, "the Sentinel may go on watching");
        if !force {
            return Err(error);
        }
    }
    fault::point("sentinels.stopped");
    term.change(|topology| rules::sentinels::remove(topology, addr)).await?;
    Ok(())
}

/// Makes all Sentinels watch the primaries as they are recorded, and tells all proxies which Sentinels there are.
///
/// # Errors
/// When a name has no address, or a Sentinel or a proxy did not do it; it names all that did not. Then the record stays
/// marked.
pub(crate) async fn resync_all(term: &Term, policy: &Policy) -> Result<(), Error> {
    term.change(rules::sentinels::begin_resync).await?;
    fault::point("sentinels.begun");
    let told = rules::sentinels::told(&term.topology())?;
    let primaries = try_join_all(
        told.primaries
            .iter()
            .map(|(group, primary)| locate(term, *group, primary)),
    );
    let primaries = primaries.await?;
    let instructed = told.servers.iter().map(|addr| instruct(term, policy, addr, &primaries));
    all(join_all(instructed).await, Error::Sentinel)?;
    fault::point("sentinels.watching");
    let topology = term.topology();
    all(
        join_all(topology.proxies().map(|proxy| tell(term, proxy))).await,
        Error::Proxy,
    )?;
    fault::point("sentinels.told");
    term.change(|topology| rules::sentinels::in_sync(topology, &told))
        .await?;
    Ok(())
}

/// Makes all Sentinels watch a group's primary no more: to be done before another one is promoted, which they would undo.
/// One that does not do it in time is only warned of, as in Codis. The next resync makes them watch again.
pub(crate) async fn unwatch(term: &Term, group: GroupId) {
    let name = term.means.product.monitor(group);
    let topology = term.topology();
    let asked = topology.sentinel().servers.iter().map(|addr| stop(term, addr, &name));
    join_all(asked).await;
}

async fn stop(term: &Term, addr: &str, name: &str) {
    let work = async {
        let servers = &term.means.servers;
        let mut sentinel = SentinelClient::connect(servers, &parse(addr)?, Standing::Member, PATIENCE).await?;
        if !sentinel.watched(|known| known == name).await?.is_empty() {
            sentinel.remove(name).await?;
        }
        Ok::<_, Error>(())
    };
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(sentinel = addr, %error, "the Sentinel may go on watching"),
        Err(_) => tracing::warn!(sentinel = addr, "the Sentinel hangs, and may go on watching"),
    }
}

/// A connection to a Sentinel that is recorded.
///
/// # Errors
/// When it is not recorded, or does not answer.
pub(crate) async fn connect(term: &Term, policy: &Policy, addr: &str) -> Result<SentinelClient, Error> {
    rules::sentinels::existing(&term.topology(), addr)?;
    let servers = &term.means.servers;
    Ok(SentinelClient::connect(servers, &parse(addr)?, Standing::Member, policy.patience).await?)
}

/// Tells a proxy which Sentinels there are. Every proxy that is brought online has to be told.
///
/// # Errors
/// When it does not acknowledge.
pub(crate) async fn tell(term: &Term, proxy: &Proxy) -> Result<(), Error> {
    let link = term.links.of(&proxy.token);
    let failed = |reason: String| {
        // Then it is told everything again when it is polled.
        link.doubt();
        Error::Proxy(format!("proxy-[{}] resync sentinel failed: {reason}", proxy.token))
    };
    // As with slots: an older list must not overtake a newer one.
    let Ok(_turn) = tokio::time::timeout(PATIENCE, link.turn.lock()).await else {
        return Err(failed("it is still busy with an earlier push".to_owned()));
    };
    term.check()?;
    let client = proxies::client(term, &proxy.admin_addr, proxy);
    let told = client.set_sentinels(term.topology().sentinel()).await;
    told.map_err(|error| failed(error.to_string()))
}

/// What `stats` tells.
pub(crate) fn stats(term: &Term) -> SentinelStats {
    let model = term.topology().sentinel().clone();
    let stats = term.observations.sentinels();
    SentinelStats {
        masters: primaries::named(&term.means.product, model.servers.len(), &stats),
        model,
        stats,
    }
}

/// A primary as Sentinels know it: they keep the address, not the name, and would resolve that on their main thread.
async fn locate(term: &Term, group: GroupId, primary: &HostPort) -> Result<(String, SocketAddr), ServerError> {
    let addr = term.means.servers.resolve(primary, Standing::Member).await?;
    Ok((term.means.product.monitor(group), addr))
}

/// Makes a Sentinel watch these primaries, and no others of this product.
async fn instruct(term: &Term, policy: &Policy, addr: &str, primaries: &[(String, SocketAddr)]) -> Result<(), Error> {
    let work = async {
        let mut sentinel = connect(term, policy, addr).await?;
        let product = &term.means.product;
        let known = sentinel.watched(|name| product.monitored(name).is_some()).await?;
        for name in known.keys() {
            sentinel.remove(name).await?;
        }
        for (name, primary) in primaries {
            sentinel.monitor(name, *primary, policy.quorum).await?;
            sentinel.set(name, policy.options()).await?;
            sentinel.set_password(name, &term.means.product_auth).await?;
        }
        Ok::<_, Error>(())
    };
    term.while_active(work).await?
}

/// A recorded address. Codis records any text.
fn parse(addr: &str) -> Result<HostPort, Refusal> {
    addr.parse()
        .map_err(|error: crate::model::AddrError| Refusal(format!("sentinel-[{addr}]: {error}")))
}

fn all(results: Vec<Result<(), Error>>, failed: fn(String) -> Error) -> Result<(), Error> {
    let failures: Vec<String> = results
        .into_iter()
        .filter_map(Result::err)
        .map(|error| error.to_string())
        .collect();
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failed(failures.join("; ")))
    }
}
