//! The error with which a provider reports a failed exchange.

mod advice;
mod unusable_body;

use std::error::Error as StdError;
use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Response;

pub(super) use self::unusable_body::UnusableBody;
use crate::error::{Endpoint, Error, ErrorKind, ExchangeOutcome};
use crate::error::{ProviderCode, Refusal};
use crate::secret::Secret;
use crate::token::Access;

/// Why an exchange failed: its class, with the status, the code and the path, which are safe to
/// log. It never holds a body, a URL's query or a server's description of the error.
///
/// ```
/// use http::StatusCode;
/// use session_warden::error::Refusal;
/// use session_warden::provider::{ExchangeError, FailureClass};
///
/// /// The failure for the number that a vendor sends with a status of 4xx.
/// fn failure(status: StatusCode, number: u32) -> ExchangeError {
///     let class = match number {
///         17 => FailureClass::Refused(Refusal::WrongCredentials),
///         18 => FailureClass::Refused(Refusal::Locked),
///         40 => FailureClass::InvalidClient,
///         _ => FailureClass::Unclassified,
///     };
///     ExchangeError::new(class).with_status(status).with_code(&number.to_string())
/// }
///
/// let locked = failure(StatusCode::BAD_REQUEST, 18);
/// assert_eq!(locked.class(), FailureClass::Refused(Refusal::Locked));
/// assert_eq!(locked.status(), Some(400));
///
/// /// The failure of a refresh whose response has a new refresh token, but no access token.
/// fn without_access_token(refresh_token: &str) -> ExchangeError {
///     ExchangeError::new(FailureClass::Misconfigured)
///         .with_status(StatusCode::OK)
///         .with_refresh_token(refresh_token, None)
/// }
/// assert!(!format!("{:?}", without_access_token("rt-2")).contains("rt-2"));
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{class}")]
pub struct ExchangeError {
    pub(super) class: FailureClass,
    pub(crate) code: Option<ProviderCode>,
    pub(crate) status: Option<u16>,
    pub(super) endpoint: Option<Endpoint>,
    /// What the response should have been.
    pub(super) expected: Option<&'static str>,
    /// What the caller's error says, if the class, the status and the source do not say it.
    pub(super) about: Option<Box<str>>,
    pub(super) retry_after: Option<Duration>,
    /// The new refresh token of the response.
    pub(super) refresh_token: Option<Box<Access>>,
    #[source]
    pub(super) source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What the server gave in an exchange, or why it gave nothing.
pub(crate) type Exchanged<T> = Result<T, ExchangeError>;

/// What a failed exchange means for the session. See the example of [`ExchangeError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureClass {
    /// No byte of the request reached the server. Nothing is lost.
    NotSent,
    /// No byte of the request reached the server, because the transport refused the server's
    /// certificate: the configuration is wrong, or there is an attack.
    Untrusted,
    /// The server says that it did not process the request (408, 425, 503 with Retry-After).
    NotProcessed,
    /// The server did not process the request because it gets too many (429). The crate slows down
    /// all requests of the provider.
    Throttled,
    /// The server may have processed the request, and its response is lost.
    Ambiguous,
    /// The server rejected the refresh token: the session is lost.
    Rejected,
    /// The server refused the grant.
    Refused(Refusal),
    /// The server rejected the client itself (RFC 6749 section 5.2 `invalid_client`). Do not use
    /// this class for a fault of one session: it stops the refreshes of the tenant, and of all
    /// tenants if the server rejects a second one. The crate publishes one event, and tries the
    /// client once in each [`probe`](crate::policy::ProviderLimits::probe) until the server accepts
    /// it again.
    InvalidClient,
    /// The server sent a response that this crate does not understand: a 3xx or 4xx, or a 2xx that
    /// reports a failure. The server did not process the request, so nothing is in doubt. It
    /// concerns this session alone. See [`UnclassifiedAnswers`](crate::policy::UnclassifiedAnswers)
    /// for what follows.
    Unclassified,
    /// The provider's settings or its metadata are wrong, so no credentials were sent. Or the
    /// settings of the server are: it processed a refresh, but its response has no access token
    /// that the crate can use. In both cases nothing is in doubt.
    Misconfigured,
}

