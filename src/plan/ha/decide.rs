use super::history::History;
use super::policy::{Mode, Policy};
use super::sight::{Decision, Notice, NoticeReason, Round};
use super::{alone, behind, group, leaving, lost, memory, pods, proxies, rolling};

/// What is to be asked for after this round, which the history took in ([`History::note`]).
pub fn decide(policy: &Policy, history: &History, round: &Round) -> Decision {
    let mut decision = Decision::default();
    lost::stateless(round, policy, history, &mut decision);
    // Without one nobody can be asked, and what is known of the groups may be old.
    if round.dashboard {
        for group in &round.groups {
            group::decide(group, round, policy, history, &mut decision);
            pods::decide(group, round, policy, history, &mut decision);
            alone::decide(group, round, policy, history, &mut decision);
            leaving::decide(group, round, policy, history, &mut decision);
            memory::tell(group, &mut decision);
            behind::tell(group, round, history, &mut decision);
            lost::servers(group, round, policy, history, &mut decision);
        }
        proxies::decide(round, policy, history, &mut decision);
        rolling::decide(round, policy, history, &mut decision);
    }
    if let Some((reason, why)) = withheld(policy, round) {
        let would = decision.orders.drain(..).map(|order| Notice {
            reason,
            message: format!("{}: nothing is done, because {why}", order.reason),
        });
        decision.notices.extend(would);
    }
    decision
}

/// Why nothing may be asked for, if nothing may.
fn withheld(policy: &Policy, round: &Round) -> Option<(NoticeReason, &'static str)> {
    if round.paused {
        return Some((NoticeReason::Paused, "the cluster is paused (spec.paused)"));
    }
    (policy.mode == Mode::ReportOnly).then_some((NoticeReason::ReportOnly, "spec.ha.mode is ReportOnly"))
}
