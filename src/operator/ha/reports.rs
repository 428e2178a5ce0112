use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::jiff::Timestamp;

use crate::model::GroupId;
use crate::plan::ha::Notice;

/// A group that lost its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::operator) struct DataLossRecord {
    /// When that was found.
    pub(in crate::operator) at: Timestamp,
    /// The keys that were seen in it before.
    pub(in crate::operator) keys: u64,
}

/// What the loop has to tell of a cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::operator) struct Report {
    /// What people should know.
    pub(in crate::operator) notices: Vec<Notice>,
    /// The last loss of each group.
    pub(in crate::operator) losses: BTreeMap<GroupId, DataLossRecord>,
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

    /// A group lost its data.
    pub(super) fn lost(&self, uid: &str, group: GroupId, record: DataLossRecord) {
        self.lock()
            .entry(uid.to_owned())
            .or_default()
            .losses
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
