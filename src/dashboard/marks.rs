//! Takes the marks of groups back of which proxies were said not to know how they are, once all know it: a proxy that missed
//! a push is told everything by its poll. As in Codis the mark stays where proxies are to see something else that nobody
//! pushed yet.

use std::sync::Arc;
use std::time::Duration;

use super::rules::{groups, slots};
use super::term::Term;
use super::topology::Topology;
use super::view;
use crate::model::GroupId;

/// How often the marks are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Works until the term ends.
pub(crate) async fn run(term: Arc<Term>) {
    loop {
        if !known(&term, &term.topology()).is_empty() {
            let noted = term.change(|topology| groups::in_sync(topology, &known(&term, topology)));
            if let Err(error) = noted.await {
                tracing::debug!(%error, "that proxies know the groups is recorded later");
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The marked groups that every proxy knows as they are. Those that are shut off are told before they are let in.
fn known(term: &Term, topology: &Topology) -> Vec<GroupId> {
    let marked = topology
        .groups()
        .filter(|group| group.out_of_sync && group.promoting.state.is_nothing());
    let is_known = |id: &GroupId| {
        let slots = view::slots(topology, slots::of_group(topology, *id), term.means.forward_method);
        let mut proxies = topology.proxies().filter(|proxy| !proxy.shut_off);
        proxies.all(|proxy| term.links.of(&proxy.token).routes(&slots))
    };
    marked.map(|group| group.id).filter(is_known).collect()
}
