//! The text about an unexpected response of a server.

use std::fmt;
use std::sync::Arc;

/// An unexpected response of a server.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) path: Option<EndpointPath>,
    /// The response that was expected. None if the server rejected the client.
    pub(crate) expected: Option<&'static str>,
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.status)?;
        if let Some(path) = &self.path {
            write!(f, " at {}", path.as_str())?;
        }
        match self.expected {
            Some(expected) => write!(f, ", where {expected} was expected"),
            None => f.write_str(" and rejected the client"),
        }
    }
}

/// The path of an endpoint, cut to what is safe to log. It never has a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointPath(Arc<str>);

impl EndpointPath {
    /// Longer paths are cut: a server's metadata may name any path.
    pub(crate) const MAX_BYTES: usize = 128;

    /// Keeps the visible ASCII characters before a query or a fragment.
    pub(crate) fn new(path: &str) -> Self {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let kept: String =
            path.chars().filter(char::is_ascii_graphic).take(Self::MAX_BYTES).collect();
        Self(kept.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}
