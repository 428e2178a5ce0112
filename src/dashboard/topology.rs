//! What the store holds, in memory: slots, groups, proxies, each with the revision that wrote it. No I/O.

use std::collections::{BTreeMap, HashMap};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::store::{Record, Snapshot, StoreError, Write};
use crate::model::{
    Group, GroupId, HostPort, ProductName, Proxy, ProxyToken, SLOT_COUNT, Sentinel, ServerUserKind, SlotId,
    SlotMapping, store_paths,
};

/// A record and the store's revision that wrote it last; 0: it was never written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored<T> {
    /// The record.
    pub(crate) value: T,
    /// Its revision.
    pub(crate) revision: i64,
}

/// All records of a product.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Topology {
    read_at: i64,
    epochs: Stored<Epochs>,
    slots: Vec<Stored<SlotMapping>>,
    groups: BTreeMap<GroupId, Stored<Group>>,
    /// Which group holds a server.
    group_of: HashMap<HostPort, GroupId>,
    proxies: BTreeMap<ProxyToken, Stored<Proxy>>,
    sentinel: Stored<Sentinel>,
}

/// What epochs are counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Epochs {
    /// Added to each revision of the store. Larger than 0 where the records come from another store.
    pub(crate) base: i64,
}

/// One record that is to change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// Write a slot.
    PutSlot(SlotMapping),
    /// Write a group.
    PutGroup(Group),
    /// Remove a group.
    RemoveGroup(GroupId),
    /// Write a proxy.
    PutProxy(Box<Proxy>),
    /// Remove a proxy.
    RemoveProxy(ProxyToken),
    /// Count epochs anew.
    PutEpochs(Epochs),
    /// Write the Sentinels' record.
    PutSentinel(Sentinel),
}

impl Topology {
    /// Nothing stored yet, as of this revision.
    pub(crate) fn empty(read_at: i64) -> Self {
        let slots = SlotId::all()
            .map(|id| Stored {
                value: SlotMapping::offline(id),
                revision: 0,
            })
            .collect();
        let epochs = Stored {
            value: Epochs::default(),
            revision: 0,
        };
        Self {
            read_at,
            epochs,
            slots,
            groups: BTreeMap::new(),
            group_of: HashMap::new(),
            proxies: BTreeMap::new(),
            sentinel: Stored {
                value: Sentinel::default(),
                revision: 0,
            },
        }
    }

    /// Reads the records. Keys that are none of ours are passed over.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for a record that can't be read, or lies under another one's key.
    pub(crate) fn read(product: &ProductName, snapshot: &Snapshot) -> Result<Self, StoreError> {
        let mut topology = Self::empty(snapshot.revision);
        let folder = |folder: String, record: &Record| record.key.starts_with(&folder);
        for record in &snapshot.records {
            if folder(store_paths::slots(product), record) {
                let slot = stored::<SlotMapping>(record, |slot| store_paths::slot(product, slot.id))?;
                let index = slot.value.id.index();
                topology.slots[index] = slot;
            } else if folder(store_paths::groups(product), record) {
                let group = stored::<Group>(record, |group| store_paths::group(product, group.id))?;
                topology.groups.insert(group.value.id, group);
            } else if folder(store_paths::proxies(product), record) {
                let proxy = stored::<Proxy>(record, |proxy| store_paths::proxy(product, &proxy.token))?;
                topology.proxies.insert(proxy.value.token.clone(), proxy);
            } else if record.key == store_paths::epoch(product) {
                topology.epochs = stored::<Epochs>(record, |_| record.key.clone())?;
            } else if record.key == store_paths::sentinel(product) {
                topology.sentinel = stored::<Sentinel>(record, |_| record.key.clone())?;
            }
        }
        topology.index();
        Ok(topology)
    }

    /// Where a record written by hand has a server in two groups, the first one holds it.
    fn index(&mut self) {
        self.group_of.clear();
        for (id, group) in &self.groups {
            for server in &group.value.servers {
                self.group_of.entry(server.server.clone()).or_insert(*id);
            }
        }
    }

    /// All slots, ascending.
    pub(crate) fn slots(&self) -> impl ExactSizeIterator<Item = &SlotMapping> {
        self.slots.iter().map(|slot| &slot.value)
    }

    /// One slot.
    pub(crate) fn slot(&self, id: SlotId) -> &SlotMapping {
        &self.slots[id.index()].value
    }