impl FailureClass {
    /// The name in logs, metrics and JSON: the variant in snake case.
    ///
    /// ```
    /// use session_warden::provider::FailureClass;
    ///
    /// assert_eq!(FailureClass::NotSent.name(), "not_sent");
    /// ```
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Untrusted => "untrusted",
            Self::NotProcessed => "not_processed",
            Self::Throttled => "throttled",
            Self::Ambiguous => "ambiguous",
            Self::Rejected => "rejected",
            Self::Refused(_) => "refused",
            Self::InvalidClient => "invalid_client",
            Self::Unclassified => "unclassified",
            Self::Misconfigured => "misconfigured",
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSent => "the request did not reach the server",
            Self::Untrusted => "the server's certificate was refused",
            Self::NotProcessed => "the request was not processed",
            Self::Throttled => "there were too many requests",
            Self::Ambiguous => "the response was lost",
            Self::Rejected => "the refresh token was rejected",
            Self::Refused(_) => "the server refused the grant",
            Self::InvalidClient => "invalid client",
            Self::Unclassified => "the response is not understood",
            Self::Misconfigured => "the provider's settings or its metadata are wrong",
        })
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
            endpoint: None,
            expected: None,
            about: None,
            retry_after: None,
            refresh_token: None,
            source: None,
        }
    }

    /// A failure of this class, with the response's status and the endpoint that gave it.
    pub(super) fn of_response(class: FailureClass, response: &Response<Bytes>) -> Self {
        let endpoint = response.extensions().get().cloned();
        Self { endpoint, ..Self::new(class).with_status(response.status()) }
    }

    /// Sets the server's error code. Characters that are not safe to log are removed.
    #[must_use]
    pub fn with_code(mut self, code: &str) -> Self {
        self.code = ProviderCode::new(code);
        self
    }

    /// Sets the HTTP status.
    #[must_use]
    pub fn with_status(mut self, status: http::StatusCode) -> Self {
        self.status = Some(status.as_u16());
        self
    }

    /// Sets the path of the request's endpoint. The query and characters that cannot be in a path
    /// are removed, and a long path is cut.
    #[must_use]
    pub fn with_path(self, path: &str) -> Self {
        self.at(Some(Endpoint::at_path(path)))
    }

    pub(super) fn at(mut self, endpoint: Option<Endpoint>) -> Self {
        self.endpoint = endpoint;
        self
    }

    /// With what is wrong with the response and what to do, for the caller's error.
    pub(super) fn about_response(mut self, words: &str) -> Self {
        self.about = Some(self.unexpected_response(words).into());
        self
    }

    /// With a text for the caller that also names the response to the request before, which is not
    /// the expected one either.
    pub(super) fn after(mut self, earlier: &Self) -> Self {
        self.about = self.unexpected_responses(earlier).map(Into::into);
        self
    }

    /// With words for what the response should have been: "a token response".
    pub(super) fn expecting(mut self, expected: &'static str) -> Self {
        self.expected = Some(expected);
        self
    }

    /// The same for a request that has changed nothing of the session, even if the server processed
    /// it and the response was lost: then nothing is in doubt, and the request may be sent again.
    pub(crate) fn nothing_in_doubt(self) -> Self {
        match self.class {
            FailureClass::Ambiguous => Self { class: FailureClass::NotProcessed, ..self },
            FailureClass::NotSent
            | FailureClass::Untrusted
            | FailureClass::NotProcessed
            | FailureClass::Throttled
            | FailureClass::Rejected
            | FailureClass::Refused(_)
            | FailureClass::InvalidClient
            | FailureClass::Unclassified
            | FailureClass::Misconfigured => self,
        }
    }

    /// Sets the time that the server asks the client to wait.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// Sets the new refresh token that the response to a refresh had, although the crate cannot use
    /// the response otherwise. It expires at `expires_at`; `None` means that this is not known.
    ///
    /// The session saves this refresh token and sends it in the next refresh. It keeps its former
    /// access token and backs off. Give the error the class [`FailureClass::Misconfigured`]:
    /// nothing is in doubt. If the request was not a refresh, the crate drops the token.
    #[must_use]
    pub fn with_refresh_token(
        mut self,
        token: impl Into<Secret>,
        expires_at: Option<SystemTime>,
    ) -> Self {
        self.refresh_token = Some(Box::new(Access { secret: token.into(), expires_at }));
        self
    }

    /// Sets when the new refresh token expires, if there is one and the server did not say.
    pub(super) fn with_default_expiry(mut self, expires_at: Option<SystemTime>) -> Self {
        if let Some(token) = &mut self.refresh_token {
            token.expires_at = token.expires_at.or(expires_at);
        }
        self
    }

    /// Takes the new refresh token of the response.
    pub(crate) fn take_refresh_token(&mut self) -> Option<Access> {
        self.refresh_token.take().map(|token| *token)
    }

    /// Sets the cause, which must hold no secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the failure means for the session.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        self.class
    }

    /// The HTTP status, if there was a response.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// The path of the request's endpoint, if it is known, without the query.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.endpoint.as_ref().map(Endpoint::path)
    }

    /// How long the server asks the client to wait.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the server says that the client is invalid (RFC 6749 section 5.2).
    pub(crate) fn names_client(&self) -> bool {
        self.class == FailureClass::InvalidClient
    }

    /// Whether the failure says nothing of the server: a request that this process did not send for
    /// a reason of its own.
    pub(crate) fn is_of_this_process(&self) -> bool {
        let own = || self.source.as_ref().is_some_and(|source| source.is::<Error>());
        self.class == FailureClass::NotSent && own()
    }

    /// The crate's own error, if the caller can act on it: one from before anything was sent, or
    /// one about settings that does not come from a single response.
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
        let unsent = self.class == FailureClass::NotSent;
        let of_settings = self.class == FailureClass::Misconfigured && self.status.is_none();
        (actionable && (unsent || of_settings)).then_some(own)
    }

    /// The error that callers get.
    pub(crate) fn into_error(mut self) -> Error {
        // The caller's error lives long, and must hold no secret.
        self.refresh_token = None;
        let error = self.caller_error();
        if self.own().is_some() { error } else { error.with_source(self) }
    }

    /// The error that callers get, without its source.
    pub(crate) fn caller_error(&self) -> Error {
        if let Some(own) = self.own() {
            let unsent = self.class == FailureClass::NotSent;
            let outcome = if unsent { ExchangeOutcome::NotSent } else { ExchangeOutcome::Rejected };
            return own.clone().with_outcome(outcome);
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
            // Nothing is sent to an address that the transport refuses.
            FailureClass::Misconfigured if self.is_refused_address() => {
                (ErrorKind::Misconfigured, ExchangeOutcome::NotSent)
            }
            FailureClass::InvalidClient
            | FailureClass::Unclassified
            | FailureClass::Misconfigured => (ErrorKind::Misconfigured, ExchangeOutcome::Rejected),
        };
        let error = Error::new(kind).with_outcome(outcome).with_code(self.code.clone());
        let error = error.with_status(self.status);
        let error = match self.retry_after {
            Some(wait) => error.with_retry_after(wait),
            None => error,
        };
        match self.advice() {
            Some(words) => error.about(words),
            None => error,
        }
    }
}

