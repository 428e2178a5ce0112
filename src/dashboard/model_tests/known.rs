//! What is known from outside of what was stored, and what must hold of it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::dashboard::rules::Ruling;
use crate::dashboard::topology::{Change, Topology};
use crate::model::{HostPort, PromoteState, SlotActionState, SlotId};

/// The slots that are used. The others have no owner for ever.
pub(super) const USED: usize = 8;

/// The slots that are used.
pub(super) fn used() -> impl Iterator<Item = SlotId> {
    SlotId::all().take(USED)
}

/// What may be stored, and what follows from its past.
pub(super) struct Known {
    /// What may be stored: one, or two where a change got no answer.
    possible: Vec<Arc<Topology>>,
    /// The last of them that was certain.
    pub(super) sure: Arc<Topology>,
    /// Slots that somebody asked to be taken from their groups.
    pub(super) offline: BTreeSet<SlotId>,
    /// Something was imported: nothing is known of the past.
    pub(super) imported: bool,
    /// Slots whose owner was changed without a lock, until all proxies know.
    pub(super) reassigned: BTreeSet<SlotId>,
    /// Former primaries of each slot: nobody may write there any more.
    pub(super) former: BTreeMap<SlotId, BTreeSet<HostPort>>,
}

/// Listens to a rule: what it was asked about, and what it said.
#[derive(Default)]
pub(super) struct Ear(RefCell<Option<(Topology, Vec<Change>)>>);

impl Ear {
    pub(super) fn hear(&self, topology: &Topology, ruling: Ruling) -> Ruling {
        let changes = ruling.clone().unwrap_or_default();
        *self.0.borrow_mut() = Some((topology.clone(), changes));
        ruling
    }
}

/// Whether both hold the same, whenever it was written.
fn same(a: &Topology, b: &Topology) -> bool {
    a.slots().eq(b.slots())
        && a.groups().eq(b.groups())
        && a.proxies().eq(b.proxies())
        && a.sentinel() == b.sentinel()
        && a.epochs() == b.epochs()
}

impl Known {
    pub(super) fn new() -> Self {
        Self {
            possible: vec![Arc::new(Topology::empty(0))],
            sure: Arc::new(Topology::empty(0)),
            offline: BTreeSet::new(),
            imported: false,
            reassigned: BTreeSet::new(),
            former: used().map(|id| (id, BTreeSet::new())).collect(),
        }
    }

    /// A change was asked for; `made`: it was, `None`: that is not known.
    pub(super) fn changed(&mut self, ear: Ear, made: Option<bool>) {
        let Some((before, changes)) = ear.0.into_inner() else {
            return;
        };
        let mut after = before.clone();
        after.apply(&changes, 0);
        match made {
            Some(true) => self.possible = vec![Arc::new(after)],
            Some(false) => {}
            None => self.possible = vec![Arc::new(before), Arc::new(after)],
        }
    }

    /// The active dashboard is sure that this is stored.
    pub(super) fn learn(&mut self, now: &Arc<Topology>) -> Result<(), String> {
        if self.possible.len() == 1 && Arc::ptr_eq(now, &self.sure) {
            return Ok(());
        }
        if !self.possible.iter().any(|possible| same(possible, now)) {
            return Err("what was read is neither what was before a change nor what it was to be".to_owned());
        }
        let before = std::mem::replace(&mut self.sure, Arc::clone(now));
        self.possible = vec![Arc::clone(now)];
        if std::mem::take(&mut self.imported) {
            self.reassigned = used().collect();
            self.former.values_mut().for_each(BTreeSet::clear);
        } else {
            self.owners(&before)?;
            self.primaries(&before);
        }
        for id in used() {
            let mapping = now.slot(id);
            for number in [mapping.group_id, mapping.action.target_id] {
                let group = now.group_numbered(number);
                if number != 0 && group.is_none_or(|group| group.servers.is_empty()) {
                    return Err(format!("slot {id} is of group {number}, which has no servers"));
                }
            }
            let primary = now.group_numbered(mapping.group_id).and_then(|group| group.primary());
            if let (Some(primary), Some(former)) = (primary, self.former.get_mut(&id)) {
                former.remove(&primary.server);
            }
        }
        Ok(())
    }

    fn owners(&mut self, before: &Topology) -> Result<(), String> {
        for id in used() {
            let (was, is) = (before.slot(id), self.sure.slot(id));
            if is.group_id != 0 {
                self.offline.remove(&id);
            }
            if was.group_id == is.group_id {
                continue;
            }
            if is.group_id == 0 && !self.offline.contains(&id) {
                return Err(format!("slot {id} lost its owner {}", was.group_id));
            }
            let moved = was.action.state == SlotActionState::Preparing && was.action.target_id == is.group_id;
            if !moved {
                self.reassigned.insert(id);
            } else if let Some(source) = before.group_numbered(was.group_id).and_then(|group| group.primary()) {
                self.former.entry(id).or_default().insert(source.server.clone());
            }
        }
        Ok(())
    }

    fn primaries(&mut self, before: &Topology) {
        for group in self.sure.groups() {
            let Some(was) = before.group(group.id) else { continue };
            let states = (was.promoting.state, group.promoting.state);
            if states != (PromoteState::Prepared, PromoteState::Finished) {
                continue;
            }
            let Some(former) = was.primary() else { continue };
            // Who forces it takes what comes of it.
            if was.promoting.forced && former.leaky {
                continue;
            }
            for id in used().filter(|id| self.sure.slot(*id).group_id == i64::from(group.id)) {
                self.former.entry(id).or_default().insert(former.server.clone());
            }
        }
    }
}
