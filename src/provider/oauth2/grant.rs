//! The grants of RFC 6749 that are exchanged at the token endpoint.

use super::{FailureClass, OAuth2};
use crate::error::Refusal;
use crate::provider::UnattendedGrant;
use crate::secret::Secret;

/// What [`OAuth2`] takes to establish a session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Grant {
    /// A user name and a password (RFC 6749 section 4.3).
    Password(Password),
    /// Client credentials (RFC 6749 section 4.4).
    ClientCredentials(ClientCredentials),
    /// A code from a redirect (RFC 6749 section 4.1).
    AuthorizationCode(AuthorizationCode),
}

/// A user name and a password (RFC 6749 section 4.3). Newer servers no longer accept it (RFC 9700
/// section 2.4).
#[derive(Clone, Debug)]
pub struct Password {
    username: String,
    password: Secret,
    scope: Option<String>,
}

/// Client credentials (RFC 6749 section 4.4). The client needs a secret.
#[derive(Clone, Debug, Default)]
pub struct ClientCredentials {
    scope: Option<String>,
}

/// A code from a redirect (RFC 6749 section 4.1.3).
#[derive(Clone, Debug)]
pub struct AuthorizationCode {
    code: Secret,
    redirect_uri: Option<String>,
    verifier: Option<Secret>,
    /// The scope of the authorization request, if it is known.
    scope: Option<String>,
    /// Whether the redirect named no issuer, at a time when it was not known whether it must.
    without_issuer: bool,
}

impl Password {
    /// This user with this password.
    #[must_use]
    pub fn new(username: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self { username: username.into(), password: password.into(), scope: None }
    }

    /// Requests this scope, names with spaces between them, in place of the provider's.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }
}

impl UnattendedGrant<OAuth2> for ClientCredentials {}

impl ClientCredentials {
    /// With the provider's scope.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests this scope, names with spaces between them, in place of the provider's.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }
}

impl AuthorizationCode {
    /// This code, from the redirect.
    #[must_use]
    pub fn new(code: impl Into<Secret>) -> Self {
        Self {
            code: code.into(),
            redirect_uri: None,
            verifier: None,
            scope: None,
            without_issuer: false,
        }
    }

    /// The redirect URI of the authorization request. It is required if that request had one.
    #[must_use]
    pub fn redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.redirect_uri = Some(uri.into());
        self
    }

    /// The verifier whose challenge was in the authorization request (RFC 7636 section 4.5).
    #[must_use]
    pub fn code_verifier(mut self, verifier: impl Into<Secret>) -> Self {
        self.verifier = Some(verifier.into());
        self
    }

    pub(super) fn requested_scope(mut self, scope: Option<&str>) -> Self {
        self.scope = scope.map(str::to_owned);
        self
    }

    pub(super) fn without_issuer(mut self, without_issuer: bool) -> Self {
        self.without_issuer = without_issuer;
        self
    }
}

impl From<Password> for Grant {
    fn from(grant: Password) -> Self {
        Self::Password(grant)
    }
}

impl From<ClientCredentials> for Grant {
    fn from(grant: ClientCredentials) -> Self {
        Self::ClientCredentials(grant)
    }
}

impl From<AuthorizationCode> for Grant {
    fn from(grant: AuthorizationCode) -> Self {
        Self::AuthorizationCode(grant)
    }
}

impl Grant {
    /// The scope to request; `general` is the provider's. None for a code, which has the scope of
    /// its authorization request.
    pub(super) fn scope<'s>(&'s self, general: Option<&'s str>) -> Option<&'s str> {
        match self {
            Self::Password(grant) => grant.scope.as_deref().or(general),
            Self::ClientCredentials(grant) => grant.scope.as_deref().or(general),
            Self::AuthorizationCode(_) => None,
        }
    }

    /// The scope that applies if the server's response names none (RFC 6749 section 5.1).
    pub(super) fn requested_scope<'s>(&'s self, general: Option<&'s str>) -> Option<&'s str> {
        match self {
            Self::Password(_) | Self::ClientCredentials(_) => self.scope(general),
            Self::AuthorizationCode(grant) => grant.scope.as_deref(),
        }
    }

    /// Whether it comes from a redirect without an issuer. A server whose metadata promises one has
    /// not sent such a redirect (RFC 9207 section 2.4).
    pub(super) fn lacks_issuer(&self) -> bool {
        match self {
            Self::Password(_) | Self::ClientCredentials(_) => false,
            Self::AuthorizationCode(grant) => grant.without_issuer,
        }
    }

    /// The fields of the token request, without those of scope and client.
    pub(in crate::provider) fn fields(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Password(grant) => vec![
                ("grant_type", "password"),
                ("username", &grant.username),
                ("password", grant.password.expose_secret()),
            ],
            Self::ClientCredentials(_) => vec![("grant_type", "client_credentials")],
            Self::AuthorizationCode(grant) => {
                let mut fields = vec![
                    ("grant_type", "authorization_code"),
                    ("code", grant.code.expose_secret()),
                ];
                fields.extend(grant.redirect_uri.as_deref().map(|uri| ("redirect_uri", uri)));
                let verifier = grant.verifier.as_ref().map(Secret::expose_secret);
                fields.extend(verifier.map(|verifier| ("code_verifier", verifier)));
                fields
            }
        }
    }

    /// The failure that `invalid_grant` means for this grant.
    pub(super) fn invalid_grant_class(&self) -> FailureClass {
        FailureClass::Refused(match self {
            Self::Password(_) => Refusal::WrongCredentials,
            Self::AuthorizationCode(_) => Refusal::GrantExpired,
            Self::ClientCredentials(_) => Refusal::Other,
        })
    }
}
