use super::{Ruling, refuse};
use crate::dashboard::topology::{Change, Topology};
use crate::model::{Proxy, ProxyToken};

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