/// An error from before anything was sent. The caller gets the same kind of error.
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
        assert_eq!(error.status(), Some(429));
        assert_eq!(
            error.to_string(),
            "try again later: the server answered 429, because of too many requests"
        );
        assert_eq!(StdError::source(&error).unwrap().to_string(), "there were too many requests");
    }

    fn misconfigured(class: FailureClass, path: &str) -> Error {
        let failed = ExchangeError::new(class).with_status(http::StatusCode::NOT_FOUND);
        failed.with_path(path).expecting("a token response").into_error()
    }

    #[test]
    fn a_wrong_configuration_names_the_status_the_path_and_what_was_expected() {
        for class in [FailureClass::Unclassified, FailureClass::Misconfigured] {
            let error = misconfigured(class, "/oauth/token?code=canary#canary");
            assert_eq!(
                error.to_string(),
                "wrong configuration: the server answered 404 at /oauth/token, where a token \
                 response was expected; check the URL"
            );
            assert_eq!(error.status(), Some(404));
            let cause = StdError::source(&error).unwrap();
            assert_eq!(cause.to_string(), class.to_string());
            assert!(!error.to_string().contains(&cause.to_string()));
            assert!(!format!("{error:?} {error} {cause:?} {cause}").contains("canary"));
        }
        let nowhere = ExchangeError::new(FailureClass::Unclassified);
        let nowhere = nowhere.with_status(http::StatusCode::CONFLICT).into_error();
        assert_eq!(
            nowhere.to_string(),
            "wrong configuration: the server answered 409, where another response was expected; \
             check the URL and the settings of the provider"
        );
        let silent = ExchangeError::new(FailureClass::Misconfigured).into_error();
        assert_eq!(silent.to_string(), "wrong configuration: check the settings of the provider");
        assert_eq!(silent.status(), None);
    }

    #[test]
    fn only_of_an_answer_that_names_the_client_it_is_said_that_the_client_was_rejected() {
        let error = misconfigured(FailureClass::InvalidClient, "/token");
        assert_eq!(
            error.to_string(),
            "wrong configuration: the server answered 404 at /token and rejected the client; check \
             the client id, the client secret or key, and how the client sends them"
        );
        for class in [
            FailureClass::NotSent,
            FailureClass::Untrusted,
            FailureClass::NotProcessed,
            FailureClass::Throttled,
            FailureClass::Ambiguous,
            FailureClass::Rejected,
            FailureClass::Refused(Refusal::Other),
            FailureClass::Unclassified,
            FailureClass::Misconfigured,
        ] {
            let other = misconfigured(class, "/token");
            let text = format!("{other} {}", StdError::source(&other).unwrap());
            assert!(!text.contains("rejected the client"), "{text}");
        }
    }

    #[test]
    fn a_path_is_cut_and_nothing_in_it_moves_the_cursor() {
        let path = |path: &str| ExchangeError::new(FailureClass::Unclassified).with_path(path);
        let wild = path("/a\r\n\u{1b}[31m b\u{202e}\u{9b}/c?d");
        assert_eq!(wild.path(), Some("/a[31mb/c"));
        let long = path(&format!("/{}", "x".repeat(5000)));
        assert_eq!(long.path().unwrap().len(), Endpoint::MAX_PATH_BYTES);
    }
}
