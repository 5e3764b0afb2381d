//! What calls on a session give.

use std::fmt;
use std::sync::Arc;

use crate::provider::Provider;
use crate::provider::erased::ErasedValue;
use crate::token::Credentials;

/// What `establish` gave. It is not to be dropped unseen, or a challenge would be taken for a session:
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # use session_warden::{Error, Session, provider::oauth2::{OAuth2, Password}};
/// async fn sign_in(session: Session<OAuth2>) -> Result<(), Error> {
///     session.establish(Password::new("ada", "secret")).await?;
///     Ok(())
/// }
/// ```
///
/// Where there is no challenge, one pattern says so:
///
/// ```
/// #![deny(unused_must_use)]
/// # use session_warden::{Error, Session, provider::oauth2::{OAuth2, Password}};
/// # use session_warden::Establishment;
/// async fn sign_in(session: Session<OAuth2>) -> Result<(), Error> {
///     let Establishment::Active(_) = session.establish(Password::new("ada", "secret")).await?;
///     Ok(())
/// }
/// ```
#[must_use = "a challenge is not a session yet"]
#[expect(clippy::exhaustive_enums, reason = "a server issues tokens or asks for more")]
pub enum Establishment<P: Provider> {
    /// A session, with what the provider keeps beside its tokens.
    Active(P::Attributes),
    /// The server wants a second factor.
    Challenge(P::Challenge),
}

impl<P: Provider> fmt::Debug for Establishment<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active(attributes) => f.debug_tuple("Active").field(attributes).finish(),
            Self::Challenge(_) => f.debug_tuple("Challenge").finish_non_exhaustive(),
        }
    }
}

/// What to do with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing else to do with a response")]
pub enum Verdict {
    /// The token was dead: call once more with another.
    Retry,
    /// Hand the response on.
    Forward,
}

/// What follows from a token that an API rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the token is replaced or it is not")]
pub enum Invalidation {
    /// The token is not handed out again: the next
    /// [`permission_token`](crate::session::Session::permission_token) is a newer one. Call the API
    /// once more with that.
    Refresh,
    /// A rejection brought this token a moment ago, and the API rejected it as well. No refresh
    /// follows, and the token is handed out on, because other APIs may accept it. Do not call
    /// again: another token would be rejected too.
    Damped,
}

/// How a revocation ended. In every case the session is closed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revocation {
    /// The server knows.
    AtServer,
    /// The server could not be told yet. It will be, unless an establish comes first.
    Queued,
    /// The server cannot be told, or there was nothing to tell.
    LocalOnly,
}

/// What to do where there is a session already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Adopt {
    /// Leave it, also if it is lost or was revoked: an import that runs again brings nothing back.
    IfVacant,
    /// Put these tokens in its place. It counts as a new grant.
    Replace,
}

/// What became of an adoption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tokens are taken or not")]
pub enum Adopted {
    /// The tokens are the session's.
    Yes,
    /// There is or was a session, and it is as it was.
    AlreadyThere,
}

/// How tokens are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdoptMode {
    IfVacant,
    Replace,
    /// If vacant; and the session is left to its record, because one of many rows is no reason to
    /// stay in memory.
    Import,
}

/// What a grant's caller gets.
pub(crate) enum EstablishReply {
    Active(Arc<Credentials>),
    Challenge(ErasedValue),
}
