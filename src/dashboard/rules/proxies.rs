use super::{Refusal, Ruling, refuse};
use crate::dashboard::topology::{Change, Topology};
use crate::model::{HostPort, ProductName, Proxy, ProxyToken};

/// What registering a proxy may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registration {
    /// It must be unknown.
    New,
    /// It may be known: then its record is brought up to date.
    NewOrKnown,
    /// It must be known: one that was removed meanwhile must not come back.
    Known,
}

/// Whether what a proxy at `addr` says of itself can be recorded: its token becomes part of a key and of paths, its admin
/// address is connected to.
///
/// # Errors
/// When it is of another product, or says nonsense.
pub(crate) fn check(model: &Proxy, addr: &str, product: &ProductName) -> Result<(), Refusal> {
    let token = model.token.as_str();
    if token.len() != 32 || !token.bytes().all(|b| b.is_ascii_hexdigit()) {
        return refuse(format!(
            "proxy@{addr} has an invalid token {token:?}: it must be 32 hexadecimal digits"
        ));
    }
    if let Err(error) = model.admin_addr.parse::<HostPort>() {
        return refuse(format!("proxy@{addr} says that its admin address is none: {error}"));
    }
    if model.product_name != product.as_str() {
        return refuse(format!(
            "proxy@{addr} is of product {:?}, not of {product}; start it with product_name = {product}",
            model.product_name
        ));
    }
    Ok(())
}

/// Records a proxy; an unknown one gets the largest number plus one.
///
/// # Errors
/// When it is known or unknown against the caller's wish.
pub(crate) fn register(topology: &Topology, model: &Proxy, how: Registration) -> Ruling {
    let known = topology.proxy(&model.token);
    let id = match (known, how) {
        (Some(_), Registration::New) => return refuse(format!("proxy-[{}] already exists", model.token)),
        (None, Registration::Known) => return refuse(format!("proxy-[{}] doesn't exist", model.token)),
        (Some(known), _) => known.id,
        (None, _) => topology.proxies().map(|proxy| proxy.id).max().unwrap_or(0) + 1,
    };
    let record = Proxy { id, ..model.clone() };
    Ok(if known == Some(&record) {
        Vec::new()
    } else {
        vec![Change::PutProxy(Box::new(record))]
    })
}

/// Forgets a proxy.
///
/// # Errors
/// When it is unknown.
pub(crate) fn remove(topology: &Topology, token: &ProxyToken) -> Ruling {
    match topology.proxy(token) {
        Some(_) => Ok(vec![Change::RemoveProxy(token.clone())]),
        None => refuse(format!("proxy-[{token}] doesn't exist")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;

    fn proxy(token: &str, incarnation: &str) -> Proxy {
        let json = format!(
            r#"{{"token":"{token}","start_time":"","admin_addr":"h:1","proto_type":"tcp4","proxy_addr":"h:2",
                "product_name":"demo","pid":1,"pwd":"/","sys":"","incarnation":"{incarnation}"}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn a_known_proxy_keeps_its_number() {
        let t = Topology::empty(1);
        let t = after(&t, &register(&t, &proxy("a", "1"), Registration::New).unwrap());
        let t = after(&t, &register(&t, &proxy("b", "1"), Registration::NewOrKnown).unwrap());
        let t = after(&t, &register(&t, &proxy("a", "2"), Registration::NewOrKnown).unwrap());
        let ids: Vec<_> = t
            .proxies()
            .map(|p| (p.token.as_str(), p.id, p.incarnation.as_str()))
            .collect();
        assert_eq!(ids, [("a", 1, "2"), ("b", 2, "1")]);
        assert_eq!(register(&t, &proxy("a", "2"), Registration::Known).unwrap(), []);
    }

    #[test]
    fn a_proxy_that_says_nonsense_of_itself_is_not_recorded() {
        let token = "c674f1f9ec5617b40f2514554c7ee887";
        let judge = |token: &str, change: fn(&mut Proxy)| {
            let mut model = proxy(token, "");
            change(&mut model);
            check(&model, "h:1", &"demo".parse().unwrap()).map_err(|refusal| refusal.to_string())
        };
        assert_eq!(judge(token, |_| {}), Ok(()));
        for (answer, words) in [
            (judge("", |_| {}), "invalid token"),
            (judge("c674f1f9ec5617b40f2514554c7ee88/", |_| {}), "invalid token"),
            (judge(&token.repeat(2), |_| {}), "invalid token"),
            (judge(token, |proxy| proxy.admin_addr = "h".to_owned()), "admin address"),
            (
                judge(token, |proxy| proxy.product_name = "other".to_owned()),
                "not of demo",
            ),
        ] {
            let refusal = answer.unwrap_err();
            assert!(refusal.contains(words) && refusal.starts_with("proxy@h:1"), "{refusal}");
        }
    }

    #[test]
    fn registering_against_the_callers_wish_is_refused() {
        let t = Topology::empty(1);
        assert_eq!(
            refused(register(&t, &proxy("a", ""), Registration::Known)),
            "proxy-[a] doesn't exist"
        );
        let t = after(&t, &register(&t, &proxy("a", ""), Registration::New).unwrap());
        assert_eq!(
            refused(register(&t, &proxy("a", ""), Registration::New)),
            "proxy-[a] already exists"
        );
        assert_eq!(refused(remove(&t, &"b".into())), "proxy-[b] doesn't exist");
        assert_eq!(after(&t, &remove(&t, &"a".into()).unwrap()).proxies().count(), 0);
    }
}
