use super::epochs::{Expected, Subject};
use super::{Refusal, Ruling, actions, existing, refuse, sentinels, slot_moves};
use crate::dashboard::topology::{Change, Topology};
use crate::model::{
    Failover, Group, GroupId, HostPort, PromoteState, Promoting, PromotionCause, Proxy, ProxyToken, ServerAction,
    SlotActionState, SlotId, SlotMapping,
};

/// Who is to lead, and on what condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The group.
    pub(crate) group: GroupId,
    /// The candidate.
    pub(crate) server: HostPort,
    /// The group's epoch that the wish is based on, if it is.
    pub(crate) epoch: Option<i64>,
    /// Whether the candidate is taken whatever speaks against it.
    pub(crate) forced: bool,
    /// Only if the primary can hand over: no acknowledged write is lost, no client sees an error.
    pub(crate) planned: bool,
    /// When it was uttered, in milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// What is known of the reason for it.
    pub(crate) cause: PromotionCause,
}

/// The process of a proxy that acknowledged the lock.
pub(crate) type Acknowledged = (ProxyToken, String);

/// Begins a promotion: from now on the group's slots are locked. Nothing changes when the same is under way.
///
/// # Errors
/// When the group is not as the wish supposes, the candidate leads already, another one is being promoted, or slots of the
/// group are moving.
pub(crate) fn begin(topology: &Topology, wish: &Wish) -> Ruling {
    let id = wish.group;
    let group = existing(topology, id)?;
    let Some(index) = group.servers.iter().position(|s| s.server == wish.server) else {
        return refuse(format!("group-[{id}] doesn't have server-[{}]", wish.server));
    };
    let place = i64::try_from(index).unwrap_or(i64::MAX);
    let under_way = &group.promoting;
    if !under_way.state.is_nothing() {
        if under_way.index != place {
            return refuse(format!("group-[{id}] is promoting index = {}", under_way.index));
        }
        if wish.forced && !under_way.forced && under_way.state != PromoteState::Finished {
            let promoting = Promoting {
                forced: true,
                ..under_way.clone()
            };
            return Ok(vec![Change::PutGroup(Group {
                promoting,
                ..group.clone()
            })]);
        }
        return Ok(Vec::new());
    }
    Expected::new(Subject::Group(id), wish.epoch).check(topology)?;
    if index == 0 {
        return refuse(format!("group-[{id}] can't promote master"));
    }
    let concerned = |slot: &&SlotMapping| [slot.group_id, slot.action.target_id].contains(&i64::from(id));
    let states = topology.slots().filter(concerned).map(|slot| slot.action.state);
    let begun = |state: &SlotActionState| {
        matches!(
            state,
            SlotActionState::Prepared | SlotActionState::Migrating | SlotActionState::Finished
        )
    };
    match states.filter(begun).count() {
        0 => {}
        count => return refuse(format!("slots-migration is running = {count}")),
    }
    // Moves that have only locked their slots wait until the promotion is over.
    let locked: Vec<SlotId> = topology
        .slots()
        .filter(concerned)
        .filter(|slot| slot.action.state == SlotActionState::Preparing)
        .map(|slot| slot.id)
        .collect();
    let mut changes = slot_moves::undo(topology, &locked)?;
    changes.push(Change::PutGroup(Group {
        promoting: Promoting {
            index: place,
            state: PromoteState::Preparing,
            forced: wish.forced,
            planned: wish.planned,
            began_ms: wish.at_ms,
            cause: wish.cause.clone(),
        },
        ..group.clone()
    }));
    Ok(changes)
}

/// Whether a proxy has to acknowledge what is done to the group. One that is shut off has not, where the primary, to which
/// its map leads, keeps it out.
pub(crate) fn has_vote(proxy: &Proxy, group: &Group) -> bool {
    !proxy.shut_off || group.primary().is_some_and(|primary| !primary.prepared)
}

/// Notes the history that the primary writes, which the candidate goes on with.
///
/// # Errors
/// When the promotion is not at this point.
pub(crate) fn going_on_from(topology: &Topology, id: GroupId, history: &str, offset: i64) -> Ruling {
    let mut group = in_state(topology, id, PromoteState::Prepared)?.clone();
    let former = group.lineage.len();
    group.begin_lineage(history, offset);
    Ok(if group.lineage.len() == former {
        Vec::new()
    } else {
        vec![Change::PutGroup(group)]
    })
}

