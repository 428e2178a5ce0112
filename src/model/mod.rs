//! Codis' data: slots, groups, proxies, their JSON, hashing, tokens and xauth. No I/O, no Kubernetes.
//!
//! JSON shapes are those of Codis 3.2 (`models` package), so that codis-fe, codis-admin and Codis' own proxies read
//! them unchanged. Fields of our own are additions that Codis' decoder ignores.

mod addr;
mod error;
mod failover;
mod format;
mod group;
mod info;
mod product;
mod proxy;
mod slot;
mod stats;
mod topom;
mod users;
mod v2;

pub use addr::{AddrError, HostPort};
pub use error::{CHANGED, REMOTE_ERROR_STATUS, RemoteError};
pub use failover::{Failover, PromotionCause};
pub use format::{ByteSize, FormatError, GoDuration};
pub use group::{
    ActionState, Group, GroupId, GroupIdError, GroupServer, Leaving, Lineage, PromoteState, Promoting, ServerAction,
};
pub use info::{Database, Info};
pub use product::{ProductName, ProductNameError, store_paths};
pub use proxy::{Proxy, ProxyToken};
pub use slot::{ForwardMethod, SLOT_COUNT, Slot, SlotAction, SlotActionState, SlotId, SlotIdError, SlotMapping};
pub use stats::{
    GroupStats, OpStat, Ops, OpsRedis, Overview, ProxyBackend, ProxyOverview, ProxySentinels, ProxyStats,
    ProxyStatsBody, ProxyStatsEntry, RedisStats, Rusage, Sentinel, SentinelGroup, SentinelStats, ServerWitness,
    Sessions, SlotActionProgress, SlotActionStats, Stats,
};
pub use topom::Topom;
pub use users::{ServerUser, ServerUserKind, keyed_hash};
pub use v2::{Export, GroupStatus, Promotion, PromotionOptions, ProxyStatus, ServerStatus, Status};
