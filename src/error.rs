//! The error of this crate. Its kinds say what the caller should do.
#![doc = include_str!("error/example.md")]

mod endpoint;
mod http_status;
mod shown;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub(crate) use self::endpoint::Endpoint;
pub(crate) use self::shown::{bare_url, bounded, quoted, quoted_url};
use crate::key::{InvalidKey, SessionId};

/// The result of most calls of this crate. See the [example](self#example).
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
///
/// [`kind`](Self::kind) says what the caller should do. `Display` says what is wrong, where, and
/// what to do; it is enough to log the outermost error. [`source`](std::error::Error::source)
/// returns the cause, which `Display` does not repeat. The error is cheap to clone: all callers
/// that waited for one exchange get the same error. No error holds a token, a response body or the
/// query of a URL.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    about: Option<Cow<'static, str>>,
    session: Option<SessionId>,
    retry_after: Option<Duration>,
    outcome: Option<ExchangeOutcome>,
    code: Option<ProviderCode>,
    status: Option<u16>,
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
            source: None,
        }))
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.with(|inner| inner.source = Some(Arc::from(source.into())))
    }

    /// The same error with a sentence that says what is wrong and what to do. `Display` writes it
    /// after the text of the kind, cut to 1,024 bytes: use lower case, no full stop and no secret.
    #[must_use]
    pub fn about(self, words: impl Into<Cow<'static, str>>) -> Self {
        let words = bounded(words.into());
        self.with(|inner| inner.about = Some(words))
    }

    /// The same error with the time after which the caller may try again.
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        self.with(|inner| inner.retry_after = Some(wait))
    }

    /// What [`about`](Self::about) was given.
    pub(crate) fn explanation(&self) -> Option<Cow<'static, str>> {
        self.0.about.clone()
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

    /// The same error with the status, code and source of `cause`, and with its explanation if
    /// this error has none.
    pub(crate) fn caused_by(self, cause: Option<&Self>) -> Self {
        let Some(cause) = cause else { return self };
        let Inner { about, code, status, source, .. } = &*cause.0;
        self.with(|inner| {
            (inner.code, inner.status) = (code.clone(), *status);
            inner.about = inner.about.take().or_else(|| about.clone());
            inner.source = source.clone().or_else(|| Some(Arc::new(cause.clone())));
        })
    }

    pub(crate) fn with_status(self, status: Option<u16>) -> Self {
        self.with(|inner| inner.status = status)
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.0.kind;
        match (kind, self.0.about.as_deref().or_else(|| kind.advice())) {
            // The explanation says more than the reason in the kind.
            (ErrorKind::Refused(_), Some(words)) => write!(f, "{REFUSED}: {words}"),
            (_, Some(words)) => write!(f, "{kind}: {words}"),
            (_, None) => kind.fmt(f),
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
        Self::new(ErrorKind::InvalidInput).about(invalid.rule()).with_source(invalid)
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
    /// The configuration is wrong: that of the provider (client, secret, URL or scope, or the
    /// session was issued with another one), or at the start that of the supervisor (policy, keys
    /// of the store, no tokio runtime). Correct what the error's text names. The crate keeps the
    /// sessions, and they work again afterwards.
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

impl ErrorKind {
    /// What to do, for an error that says no more than its kind.
    fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::NotEstablished => "establish it with a grant",
            Self::SignInAgain(_) | Self::Refused(_) => return None,
            Self::RetryLater => "no token at present",
            Self::Misconfigured => "check the settings of the provider",
            Self::InvalidInput => "correct the arguments of the call",
            Self::Superseded => "read its status, and decide again",
            Self::Capacity => "try again when there is less load",
            Self::Store => "try again; nothing was sent to the server",
            Self::ShuttingDown => "it was shut down, so use another one",
            Self::Deadline => "the exchange goes on, so call again for its result",
        })
    }
}

