//! Where a product's records are kept, and the lock that makes one dashboard the active one.
//!
//! [`Store`] is what a coordinator must offer; [`EtcdStore`] does it with etcd's v3 API, [`FilesystemStore`] with files of
//! this host. Everything that is written
//! names the lock it is written under, so that a dashboard which lost it can't change anything any more, however late it
//! notices; and the fence, so that a change that got no answer can't be made any more once the records were read again.

#[cfg(test)]
mod behaviour;
mod etcd;
#[cfg(test)]
pub(crate) mod fake;
mod filesystem;
mod measured;
pub(crate) mod unfinished;

use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;

use self::etcd::EtcdStore;
use self::filesystem::FilesystemStore;
use super::config::ConfigError;
use super::coordinator::Coordinator;
use super::server::Lookup;
use crate::model::{ProductName, Topom};

pub(crate) use measured::MeasuredStore;

/// The store that was configured. It connects when it is first used, where `lookup` says; only the files of TLS are read at once.
///
/// # Errors
/// [`ConfigError::Value`], for a file that can't be read or does not hold what it should.
pub(crate) async fn open(
    coordinator: &Coordinator,
    product: &ProductName,
    lookup: Arc<dyn Lookup>,
) -> Result<Arc<dyn Store>, ConfigError> {
    Ok(match coordinator {
        Coordinator::Etcd(settings) => {
            if let Some(tls) = &settings.tls {
                etcd::tls::options(tls).await?;
            }
            Arc::new(EtcdStore::new(settings.clone(), product.clone(), lookup))
        }
        Coordinator::Filesystem(root) => Arc::new(FilesystemStore::new(root.clone(), product.clone())),
    })
}

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// No answer. A change may have been made or not. Worth another try.
    #[error("{doing}: {store} can't be reached: {reason}")]
    Unreachable {
        /// What was being done.
        doing: String,
        /// Which store.
        store: String,
        /// What happened.
        reason: String,
    },
    /// The store answered, and refused. Nothing was changed.
    #[error("{doing}: {store} refused: {reason}")]
    Refused {
        /// What was being done.
        doing: String,
        /// Which store.
        store: String,
        /// The store's words.
        reason: String,
    },
    /// The lock is not ours (any more). Nothing was changed.
    #[error("the lock was lost")]
    LockLost,
    /// A record is not as we knew it: somebody else wrote it. Nothing was changed.
    #[error("the store was changed by somebody else")]
    Conflict,
    /// The product belongs to somebody else.
    #[error(
        "product {product} is owned by {owner}, not by {claimant}; choose another spec.product or remove the key \
         /codis3/{product}/owner when that cluster is gone"
    )]
    Owned {
        /// The product.
        product: String,
        /// Who owns it.
        owner: String,
        /// Who wanted it.
        claimant: String,
    },
    /// A record makes no sense.
    #[error("the record {key} can't be read: {reason}; correct or remove it")]
    Corrupt {
        /// Its key.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

impl StoreError {
    /// Whether the change may have been made nevertheless.
    pub(crate) fn is_unknown_outcome(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// Our holding of the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lock {
    /// The store's revision at which the lock was made: it names this holding for ever.
    pub(crate) revision: i64,
    /// The lease behind it, where the store has leases.
    pub(crate) lease: i64,
    /// Until when it is certainly ours, a margin taken off.
    pub(crate) valid_until: Instant,
}

/// What came of a try to take the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// It is ours.
    Ours(Lock),
    /// Somebody else has it.
    Held {
        /// The holder's address, as it says itself.
        by: String,
        /// The store's revision when we looked.
        revision: i64,
    },
}

/// A record as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its key.
    pub(crate) key: String,
    /// Its value.
    pub(crate) value: Vec<u8>,
    /// The revision that wrote it last.
    pub(crate) revision: i64,
}

/// All records of the product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Ascending by key.
    pub(crate) records: Vec<Record>,
    /// The revision at which all of them were read.
    pub(crate) revision: i64,
}

/// One record to write or to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    /// Its key.
    pub(crate) key: String,
    /// Its new value; `None` deletes it.
    pub(crate) value: Option<String>,
    /// The revision that wrote it last, as far as we know; 0: it does not exist.
    pub(crate) expected: i64,
}

/// A call's result, some time later.
pub(crate) type Later<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A coordinator, for one product. Each call is bounded in time.
pub(crate) trait Store: Send + Sync + 'static {
    /// How many writes [`Store::commit`] takes at once.
    fn max_writes(&self) -> usize;

    /// Makes sure that the product is this owner's, and claims it if it is nobody's. Without an owner: that it is
    /// nobody's.
    fn claim<'a>(&'a self, owner: Option<&'a str>) -> Later<'a, ()>;

    /// Tries to take the lock.
    fn acquire<'a>(&'a self, topom: &'a Topom) -> Later<'a, Acquired>;

    /// Returns when the lock changed after this revision of the store (from now on, without one), or after about a
    /// second.
    fn wait_changed(&self, since: Option<i64>) -> Later<'_, ()>;

    /// Makes the lock last longer, and tells until when.
    fn renew(&self, lock: Lock) -> Later<'_, Instant>;

    /// Gives the lock up, if it is still ours.
    fn release(&self, lock: Lock) -> Later<'_, ()>;

    /// Takes the lock away from whoever has it, who notices and changes nothing any more.
    fn remove_lock(&self) -> Later<'_, ()>;

    /// Reads all records.
    fn load(&self) -> Later<'_, Snapshot>;

    /// Sees to it that no change that names an earlier fence is made from now on, and tells the new fence. The first fence
    /// of a lock is [`Lock::revision`].
    fn fence(&self, lock: Lock) -> Later<'_, i64>;

    /// Makes all these changes or none, and tells the revision that they got. With a fence that is not the last one it is
    /// a [`StoreError::Conflict`].
    fn commit<'a>(&'a self, lock: Lock, fence: i64, writes: &'a [Write]) -> Later<'a, i64>;
}
