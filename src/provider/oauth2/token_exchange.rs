//! Tokens in exchange for other tokens (RFC 8693).

use crate::error::Refusal;
use crate::provider::{ExchangeError, FailureClass};
use crate::secret::Secret;

/// Exchanges a token for another one (RFC 8693): a user's token for a token of an API that the backend
/// calls for this user, for example. The session has the type of the issued token in
/// [`Attributes::issued_token_type`](super::Attributes::issued_token_type).
///
/// The crate does not keep the subject's and the actor's token. If the server issues no refresh token,
/// the session ends with its access token, unless
/// [`renew_with`](crate::provider::Registration::renew_with) gives another grant.
///
/// ```
/// use session_warden::provider::oauth2::{OAuth2, TokenExchange, TokenType};
/// use session_warden::{Error, Session};
///
/// async fn call_for(session: Session<OAuth2>, users_token: &str) -> Result<(), Error> {
///     let grant = TokenExchange::new(users_token, TokenType::AccessToken)
///         .requested_token_type(TokenType::AccessToken)
///         .audience("https://orders.example.com")
///         .scope("orders:read");
///     let _ = session.establish(grant).await?;
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct TokenExchange {
    subject: (Secret, TokenType),
    actor: Option<(Secret, TokenType)>,
    requested: Option<TokenType>,
    resources: Vec<String>,
    audiences: Vec<String>,
    pub(super) scope: Option<String>,
}

/// The type of a token (RFC 8693 section 3). See the example of [`TokenExchange`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenType {
    /// An OAuth 2.0 access token.
    AccessToken,
    /// An OAuth 2.0 refresh token.
    RefreshToken,
    /// An `OpenID` Connect ID token.
    IdToken,
    /// A SAML 1.1 assertion, in base64url.
    Saml1,
    /// A SAML 2.0 assertion, in base64url.
    Saml2,
    /// A JWT.
    Jwt,
    /// Another type: a URI.
    Other(String),
}

impl TokenType {
    /// The URI of the type.
    ///
    /// ```
    /// use session_warden::provider::oauth2::TokenType;
    ///
    /// assert_eq!(TokenType::Jwt.uri(), "urn:ietf:params:oauth:token-type:jwt");
    /// ```
    #[must_use]
    pub fn uri(&self) -> &str {
        match self {
            Self::AccessToken => "urn:ietf:params:oauth:token-type:access_token",
            Self::RefreshToken => "urn:ietf:params:oauth:token-type:refresh_token",
            Self::IdToken => "urn:ietf:params:oauth:token-type:id_token",
            Self::Saml1 => "urn:ietf:params:oauth:token-type:saml1",
            Self::Saml2 => "urn:ietf:params:oauth:token-type:saml2",
            Self::Jwt => "urn:ietf:params:oauth:token-type:jwt",
            Self::Other(uri) => uri,
        }
    }
}

impl TokenExchange {
    /// Exchanges this token of this type: it says for whom the new token is.
    #[must_use]
    pub fn new(subject_token: impl Into<Secret>, subject_token_type: TokenType) -> Self {
        Self {
            subject: (subject_token.into(), subject_token_type),
            actor: None,
            requested: None,
            resources: Vec::new(),
            audiences: Vec::new(),
            scope: None,
        }
    }

    /// Sets the token of the party that acts for the subject.
    #[must_use]
    pub fn actor_token(mut self, token: impl Into<Secret>, token_type: TokenType) -> Self {
        self.actor = Some((token.into(), token_type));
        self
    }

    /// Requests a token of this type. The session can use only a token that goes to an API as a bearer
    /// token: an access token or a JWT.
    #[must_use]
    pub fn requested_token_type(mut self, token_type: TokenType) -> Self {
        self.requested = Some(token_type);
        self
    }

    /// Adds the URI of a service where the new token will be used.
    #[must_use]
    pub fn resource(mut self, uri: impl Into<String>) -> Self {
        self.resources.push(uri.into());
        self
    }

    /// Adds the name of a service where the new token will be used, as the server knows it.
    #[must_use]
    pub fn audience(mut self, name: impl Into<String>) -> Self {
        self.audiences.push(name.into());
        self
    }

    /// Requests this scope, names with spaces between them, in place of the provider's.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// The fields of RFC 8693 section 2.1, without those of type and scope.
    pub(super) fn fields(&self) -> Vec<(&str, &str)> {
        let (subject, subject_type) = &self.subject;
        let mut fields = vec![
            ("subject_token", subject.expose_secret()),
            ("subject_token_type", subject_type.uri()),
        ];
        if let Some((actor, actor_type)) = &self.actor {
            fields.push(("actor_token", actor.expose_secret()));
            fields.push(("actor_token_type", actor_type.uri()));
        }
        fields.extend(self.requested.as_ref().map(|it| ("requested_token_type", it.uri())));
        fields.extend(self.resources.iter().map(|uri| ("resource", uri.as_str())));
        fields.extend(self.audiences.iter().map(|name| ("audience", name.as_str())));
        fields
    }
}

/// The failure of an exchange. A token that is not valid is an `invalid_request` (RFC 8693 section
/// 2.2.2): it says something of this user, and nothing of the client's settings.
pub(super) fn of_exchange(failed: ExchangeError) -> ExchangeError {
    let code = failed.code.as_ref().map(|code| code.as_str());
    if code != Some("invalid_request") || failed.class() != FailureClass::Unclassified {
        return failed;
    }
    ExchangeError { class: FailureClass::Refused(Refusal::Other), ..failed }
}
