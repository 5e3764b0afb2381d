//! The error of this crate. Its kinds say what the caller should do.
#![doc = include_str!("error/example.md")]

mod answered;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub(crate) use self::answered::{Answered, EndpointPath};
use crate::key::{InvalidKey, SessionId};

/// The result of most calls of this crate. See the [example](self#example).
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
///
/// [`kind`](Self::kind) says what the caller should do. The error is cheap to clone: all callers
/// that waited for one exchange get the same error. [`source`](std::error::Error::source) returns
/// the cause, and `Display` does not repeat it. No error holds a token, a response body or the
/// query of a URL.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    about: Option<&'static str>,
    session: Option<SessionId>,
    retry_after: Option<Duration>,
    outcome: Option<ExchangeOutcome>,
    code: Option<ProviderCode>,
    status: Option<u16>,
    answered: Option<Answered>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// What the caller should do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The session that was called, if a session was called.
    #[must_use]
    pub fn session(&self) -> Option<&SessionId> {
        self.0.session.as_ref()
    }

    /// Whether the same call may succeed later although nothing was changed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self.kind() {
            ErrorKind::RetryLater
            | ErrorKind::Capacity
            | ErrorKind::Store
            | ErrorKind::Deadline
            | ErrorKind::Superseded => true,
            ErrorKind::NotEstablished
            | ErrorKind::SignInAgain(_)
            | ErrorKind::Refused(_)
            | ErrorKind::Misconfigured
            | ErrorKind::InvalidInput
            | ErrorKind::ShuttingDown => false,
        }
    }

    /// How long to wait before the next call, if that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What is known of the exchange with the server that failed, if there was one.
    #[must_use]
    pub fn outcome(&self) -> Option<ExchangeOutcome> {
        self.0.outcome
    }

    /// The server's own error code (RFC 6749 section 5.2 `error`, or a vendor's), if it gave one.
    #[must_use]
    pub fn provider_code(&self) -> Option<&str> {
        self.0.code.as_ref().map(ProviderCode::as_str)
    }

    /// The HTTP status of the server's response, if a response caused the error.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// An error of `kind`, for providers and stores of other crates.
    #[must_use]
    pub fn new(kind: ErrorKind) -> Self {
        Self(Arc::new(Inner {
            kind,
            about: None,
            session: None,
            retry_after: None,
            outcome: None,
            code: None,
            status: None,
            answered: None,
            source: None,
        }))
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.with(|inner| inner.source = Some(Arc::from(source.into())))
    }

    /// The same error with a sentence that explains it. `Display` writes it after the text of the
    /// kind: use lower case, no full stop and no secret.
    #[must_use]
    pub fn about(self, words: &'static str) -> Self {
        self.with(|inner| inner.about = Some(words))
    }

    /// The same error with the time after which the caller may try again.
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        self.with(|inner| inner.retry_after = Some(wait))
    }

    pub(crate) fn of_session(self, id: &SessionId) -> Self {
        self.with(|inner| inner.session = Some(id.clone()))
    }

    pub(crate) fn with_outcome(self, outcome: ExchangeOutcome) -> Self {
        self.with(|inner| inner.outcome = Some(outcome))
    }

    pub(crate) fn with_code(self, code: Option<ProviderCode>) -> Self {
        self.with(|inner| inner.code = code)
    }

    /// The same error with the status, code and endpoint of the server's response that caused
    /// `cause`, and with the source of `cause`.
    pub(crate) fn caused_by(self, cause: Option<&Self>) -> Self {
        let Some(cause) = cause else { return self };
        let Inner { code, status, answered, source, .. } = &*cause.0;
        self.with(|inner| {
            (inner.code, inner.status) = (code.clone(), *status);
            inner.answered = answered.clone();
            inner.source = source.clone().or_else(|| Some(Arc::new(cause.clone())));
        })
    }

    pub(crate) fn with_status(self, status: Option<u16>) -> Self {
        self.with(|inner| inner.status = status)
    }

    pub(crate) fn with_answered(self, answered: Option<Answered>) -> Self {
        self.with(|inner| inner.answered = answered)
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.kind.fmt(f)?;
        match (self.0.about, &self.0.answered) {
            (Some(words), _) => write!(f, ": {words}"),
            (None, Some(answered)) => write!(f, ": {answered}"),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.debug_struct("Error")
            .field("kind", &inner.kind)
            .field("about", &inner.about)
            .field("session", &inner.session)
            .field("retry_after", &inner.retry_after)
            .field("outcome", &inner.outcome)
            .field("code", &inner.code)
            .field("status", &inner.status)
            .field("answered", &inner.answered)
            .field("source", &inner.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<InvalidKey> for Error {
    fn from(invalid: InvalidKey) -> Self {
        Self::new(ErrorKind::InvalidInput).with_source(invalid)
    }
}

/// What the caller should do. See the [example](self#example).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The session was never established, it was revoked, or the server waits for a second factor.
    /// `establish` it.
    NotEstablished,
    /// The session is lost. Let the user sign in again.
    SignInAgain(LostReason),
    /// The server refused the grant. If the session was active before, it still is. Correct what
    /// the [`Refusal`] names, and send another grant.
    Refused(Refusal),
    /// There is no token at present, and the session is not lost. Try again after
    /// [`Error::retry_after`], or after a second if there is none. [`Error::outcome`] says whether
    /// a grant may have been used.
    RetryLater,
    /// The configuration of the provider (client, secret, URL or scope) is wrong, or differs from
    /// the configuration with which the session was issued. Correct the configuration. The crate
    /// keeps the sessions, and they work again afterwards.
    Misconfigured,
    /// The arguments cannot be used. Correct them.
    InvalidInput,
    /// Another caller or another process established or revoked the session during the call. Read
    /// its status, and decide again.
    Superseded,
    /// A bound of [`policy`](crate::policy) is reached. Try again when there is less load.
    Capacity,
    /// The store did not respond, or it failed. The crate sent nothing to the server for this call.
    /// Try again.
    Store,
    /// The supervisor is shutting down. Use another instance.
    ShuttingDown,
    /// The call waited as long as [`Policy::call_timeout`](crate::policy::Policy::call_timeout)
    /// allows. The exchange that it waited for goes on. A call for a token gets
    /// [`RetryLater`](Self::RetryLater) instead.
    Deadline,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEstablished => f.write_str("no session is established"),
            Self::SignInAgain(reason) => write!(f, "sign in again, {reason}"),
            Self::Refused(refusal) => write!(f, "the grant was refused, {refusal}"),
            Self::RetryLater => f.write_str("no token at present, retry later"),
            Self::Misconfigured => f.write_str("the provider's configuration is wrong"),
            Self::InvalidInput => f.write_str("the input cannot be used"),
            Self::Superseded => f.write_str("the session was changed by another call"),
            Self::Capacity => f.write_str("a limit is reached"),
            Self::Store => f.write_str("the store failed"),
            Self::ShuttingDown => f.write_str("the supervisor is shutting down"),
            Self::Deadline => f.write_str("waited too long"),
        }
    }
}