/// Notes that every proxy that is registered holds the group's slots locked: nobody writes to the group any more.
///
/// # Errors
/// When there is a proxy that did not acknowledge it, also one that joined meanwhile; and when the promotion ended.
pub(crate) fn prepared(topology: &Topology, id: GroupId, acknowledged: &[Acknowledged]) -> Ruling {
    let group = in_state(topology, id, PromoteState::Preparing)?;
    let has = |proxy: &Proxy| {
        acknowledged
            .iter()
            .any(|(token, incarnation)| *token == proxy.token && *incarnation == proxy.incarnation)
    };
    let mut voters = topology.proxies().filter(|proxy| has_vote(proxy, group));
    if let Some(proxy) = voters.find(|proxy| !has(proxy)) {
        return refuse(format!(
            "proxy-[{}] at {} did not acknowledge the lock of group-[{id}]",
            proxy.token, proxy.admin_addr
        ));
    }
    Ok(vec![with_state(group, group.promoting.index, PromoteState::Prepared)])
}

/// The process that leads now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    /// Its run id.
    pub(crate) run_id: String,
    /// Whether the operator prepared it.
    pub(crate) prepared: bool,
    /// The history that it writes.
    pub(crate) history: String,
    /// The offset at which that began.
    pub(crate) offset: i64,
    /// Whether it takes no writes without a replica from the beginning.
    pub(crate) fenced: bool,
}

/// How it came to lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Turnover {
    /// When, in milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// Whether the former primary handed over: then the candidate lacks nothing.
    pub(crate) handed_over: bool,
}

/// Notes that the candidate leads: it becomes the first of the group and its former primary the last, as in Codis. All
/// others are to be given the new primary.
///
/// # Errors
/// When the promotion is not at this point.
pub(crate) fn finished(topology: &Topology, id: GroupId, leader: &Leader, turnover: Turnover) -> Ruling {
    let group = in_state(topology, id, PromoteState::Prepared)?;
    let index = usize::try_from(group.promoting.index).unwrap_or(usize::MAX);
    if index == 0 || index >= group.servers.len() {
        return refuse(format!("group-[{id}] has no server at {index} any more"));
    }
    let mut group = group.clone();
    let mut candidate = group.servers.remove(index);
    candidate.admitted_run_id = Some(leader.run_id.clone());
    candidate.prepared |= leader.prepared;
    candidate.action = ServerAction::default();
    let former = group.servers.remove(0);
    group.servers.push(former);
    for (index, server) in (actions::next_index(topology)..).zip(&mut group.servers) {
        server.action = ServerAction::pending(index);
    }
    group.servers.insert(0, candidate);
    group.in_sync.clear();
    (group.fenced, group.bootstrapped) = (leader.fenced, true);
    group.begin_lineage(&leader.history, leader.offset);
    if is_failover(&group.promoting, turnover) {
        group.last_failover = failover(&group, turnover).map(Box::new);
    }
    let known = sentinels::mark(topology);
    Ok(known
        .into_iter()
        .chain([with_state(&group, 0, PromoteState::Finished)])
        .collect())
}

/// Whether nobody planned it. A primary that hands over without anybody having said why is one that a person moves, as with
/// Codis' own tools.
fn is_failover(promoting: &Promoting, turnover: Turnover) -> bool {
    !(promoting.planned || turnover.handed_over && promoting.cause.reason.is_empty())
}

/// What is to be kept of it; the group is in its new order, and its promotion not yet forgotten.
fn failover(group: &Group, Turnover { at_ms, handed_over }: Turnover) -> Option<Failover> {
    let Promoting {
        forced,
        began_ms,
        cause,
        ..
    } = &group.promoting;
    let [to, .., from] = &group.servers[..] else {
        return None;
    };
    Some(Failover {
        from: from.server.clone(),
        to: to.server.clone(),
        at_ms,
        epoch: group.lineage_epoch(),
        reason: cause.reason.clone(),
        forced: *forced,
        detect_ms: cause.detect_ms,
        promote_ms: (*began_ms != 0).then(|| millis_between(*began_ms, at_ms)),
        write_ms: None,
        lost_bytes: if handed_over { Some(0) } else { cause.behind },
    })
}

