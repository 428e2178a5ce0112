use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::HostPort;
use super::slot::is_false;

/// Characters of a reason that are kept.
const LONGEST_REASON: usize = 500;

/// What whoever asks for a promotion knows about it. All of it may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PromotionCause {
    /// Why, for people. What is longer than 500 characters is cut.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Milliseconds from the first look that did not find the primary at work until this was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detect_ms: Option<u64>,
    /// Bytes of the replication stream that the primary was seen to have and the candidate has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<u64>,
}

impl PromotionCause {
    /// The same, with a reason that is not too long to be kept.
    pub fn bounded(mut self) -> Self {
        if let Some((end, _)) = self.reason.char_indices().nth(LONGEST_REASON) {
            self.reason.truncate(end);
            self.reason.push('…');
        }
        self
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A primary that was replaced without anybody having planned it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failover {
    /// Who led until then.
    pub from: HostPort,
    /// Who leads since.
    pub to: HostPort,
    /// When that was recorded, in milliseconds since 1970 by the clock of the dashboard.
    pub at_ms: i64,
    /// The stretch of the group's history that was the newest then.
    #[serde(default)]
    pub epoch: i64,
    /// Why; empty where nobody said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Whether the candidate was taken whatever spoke against it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub forced: bool,
    /// Milliseconds from the first look that did not find the primary at work until this was asked for, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detect_ms: Option<u64>,
    /// Milliseconds from there until the new primary was recorded, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote_ms: Option<u64>,
    /// Milliseconds from there until the proxies were told it; absent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_ms: Option<u64>,
    /// Bytes of the replication stream that the former primary was seen to have and the new one had not, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_bytes: Option<u64>,
}

impl Failover {
    /// Whether both tell of the same one, however much each tells of it.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.at_ms, &self.from, &self.to) == (other.at_ms, &other.from, &other.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_is_too_long_is_cut_between_characters() {
        let cause = |reason: String| PromotionCause {
            reason,
            ..PromotionCause::default()
        };
        let long = cause("é".repeat(LONGEST_REASON + 7)).bounded();
        assert_eq!(long.reason, format!("{}…", "é".repeat(LONGEST_REASON)));
        let short = cause("é".repeat(LONGEST_REASON));
        assert_eq!(short.clone().bounded(), short);
    }
}