    /// All groups, ascending by id.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values().map(|group| &group.value)
    }

    /// One group.
    pub(crate) fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id).map(|group| &group.value)
    }

    /// The group with this number as slots name it; 0 and nonsense: none.
    pub(crate) fn group_numbered(&self, number: i64) -> Option<&Group> {
        GroupId::new(number).ok().and_then(|id| self.group(id))
    }

    /// The group that holds this server, and the server's place in it.
    pub(crate) fn group_of(&self, server: &HostPort) -> Option<(&Group, usize)> {
        let group = self.group(*self.group_of.get(server)?)?;
        Some((group, group.servers.iter().position(|s| s.server == *server)?))
    }

    /// The revision of a group's record as an epoch: whoever saw the group names it to change what it saw; 0: there is no
    /// such group.
    pub(crate) fn group_epoch(&self, id: GroupId) -> i64 {
        self.groups
            .get(&id)
            .map_or(0, |group| self.epochs.value.base + group.revision)
    }

    /// The same for a proxy's record; 0: there is no such proxy.
    pub(crate) fn proxy_epoch(&self, token: &ProxyToken) -> i64 {
        self.proxies.get(token).map_or(0, |proxy| self.as_epoch(proxy.revision))
    }

    /// The same for a slot's record, which its group's is no part of; 0: it was never written.
    pub(crate) fn slot_epoch(&self, id: SlotId) -> i64 {
        match self.slots[id.index()].revision {
            0 => 0,
            revision => self.as_epoch(revision),
        }
    }

    /// What epochs are counted from.
    pub(crate) fn epochs(&self) -> Epochs {
        self.epochs.value
    }

    /// This revision of the store as an epoch.
    pub(crate) fn as_epoch(&self, revision: i64) -> i64 {
        self.epochs.value.base + revision
    }

    /// All servers with their groups.
    pub(crate) fn servers(&self) -> impl Iterator<Item = (&Group, &crate::model::GroupServer)> {
        self.groups()
            .flat_map(|group| group.servers.iter().map(move |server| (group, server)))
    }

    /// The proxies that servers let in. Codis' proxies, which have no incarnation, log in as default user.
    pub(crate) fn admitted_proxies(&self) -> Vec<ServerUserKind> {
        let let_in = self.proxies().filter(|p| !p.shut_off && !p.incarnation.is_empty());
        let_in.map(Proxy::server_user).collect()
    }

    /// All proxies, ascending by token.
    pub(crate) fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.proxies.values().map(|proxy| &proxy.value)
    }

    /// One proxy.
    pub(crate) fn proxy(&self, token: &ProxyToken) -> Option<&Proxy> {
        self.proxies.get(token).map(|proxy| &proxy.value)
    }

    /// The Sentinels' record.
    pub(crate) fn sentinel(&self) -> &Sentinel {
        &self.sentinel.value
    }

    /// The revision behind what a proxy is told about this slot: the larger of the slot's own and its group's.
    ///
    /// It is never smaller than the revision at which the records were read: what this dashboard says is newer than all
    /// that its predecessors said, also about slots that were never written, and where it reads the same records otherwise
    /// (another configuration, another version).
    pub(crate) fn epoch(&self, id: SlotId) -> i64 {
        let slot = &self.slots[id.index()];

        let revision_of = |number| {
            GroupId::new(number)
                .ok()
                .and_then(|id| self.groups.get(&id))
                .map_or(0, |g| g.revision)
        };
        let revision = self
            .read_at
            .max(slot.revision)
            .max(revision_of(slot.value.group_id))
            .max(revision_of(slot.value.action.target_id));
        self.as_epoch(revision)
    }

    /// What has to be written for a change.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the record can't be written as JSON.
    pub(crate) fn write(&self, product: &ProductName, change: &Change) -> Result<Write, StoreError> {
        fn put<T: Serialize>(key: String, value: &T, expected: i64) -> Result<Write, StoreError> {
            match to_json(value) {
                Ok(json) => Ok(Write {
                    key,
                    value: Some(json),
                    expected,
                }),
                Err(error) => Err(StoreError::Corrupt {
                    key,
                    reason: error.to_string(),
                }),
            }
        }
        let delete = |key, expected| {
            Ok(Write {
                key,
                value: None,
                expected,
            })
        };
        let of_group = |id: &GroupId| self.groups.get(id).map_or(0, |group| group.revision);
        let of_proxy = |token: &ProxyToken| self.proxies.get(token).map_or(0, |proxy| proxy.revision);
        match change {
            Change::PutSlot(slot) => put(
                store_paths::slot(product, slot.id),
                slot,
                self.slots[slot.id.index()].revision,
            ),
            Change::PutGroup(group) => put(store_paths::group(product, group.id), group, of_group(&group.id)),
            Change::RemoveGroup(id) => delete(store_paths::group(product, *id), of_group(id)),
            Change::PutProxy(proxy) => put(store_paths::proxy(product, &proxy.token), proxy, of_proxy(&proxy.token)),
            Change::RemoveProxy(token) => delete(store_paths::proxy(product, token), of_proxy(token)),
            Change::PutEpochs(epochs) => put(store_paths::epoch(product), epochs, self.epochs.revision),
            Change::PutSentinel(sentinel) => put(store_paths::sentinel(product), sentinel, self.sentinel.revision),
        }
    }

    /// Takes over changes that the store made at this revision.
    pub(crate) fn apply(&mut self, changes: &[Change], revision: i64) {
        for change in changes.iter().cloned() {
            match change {
                Change::PutSlot(slot) => self.slots[slot.id.index()] = Stored { value: slot, revision },
                Change::PutGroup(group) => drop(self.groups.insert(group.id, Stored { value: group, revision })),
                Change::RemoveGroup(id) => drop(self.groups.remove(&id)),
                Change::PutProxy(proxy) => {
                    self.proxies.insert(
                        proxy.token.clone(),
                        Stored {
                            value: *proxy,
                            revision,
                        },
                    );
                }
                Change::RemoveProxy(token) => drop(self.proxies.remove(&token)),
                Change::PutEpochs(value) => self.epochs = Stored { value, revision },
                Change::PutSentinel(sentinel) => {
                    self.sentinel = Stored {
                        value: sentinel,
                        revision,
                    };
                }
            }
        }
        if changes
            .iter()
            .any(|change| matches!(change, Change::PutGroup(_) | Change::RemoveGroup(_)))
        {
            self.index();
        }
        debug_assert_eq!(self.slots.len(), SLOT_COUNT);
    }
}

