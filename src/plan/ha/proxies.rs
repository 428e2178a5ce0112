//! Proxies that nobody hears of any more: they are shut off, forgotten and replaced.

use super::history::{History, Subject};
use super::policy::{Policy, Turn};
use super::sight::{Action, Decision, Order, Round};

/// Decides for all proxies. Two witnesses are needed, the operator and the dashboard. One at a time, and, unless Kubernetes says
/// that its node is lost, none while no other one answers: that nobody at all is heard of is more likely to be the listener's
/// fault.
pub(super) fn decide(round: &Round, policy: &Policy, history: &History, decision: &mut Decision) {
    if round.turn == Turn::Standby {
        return;
    }
    let busy = |token| !history.is_free(&Subject::Proxy(token), round.at);
    if round.proxies.iter().any(|proxy| busy(proxy.token.clone())) {
        return;
    }
    let heard = round.proxies.iter().any(|proxy| proxy.answered);
    for proxy in &round.proxies {
        let Some(spell) = history.muteness(&proxy.token) else {
            continue;
        };
        let lost = proxy.node.is_lost();
        // One that is about to end says so itself, or is forgotten with its pod, which does not end on a lost node.
        let stays = (proxy.pod_stays && heard) || lost;
        if !stays || spell.rounds < policy.failure_threshold {
            continue;
        }
        let node = if lost { ", and its node is lost" } else { "" };
        decision.orders.push(Order {
            action: Action::DropProxy {
                token: proxy.token.clone(),
                pod: proxy.pod.clone(),
                uid: proxy.uid.clone(),
                epoch: proxy.epoch,
            },
            reason: format!(
                "proxy {} answers neither the operator nor the dashboard{node}",
                proxy.pod
            ),
            after: round.at.saturating_sub(spell.since),
        });
        return;
    }
}
