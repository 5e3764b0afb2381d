//! The results of calls on a session.

use std::fmt;
use std::sync::Arc;

use crate::provider::Provider;
use crate::provider::erased::ErasedValue;
use crate::token::Credentials;

/// The result of [`establish`](crate::Session::establish). Always check it: a challenge is not a
/// session yet.
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
    /// The session is active. This holds the provider's attributes.
    Active(P::Attributes),
    /// The server asks for a second factor. This holds what the user's answer needs.
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

/// What to do with the response of an API. See the example of
/// [`Session::rejected`](crate::Session::rejected).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing else to do with a response")]
pub enum Verdict {
    /// The API rejected the token: call the API once more with another token.
    Retry,
    /// Use the response as it is.
    Forward,
}

/// The effect of reporting a rejected token. See the example of
/// [`Session::invalidate`](crate::Session::invalidate).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the token is replaced or it is not")]
pub enum Invalidation {
    /// The session does not hand out the token again. The next
    /// [`permission_token`](crate::session::Session::permission_token) is a newer token: call the
    /// API once more with that.
    Refresh,
    /// This token has just replaced a rejected token, and the API rejected it as well. The crate
    /// starts no refresh, and the session still hands out the token, because other APIs may accept
    /// it. Do not call the API again: it would reject another token too.
    Damped,
}

/// How a [`revoke`](crate::Session::revoke) ended. In every case the session is closed and hands
/// out no token.
///
/// ```
/// use session_warden::session::{Revocation, State};
/// # use session_warden::{SessionKey, Supervisor, testing::ScriptedProvider};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), session_warden::Error> {
/// # let fake = ScriptedProvider::new();
/// # let supervisor = Supervisor::builder().provider("fake", fake).start().await?;
/// # let sessions = supervisor.sessions::<ScriptedProvider>("fake")?;
/// # let session = sessions.session(SessionKey::single("device-17")?);
/// # let _ = session.establish(()).await?;
///
/// let page = match session.revoke().await? {
///     Revocation::AtServer => "You are logged out.",
///     Revocation::Queued => "You are logged out. The other site will know this soon.",
///     _ => "You are logged out here. Log out at the other site too.",
/// };
/// assert_eq!(page, "You are logged out.");
/// assert_eq!(session.status().await?.state, State::Closed);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Revocation {
    /// The server has revoked the tokens.
    AtServer,
    /// The server could not be reached yet. The crate tries again, unless the session is
    /// established again before that.
    Queued,
    /// The server has no means to revoke tokens, or there were no tokens to revoke.
    LocalOnly,
}

/// What to do if there is a session already. See the example of
/// [`Session::adopt`](crate::Session::adopt).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Adopt {
    /// Leave the session as it is, also if it is lost or was revoked. So a repeated import does not
    /// bring back a session that was revoked since.
    IfVacant,
    /// Replace the session with these tokens. This counts as a new grant.
    Replace,
}

/// How an adoption ended. See the example of [`Session::adopt`](crate::Session::adopt).
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
