//! Changes that are asked for on the strength of what somebody saw: compare and set. Pure.

use super::{Refusal, refuse};
use crate::dashboard::topology::Topology;
use crate::model::{CHANGED, GroupId, HostPort, ProxyToken, SlotId};

/// What a change is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A group.
    Group(GroupId),
    /// The group of a server.
    GroupOf(HostPort),
    /// A proxy.
    Proxy(ProxyToken),
    /// Slots, each by itself.
    Slots(Vec<SlotId>),
}

/// What the caller saw of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    subject: Subject,
    epoch: Option<i64>,
}

impl Expected {
    /// Refused when the subject has another epoch by now; of slots: one that is later. `None`: whatever it is.
    pub(crate) fn new(subject: Subject, epoch: Option<i64>) -> Self {
        Self { subject, epoch }
    }

    /// Whether it still is what the caller saw. That it exists is for others to say.
    ///
    /// # Errors
    /// When it was changed; the refusal tells its present epoch.
    pub(crate) fn check(&self, topology: &Topology) -> Result<(), Refusal> {
        let Some(epoch) = self.epoch else { return Ok(()) };
        let same = |what: String, now: i64| match now == epoch {
            true => Ok(()),
            false => refuse(format!("{what} {CHANGED} {now}, not {epoch}")),
        };
        let group = |id: GroupId| same(format!("group-[{id}]"), topology.group_epoch(id));
        match &self.subject {
            Subject::Group(id) => topology.group(*id).map_or(Ok(()), |found| group(found.id)),
            Subject::GroupOf(server) => topology.group_of(server).map_or(Ok(()), |(found, _)| group(found.id)),
            Subject::Proxy(token) => match topology.proxy(token) {
                Some(_) => same(format!("proxy-[{token}]"), topology.proxy_epoch(token)),
                None => Ok(()),
            },
            Subject::Slots(slots) => match slots.iter().find(|id| topology.slot_epoch(**id) > epoch) {
                Some(id) => {
                    let now = topology.slot_epoch(*id);
                    refuse(format!("slot-[{id}] {CHANGED} {now}, later than {epoch}"))
                }
                None => Ok(()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use crate::dashboard::topology::Change;
    use crate::model::SlotMapping;

    fn check(topology: &Topology, subject: Subject, epoch: i64) -> Result<(), String> {
        let expected = Expected::new(subject, Some(epoch));
        expected.check(topology).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn what_was_changed_since_it_was_seen_is_refused_and_its_epoch_told() {
        let t = topology();
        let server = || Subject::GroupOf(addr("b:1"));
        for subject in [Subject::Group(gid(1)), server()] {
            assert_eq!(check(&t, subject.clone(), 100), Ok(()));
            for epoch in [99, 101] {
                let words = format!("group-[1] was changed: its epoch is 100, not {epoch}");
                assert_eq!(check(&t, subject.clone(), epoch), Err(words));
            }
        }
        let proxy: crate::model::Proxy = serde_json::from_value(serde_json::json!({
            "token": "x", "start_time": "", "admin_addr": "h:1", "proto_type": "tcp4", "proxy_addr": "h:2",
            "product_name": "demo", "pid": 1, "pwd": "", "sys": ""
        }))
        .unwrap();
        let t = after(&t, &[Change::PutProxy(Box::new(proxy))]);
        let token = || Subject::Proxy("x".into());
        assert_eq!(check(&t, token(), 100), Ok(()));
        assert!(check(&t, token(), 1).unwrap_err().starts_with("proxy-[x] was changed"));
        assert_eq!(Expected::new(token(), None).check(&t), Ok(()));
    }

    #[test]
    fn of_slots_only_those_count_that_are_named_and_only_what_is_later() {
        let slot = |number| SlotId::new(number).unwrap();
        let t = after(&topology(), &[Change::PutSlot(SlotMapping::offline(slot(5)))]);
        let slots = |numbers: &[i64]| Subject::Slots(numbers.iter().map(|number| slot(*number)).collect());
        assert_eq!(check(&t, slots(&[4, 6]), 0), Ok(()), "nobody ever wrote them");
        assert_eq!(check(&t, slots(&[4, 5]), 100), Ok(()));
        assert_eq!(
            check(&t, slots(&[4, 5]), 120),
            Ok(()),
            "something else was written since"
        );
        let words = "slot-[5] was changed: its epoch is 100, later than 99";
        assert_eq!(check(&t, slots(&[4, 5]), 99), Err(words.to_owned()));
    }

    #[test]
    fn that_something_does_not_exist_is_for_others_to_say() {
        for subject in [
            Subject::Group(gid(9)),
            Subject::GroupOf(addr("z:1")),
            Subject::Proxy("z".into()),
        ] {
            assert_eq!(check(&topology(), subject, 7), Ok(()));
        }
    }
}
