//! The grants with which a session is established.

use crate::secret::Secret;
use crate::ticket::Ticket;

/// The grants with which a session of [`ExtraHorizonOAuth1`](super::ExtraHorizonOAuth1) is
/// established. If you already have a token and its token secret, you need no grant:
/// [adopt](crate::session::Session::adopt) them. See the [example of the module](super).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ExtraHorizonOAuth1Grant {
    /// An e-mail address and a password.
    Password(ExtraHorizonPassword),
    /// The answer to a challenge.
    Mfa(MfaAnswer),
    /// A single-use token of another session.
    Sso(SsoToken),
}

/// The grants with which a session of [`ExtraHorizonOAuth2`](super::ExtraHorizonOAuth2) is
/// established. See the [example of the module](super).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ExtraHorizonOAuth2Grant {
    /// An e-mail address and a password (RFC 6749 section 4.3).
    Password(ExtraHorizonPassword),
    /// The answer to a challenge.
    Mfa(MfaAnswer),
    /// A code (RFC 6749 section 4.1).
    Code(ExtraHorizonCode),
    /// A code of an `OpenID` Connect provider of the cluster.
    Oidc(OidcLogin),
}

/// An e-mail address and a password, the vendor's "password grant". See the
/// [example of the module](super).
#[derive(Clone, Debug)]
#[doc(alias = "authenticate")]
pub struct ExtraHorizonPassword {
    pub(super) email: String,
    pub(super) password: Secret,
}

/// The answer to an [`MfaChallenge`](super::MfaChallenge), the vendor's "MFA grant".
///
/// If the code is wrong, the caller gets `Refused(WrongCode)`. If a code comes too soon after a
/// wrong one, the caller gets `Refused(CodeTooSoon)` with
/// [`retry_after`](crate::Error::retry_after). In both cases, use the same ticket again. After
/// `Refused(ChallengeExpired)`, begin again with the password. See the [example of the
/// module](super).
#[derive(Clone, Debug)]
#[doc(alias = "confirmMfa")]
pub struct MfaAnswer {
    pub(super) ticket: Ticket,
    pub(super) method_id: String,
    pub(super) code: Secret,
}

/// A single-use token of another session, the vendor's "SSO token grant". One application creates
/// it with [`GenerateSsoToken`](super::GenerateSsoToken), and another application establishes a
/// session with it: the server issues a token to that application. See the [example of the
/// module](super).
#[derive(Clone, Debug)]
#[doc(alias = "consumeSsoToken")]
pub struct SsoToken {
    pub(super) token: Secret,
    pub(super) id: Option<String>,
    pub(super) user_id: Option<String>,
    pub(super) expires_at: Option<std::time::SystemTime>,
}

/// An authorization code (RFC 6749 section 4.1.3). See the [example of the module](super).
#[derive(Clone, Debug)]
pub struct ExtraHorizonCode {
    pub(super) code: Secret,
    pub(super) redirect_uri: Option<String>,
    pub(super) verifier: Option<Secret>,
}

/// A code of an `OpenID` Connect provider that is registered at the cluster under a name. See the
/// [example of the module](super).
#[derive(Clone, Debug)]
#[doc(alias = "authenticateWithOidc")]
pub struct OidcLogin {
    pub(super) provider: String,
    pub(super) code: Secret,
}

impl ExtraHorizonPassword {
    /// The grant of this user with this password.
    #[must_use]
    pub fn new(email: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self { email: email.into(), password: password.into() }
    }
}

impl MfaAnswer {
    /// The code of the method with this id, for the challenge with this ticket.
    #[must_use]
    pub fn new(ticket: Ticket, method_id: impl Into<String>, code: impl Into<Secret>) -> Self {
        Self { ticket, method_id: method_id.into(), code: code.into() }
    }
}

impl SsoToken {
    /// The grant of this token.
    #[must_use]
    pub fn new(token: impl Into<Secret>) -> Self {
        Self { token: token.into(), id: None, user_id: None, expires_at: None }
    }

    /// The token. Give it to the other application.
    #[must_use]
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// The id of its record, if the server sent it.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The id of the token's user, if the server sent it.
    #[must_use]
    pub fn user_id(&self) -> Option<&str> {
        self.user_id.as_deref()
    }

    /// When it expires, by the server's clock, if the server sent it.
    #[must_use]
    pub fn expires_at(&self) -> Option<std::time::SystemTime> {
        self.expires_at
    }
}

impl ExtraHorizonCode {
    /// The grant of this code.
    #[must_use]
    pub fn new(code: impl Into<Secret>) -> Self {
        Self { code: code.into(), redirect_uri: None, verifier: None }
    }

    /// Sets the redirect URI of the authorization request. By default the client sends none, like
    /// the SDK, although the API description requires it.
    #[must_use]
    pub fn redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.redirect_uri = Some(uri.into());
        self
    }

    /// Sets the code verifier. Its challenge was in the authorization request (RFC 7636 section
    /// 4.5). By default the client sends none.
    #[must_use]
    pub fn code_verifier(mut self, verifier: impl Into<Secret>) -> Self {
        self.verifier = Some(verifier.into());
        self
    }
}

impl OidcLogin {
    /// The grant of this code, which the `OpenID` Connect provider with this name issued.
    #[must_use]
    pub fn new(provider: impl Into<String>, code: impl Into<Secret>) -> Self {
        Self { provider: provider.into(), code: code.into() }
    }
}

impl From<ExtraHorizonPassword> for ExtraHorizonOAuth1Grant {
    fn from(grant: ExtraHorizonPassword) -> Self {
        Self::Password(grant)
    }
}

impl From<MfaAnswer> for ExtraHorizonOAuth1Grant {
    fn from(grant: MfaAnswer) -> Self {
        Self::Mfa(grant)
    }
}

impl From<SsoToken> for ExtraHorizonOAuth1Grant {
    fn from(grant: SsoToken) -> Self {
        Self::Sso(grant)
    }
}

impl From<ExtraHorizonPassword> for ExtraHorizonOAuth2Grant {
    fn from(grant: ExtraHorizonPassword) -> Self {
        Self::Password(grant)
    }
}

impl From<MfaAnswer> for ExtraHorizonOAuth2Grant {
    fn from(grant: MfaAnswer) -> Self {
        Self::Mfa(grant)
    }
}

impl From<ExtraHorizonCode> for ExtraHorizonOAuth2Grant {
    fn from(grant: ExtraHorizonCode) -> Self {
        Self::Code(grant)
    }
}

impl From<OidcLogin> for ExtraHorizonOAuth2Grant {
    fn from(grant: OidcLogin) -> Self {
        Self::Oidc(grant)
    }
}