/// Why the session needs a new grant. See the [example](self#example).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum LostReason {
    /// The refresh token has expired, or there is none and the access token has expired.
    RefreshExpired,
    /// The server rejected the refresh token (RFC 6749 section 5.2 `invalid_grant`).
    Rejected,
    /// The server kept sending unclassified answers while it refreshed other sessions of the same
    /// client, or for longer than [`alone`](crate::policy::UnclassifiedAnswers::alone). The tokens
    /// are kept: [`refresh`](crate::session::Session::refresh) tries them again, and so does the
    /// schedule, about once in each [`retry`](crate::policy::UnclassifiedAnswers::retry).
    Unclassified,
    /// The server says that the session was revoked.
    Revoked,
    /// The response to a refresh was lost, and the server rejected the retry. The server had
    /// processed the first request, which spent the refresh token.
    LostInDoubt,
    /// A call of this session deleted the refresh token at the server.
    TokensDeleted,
    /// A call of this session deleted its access token at the server, which ended the session.
    SessionDeleted,
    /// The key that seals the record is missing.
    KeyMissing,
}

impl LostReason {
    /// Whether the tokens are kept and tried again.
    pub(crate) fn is_provisional(self) -> bool {
        matches!(self, Self::Unclassified)
    }

    /// Whether a call of the backend ended the session.
    pub(crate) fn is_ours(self) -> bool {
        match self {
            Self::TokensDeleted | Self::SessionDeleted => true,
            Self::RefreshExpired
            | Self::Rejected
            | Self::Unclassified
            | Self::Revoked
            | Self::LostInDoubt
            | Self::KeyMissing => false,
        }
    }
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RefreshExpired => "the refresh token has expired",
            Self::Rejected => "the server rejected the refresh token",
            Self::Unclassified => "the server kept giving answers that are not understood",
            Self::Revoked => "the session was revoked at the server",
            Self::LostInDoubt => "a refresh's answer was lost and its token is spent",
            Self::TokensDeleted => "the tokens were deleted",
            Self::SessionDeleted => "the session was deleted",
            Self::KeyMissing => "the sealing key is missing",
        })
    }
}

/// Why the server refused a grant. See the [example](self#example).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The user name, the password or the security token is wrong.
    WrongCredentials,
    /// There were too many attempts. The server locked the user for a while.
    Locked,
    /// The server locked the user until an administrator unlocks the user.
    LockedForGood,
    /// The second factor's code is wrong.
    WrongCode,
    /// The second factor's code came too soon after the last one.
    CodeTooSoon,
    /// The challenge has expired.
    ChallengeExpired,
    /// The code, ticket or one-use token has expired or was used.
    GrantExpired,
    /// The server knows no such user or member.
    UnknownSubject,
    /// The user may not do this.
    NotPermitted,
    /// The redirect's state does not belong to the login.
    LoginStateMismatch,
    /// This machine's clock differs too much from the server's, and signed requests carry the time
    /// (RFC 5849 section 3.3). Set the clock.
    ClockSkew,
    /// The server gave no reason that the crate knows. See [`Error::provider_code`].
    Other,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongCredentials => "wrong credentials",
            Self::Locked => "locked for a while",
            Self::LockedForGood => "locked",
            Self::WrongCode => "wrong code",
            Self::CodeTooSoon => "the code came too soon",
            Self::ChallengeExpired => "the challenge has expired",
            Self::GrantExpired => "it has expired or was used",
            Self::UnknownSubject => "unknown subject",
            Self::NotPermitted => "not permitted",
            Self::LoginStateMismatch => "the redirect belongs to another login",
            Self::ClockSkew => "the clocks differ too much",
            Self::Other => "for a reason of the server's own",
        })
    }
}

