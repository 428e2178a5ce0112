use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// HTTP status of a call that was understood and refused, as Codis 3.2 answers it.
pub const REMOTE_ERROR_STATUS: u16 = 800;

/// What a refusal says of something that was changed since the caller saw it, our dashboards' `epoch`.
pub const CHANGED: &str = "was changed: its epoch is";

/// The body of a refused call: `{"Cause": text, "Stack": null}`. Codis fills `Stack`; we never do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemoteError {
    /// What went wrong, for people. Codis' own texts where it has one.
    #[serde(rename = "Cause")]
    pub cause: String,
    /// Frames of the Go stack in Codis' answers; `null` in ours.
    #[serde(rename = "Stack", default)]
    pub stack: Option<serde_json::Value>,
}

impl RemoteError {
    /// An error with this text and no stack.
    pub fn new(cause: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
            stack: None,
        }
    }
}

impl std::fmt::Display for RemoteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.cause)
    }
}
