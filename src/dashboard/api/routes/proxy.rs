use crate::dashboard::api::answer::Done;
use crate::dashboard::api::call::{Call, to_the_end};
use crate::dashboard::api::table::{Table, says};
use crate::dashboard::error::Error;
use crate::dashboard::proxies;
use crate::dashboard::rules::epochs::Subject;
use crate::dashboard::rules::proxies::Registration;
use crate::model::ProxyToken;

/// Proxies: their coming and going.
pub(super) fn routes() -> Table {
    Table::of("proxies")
        .put(
            "proxy/create/X/{addr}",
            create_proxy,
            says("Registers the proxy at this admin address, tells it all slots and lets it begin."),
        )
        .put(
            "proxy/online/X/{addr}",
            online_proxy,
            says("The same, also for a proxy that is registered already. Proxies call it themselves."),
        )
        .put(
            "proxy/reinit/X/{token}",
            reinit_proxy,
            says("Tells a registered proxy all slots again and lets it begin."),
        )
        .put(
            "proxy/remove/X/{token}/{force}",
            remove_proxy,
            says("Ends a proxy and forgets it.").expects("the proxy"),
        )
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
    let expected = call.expected(Subject::Proxy(token.clone()));
    to_the_end(async move { proxies::remove(&call.term, &token, force, &expected).await })
        .await
        .map(|()| Done)
}