/// JSON as Codis keeps it: indented by four spaces.
pub(super) fn to_json<T: Serialize>(value: &T) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    let indented = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, indented))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn stored<T: DeserializeOwned>(record: &Record, key: impl Fn(&T) -> String) -> Result<Stored<T>, StoreError> {
    let corrupt = |reason: String| StoreError::Corrupt {
        key: record.key.clone(),
        reason,
    };
    let value: T = serde_json::from_slice(&record.value).map_err(|error| corrupt(error.to_string()))?;
    match key(&value) {
        right if right == record.key => Ok(Stored {
            value,
            revision: record.revision,
        }),
        other => Err(corrupt(format!("its content belongs under {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product() -> ProductName {
        "demo".parse().unwrap()
    }

    fn record(key: &str, value: &str, revision: i64) -> Record {
        Record {
            key: key.to_owned(),
            value: value.as_bytes().to_vec(),
            revision,
        }
    }

    #[test]
    fn what_is_written_is_read_back_with_its_revision() {
        let mut topology = Topology::empty(1);
        let mut group = Group::new(GroupId::new(3).unwrap());
        group
            .servers
            .push(crate::model::GroupServer::new("a:1".parse().unwrap(), "dc"));
        let slot = SlotMapping {
            group_id: 3,
            ..SlotMapping::offline(SlotId::new(7).unwrap())
        };
        let sentinel = Sentinel {
            servers: vec!["s:1".to_owned()],
            out_of_sync: true,
        };
        let changes = [
            Change::PutGroup(group),
            Change::PutSlot(slot),
            Change::PutSentinel(sentinel),
        ];
        let records = changes
            .iter()
            .map(|change| {
                let write = topology.write(&product(), change).unwrap();
                assert_eq!(write.expected, 0);
                record(&write.key, &write.value.unwrap(), 9)
            })
            .collect();
        topology.apply(&changes, 9);
        let read = Topology::read(&product(), &Snapshot { records, revision: 1 }).unwrap();
        assert_eq!(read, topology);
        assert_eq!(topology.write(&product(), &changes[0]).unwrap().expected, 9);
        assert_eq!(
            (
                topology.epoch(SlotId::new(7).unwrap()),
                topology.epoch(SlotId::new(8).unwrap())
            ),
            (9, 1)
        );
    }

    #[test]
    fn records_are_indented_by_four_spaces() {
        let slot = SlotMapping::offline(SlotId::new(5).unwrap());
        let write = Topology::empty(1).write(&product(), &Change::PutSlot(slot)).unwrap();
        assert_eq!(
            write.value.unwrap(),
            "{\n    \"id\": 5,\n    \"group_id\": 0,\n    \"action\": {}\n}"
        );
    }

    #[test]
    fn records_that_make_no_sense_are_named() {
        for (key, value) in [
            ("/codis3/demo/slots/slot-0001", "{"),
            ("/codis3/demo/slots/slot-0001", r#"{"id":2,"group_id":0,"action":{}}"#),
            ("/codis3/demo/group/group-0001", r#"{"id":0}"#),
            ("/codis3/demo/proxy/proxy-ab", "[]"),
        ] {
            let snapshot = Snapshot {
                records: vec![record(key, value, 4)],
                revision: 5,
            };
            let error = Topology::read(&product(), &snapshot).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn keys_of_others_are_passed_over() {
        let records = vec![
            record("/codis3/demo/topom", "{}", 1),
            record("/codis3/demo/owner", "uid", 1),
        ];
        assert_eq!(
            Topology::read(&product(), &Snapshot { records, revision: 6 }).unwrap(),
            Topology::empty(6)
        );
    }

    #[test]
    fn a_group_change_makes_its_slots_newer() {
        let mut topology = Topology::empty(1);
        let slot = SlotMapping {
            group_id: 3,
            ..SlotMapping::offline(SlotId::new(7).unwrap())
        };
        topology.apply(&[Change::PutSlot(slot)], 5);
        topology.apply(&[Change::PutGroup(Group::new(GroupId::new(3).unwrap()))], 8);
        assert_eq!(topology.epoch(SlotId::new(7).unwrap()), 8);
    }
}
