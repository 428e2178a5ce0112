//! Proxies that nobody hears of any more: they are shut off, forgotten and replaced.

use super::history::{History, Subject};
use super::policy::{Policy, Turn};
use super::sight::{Action, Decision, Order, Round};

/// Decides for all proxies. Two witnesses are needed, the operator and the dashboard.
pub(super) fn decide(round: &Round, policy: &Policy, history: &History, decision: &mut Decision) {
    if round.turn == Turn::Standby {
        return;
    }
    for proxy in &round.proxies {
        let subject = Subject::Proxy(proxy.token.clone());
        let Some(spell) = history.muteness(&proxy.token) else {
            continue;
        };
        // One that is about to end says so itself, or is forgotten with its pod.
        if !proxy.pod_stays || spell.rounds < policy.failure_threshold || !history.is_free(&subject, round.at) {
            continue;
        }
        let node = if proxy.node_lost { ", and its node is lost" } else { "" };
        decision.orders.push(Order {
            action: Action::DropProxy {
                token: proxy.token.clone(),
                pod: proxy.pod.clone(),
            },
            reason: format!(
                "proxy {} answers neither the operator nor the dashboard{node}",
                proxy.pod
            ),
            after: round.at.saturating_sub(spell.since),
        });
    }
}
