use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Volumes that servers keep their data on: each write reaches the disk within a second (an append-only file).
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageSpec {
    /// The size of each server's volume, such as `10Gi`. Twice `maxMemory` and more: the file is rewritten from time to time.
    /// Can't be changed.
    #[schemars(
        length(max = 30),
        regex(pattern = r"^[0-9]+([.][0-9]+)?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$")
    )]
    pub size: String,

    /// The StorageClass. Absent: the default one. Can't be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub class: Option<String>,

    /// What becomes of the volumes when the cluster is deleted.
    #[serde(default)]
    pub when_deleted: Retention,

    /// What becomes of a server's volume when the server is no longer wanted.
    #[serde(default = "delete")]
    pub when_scaled: Retention,
}

/// What becomes of a volume that is no longer used.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Retention {
    /// It stays.
    #[default]
    Retain,
    /// It is deleted, with what is on it.
    Delete,
}

impl Retention {
    /// As a StatefulSet names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retain => "Retain",
            Self::Delete => "Delete",
        }
    }
}

fn delete() -> Retention {
    Retention::Delete
}
