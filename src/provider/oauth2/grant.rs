//! The grants of RFC 6749 that are exchanged at the token endpoint.

use std::collections::BTreeMap;
use std::time::SystemTime;

use zeroize::Zeroizing;

use super::attributes::Attributes;
use super::jwt_bearer::JwtBearer;
use super::settings::TokenRequest;
use super::token_exchange::TokenExchange;
use super::{FailureClass, OAuth2};
use crate::error::{Refusal, Result};
use crate::provider::UnattendedGrant;
use crate::secret::Secret;

/// The grants with which a session of [`OAuth2`] is established. Each type of grant converts into a
/// `Grant`, so `establish` takes it directly.
///
/// ```
/// use session_warden::provider::oauth2::{
///     AuthorizationCode, ClientCredentials, Grant, OAuth2, Password,
/// };
/// use session_warden::testing::FakeAuthServer;
/// use session_warden::transport::TransportConfig;
/// use session_warden::{SessionKey, Supervisor};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = FakeAuthServer::builder().client("app", "secret").start().await?;
/// let token_endpoint = format!("{}/token", server.url());
/// let client = OAuth2::new(&token_endpoint, "app")?.client_secret_basic("secret");
/// let supervisor = Supervisor::builder()
///     .transport(TransportConfig::default().allow_loopback_http())
///     .provider("acme", client)
///     .start()
///     .await?;
/// let sessions = supervisor.sessions::<OAuth2>("acme")?;
///
/// // A user signs in with a password.
/// let ada = sessions.session(SessionKey::new("eu", "ada")?);
/// let _ = ada.establish(Password::new("ada", "ok").scope("read")).await?;
///
/// // A user has logged in through a browser, without the crate's `begin_login`.
/// let redirect_uri = "https://app.example.com/callback";
/// let code = server.authorization_code("bob", redirect_uri, None);
/// let bob = sessions.session(SessionKey::new("eu", "bob")?);
/// let _ = bob.establish(AuthorizationCode::new(code).redirect_uri(redirect_uri)).await?;
///
/// // A service account needs no user, so `ensure` can establish its session at any time.
/// let reports = sessions.session(SessionKey::new("eu", "reports")?);
/// let token = reports.ensure(ClientCredentials::new()).await?;
/// assert!(server.is_active(token.expose_secret()));
///
/// // A function that takes any of them takes a `Grant`.
/// let grant: Grant = Password::new("ada", "wrong").into();
/// assert!(ada.establish(grant).await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Grant {
    /// A user name and a password (RFC 6749 section 4.3).
    Password(Password),
    /// Client credentials (RFC 6749 section 4.4).
    ClientCredentials(ClientCredentials),
    /// A code from a redirect (RFC 6749 section 4.1).
    AuthorizationCode(AuthorizationCode),
    /// A code of a login on another device (RFC 8628 section 3.4).
    DeviceCode(DeviceCode),
    /// The JWT of a service account (RFC 7523 section 2.1).
    JwtBearer(JwtBearer),
    /// Another token (RFC 8693).
    TokenExchange(TokenExchange),
}

/// A user name and a password (RFC 6749 section 4.3). Newer servers no longer accept this grant
/// (RFC 9700 section 2.4). See the example of [`Grant`].
#[derive(Clone, Debug)]
pub struct Password {
    username: String,
    password: Secret,
    scope: Option<String>,
}

/// Client credentials (RFC 6749 section 4.4). The client needs a secret. See the example of
/// [`Grant`].
#[derive(Clone, Debug, Default)]
pub struct ClientCredentials {
    scope: Option<String>,
}

/// A code from a redirect (RFC 6749 section 4.1.3). A backend needs it only for a login that it
/// began itself: [`finish_login`](crate::session::Session::finish_login) reads the code of a login
/// that the crate began. See the example of [`Grant`].
#[derive(Clone, Debug)]
pub struct AuthorizationCode {
    code: Secret,
    redirect_uri: Option<String>,
    verifier: Option<Secret>,
    /// The scope of the authorization request, if it is known.
    scope: Option<String>,
    /// Whether the redirect named no issuer, at a time when it was not known whether it must.
    without_issuer: bool,
    /// The host that the redirect named, which is allowed.
    host: Option<String>,
    /// The parameters of the redirect that the session keeps.
    more: BTreeMap<String, String>,
}

