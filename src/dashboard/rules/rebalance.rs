use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::epochs::{Expected, Subject};
use super::{Refusal, Ruling, refuse, slot_actions};
use crate::dashboard::topology::Topology;
use crate::model::{GroupId, SlotId, SlotMapping};
use crate::plan::{Weight, rebalance};

/// How slots are to be spread. What is left out is as in Codis: each group that has servers gets the same share.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Wanted {
    /// The share of a group against that of others, by its number; 1 where none is given.
    #[serde(deserialize_with = "weights")]
    #[schemars(with = "BTreeMap<GroupId, f64>")]
    weights: BTreeMap<GroupId, Weight>,
    /// Groups that are to be emptied.
    exclude: Vec<GroupId>,
    /// `slots_epoch` as the caller saw it: refused when any slot was changed since.
    pub(crate) epoch: Option<i64>,
    /// Whether it is done, or only computed.
    pub(crate) confirm: bool,
}

impl Wanted {
    /// As Codis spreads them.
    pub(crate) fn equal(confirm: bool) -> Self {
        Self {
            confirm,
            ..Self::default()
        }
    }
}

/// Reads the body of a rebalance: `{"weights":{"1":2.0},"exclude":[3],"confirm":true}`, each field optional. Groups
/// without a weight have 1.
///
/// # Errors
/// When it is anything else; the refusal names the field.
pub(crate) fn parse(body: &[u8]) -> Result<Wanted, Refusal> {
    let malformed = |reason: String| Refusal(format!("the body says no rebalance: {reason}"));
    serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))
}

/// Which slots are to move where.
///
/// # Errors
/// When a group that is named does not exist, is empty, or is named against itself, or no group is left.
pub(crate) fn plan(topology: &Topology, wanted: &Wanted) -> Result<BTreeMap<SlotId, GroupId>, Refusal> {
    Expected::new(Subject::Slots(SlotId::all().collect()), wanted.epoch).check(topology)?;
    let mut excluded = BTreeSet::new();
    for id in &wanted.exclude {
        if topology.group(*id).is_none() {
            return refuse(format!("exclude: group-[{id}] doesn't exist"));
        }
        if !excluded.insert(*id) {
            return refuse(format!("exclude: group-[{id}] is named twice"));
        }
    }
    for id in wanted.weights.keys() {
        match topology.group(*id) {
            None => return refuse(format!("weights: group-[{id}] doesn't exist")),
            Some(group) if group.servers.is_empty() => return refuse(format!("weights: group-[{id}] is empty")),
            Some(_) if excluded.contains(id) => return refuse(format!("weights: group-[{id}] is excluded")),
            Some(_) => {}
        }
    }
    let takes_part = topology
        .groups()
        .filter(|group| !group.servers.is_empty() && !excluded.contains(&group.id));
    let weight = |id| wanted.weights.get(&id).copied().unwrap_or(Weight::ONE);
    let weights: BTreeMap<_, _> = takes_part.map(|group| (group.id, weight(group.id))).collect();
    if weights.is_empty() {
        return refuse("no valid group could be found");
    }
    let slots: Vec<SlotMapping> = topology.slots().copied().collect();
    Ok(rebalance(&slots, &weights, &excluded))
}

/// Asks for the moves of such a plan.
///
/// # Errors
/// As [`plan`].
pub(crate) fn confirm(topology: &Topology, wanted: &Wanted) -> Ruling {
    Ok(slot_actions::create_planned(topology, plan(topology, wanted)?))
}