/// Two dashboards may have told the time, each by its own clock.
fn millis_between(earlier: i64, later: i64) -> u64 {
    u64::try_from(later.saturating_sub(earlier)).unwrap_or(0)
}

/// Ends a promotion; `known`: every proxy acknowledged the new primary, which all of them were told by `at_ms`.
///
/// # Errors
/// When the promotion is not at this point.
pub(crate) fn done(topology: &Topology, id: GroupId, known: bool, at_ms: i64) -> Ruling {
    let mut group = in_state(topology, id, PromoteState::Finished)?.clone();
    (group.promoting, group.out_of_sync) = (Promoting::default(), !known);
    // What was kept of an earlier one is complete.
    if let Some(failover) = group.last_failover.as_mut().filter(|last| last.write_ms.is_none()) {
        failover.write_ms = Some(millis_between(failover.at_ms, at_ms));
    }
    Ok(vec![Change::PutGroup(group)])
}

/// Gives a promotion up: everything is as before, and the replicas are told once more whom to follow, should the candidate
/// have been told to lead, or another one to follow it.
///
/// # Errors
/// When the candidate was recorded as primary already.
pub(crate) fn undo(topology: &Topology, id: GroupId) -> Ruling {
    let mut group = existing(topology, id)?.clone();
    match group.promoting.state {
        PromoteState::Nothing => return Ok(Vec::new()),
        PromoteState::Finished => return refuse(format!("group-[{id}] has its new primary already")),
        PromoteState::Preparing => {}
        PromoteState::Prepared => {
            for (index, replica) in (actions::next_index(topology)..).zip(group.servers.iter_mut().skip(1)) {
                replica.action = ServerAction::pending(index);
            }
        }
    }
    group.promoting = Promoting::default();
    Ok(vec![Change::PutGroup(group)])
}

fn in_state(topology: &Topology, id: GroupId, state: PromoteState) -> Result<&Group, Refusal> {
    let group = existing(topology, id)?;
    if group.promoting.state == state {
        Ok(group)
    } else {
        refuse(format!("the promotion of group-[{id}] was ended by somebody else"))
    }
}

