//! Decisions of operators without one of the rules.

use std::time::Duration;

use super::world::{World, name, place};
use crate::plan::ha::{Action, Order, PodSight, ServerSight};

impl World {
    /// What a decision that breaks a rule on purpose would ask for.
    pub(super) fn spoil(&mut self, number: usize, orders: &mut Vec<Order>) {
        let Some(group) = self.operators[number].round.groups.first() else {
            return;
        };
        if self.broken.freshest {
            for order in orders.iter_mut() {
                if let Action::Promote { to, .. } = &mut order.action {
                    let answers =
                        |sight: &&ServerSight| group.record.in_sync.contains(&sight.server) && sight.info().is_some();
                    let answering = group.servers.iter().skip(1).filter(answers);
                    let mut others = answering.map(|sight| &sight.server).filter(|other| *other != to);
                    if let Some(other) = others.next_back() {
                        *to = other.clone();
                    }
                }
            }
        }
        if self.broken.rolling {
            let free = !orders.iter().any(|order| order.action.group().is_some());
            let running = |sight: &&ServerSight| sight.outdated && matches!(sight.pod, PodSight::Running(_));
            if let Some(sight) = group.servers.iter().find(running).filter(|_| free) {
                orders.push(Order {
                    action: Action::ReplaceServer {
                        group: group.record.id,
                        server: sight.server.clone(),
                        uid: sight.uid.clone().unwrap_or_default(),
                        epoch: group.epoch,
                    },
                    reason: String::new(),
                    after: Duration::ZERO,
                });
            }
        }
        if self.broken.alone {
            let leader = &group.record.servers[0].server;
            orders.retain(|order| !matches!(&order.action, Action::RestartServer { server, .. } if server == leader));
        }
        let leads = self.leads(place(&group.record.servers[0].server));
        if self.broken.restart && orders.is_empty() && !leads && self.operators[number].asked.is_empty() {
            let replica = group
                .servers
                .iter()
                .skip(1)
                .find(|sight| matches!(sight.pod, PodSight::Running(_)));
            if let Some((sight, PodSight::Running(uid))) = replica.map(|sight| (sight, &sight.pod)) {
                orders.push(Order {
                    action: Action::RestartServer {
                        group: group.record.id,
                        server: name(place(&sight.server)).clone(),
                        uid: uid.clone(),
                        epoch: group.epoch,
                    },
                    reason: String::new(),
                    after: Duration::ZERO,
                });
            }
        }
    }
}
