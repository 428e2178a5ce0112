use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::HostPort;

/// How many slots a product has.
pub const SLOT_COUNT: usize = 1024;

/// A slot: 0 to 1023.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "i64", into = "i64")]
pub struct SlotId(u16);

/// A number that is no slot. The text is Codis'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("slot-[{0}] doesn't exist")]
pub struct SlotIdError(pub i64);

impl SlotId {
    /// The slot with this number.
    ///
    /// # Errors
    /// When the number is not in 0..1024.
    pub fn new(number: i64) -> Result<Self, SlotIdError> {
        match u16::try_from(number) {
            Ok(id) if usize::from(id) < SLOT_COUNT => Ok(Self(id)),
            _ => Err(SlotIdError(number)),
        }
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }

    /// The number, to index with.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// All slots, ascending.
    pub fn all() -> impl ExactSizeIterator<Item = Self> + DoubleEndedIterator + Clone {
        (0..SLOT_COUNT as u16).map(Self)
    }

    /// The slot of a key: CRC32 (IEEE) modulo 1024. Where the key holds `{` and a later `}`, only what stands between
    /// the first `{` and the first `}` after it counts, even if that is empty (unlike Redis Cluster).
    pub fn of_key(key: &[u8]) -> Self {
        let tag = memchr::memchr(b'{', key).and_then(|open| {
            let inner = &key[open + 1..];
            memchr::memchr(b'}', inner).map(|close| &inner[..close])
        });
        Self((crc32fast::hash(tag.unwrap_or(key)) % SLOT_COUNT as u32) as u16)
    }
}

impl TryFrom<i64> for SlotId {
    type Error = SlotIdError;
    fn try_from(number: i64) -> Result<Self, SlotIdError> {
        Self::new(number)
    }
}

impl From<SlotId> for i64 {
    fn from(slot: SlotId) -> Self {
        slot.0.into()
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a slot's move stands. Absent in JSON when there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SlotActionState {
    /// No move.
    #[default]
    #[serde(rename = "")]
    Nothing,
    /// Planned.
    Pending,
    /// The first push is under way.
    Preparing,
    /// Every proxy holds the slot locked.
    Prepared,
    /// Keys are moving; proxies serve through the target.
    Migrating,
    /// Nothing is left at the source; the final push is under way.
    Finished,
}

impl SlotActionState {
    /// Whether there is no move.
    pub fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }
}

impl fmt::Display for SlotActionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "",
            Self::Pending => "pending",
            Self::Preparing => "preparing",
            Self::Prepared => "prepared",
            Self::Migrating => "migrating",
            Self::Finished => "finished",
        })
    }
}

/// A slot's move: `{}` when there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SlotAction {
    /// Its place in the queue.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub index: i64,
    /// How far it is.
    #[serde(default, skip_serializing_if = "SlotActionState::is_nothing")]
    pub state: SlotActionState,
    /// The group that the slot moves to.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub target_id: i64,
}

/// The stored record of a slot: which group owns it (0: none, the slot is offline), and its move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotMapping {
    /// The slot.
    pub id: SlotId,
    /// The owner; 0 means offline.
    #[serde(default)]
    pub group_id: i64,
    /// The move.
    #[serde(default)]
    pub action: SlotAction,
}

impl SlotMapping {
    /// A slot that nobody owns.
    pub fn offline(id: SlotId) -> Self {
        Self {
            id,
            group_id: 0,
            action: SlotAction::default(),
        }
    }
}

/// How a proxy serves a moving slot: Codis' two ways, and ours for stock servers comes with key moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ForwardMethod {
    /// The proxy pulls the key first.
    #[default]
    Sync,
    /// The source decides.
    SemiAsync,
}

/// What a proxy is told about a slot. Never stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Slot {
    /// The slot.
    pub id: SlotId,
    /// Hold requests until another push unlocks the slot.
    #[serde(default, skip_serializing_if = "is_false")]
    pub locked: bool,
    /// The server to forward to; empty: offline.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "empty_is_none")]
    #[schemars(with = "String")]
    pub backend_addr: Option<HostPort>,
    /// The group of `backend_addr`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub backend_addr_group_id: i64,
    /// The server that the slot's keys come from while it moves.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "empty_is_none")]
    #[schemars(with = "String")]
    pub migrate_from: Option<HostPort>,
    /// The group of `migrate_from`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub migrate_from_group_id: i64,
    /// 0 sync, 1 semi-async.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub forward_method: i64,
    /// Servers that may answer reads, in order of preference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replica_groups: Vec<Vec<HostPort>>,
    /// Our own: the store's revision behind this state. A proxy never goes back to a smaller one. 0: pushed by a Codis
    /// dashboard, which has none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: i64,
    /// Our own: those of the servers named here that the operator prepared. A proxy gives them no password but its own
    /// user's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prepared: Vec<HostPort>,
}

