use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::jiff::Timestamp;

use crate::model::{GroupId, HostPort};
use crate::plan::ha::Notice;

/// A primary that was replaced without anybody having planned it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::operator) struct FailoverRecord {
    /// When it was done.
    pub(in crate::operator) at: Timestamp,
    /// Who led until then.
    pub(in crate::operator) from: HostPort,
    /// Who leads since.
    pub(in crate::operator) to: HostPort,
    /// Why.
    pub(in crate::operator) reason: String,
    /// From the first round that did not find the primary at work to the order, in ms.
    pub(in crate::operator) detect_ms: u64,
    /// From the order until the new primary led, in ms.
    pub(in crate::operator) promote_ms: u64,
    /// From there until the proxies wrote to it, in ms.
    pub(in crate::operator) write_ms: u64,
    /// Bytes of the replication stream that the former primary was seen to have and the new one had not.
    pub(in crate::operator) lost_bytes: Option<u64>,
}

/// What the loop has to tell of a cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::operator) struct Report {
    /// What people should know.
    pub(in crate::operator) notices: Vec<Notice>,
    /// The last failover of each group.
    pub(in crate::operator) failovers: BTreeMap<GroupId, FailoverRecord>,
}

/// The reports of all clusters, by UID.
#[derive(Debug, Default)]
pub(in crate::operator) struct Reports(Mutex<HashMap<String, Report>>);

impl Reports {
    /// What is to be told of a cluster.
    pub(in crate::operator) fn of(&self, uid: &str) -> Report {
        self.lock().get(uid).cloned().unwrap_or_default()
    }

    /// Replaces what people should know; says whether that is news.
    pub(super) fn note(&self, uid: &str, notices: &[Notice]) -> bool {
        let mut all = self.lock();
        let report = all.entry(uid.to_owned()).or_default();
        let news = report.notices != notices;
        report.notices = notices.to_vec();
        news
    }

    /// A group's primary was replaced.
    pub(super) fn failed_over(&self, uid: &str, group: GroupId, record: FailoverRecord) {
        self.lock()
            .entry(uid.to_owned())
            .or_default()
            .failovers
            .insert(group, record);
    }

    /// Forgets a cluster.
    pub(super) fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Report>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
