//! Looks names up so that one lost name server does not decide, and a silent one is not asked without end.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{LazyLock, OnceLock};

use reqwest::dns;

use super::names::{Ask, Call, Names};

/// All questions of this process.
static NAMES: LazyLock<Names> = LazyLock::new(|| Names::new(ask_system as Ask));

/// The addresses of a host, the preferred one first. May take as long as the system's resolver takes: the caller bounds it.
/// However many ask, and give up, few calls are under way.
///
/// # Errors
/// What the system's resolver says when nobody knows the name, or nobody answered.
pub async fn lookup(host: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![ip]);
    }
    static DOMAIN: OnceLock<Option<String>> = OnceLock::new();
    let domain =
        DOMAIN.get_or_init(|| cluster_domain(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()));
    if let Some(whole) = domain.as_deref().and_then(|domain| absolute(host, domain))
        && let Ok(ips) = NAMES.find(&whole).await
    {
        return Ok(ips);
    }
    NAMES.find(host).await
}

/// In a thread of its own: the system's resolver can't be interrupted, and nothing else is to wait behind it.
fn ask_system(host: String, call: Call) {
    let ask = move || {
        let found = (host.as_str(), 0).to_socket_addrs();
        call.answer(found.map(|addrs| addrs.map(|addr| addr.ip()).collect()));
    };
    if let Err(error) = std::thread::Builder::new().name("lookup".to_owned()).spawn(ask) {
        tracing::warn!(%error, "no thread for a lookup");
    }
}

/// [`lookup`] for HTTP clients.
#[derive(Debug, Clone, Copy)]
pub(super) struct OurLookup;

impl dns::Resolve for OurLookup {
    fn resolve(&self, name: dns::Name) -> dns::Resolving {
        Box::pin(async move {
            match lookup(name.as_str()).await {
                Ok(found) => Ok(Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0))) as dns::Addrs),
                Err(error) => Err(Box::new(error) as Box<dyn std::error::Error + Send + Sync>),
            }
        })
    }
}

/// The domain of the Kubernetes cluster that this process runs in, from its `resolv.conf`.
fn cluster_domain(resolv_conf: &str) -> Option<String> {
    let searched = resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("search "));
    let mut domains = searched.flat_map(str::split_whitespace);
    domains.find_map(|domain| Some(domain.strip_prefix("svc.")?.trim_end_matches('.').to_owned()))
}

/// The whole name of a Service's host, which is one question to a name server where the search list makes it several.
fn absolute(host: &str, domain: &str) -> Option<String> {
    host.ends_with(".svc").then(|| format!("{host}.{domain}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_services_are_made_whole() {
        let text =
            "search ns.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";
        assert_eq!(cluster_domain(text).as_deref(), Some("cluster.local"));
        assert_eq!(cluster_domain("nameserver 1.1.1.1\nsearch example.org\n"), None);
        let whole = absolute("shop-g1-0.shop-servers.ns.svc", "cluster.local");
        assert_eq!(whole.as_deref(), Some("shop-g1-0.shop-servers.ns.svc.cluster.local."));
        assert_eq!(absolute("redis.example.org", "cluster.local"), None);
    }

    #[tokio::test]
    async fn system_is_asked_for_names_and_not_for_addresses() {
        assert!(lookup("localhost").await.unwrap().iter().all(IpAddr::is_loopback));
        assert_eq!(lookup("::1").await.unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
    }
}
