//! The error of a request that a session sends.

use std::fmt;

use crate::error::Error;
use crate::policy::REDIRECTS;

/// Why a request with a session's token has no response. See the example of
/// [`SessionRequest`](super::SessionRequest).
#[derive(Debug)]
#[non_exhaustive]
pub enum RequestError {
    /// There is no token, or the request may not have it. Nothing was sent, or the API rejected the
    /// token and there was no new one, or the API answered with a redirect and there was no token for
    /// the redirected request.
    Session(Error),
    /// The request could not be made or sent, or has no answer. The URL is not part of this error,
    /// because it may contain the token.
    Http(::reqwest::Error),
    /// The server sent more than [`REDIRECTS`] redirects in a row.
    TooManyRedirects,
}

impl RequestError {
    pub(super) fn http(error: ::reqwest::Error) -> Self {
        Self::Http(error.without_url())
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(_) => f.write_str("the session has no token for the request"),
            Self::Http(_) => f.write_str("the request to the API failed"),
            Self::TooManyRedirects => {
                write!(f, "the API sent more than {REDIRECTS} redirects in a row")
            }
        }
    }
}

impl std::error::Error for RequestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Session(error) => Some(error),
            Self::Http(error) => Some(error),
            Self::TooManyRedirects => None,
        }
    }
}