/// Group numbers are texts here, as keys in JSON are. None may stand there twice.
fn weights<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<GroupId, Weight>, D::Error> {
    struct Weights;

    impl<'de> Visitor<'de> for Weights {
        type Value = BTreeMap<GroupId, Weight>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("weights: an object of group numbers and their weights")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut weights = BTreeMap::new();
            while let Some(key) = map.next_key::<String>()? {
                let wrong = |reason: String| A::Error::custom(format!("weights.{key}: {reason}"));
                let number = key
                    .parse()
                    .map_err(|_| wrong("it is not a group's number".to_owned()))?;
                let id = GroupId::new(number).map_err(|error| wrong(error.to_string()))?;
                let value = map.next_value().map_err(|error| wrong(error.to_string()))?;
                let weight = Weight::new(value).map_err(|error| wrong(error.to_string()))?;
                if weights.insert(id, weight).is_some() {
                    return Err(wrong("it is named twice".to_owned()));
                }
            }
            Ok(weights)
        }
    }

    deserializer.deserialize_map(Weights)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use crate::dashboard::topology::Change;

    fn wanted(body: &str) -> Wanted {
        parse(body.as_bytes()).unwrap()
    }

    /// All slots are of group 1.
    fn full() -> Topology {
        let slots = SlotId::all().map(|id| {
            Change::PutSlot(SlotMapping {
                group_id: 1,
                ..SlotMapping::offline(id)
            })
        });
        after(&topology(), &slots.collect::<Vec<_>>())
    }

    fn targets(t: &Topology, body: &str) -> Vec<(i64, usize)> {
        let plan = plan(t, &wanted(body)).unwrap();
        let mut counts = BTreeMap::new();
        for group in plan.into_values() {
            *counts.entry(i64::from(group)).or_default() += 1;
        }
        counts.into_iter().collect()
    }

    #[test]
    fn only_groups_with_servers_take_part() {
        assert_eq!(targets(&full(), "{}"), [(2, 512)]);
    }

    #[test]
    fn weights_and_exclusions_are_followed() {
        assert_eq!(targets(&full(), r#"{"weights":{"1":3}}"#), [(2, 256)]);
        assert_eq!(targets(&full(), r#"{"exclude":[1]}"#), [(2, 1024)]);
        assert_eq!(targets(&full(), r#"{"exclude":[2, 3]}"#), []);
    }

    #[test]
    fn what_is_confirmed_waits_in_ascending_order() {
        let t = full();
        let changes = confirm(&t, &wanted("{}")).unwrap();
        assert_eq!(slot_actions::targets(&changes), plan(&t, &wanted("{}")).unwrap());
        let t = after(&t, &changes);
        let waiting: Vec<_> = t.slots().filter(|slot| slot.action.index > 0).collect();
        assert_eq!(waiting.len(), 512);
        assert!(waiting.is_sorted_by_key(|slot| slot.action.index));
        // What waits is not asked for again.
        assert_eq!(confirm(&t, &wanted("{}")).unwrap(), []);
    }

    #[test]
    fn a_body_that_says_something_else_is_refused_with_the_field() {
        for (body, words) in [
            ("", "line 1 column 0"),
            ("[]x", ""),
            (r#"{"weight":{}}"#, "unknown field `weight`"),
            (r#"{"confirm":1}"#, "boolean"),
            (r#"{"confirm":true,"confirm":true}"#, "duplicate field `confirm`"),
            (r#"{"weights":[]}"#, "weights: "),
            (r#"{"weights":{"one":1}}"#, "weights.one: "),
            (r#"{"weights":{"0":1}}"#, "weights.0: invalid group id = 0"),
            (r#"{"weights":{"1":0}}"#, "weights.1: a weight must be"),
            (r#"{"weights":{"1":-2}}"#, "weights.1: a weight must be"),
            (r#"{"weights":{"1":"2"}}"#, "weights.1: "),
            (r#"{"weights":{"1":1,"1":2}}"#, "weights.1: it is named twice"),
            (r#"{"exclude":[0]}"#, "invalid group id = 0"),
            (r#"{"exclude":["1"]}"#, "invalid type"),
            (r#"{} {}"#, "trailing"),
        ] {
            let error = parse(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{body}: {error}");
        }
    }

    #[test]
    fn groups_that_can_not_take_part_are_refused_with_the_field() {
        let refused = |body: &str| plan(&full(), &wanted(body)).unwrap_err().to_string();
        for (body, text) in [
            (r#"{"weights":{"9":1}}"#, "weights: group-[9] doesn't exist"),
            (r#"{"weights":{"3":1}}"#, "weights: group-[3] is empty"),
            (r#"{"weights":{"1":1},"exclude":[1]}"#, "weights: group-[1] is excluded"),
            (r#"{"exclude":[9]}"#, "exclude: group-[9] doesn't exist"),
            (r#"{"exclude":[1,1]}"#, "exclude: group-[1] is named twice"),
            (r#"{"exclude":[1,2]}"#, "no valid group could be found"),
        ] {
            assert_eq!(refused(body), text);
        }
    }
}
