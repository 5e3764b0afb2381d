//! How a provider says what went wrong.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::error::{Error, ErrorKind, ExchangeOutcome, ProviderCode, Refusal};

/// An exchange that failed: its class, and what is safe to say of it. Never a body, a URL's query
/// or a description.
#[derive(Debug, thiserror::Error)]
#[error("{class}")]
pub struct ExchangeError {
    pub(super) class: FailureClass,
    pub(super) code: Option<ProviderCode>,
    pub(super) status: Option<u16>,
    pub(super) retry_after: Option<Duration>,
    pub(super) names_client: bool,
    #[source]
    pub(super) source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What a failed exchange means for the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureClass {
    /// No byte of the request reached the server. Nothing is lost.
    NotSent,
    /// As `NotSent`, because the server's certificate was refused: a wrong configuration or an
    /// attack.
    Untrusted,
    /// The server says that it did not process the request (408, 425, 503 with Retry-After).
    NotProcessed,
    /// As `NotProcessed`, because of too many requests (429): the whole provider slows down.
    Throttled,
    /// The request may have been processed and the answer is lost.
    Ambiguous,
    /// The server rejected the refresh token: the session is lost.
    Rejected,
    /// The server refused the grant.
    Refused(Refusal),
    /// The server called the request invalid. Some use it for a lost race, so a refresh is tried
    /// again twice, with a back-off, before it counts as `Misconfigured`. A grant is not.
    InvalidRequest,
    /// Client, secret, scope or endpoint are wrong. It is taken to hold for the whole client, so
    /// one alarm is raised, and the provider is asked rarely until it is mended: do not say it of
    /// what is wrong with one grant.
    Misconfigured,
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent => f.write_str("the request did not reach the server"),
            Self::Untrusted => f.write_str("the server's certificate was refused"),
            Self::NotProcessed => f.write_str("the server did not process the request"),
            Self::Throttled => f.write_str("the server wants fewer requests"),
            Self::Ambiguous => f.write_str("the answer was lost"),
            Self::Rejected => f.write_str("the server rejected the refresh token"),
            Self::Refused(refusal) => write!(f, "the server refused the grant, {refusal}"),
            Self::InvalidRequest => f.write_str("the server called the request invalid"),
            Self::Misconfigured => f.write_str("the server rejected the client"),
        }
    }
}

impl ExchangeError {
    /// A failure of this class.
    #[must_use]
    pub fn new(class: FailureClass) -> Self {
        Self {
            class,
            code: None,
            status: None,
            retry_after: None,
            names_client: false,
            source: None,
        }
    }

    /// With the server's error code; what is not safe to log is cut off.
    #[must_use]
    pub fn with_code(mut self, code: &str) -> Self {
        self.code = ProviderCode::new(code);
        self
    }

    /// With the HTTP status.
    #[must_use]
    pub fn with_status(mut self, status: http::StatusCode) -> Self {
        self.status = Some(status.as_u16());
        self
    }

    /// With the time that the server wants to be left alone.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// With its cause, which must hold no secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What it means for the session.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        self.class
    }

    /// The HTTP status, if there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// How long the server wants to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Says that the server named the client as what is wrong, in a vendor's words.
    pub(super) fn naming_client(mut self) -> Self {
        self.names_client = true;
        self
    }

    /// Whether the server says in so many words that it is the client (RFC 6749 section 5.2).
    pub(crate) fn names_client(&self) -> bool {
        let standard = self.code.as_ref().is_some_and(|code| code.as_str() == "invalid_client");
        standard || self.names_client
    }

    /// What this crate itself said before anything was sent, and the caller can act on.
    fn own(&self) -> Option<&Error> {
        let own = self.source.as_ref()?.downcast_ref::<Error>()?;
        let actionable = match own.kind() {
            ErrorKind::InvalidInput | ErrorKind::Misconfigured | ErrorKind::Refused(_) => true,
            ErrorKind::NotEstablished
            | ErrorKind::SignInAgain(_)
            | ErrorKind::RetryLater
            | ErrorKind::Superseded
            | ErrorKind::Capacity
            | ErrorKind::Store
            | ErrorKind::Deadline
            | ErrorKind::ShuttingDown => false,
        };
        (actionable && self.class == FailureClass::NotSent).then_some(own)
    }

    /// The same, as callers get it.
    pub(crate) fn into_error(self) -> Error {
        if let Some(own) = self.own() {
            return own.clone().with_outcome(ExchangeOutcome::NotSent);
        }
        let (kind, outcome) = match self.class {
            FailureClass::NotSent | FailureClass::Untrusted => {
                (ErrorKind::RetryLater, ExchangeOutcome::NotSent)
            }
            FailureClass::NotProcessed | FailureClass::Throttled => {
                (ErrorKind::RetryLater, ExchangeOutcome::NotProcessed)
            }
            FailureClass::Ambiguous => (ErrorKind::RetryLater, ExchangeOutcome::Ambiguous),
            FailureClass::Rejected => {
                (ErrorKind::Refused(Refusal::GrantExpired), ExchangeOutcome::Rejected)
            }
            FailureClass::Refused(refusal) => {
                (ErrorKind::Refused(refusal), ExchangeOutcome::Rejected)
            }
            FailureClass::InvalidRequest | FailureClass::Misconfigured => {
                (ErrorKind::Misconfigured, ExchangeOutcome::Rejected)
            }
        };
        let error = Error::new(kind).with_outcome(outcome).with_code(self.code.clone());
        let error = match self.retry_after {
            Some(wait) => error.with_retry_after(wait),
            None => error,
        };
        error.with_source(self)
    }
}

/// What was wrong before anything was sent. The caller gets the same kind of error.
impl From<Error> for ExchangeError {
    fn from(own: Error) -> Self {
        Self::new(FailureClass::NotSent).with_source(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_error_says_its_outcome_and_keeps_its_cause_apart() {
        let failed = ExchangeError::new(FailureClass::Throttled)
            .with_code("slow_down")
            .with_status(http::StatusCode::TOO_MANY_REQUESTS)
            .with_retry_after(Some(Duration::from_secs(7)));
        let error = failed.into_error();
        assert_eq!(error.kind(), ErrorKind::RetryLater);
        assert_eq!(error.outcome(), Some(ExchangeOutcome::NotProcessed));
        assert_eq!(error.provider_code(), Some("slow_down"));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(
            StdError::source(&error).unwrap().to_string(),
            "the server wants fewer requests"
        );
    }
}
