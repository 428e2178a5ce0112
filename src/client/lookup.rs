//! Looks names up so that one lost name server does not decide.

use std::io;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

/// How long a question goes without an answer before it is asked once more, in a way that may lead to another name server.
const AGAIN: Duration = Duration::from_millis(150);
/// How often at most. The system's resolver waits 5 seconds for a name server that is lost.
const TIMES: usize = 5;

/// The addresses of a host, the preferred one first. May take as long as the system's resolver takes: the caller bounds it.
///
/// # Errors
/// What the system's resolver says when nobody knows the name, or nobody answered.
pub async fn lookup(host: &str) -> io::Result<Vec<IpAddr>> {
    static DOMAIN: OnceLock<Option<String>> = OnceLock::new();
    let domain =
        DOMAIN.get_or_init(|| cluster_domain(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()));
    if let Some(whole) = domain.as_deref().and_then(|domain| absolute(host, domain))
        && let Ok(ips) = hedged(|| ask(whole.clone())).await
    {
        return Ok(ips);
    }
    hedged(|| ask(host.to_owned())).await
}

async fn ask(host: String) -> io::Result<Vec<IpAddr>> {
    let found = tokio::net::lookup_host((host, 0)).await?;
    Ok(found.map(|addr| addr.ip()).collect())
}

/// The first good answer of questions that are asked one after the other while there is none; the first bad one when all
/// that were asked have one.
async fn hedged<T, F: Future<Output = io::Result<T>>>(ask: impl Fn() -> F) -> io::Result<T> {
    let mut asked = FuturesUnordered::from_iter([ask()]);
    let mut times = 1;
    loop {
        tokio::select! {
            answer = asked.next() => match answer {
                Some(Ok(found)) => return Ok(found),
                Some(Err(error)) if asked.is_empty() => return Err(error),
                Some(Err(_)) => {}
                None => return Err(io::Error::other("nobody was asked")),
            },
            () = tokio::time::sleep(AGAIN), if times < TIMES => {
                asked.push(ask());
                times += 1;
            }
        }
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
    use std::sync::atomic::{AtomicUsize, Ordering};

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
    async fn a_question_that_is_lost_is_asked_again() {
        let asked = AtomicUsize::new(0);
        let answer = hedged(|| {
            let n = asked.fetch_add(1, Ordering::Relaxed);
            async move {
                match n {
                    0 | 1 => std::future::pending().await,
                    n => Ok(n),
                }
            }
        });
        assert_eq!(answer.await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_name_that_nobody_knows_is_not_asked_for_again() {
        let asked = AtomicUsize::new(0);
        let answer: io::Result<()> = hedged(|| {
            asked.fetch_add(1, Ordering::Relaxed);
            async { Err(io::Error::other("no such host")) }
        })
        .await;
        assert_eq!(
            (answer.unwrap_err().to_string().as_str(), asked.load(Ordering::Relaxed)),
            ("no such host", 1)
        );
    }
}