impl Slot {
    /// A slot without a server.
    pub fn offline(id: SlotId) -> Self {
        Self {
            id,
            locked: false,
            backend_addr: None,
            backend_addr_group_id: 0,
            migrate_from: None,
            migrate_from_group_id: 0,
            forward_method: 0,
            replica_groups: Vec::new(),
            epoch: 0,
            prepared: Vec::new(),
        }
    }

    /// Whether requests may be sent to this server.
    pub fn names(&self, addr: &HostPort) -> bool {
        let of_move = [&self.backend_addr, &self.migrate_from].into_iter().flatten();
        of_move
            .chain(self.replica_groups.iter().flatten())
            .any(|named| named == addr)
    }

    /// Whether requests are sent the same way by both.
    pub fn routes_as(&self, other: &Self) -> bool {
        let prepared = other.prepared.clone();
        *other
            == Self {
                prepared,
                ..self.clone()
            }
    }

    /// `forward_method` as a type.
    pub fn method(&self) -> Option<ForwardMethod> {
        match self.forward_method {
            0 => Some(ForwardMethod::Sync),
            1 => Some(ForwardMethod::SemiAsync),
            _ => None,
        }
    }
}

pub(super) fn is_zero(number: &i64) -> bool {
    *number == 0
}

pub(super) fn is_false(flag: &bool) -> bool {
    !flag
}

/// Codis writes "no address" as an empty text.
pub(super) mod empty_is_none {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use super::HostPort;

    pub(crate) fn serialize<S: Serializer>(addr: &Option<HostPort>, serializer: S) -> Result<S::Ok, S::Error> {
        addr.as_ref().map_or("", HostPort::as_str).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<HostPort>, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slots_of_keys_are_those_of_codis() {
        assert_eq!(SlotId::of_key(b"a").get(), 579);
        assert_eq!(SlotId::of_key(b"b").get(), 1017);
        assert_eq!(SlotId::of_key(b"{}x").get(), 0);
        assert_eq!(SlotId::of_key(b""), SlotId::of_key(b"{}"));
        assert_eq!(SlotId::of_key(b"x{a}y{b}"), SlotId::of_key(b"a"));
        assert_eq!(SlotId::of_key(b"}{a}"), SlotId::of_key(b"a"));
        assert_ne!(SlotId::of_key(b"{a"), SlotId::of_key(b"a"));
    }

    #[test]
    fn json_of_a_moving_slot_is_that_of_codis() {
        let stored = r#"{"id":5,"group_id":1,"action":{"index":1,"state":"migrating","target_id":2}}"#;
        let mapping: SlotMapping = serde_json::from_str(stored).unwrap();
        assert_eq!(serde_json::to_string(&mapping).unwrap(), stored);
        let idle = r#"{"id":5,"group_id":2,"action":{}}"#;
        assert_eq!(
            serde_json::to_string(&serde_json::from_str::<SlotMapping>(idle).unwrap()).unwrap(),
            idle
        );
        let pushed = r#"{"id":5,"backend_addr":"127.0.0.1:36381","backend_addr_group_id":2,"migrate_from":"127.0.0.1:36379","migrate_from_group_id":1,"forward_method":1}"#;
        assert_eq!(
            serde_json::to_string(&serde_json::from_str::<Slot>(pushed).unwrap()).unwrap(),
            pushed
        );
    }

    #[test]
    fn numbers_that_are_no_slots_are_refused() {
        for json in [
            r#"{"id":1024,"group_id":1}"#,
            r#"{"id":-1,"group_id":1}"#,
            r#"{"id":"5","group_id":1}"#,
        ] {
            assert!(serde_json::from_str::<SlotMapping>(json).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn every_key_has_a_slot_and_its_tag_the_same(key in proptest::collection::vec(any::<u8>(), 0..40)) {
            let slot = SlotId::of_key(&key);
            prop_assert!(slot.index() < SLOT_COUNT);
            if !key.contains(&b'{') && !key.contains(&b'}') {
                let tagged = [b"x{".as_slice(), &key, b"}y"].concat();
                prop_assert_eq!(SlotId::of_key(&tagged), slot);
            }
        }
    }
}
