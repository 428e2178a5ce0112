use super::{Refusal, Ruling, refuse};
use crate::dashboard::topology::{Change, Topology};
use crate::model::{ActionState, Group, GroupServer, HostPort, ProductName, Proxy, ProxyToken, ServerUserKind, SlotId};

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

/// Records a proxy; an unknown one gets the largest number plus one. Servers let in a process that was not recorded
/// before only once it acknowledged the whole slot map: it may be one that was forgotten and still routes by an old one.
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
    let same = known.filter(|known| known.incarnation == model.incarnation);
    let record = Proxy {
        id,
        shut_off: same.is_none_or(|known| known.shut_off) && !model.incarnation.is_empty(),
        ..model.clone()
    };
    Ok(if known == Some(&record) {
        Vec::new()
    } else {
        vec![Change::PutProxy(Box::new(record))]
    })
}

/// Forgets a proxy. It may still be at work, if only with what it had begun, wherever servers don't hear that it must not be
/// let in any more.
///
/// # Errors
/// When it is unknown.
pub(crate) fn remove(topology: &Topology, token: &ProxyToken) -> Ruling {
    let proxy = known(topology, token)?;
    let mut changes = vec![Change::RemoveProxy(token.clone())];
    if !proxy.incarnation.is_empty() {
        changes.extend(leaky(topology));
    }
    Ok(changes)
}

/// Shuts a proxy off.
///
/// # Errors
/// When it is unknown, or is one that servers do not know apart.
pub(crate) fn shut_off(topology: &Topology, token: &ProxyToken) -> Ruling {
    let proxy = known(topology, token)?;
    if proxy.incarnation.is_empty() {
        return refuse(format!(
            "proxy-[{token}] is one of Codis 3.2, which logs in like everybody: it can't be shut off; end it and remove it"
        ));
    }
    if proxy.shut_off {
        return Ok(Vec::new());
    }
    let mut changes = vec![Change::PutProxy(Box::new(Proxy {
        shut_off: true,
        ..proxy.clone()
    }))];
    changes.extend(leaky(topology));
    Ok(changes)
}

/// Lets a proxy in that acknowledged all slots with these epochs (ascending by slot).
///
/// # Errors
/// When it is unknown or another process by now, or the slots changed since.
pub(crate) fn let_in(topology: &Topology, proxy: &Proxy, acknowledged: &[i64]) -> Ruling {
    let now = known(topology, &proxy.token)?;
    if now.incarnation != proxy.incarnation {
        return refuse(format!("proxy-[{}] was restarted meanwhile", proxy.token));
    }
    if !now.shut_off {
        return Ok(Vec::new());
    }
    if !SlotId::all()
        .map(|id| topology.epoch(id))
        .eq(acknowledged.iter().copied())
    {
        return refuse(format!("the slots changed while proxy-[{}] was told them", proxy.token));
    }
    Ok(vec![Change::PutProxy(Box::new(Proxy {
        shut_off: false,
        ..now.clone()
    }))])
}

/// Notes that servers let in these proxies at most. Nothing is noted of one that lets in somebody who was shut off since.
pub(crate) fn tight(topology: &Topology, told: &[(HostPort, Vec<ServerUserKind>)]) -> Vec<Change> {
    let now = topology.admitted_proxies();
    let right = |(_, proxies): &&(HostPort, Vec<ServerUserKind>)| proxies.iter().all(|proxy| now.contains(proxy));
    let right: Vec<&HostPort> = told.iter().filter(right).map(|(server, _)| server).collect();
    mark(topology, false, |_, server| right.contains(&&server.server))
}

/// Every server that the operator prepared may let in a proxy that it must not, until it was told. So may one that is being
/// given its role, by a sync-action or as the candidate of a promotion, which need not have held any before: whether it was
/// prepared is recorded afterwards.
fn leaky(topology: &Topology) -> Vec<Change> {
    mark(topology, true, |group, server| {
        server.prepared || server.action.state == ActionState::Syncing || is_candidate(group, server)
    })
}

fn is_candidate(group: &Group, server: &GroupServer) -> bool {
    let candidate = usize::try_from(group.promoting.index)
        .ok()
        .and_then(|place| group.servers.get(place));
    !group.promoting.state.is_nothing() && candidate.is_some_and(|candidate| candidate.server == server.server)
}

fn mark(topology: &Topology, leaky: bool, concerned: impl Fn(&Group, &GroupServer) -> bool) -> Vec<Change> {
    let changed = topology.groups().filter_map(|group| {
        let mut changed = group.clone();
        changed
            .servers
            .iter_mut()
            .filter(|server| concerned(group, server))
            .for_each(|server| server.leaky = leaky);
        (changed != *group).then_some(Change::PutGroup(changed))
    });
    changed.collect()
}

