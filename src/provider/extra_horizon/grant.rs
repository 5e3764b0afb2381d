//! What a session can be established with.

use crate::secret::Secret;
use crate::ticket::Ticket;

/// What [`ExtraHorizonOAuth1`](super::ExtraHorizonOAuth1) takes to establish a session. A token and a token secret that
/// exist already need no grant: adopt them.
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

/// What [`ExtraHorizonOAuth2`](super::ExtraHorizonOAuth2) takes to establish a session.
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

/// An e-mail address and a password, the vendor's "password grant".
#[derive(Clone, Debug)]
#[doc(alias = "authenticate")]
pub struct ExtraHorizonPassword {
    pub(super) email: String,
    pub(super) password: Secret,
}

/// The answer to an [`MfaChallenge`](super::MfaChallenge), the vendor's "MFA grant".
///
/// For a wrong code the caller gets `Refused(WrongCode)`, for a code too soon after a wrong one
/// `Refused(CodeTooSoon)` with [`retry_after`](crate::Error::retry_after). In both cases use the
/// same ticket again. After `Refused(ChallengeExpired)` begin again with the password.
#[derive(Clone, Debug)]
#[doc(alias = "confirmMfa")]
pub struct MfaAnswer {
    pub(super) ticket: Ticket,
    pub(super) method_id: String,
    pub(super) code: Secret,
}

/// A single-use token of another session, the vendor's "SSO token grant":
/// [`GenerateSsoToken`](super::GenerateSsoToken) gives it, and another application consumes it. The
/// session's token is then the one that the server issues to the consuming application.
#[derive(Clone, Debug)]
#[doc(alias = "consumeSsoToken")]
pub struct SsoToken {
    pub(super) token: Secret,
    pub(super) id: Option<String>,
    pub(super) user_id: Option<String>,
    pub(super) expires_at: Option<std::time::SystemTime>,
}

/// A code (RFC 6749 section 4.1.3).
#[derive(Clone, Debug)]
pub struct ExtraHorizonCode {
    pub(super) code: Secret,
    pub(super) redirect_uri: Option<String>,
    pub(super) verifier: Option<Secret>,
}

/// A code of an `OpenID` Connect provider that the cluster knows by this name.
#[derive(Clone, Debug)]
#[doc(alias = "authenticateWithOidc")]
pub struct OidcLogin {
    pub(super) provider: String,
    pub(super) code: Secret,
}

impl ExtraHorizonPassword {
    /// This user with this password.
    #[must_use]
    pub fn new(email: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self { email: email.into(), password: password.into() }
    }
}

impl MfaAnswer {
    /// This code of the method with this id, to the challenge with this ticket.
    #[must_use]
    pub fn new(ticket: Ticket, method_id: impl Into<String>, code: impl Into<Secret>) -> Self {
        Self { ticket, method_id: method_id.into(), code: code.into() }
    }
}

impl SsoToken {
    /// This token.
    #[must_use]
    pub fn new(token: impl Into<Secret>) -> Self {
        Self { token: token.into(), id: None, user_id: None, expires_at: None }
    }

    /// The token itself. Give it to the other application.
    #[must_use]
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// The id of its record, if the server sent it.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The user that it logs in, if the server sent it.
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
    /// This code.
    #[must_use]
    pub fn new(code: impl Into<Secret>) -> Self {
        Self { code: code.into(), redirect_uri: None, verifier: None }
    }

    /// The redirect URI that the code was made for. The API description requires it, but the SDK
    /// does not send it. By default this client does not send it either.
    #[must_use]
    pub fn redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.redirect_uri = Some(uri.into());
        self
    }

    /// The verifier whose challenge the code was made for (RFC 7636 section 4.5). By default none
    /// is sent.
    #[must_use]
    pub fn code_verifier(mut self, verifier: impl Into<Secret>) -> Self {
        self.verifier = Some(verifier.into());
        self
    }
}

impl OidcLogin {
    /// This code of the provider with this name.
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