/// The beginning of the text of a refused grant.
const REFUSED: &str = "the grant was refused";

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEstablished => f.write_str("the session is not established"),
            Self::SignInAgain(reason) => {
                write!(f, "the user must sign in again, because {reason}")
            }
            Self::Refused(refusal) => write!(f, "{REFUSED}: {refusal}"),
            Self::RetryLater => f.write_str("try again later"),
            Self::Misconfigured => f.write_str("wrong configuration"),
            Self::InvalidInput => f.write_str("invalid input"),
            Self::Superseded => {
                f.write_str("another call or process changed the session during this call")
            }
            Self::Capacity => f.write_str("a limit is reached"),
            Self::Store => f.write_str("the store failed"),
            Self::ShuttingDown => f.write_str("the supervisor takes no more calls"),
            Self::Deadline => f.write_str("the call timed out"),
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
    /// The record in the store was altered or is damaged. Only lists of sessions have this reason.
    Unreadable,
}

impl LostReason {
    /// The name in logs, metrics and the JSON of events: the variant in snake case.
    ///
    /// ```
    /// use session_warden::error::LostReason;
    ///
    /// assert_eq!(LostReason::LostInDoubt.name(), "lost_in_doubt");
    /// ```
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RefreshExpired => "refresh_expired",
            Self::Rejected => "rejected",
            Self::Unclassified => "unclassified",
            Self::Revoked => "revoked",
            Self::LostInDoubt => "lost_in_doubt",
            Self::TokensDeleted => "tokens_deleted",
            Self::SessionDeleted => "session_deleted",
            Self::Unreadable => "unreadable",
        }
    }

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
            | Self::Unreadable => false,
        }
    }
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RefreshExpired => "the refresh token has expired or there is none",
            Self::Rejected => "the server rejected the refresh token",
            Self::Unclassified => "the server kept sending responses that are not understood",
            Self::Revoked => "the session was revoked at the server",
            Self::LostInDoubt => {
                "the response to a refresh was lost, and the server rejected the retry"
            }
            Self::TokensDeleted => "a call deleted its tokens at the server",
            Self::SessionDeleted => "a call ended the session at the server",
            Self::Unreadable => "its record was altered or is damaged",
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
    /// The user has not approved the login on the other device yet.
    /// [`finish_device_login`](crate::Session::finish_device_login) goes on after it; only a backend
    /// that polls with a grant of its own gets this error.
    LoginPending,
    /// A redirect or a response named a host that the settings do not allow. Nothing was sent to
    /// it. See [`SessionHost`](crate::provider::oauth2::SessionHost).
    HostNotAllowed,
    /// This machine's clock differs too much from the server's, and signed requests carry the time
    /// (RFC 5849 section 3.3). Set the clock.
    ClockSkew,
    /// The server gave no reason that the crate knows. See [`Error::provider_code`].
    Other,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongCredentials => "the user name, the password or the security token is wrong",
            Self::Locked => "after too many attempts the server locked the user for a while",
            Self::LockedForGood => "the server locked the user until an administrator unlocks it",
            Self::WrongCode => "the code of the second factor is wrong",
            Self::CodeTooSoon => "the code of the second factor came too soon after the last one",
            Self::ChallengeExpired => "the challenge has expired, so begin the login again",
            Self::GrantExpired => "the code, ticket or token has expired or was used",
            Self::UnknownSubject => "the server knows no such user",
            Self::NotPermitted => "the user may not do this",
            Self::LoginStateMismatch => {
                "the redirect belongs to another login, so begin the login again"
            }
            Self::LoginPending => "the user has not approved the login yet",
            Self::HostNotAllowed => "the server named a host that the settings do not allow",
            Self::ClockSkew => {
                "this machine's clock differs too much from the server's, so set the clock"
            }
            Self::Other => "the server gave no reason that is understood",
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
            LostReason::Unreadable,
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
            Refusal::LoginPending,
            Refusal::HostNotAllowed,
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
        assert_eq!(named.to_string(), "try again later: the server said so");
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