fn known<'a>(topology: &'a Topology, token: &ProxyToken) -> Result<&'a Proxy, Refusal> {
    topology
        .proxy(token)
        .ok_or_else(|| Refusal(format!("proxy-[{token}] doesn't exist")))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::super::{actions, promotion};
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

    fn epochs(t: &Topology) -> Vec<i64> {
        SlotId::all().map(|id| t.epoch(id)).collect()
    }

    #[test]
    fn a_process_is_let_in_once_it_acknowledged_the_slots_as_they_are() {
        let t = topology();
        let a = proxy("a", "1");
        let t = after(&t, &register(&t, &a, Registration::New).unwrap());
        assert!(t.proxy(&a.token).unwrap().shut_off && t.admitted_proxies().is_empty());
        let known = epochs(&t);
        let other = proxy("a", "2");
        assert!(refused(let_in(&t, &other, &known)).contains("restarted"));
        let mut old = known.clone();
        old[7] -= 1;
        assert!(refused(let_in(&t, &a, &old)).contains("slots changed"));
        let t = after(&t, &let_in(&t, &a, &known).unwrap());
        assert_eq!(t.admitted_proxies(), [a.server_user()]);
        assert_eq!(register(&t, &a, Registration::Known).unwrap(), []);
        let t = after(&t, &register(&t, &other, Registration::Known).unwrap());
        assert!(t.admitted_proxies().is_empty());
    }

    /// The fixture with server a:1 as one that the operator prepared, and proxy a let in.
    fn with_proxy_let_in() -> (Topology, Proxy) {
        let t = topology();
        let mut group = t.group(gid(1)).unwrap().clone();
        group.servers[0].prepared = true;
        let t = after(&t, &[Change::PutGroup(group)]);
        let a = proxy("a", "1");
        let t = after(&t, &register(&t, &a, Registration::New).unwrap());
        let t = after(&t, &let_in(&t, &a, &epochs(&t)).unwrap());
        (t, a)
    }

    fn leaks(t: &Topology) -> Vec<bool> {
        t.servers().map(|(_, server)| server.leaky).collect()
    }

    #[test]
    fn servers_may_let_in_a_proxy_that_was_shut_off_until_they_were_told() {
        let (t, a) = with_proxy_let_in();
        assert_eq!(leaks(&t), [false, false, false]);
        let t = after(&t, &shut_off(&t, &a.token).unwrap());
        assert_eq!(leaks(&t), [true, false, false]);
        assert_eq!(shut_off(&t, &a.token).unwrap(), []);
        assert_eq!(
            tight(&t, &[(addr("a:1"), vec![a.server_user()])]),
            [],
            "told before it was shut off"
        );
        let t = after(&t, &tight(&t, &[(addr("a:1"), vec![])]));
        assert_eq!(leaks(&t), [false, false, false]);
        let codis = proxy("b", "");
        let t = after(&t, &register(&t, &codis, Registration::New).unwrap());
        assert!(refused(shut_off(&t, &codis.token)).contains("can't be shut off"));
    }

    #[test]
    fn a_server_that_is_being_given_its_role_may_let_in_a_proxy_that_was_shut_off() {
        let (t, a) = with_proxy_let_in();
        let t = after(&t, &actions::create(&t, &addr("c:1")).unwrap());
        let t = after(&t, &actions::begin(&t, gid(2), &addr("c:1"), 0, "r1").unwrap());
        let t = after(&t, &shut_off(&t, &a.token).unwrap());
        assert_eq!(leaks(&t), [true, false, true]);
    }

    /// It is told whom to let in before it is recorded that it leads: who is shut off in between may be let in there.
    #[test]
    fn a_candidate_that_never_had_a_role_may_let_in_a_proxy_that_was_shut_off_meanwhile() {
        let (t, a) = with_proxy_let_in();
        let wish = promotion::Wish {
            group: gid(1),
            server: addr("b:1"),
            epoch: None,
            forced: true,
            planned: false,
            at_ms: 0,
            cause: Default::default(),
        };
        let t = after(&t, &promotion::begin(&t, &wish).unwrap());
        let t = after(
            &t,
            &promotion::prepared(&t, gid(1), &[(a.token.clone(), "1".to_owned())]).unwrap(),
        );
        let t = after(&t, &shut_off(&t, &a.token).unwrap());
        assert_eq!(leaks(&t), [true, true, false]);
        let leader = promotion::Leader {
            run_id: "rb".to_owned(),
            prepared: true,
            history: "n".to_owned(),
            offset: 9,
            fenced: false,
        };
        let t = after(
            &t,
            &promotion::finished(&t, gid(1), &leader, promotion::Turnover::default()).unwrap(),
        );
        let primary = t.group(gid(1)).unwrap().primary().unwrap();
        assert!(primary.leaky && primary.prepared, "its next promotion has to know");
        let t = after(&t, &tight(&t, &[(addr("b:1"), vec![])]));
        assert!(!t.group(gid(1)).unwrap().primary().unwrap().leaky);
    }

    #[test]
    fn a_proxy_that_was_forgotten_may_still_be_let_in_somewhere() {
        let (t, a) = with_proxy_let_in();
        assert_eq!(leaks(&after(&t, &remove(&t, &a.token).unwrap())), [true, false, false]);
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
