//! The results of calls on a session.

use std::fmt;
use std::sync::Arc;

use crate::provider::Provider;
use crate::provider::erased::ErasedValue;
use crate::token::Credentials;

/// The result of `establish`. Always check it: a challenge is not a session yet.
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
/// If the provider has no challenge, one pattern is enough:
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
    /// The session is active. Holds the provider's attributes.
    Active(P::Attributes),
    /// The server asks for a second factor.
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
    /// The API rejected the token: call it once more with another one.
    Retry,
    /// Use the response as it is.
    Forward,
}

/// The effect of reporting a rejected token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the token is replaced or it is not")]
pub enum Invalidation {
    /// The token is not handed out again: the next
    /// [`permission_token`](crate::session::Session::permission_token) is a newer one. Call the API
    /// once more with that.
    Refresh,
    /// This token has just replaced a rejected one, and the API rejected it as well. No refresh
    /// follows, and the session still hands out the token, because other APIs may accept it. Do not
    /// call the API again: it would reject another token too.
    Damped,
}

/// How a revocation ended. In every case the session is closed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revocation {
    /// The server has revoked the tokens.
    AtServer,
    /// The server could not be reached yet. The crate tries again, unless an establish comes first.
    Queued,
    /// The server has no revocation, or there were no tokens to revoke.
    LocalOnly,
}

/// What to do if there is a session already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Adopt {
    /// Leave it, also if it is lost or was revoked, so that a repeated import does not bring it back.
    IfVacant,
    /// Replace it with these tokens. This counts as a new grant.
    Replace,
}

/// How an adoption ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tokens are taken or not")]
pub enum Adopted {
    /// The session has the tokens now.
    Yes,
    /// There is or was a session. It is unchanged.
    AlreadyThere,
}

/// How tokens are adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdoptMode {
    IfVacant,
    Replace,
    /// If vacant. The session then leaves memory, because an import has many rows.
    Import,
}

/// The result for a grant's caller.
pub(crate) enum EstablishReply {
    Active(Arc<Credentials>),
    Challenge(ErasedValue),
}