/// A code with which a backend polls for the tokens of a login on another device (RFC 8628 section
/// 3.4). A backend needs it only for a login that it began itself:
/// [`finish_device_login`](crate::Session::finish_device_login) polls for a login that the crate
/// began.
///
/// ```
/// use session_warden::provider::oauth2::{DeviceCode, Grant};
///
/// let grant: Grant = DeviceCode::new("canary").into();
/// assert!(!format!("{grant:?}").contains("canary"));
/// ```
#[derive(Clone, Debug)]
pub struct DeviceCode {
    code: Secret,
    /// The scope of the request for the codes, if it is known.
    scope: Option<String>,
}

impl Password {
    /// The grant of this user with this password.
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
    /// Client credentials that request the provider's scope.
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
    /// The grant of this code, which the browser brought back.
    #[must_use]
    pub fn new(code: impl Into<Secret>) -> Self {
        Self {
            code: code.into(),
            redirect_uri: None,
            verifier: None,
            scope: None,
            without_issuer: false,
            host: None,
            more: BTreeMap::new(),
        }
    }

    /// Sets the redirect URI of the authorization request. It is required if that request had one.
    #[must_use]
    pub fn redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.redirect_uri = Some(uri.into());
        self
    }

    /// Sets the code verifier. Its challenge was in the authorization request (RFC 7636 section
    /// 4.5).
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

    /// With what the redirect says of the session.
    pub(super) fn of_redirect(
        mut self,
        host: Option<String>,
        more: BTreeMap<String, String>,
    ) -> Self {
        (self.host, self.more) = (host, more);
        self
    }
}

impl DeviceCode {
    /// The grant of this device code.
    #[must_use]
    pub fn new(code: impl Into<Secret>) -> Self {
        Self { code: code.into(), scope: None }
    }

