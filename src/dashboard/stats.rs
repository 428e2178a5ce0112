use super::sentinels;
use super::term::Term;
use super::topology::Topology;
use crate::model::{GroupStats, Proxy, ProxyStats, Stats};

/// `GET /topom/stats`.
pub(crate) fn stats(term: &Term) -> Stats {
    let topology = term.topology();
    Stats {
        closed: false,
        slots: topology.slots().copied().collect(),
        group: GroupStats {
            models: topology.groups().cloned().collect(),
            stats: term.observations.servers(),
        },
        proxy: ProxyStats {
            models: by_id(&topology),
            stats: term.observations.proxies(),
        },
        slot_action: term.slot_actions.stats(),
        sentinels: sentinels::stats(term),
    }
}

fn by_id(topology: &Topology) -> Vec<Proxy> {
    let mut proxies: Vec<Proxy> = topology.proxies().cloned().collect();
    proxies.sort_by_key(|proxy| proxy.id);
    proxies
}
