//! How the authorization servers of a supervisor's providers respond.

use std::fmt;

use serde::Serialize;

/// How a provider's server has responded lately. See the example of
/// [`EventKind`](crate::event::EventKind).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Condition {
    /// The crate has not sent a request since the start.
    #[default]
    Unknown,
    /// The last request succeeded, or too few requests have failed since.
    Working,
    /// Several requests in a row got no answer or a server error (5xx), or the transport refused the
    /// server's certificate.
    Unreachable,
    /// The server said that it gets too many requests (429).
    Throttled,
    /// The server rejects the client, or the refreshes of many sessions in a row.
    Rejecting,
}

impl Condition {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::Unknown, Self::Working, Self::Unreachable, Self::Throttled, Self::Rejecting];

    /// The name in logs, metrics and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Working => "working",
            Self::Unreachable => "unreachable",
            Self::Throttled => "throttled",
            Self::Rejecting => "rejecting",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
