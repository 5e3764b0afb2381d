//! The lifetime that the server states for its tokens.

use serde_json::Value;

/// The value of `expires_in` in the responses of the token endpoint, or of the member that a
/// dialect has in its place. See the example of
/// [`FakeAuthServerBuilder`](super::FakeAuthServerBuilder).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpiresIn {
    /// The number of seconds until the token expires, rounded down.
    #[default]
    Honest,
    /// The response has no such member.
    Missing,
    /// The response has this JSON text, unchanged: `0`, `-1`, `299.999`, `"3600"` or `1e400`, for
    /// example.
    Json(String),
}

impl ExpiresIn {
    /// The response has this JSON text, unchanged.
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