/// What is known of a failed exchange with the server. See the [example](self#example).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExchangeOutcome {
    /// No byte of the request reached the server.
    NotSent,
    /// The server responded that it did not process the request.
    NotProcessed,
    /// The server may have processed the request, and its response is lost.
    Ambiguous,
    /// The server processed the request and rejected it.
    Rejected,
}

/// A server's error code, cut to what is safe to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProviderCode(Arc<str>);

impl ProviderCode {
    /// Longer codes are cut: a server may send any text, and the longest standard code has 26
    /// bytes.
    pub(crate) const MAX_BYTES: usize = 64;

    /// Keeps letters, digits, `_`, `-`, `.` and `:`. None if nothing is left.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let safe = |c: &char| c.is_ascii_alphanumeric() || "_-.:".contains(*c);
        let kept: String = text.chars().filter(safe).take(Self::MAX_BYTES).collect();
        (!kept.is_empty()).then(|| Self(kept.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{ProviderName, SessionKey};

    fn every_kind() -> Vec<ErrorKind> {
        let lost = [
            LostReason::RefreshExpired,
            LostReason::Rejected,
            LostReason::Revoked,
            LostReason::LostInDoubt,
            LostReason::TokensDeleted,
            LostReason::SessionDeleted,
            LostReason::KeyMissing,
        ];
        let refusals = [
            Refusal::WrongCredentials,
            Refusal::Locked,
            Refusal::LockedForGood,
            Refusal::WrongCode,
            Refusal::CodeTooSoon,
            Refusal::ChallengeExpired,
            Refusal::GrantExpired,
            Refusal::UnknownSubject,
            Refusal::NotPermitted,
            Refusal::LoginStateMismatch,
            Refusal::ClockSkew,
            Refusal::Other,
        ];
        let plain = [
            ErrorKind::NotEstablished,
            ErrorKind::RetryLater,
            ErrorKind::Misconfigured,
            ErrorKind::InvalidInput,
            ErrorKind::Superseded,
            ErrorKind::Capacity,
            ErrorKind::Store,
            ErrorKind::ShuttingDown,
            ErrorKind::Deadline,
        ];
        let lost = lost.map(ErrorKind::SignInAgain).into_iter();
        lost.chain(refusals.map(ErrorKind::Refused)).chain(plain).collect()
    }

    #[test]
    fn no_error_repeats_its_cause_and_each_begins_in_lower_case_without_a_full_stop() {
        let mut seen = std::collections::HashSet::new();
        for kind in every_kind() {
            let error = Error::new(kind).with_source("the cause");
            let words = error.to_string();
            assert!(!words.contains("the cause"), "{words}");
            assert!(words.starts_with(|c: char| c.is_lowercase()) && !words.ends_with('.'));
            assert!(seen.insert(words.clone()), "{words} is said of two kinds");
            assert_eq!(error.source().unwrap().to_string(), "the cause");
        }
    }

    #[test]
    fn a_clone_keeps_everything_and_naming_its_session_leaves_the_first_alone() {
        let key = SessionKey::new("t", "d").unwrap();
        let id = SessionId::new(ProviderName::new("p").unwrap(), key);
        let error = Error::new(ErrorKind::RetryLater)
            .with_retry_after(Duration::from_secs(3))
            .with_outcome(ExchangeOutcome::Ambiguous)
            .with_code(ProviderCode::new("server_error"))
            .about("the server said so");
        let named = error.clone().of_session(&id);
        assert_eq!(named.session(), Some(&id));
        assert_eq!(error.session(), None);
        assert_eq!(named.retry_after(), Some(Duration::from_secs(3)));
        assert_eq!(named.outcome(), Some(ExchangeOutcome::Ambiguous));
        assert_eq!(named.provider_code(), Some("server_error"));
        assert_eq!(named.to_string(), "no token at present, retry later: the server said so");
        assert!(named.is_transient());
    }

    #[test]
    fn a_hostile_code_is_cut_and_stripped() {
        let code = ProviderCode::new("inv\nalid<script>\u{202e}_grant").unwrap();
        assert_eq!(code.as_str(), "invalidscript_grant");
        assert_eq!(ProviderCode::new(&"x".repeat(500)).unwrap().as_str().len(), 64);
        assert_eq!(ProviderCode::new("\r\n"), None);
    }

    #[test]
    fn errors_can_be_shared_with_every_waiter() {
        fn shared<T: StdError + Clone + Send + Sync + 'static>() {}
        shared::<Error>();
    }
}