fn with_state(group: &Group, index: i64, state: PromoteState) -> Change {
    Change::PutGroup(Group {
        promoting: Promoting {
            index,
            state,
            ..group.promoting.clone()
        },
        ..group.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::super::proxies::{self, Registration};
    use super::*;
    use crate::model::SlotAction;

    fn wish(group: i64, server: &str) -> Wish {
        Wish {
            group: gid(group),
            server: addr(server),
            epoch: None,
            forced: false,
            planned: false,
            at_ms: 1000,
            cause: PromotionCause::default(),
        }
    }

    /// It does so 30 ms after it was asked for.
    fn turnover(handed_over: bool) -> Turnover {
        Turnover {
            at_ms: 1030,
            handed_over,
        }
    }

    fn leader() -> Leader {
        Leader {
            run_id: "rb".to_owned(),
            prepared: true,
            history: "n".to_owned(),
            offset: 9,
            fenced: false,
        }
    }

    fn promoting(t: &Topology) -> Promoting {
        t.group(gid(1)).unwrap().promoting.clone()
    }

    #[test]
    fn a_promotion_goes_through_its_states_and_reorders_the_group() {
        let t = topology();
        let t = after(&t, &proxies_add(&t, "d:1"));
        let t = after(&t, &begin(&t, &wish(1, "b:1")).unwrap());
        assert_eq!((promoting(&t).index, promoting(&t).state), (1, PromoteState::Preparing));
        assert_eq!(begin(&t, &wish(1, "b:1")).unwrap(), []);
        let forced = Wish {
            forced: true,
            ..wish(1, "b:1")
        };
        assert!(promoting(&after(&t, &begin(&t, &forced).unwrap())).forced);
        assert_eq!(refused(begin(&t, &wish(1, "d:1"))), "group-[1] is promoting index = 1");
        let t = after(&t, &prepared(&t, gid(1), &[]).unwrap());
        let t = after(&t, &finished(&t, gid(1), &leader(), turnover(false)).unwrap());
        let group = t.group(gid(1)).unwrap();
        let order: Vec<_> = group.servers.iter().map(|s| s.server.as_str()).collect();
        assert_eq!(order, ["b:1", "d:1", "a:1"]);
        assert_eq!(group.servers[0].admitted_run_id.as_deref(), Some("rb"));
        assert_eq!(actions::waiting(group), [addr("d:1"), addr("a:1")]);
        assert_eq!(promoting(&t).index, 0);
        assert_eq!(begin(&t, &wish(1, "b:1")).unwrap(), [], "asked again, it is the same");
        let t = after(&t, &done(&t, gid(1), true, 1034).unwrap());
        assert_eq!(promoting(&t), Promoting::default());
    }

    /// What is kept of a promotion of `b`, and the group at its end.
    fn kept(wish: &Wish, handed_over: bool) -> Group {
        let t = topology();
        let t = after(&t, &begin(&t, wish).unwrap());
        let t = after(&t, &prepared(&t, gid(1), &[]).unwrap());
        let t = after(&t, &finished(&t, gid(1), &leader(), turnover(handed_over)).unwrap());
        after(&t, &done(&t, gid(1), true, 1034).unwrap())
            .group(gid(1))
            .unwrap()
            .clone()
    }

    #[test]
    fn a_failover_is_kept_with_all_that_is_known_of_it() {
        let cause = PromotionCause {
            reason: "nobody listens at a:1".to_owned(),
            detect_ms: Some(7),
            behind: Some(12),
        };
        let wish = Wish {
            forced: true,
            cause,
            ..wish(1, "b:1")
        };
        let group = kept(&wish, false);
        let expected = Failover {
            from: addr("a:1"),
            to: addr("b:1"),
            at_ms: 1030,
            epoch: group.lineage_epoch(),
            reason: "nobody listens at a:1".to_owned(),
            forced: true,
            detect_ms: Some(7),
            promote_ms: Some(30),
            write_ms: Some(4),
            lost_bytes: Some(12),
        };
        assert_eq!(group.last_failover, Some(Box::new(expected)));
        // The primary answered after all, and handed over all that it had.
        assert_eq!(kept(&wish, true).last_failover.unwrap().lost_bytes, Some(0));
    }

    #[test]
    fn a_hand_over_is_no_failover_and_leaves_what_is_kept_of_the_last_one() {
        let planned = Wish {
            planned: true,
            ..wish(1, "b:1")
        };
        assert_eq!(kept(&planned, true).last_failover, None);
        assert_eq!(
            kept(&wish(1, "b:1"), true).last_failover,
            None,
            "as Codis' tools ask for it"
        );
        let bare = kept(&wish(1, "b:1"), false);
        let failover = bare.last_failover.clone().unwrap();
        assert_eq!((failover.detect_ms, failover.lost_bytes), (None, None));
        let back = Wish {
            planned: true,
            at_ms: 9000,
            ..wish(1, "a:1")
        };
        let t = after(&topology(), &[Change::PutGroup(bare)]);
        let t = after(&t, &begin(&t, &back).unwrap());
        let t = after(&t, &prepared(&t, gid(1), &[]).unwrap());
        let t = after(&t, &finished(&t, gid(1), &leader(), turnover(true)).unwrap());
        let t = after(&t, &done(&t, gid(1), true, 9999).unwrap());
        assert_eq!(t.group(gid(1)).unwrap().last_failover, Some(failover));
    }

    #[test]
    fn clocks_that_differ_and_a_beginning_that_nobody_kept_make_no_nonsense() {
        let late = Wish {
            at_ms: 5000,
            ..wish(1, "b:1")
        };
        assert_eq!(kept(&late, false).last_failover.unwrap().promote_ms, Some(0));
        let unknown = Wish {
            at_ms: 0,
            ..wish(1, "b:1")
        };
        assert_eq!(kept(&unknown, false).last_failover.unwrap().promote_ms, None);
    }

    /// Group 1 with one server more.
    fn proxies_add(t: &Topology, server: &str) -> Vec<Change> {
        super::super::groups::add_server(t, gid(1), &addr(server), "", None).unwrap()
    }

    #[test]
    fn wishes_that_make_no_sense_are_refused_in_the_words_of_codis() {
        let t = topology();
        assert_eq!(refused(begin(&t, &wish(9, "a:1"))), "group-[9] doesn't exist");
        assert_eq!(
            refused(begin(&t, &wish(1, "c:1"))),
            "group-[1] doesn't have server-[c:1]"
        );
        assert_eq!(refused(begin(&t, &wish(1, "a:1"))), "group-[1] can't promote master");
        let old = Wish {
            epoch: Some(t.group_epoch(gid(1)) - 1),
            ..wish(1, "b:1")
        };
        assert!(refused(begin(&t, &old)).contains("was changed"));
        let moving = SlotMapping {
            group_id: 1,
            action: SlotAction {
                index: 1,
                state: SlotActionState::Migrating,
                target_id: 2,
            },
            ..SlotMapping::offline(SlotId::new(5).unwrap())
        };
        let t = after(&t, &[Change::PutSlot(moving)]);
        for group in [wish(1, "b:1"), wish(2, "c:1")] {
            assert!(begin(&t, &group).is_err());
        }
        assert_eq!(refused(begin(&t, &wish(1, "b:1"))), "slots-migration is running = 1");
    }

    #[test]
    fn a_lock_is_complete_when_every_proxy_that_is_registered_acknowledged_it() {
        let proxy = |token: &str| -> Proxy {
            serde_json::from_str(&format!(
                r#"{{"token":"{token}","start_time":"","admin_addr":"h:1","proto_type":"tcp4","proxy_addr":"h:2",
                    "product_name":"demo","pid":1,"pwd":"/","sys":"","incarnation":"i"}}"#
            ))
            .unwrap()
        };
        let t = topology();
        let t = after(&t, &proxies::register(&t, &proxy("x"), Registration::New).unwrap());
        let t = after(&t, &begin(&t, &wish(1, "b:1")).unwrap());
        let acks = |tokens: &[(&str, &str)]| -> Vec<Acknowledged> {
            tokens
                .iter()
                .map(|(token, i)| ((*token).into(), (*i).to_owned()))
                .collect()
        };
        assert!(refused(prepared(&t, gid(1), &acks(&[]))).contains("proxy-[x] at h:1"));
        assert!(prepared(&t, gid(1), &acks(&[("x", "former")])).is_err());
        assert!(prepared(&t, gid(1), &acks(&[("x", "i")])).is_ok());
        let joined = after(&t, &proxies::register(&t, &proxy("y"), Registration::New).unwrap());
        assert!(refused(prepared(&joined, gid(1), &acks(&[("x", "i")]))).contains("proxy-[y]"));
        // Where servers keep it out, nobody waits for one that is shut off.
        let mut group = joined.group(gid(1)).unwrap().clone();
        group.servers[0].prepared = true;
        let kept_out = after(&joined, &[Change::PutGroup(group)]);
        assert!(
            prepared(&kept_out, gid(1), &acks(&[])).is_ok(),
            "both are not let in yet"
        );
    }

    #[test]
    fn a_promotion_is_given_up_only_before_the_new_primary_is_recorded() {
        let t = topology();
        assert_eq!(undo(&t, gid(1)).unwrap(), []);
        let t = after(&t, &begin(&t, &wish(1, "b:1")).unwrap());
        assert_eq!(
            after(&t, &undo(&t, gid(1)).unwrap()).group(gid(1)),
            topology().group(gid(1))
        );
        let t = after(&t, &prepared(&t, gid(1), &[]).unwrap());
        let undone = after(&t, &undo(&t, gid(1)).unwrap());
        assert_eq!(actions::waiting(undone.group(gid(1)).unwrap()), [addr("b:1")]);
        let t = after(&t, &finished(&t, gid(1), &leader(), turnover(false)).unwrap());
        assert!(undo(&t, gid(1)).is_err());
        assert!(prepared(&t, gid(1), &[]).is_err() && done(&topology(), gid(1), true, 1034).is_err());
    }
}