    pub(super) fn requested_scope(mut self, scope: Option<String>) -> Self {
        self.scope = scope;
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

impl From<DeviceCode> for Grant {
    fn from(grant: DeviceCode) -> Self {
        Self::DeviceCode(grant)
    }
}

impl From<JwtBearer> for Grant {
    fn from(grant: JwtBearer) -> Self {
        Self::JwtBearer(grant)
    }
}

impl UnattendedGrant<OAuth2> for JwtBearer {}

impl From<TokenExchange> for Grant {
    fn from(grant: TokenExchange) -> Self {
        Self::TokenExchange(grant)
    }
}

impl Grant {
    /// Whether the token request names the scope: not with a code, which has the scope of its
    /// authorization request.
    pub(super) fn names_scope(&self) -> bool {
        match self {
            Self::Password(_)
            | Self::ClientCredentials(_)
            | Self::JwtBearer(_)
            | Self::TokenExchange(_) => true,
            Self::AuthorizationCode(_) | Self::DeviceCode(_) => false,
        }
    }

    /// The requested scope, which applies if the server's response names none (RFC 6749 section
    /// 5.1). `general` is the provider's.
    pub(super) fn requested_scope<'s>(&'s self, general: Option<&'s str>) -> Option<&'s str> {
        match self {
            Self::Password(grant) => grant.scope.as_deref().or(general),
            Self::ClientCredentials(grant) => grant.scope.as_deref().or(general),
            Self::AuthorizationCode(grant) => grant.scope.as_deref(),
            Self::DeviceCode(grant) => grant.scope.as_deref(),
            Self::JwtBearer(grant) => grant.scope.as_deref().or(general),
            Self::TokenExchange(grant) => grant.scope.as_deref().or(general),
        }
    }

    /// The host that the grant's redirect named.
    pub(super) fn host(&self) -> Option<&str> {
        match self {
            Self::AuthorizationCode(grant) => grant.host.as_deref(),
            Self::Password(_)
            | Self::ClientCredentials(_)
            | Self::DeviceCode(_)
            | Self::JwtBearer(_)
            | Self::TokenExchange(_) => None,
        }
    }

    /// The attributes of the session as far as the grant knows them.
    pub(super) fn attributes(&self, scope: Option<&str>) -> Attributes {
        let scope = scope.map(str::to_owned);
        match self {
            Self::AuthorizationCode(grant) => {
                let (host, more) = (grant.host.clone(), grant.more.clone());
                Attributes { scope, host, more, ..Attributes::default() }
            }
            Self::Password(_)
            | Self::ClientCredentials(_)
            | Self::DeviceCode(_)
            | Self::JwtBearer(_)
            | Self::TokenExchange(_) => Attributes { scope, ..Attributes::default() },
        }
    }

    /// Whether it comes from a redirect without an issuer. A server whose metadata promises one has
    /// not sent such a redirect (RFC 9207 section 2.4).
    pub(super) fn lacks_issuer(&self) -> bool {
        match self {
            Self::AuthorizationCode(grant) => grant.without_issuer,
            Self::Password(_)
            | Self::ClientCredentials(_)
            | Self::DeviceCode(_)
            | Self::JwtBearer(_)
            | Self::TokenExchange(_) => false,
        }
    }

    /// Whether the grant itself says which client sends it.
    pub(super) fn names_client(&self) -> bool {
        matches!(self, Self::JwtBearer(_))
    }

    /// The JWT of the grant, signed at this time.
    pub(super) fn assertion(
        &self,
        client_id: &str,
        audience: &str,
        now: SystemTime,
    ) -> Result<Option<Zeroizing<String>>> {
        let Self::JwtBearer(grant) = self else { return Ok(None) };
        grant.signed(client_id, audience, now).map(Some)
    }

    /// The fields of the token request, without those of scope and client, and without the JWT.
    pub(in crate::provider) fn fields<'f>(
        &'f self,
        names: &'f TokenRequest,
    ) -> Vec<(&'f str, &'f str)> {
        let grant_type = ("grant_type", self.grant_type(names));
        match self {
            Self::Password(grant) => vec![
                grant_type,
                ("username", &grant.username),
                ("password", grant.password.expose_secret()),
            ],
            Self::ClientCredentials(_) | Self::JwtBearer(_) => vec![grant_type],
            Self::AuthorizationCode(grant) => {
                let code = names.code_parameter.as_deref().unwrap_or("code");
                let mut fields = vec![grant_type, (code, grant.code.expose_secret())];
                fields.extend(grant.redirect_uri.as_deref().map(|uri| ("redirect_uri", uri)));
                let verifier = grant.verifier.as_ref().map(Secret::expose_secret);
                fields.extend(verifier.map(|verifier| ("code_verifier", verifier)));
                fields
            }
            Self::TokenExchange(grant) => {
                let mut fields = vec![grant_type];
                fields.extend(grant.fields());
                fields
            }
            Self::DeviceCode(grant) => {
                vec![grant_type, ("device_code", grant.code.expose_secret())]
            }
        }
    }

    fn grant_type<'f>(&self, names: &'f TokenRequest) -> &'f str {
        let words = &names.grant_types;
        let (own, standard) = match self {
            Self::Password(_) => (&words.password, "password"),
            Self::ClientCredentials(_) => (&words.client_credentials, "client_credentials"),
            Self::AuthorizationCode(_) => (&words.authorization_code, "authorization_code"),
            Self::DeviceCode(_) => return DEVICE_CODE,
            Self::JwtBearer(_) => return JWT_BEARER,
            Self::TokenExchange(_) => return TOKEN_EXCHANGE,
        };
        own.as_deref().unwrap_or(standard)
    }

    /// The failure that `invalid_grant` means for this grant.
    pub(super) fn invalid_grant_class(&self) -> FailureClass {
        FailureClass::Refused(match self {
            Self::Password(_) => Refusal::WrongCredentials,
            Self::AuthorizationCode(_) | Self::DeviceCode(_) | Self::TokenExchange(_) => {
                Refusal::GrantExpired
            }
            Self::ClientCredentials(_) | Self::JwtBearer(_) => Refusal::Other,
        })
    }
}

/// RFC 8628 section 3.4.
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// RFC 7523 section 2.1.
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// RFC 8693 section 2.1.
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
