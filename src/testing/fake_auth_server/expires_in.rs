//! What the server says about the lifetime of its tokens.

use serde_json::Value;

/// The value of `expires_in` in the answers of the token endpoint, or what a dialect has in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpiresIn {
    /// The seconds that are left, rounded down.
    #[default]
    Honest,
    /// There is no such member.
    Missing,
    /// This JSON text, as it is: `0`, `-1`, `299.999`, `"3600"`, `1e400`.
    Json(String),
}

impl ExpiresIn {
    /// This JSON text, as it is.
    pub fn json(text: impl Into<String>) -> Self {
        Self::Json(text.into())
    }

    /// What a dialect sends in the place of `honest`, if it sends something. A text that is not
    /// JSON is sent as a string.
    pub(super) fn replacement_for(&self, honest: Value) -> Option<Value> {
        match self {
            Self::Honest => Some(honest),
            Self::Missing => None,
            Self::Json(text) => {
                Some(serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()))
            }
        }
    }
}
