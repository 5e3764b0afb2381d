//! The settings of a client as data: what a backend keeps in a table, one row per tenant.

mod authorization;
mod client_authentication;
mod jwt_assertion;
mod refresh_due;
mod response_rule;
mod serde_forms;
mod session_host;
mod token_request;
mod token_response;

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::authorization::{AuthorizationRequest, AuthorizationResponse, Pkce};
pub use self::client_authentication::{
    ClientAuthentication, CredentialHeaders, PrivateKeyJwt, SigningAlgorithm,
};
pub use self::jwt_assertion::JwtAssertion;
pub use self::refresh_due::RefreshDue;
pub use self::response_rule::{DeadTokenRule, ErrorClass, ErrorRule, JsonScalar};
use self::serde_forms::{is_default, optional_secret};
pub use self::session_host::SessionHost;
pub use self::token_request::{
    GrantTypes, ParameterValue, Parameters, RefreshRequest, RequestBody, TokenRequest,
};
pub use self::token_response::{LifetimeUnit, TokenResponse};
use crate::provider::{RevocationReach, Rotation, serde_seconds};
use crate::secret::Secret;

/// The settings of an [`OAuth2`](super::OAuth2) client as data, in JSON, TOML or any other format
/// of serde. [`OAuth2::from_settings`](super::OAuth2::from_settings) makes the client.
///
/// Every field is optional except `client_id` and at least one of `token_endpoint` and `issuer`. An
/// unknown field is an error. An error names the field: `token_request.headers` for example. The
/// secret and the private key are read and never written, and the text of this crate in an error
/// never has them. But a TOML parser may add the line of your text, which may have the secret. So
/// show [`message()`](https://docs.rs/toml/1/toml/de/struct.Error.html#method.message) of its
/// error, and not its `Display`.
///
/// ```
/// use session_warden::provider::oauth2::{OAuth2, OAuth2Settings};
///
/// let row = r#"{
///     "token_endpoint": "https://login.example.com/oauth/token",
///     "client_id": "backend",
///     "client_secret": "canary",
///     "client_authentication": "post",
///     "rotation": { "idempotent": 30 },
///     "refresh_request": { "parameters": { "audience": "https://api.example.com" } },
///     "error_rules": [
///         { "status": 400, "pointer": "/status", "value": "BAD_TOKEN", "class": "invalid_grant" }
///     ]
/// }"#;
/// let settings: OAuth2Settings = serde_json::from_str(row)?;
/// assert!(!serde_json::to_string(&settings)?.contains("canary"));
/// let client = OAuth2::from_settings(settings)?;
///
/// let wrong = serde_json::from_str::<OAuth2Settings>(r#"{ "token_request": { "header": {} } }"#);
/// assert!(wrong.unwrap_err().to_string().starts_with("`token_request.header`: unknown field"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "made by users with struct update syntax")]
pub struct OAuth2Settings {
    /// The token endpoint (RFC 6749 section 3.2). Without it, the client discovers the endpoints of
    /// the `issuer`.
    #[serde(skip_serializing_if = "is_default")]
    pub token_endpoint: Option<String>,
    /// The server's issuer identifier (RFC 8414 section 2). See
    /// [`OAuth2::issuer`](super::OAuth2::issuer) and [`OAuth2::discover`](super::OAuth2::discover).
    #[serde(skip_serializing_if = "is_default")]
    pub issuer: Option<String>,
    /// The id that the server issued to the client.
    pub client_id: String,
    /// The client's secret. It is never serialized.
    #[serde(skip_serializing, with = "optional_secret")]
    pub client_secret: Option<Secret>,
    /// The client's private key in PEM, not encrypted: PKCS#8, SEC1 or PKCS#1. It is never
    /// serialized. With [`ClientAuthentication::PrivateKeyJwt`], it signs the JWTs. With
    /// `client_certificate`, it is the certificate's private key. If you use both, they share this
    /// key.
    #[serde(skip_serializing, with = "optional_secret")]
    pub client_key: Option<Secret>,
    /// The client's certificate in PEM, and after it those of its authorities, if the server needs
    /// them. The client presents it in the TLS handshake. See
    /// [`OAuth2::client_certificate`](super::OAuth2::client_certificate).
    #[serde(skip_serializing_if = "is_default")]
    pub client_certificate: Option<String>,
    /// How the client authenticates. Defaults to `basic` with a secret, and to `none` without one.
    #[serde(skip_serializing_if = "is_default")]
    pub client_authentication: Option<ClientAuthentication>,
    /// The name of `client_id` in requests, if the server has another.
    #[serde(skip_serializing_if = "is_default")]
    pub client_id_parameter: Option<String>,
    /// The name of `client_secret` in requests, if the server has another.
    #[serde(skip_serializing_if = "is_default")]
    pub client_secret_parameter: Option<String>,
    /// How requests carry their fields: token, refresh, revocation and introspection requests.
    #[serde(skip_serializing_if = "is_default")]
    pub request_body: RequestBody,
    /// The scope to request, names with spaces between them. See
    /// [`OAuth2::scope`](super::OAuth2::scope).
    #[serde(skip_serializing_if = "is_default")]
    pub scope: Option<String>,
    /// The text between two names of a scope in requests and responses. Defaults to a space (RFC
    /// 6749 section 3.3).
    #[serde(skip_serializing_if = "is_default")]
    pub scope_separator: Option<String>,
    /// The endpoint for refreshes, if it is not the token endpoint.
    #[serde(skip_serializing_if = "is_default")]
    pub refresh_endpoint: Option<String>,
    /// The revocation endpoint (RFC 7009 section 2).
    #[serde(skip_serializing_if = "is_default")]
    pub revocation_endpoint: Option<String>,
    /// The authorization endpoint (RFC 6749 section 3.1). See
    /// [`OAuth2::authorization_endpoint`](super::OAuth2::authorization_endpoint).
    #[serde(skip_serializing_if = "is_default")]
    pub authorization_endpoint: Option<String>,
    /// The endpoint to which the parameters of each login are pushed (RFC 9126 section 2). See
    /// [`OAuth2::pushed_authorization_request_endpoint`](super::OAuth2::pushed_authorization_request_endpoint).
    #[serde(skip_serializing_if = "is_default")]
    pub pushed_authorization_request_endpoint: Option<String>,
    /// Whether the parameters of each login are pushed to the server first. See
    /// [`OAuth2::push_authorization_requests`](super::OAuth2::push_authorization_requests).
    #[serde(skip_serializing_if = "is_default")]
    pub push_authorization_requests: bool,
    /// The endpoint that gives the codes of logins on another device (RFC 8628 section 3.1).
    #[serde(skip_serializing_if = "is_default")]
    pub device_authorization_endpoint: Option<String>,
    /// The introspection endpoint (RFC 7662 section 2).
    #[serde(skip_serializing_if = "is_default")]
    pub introspection_endpoint: Option<String>,
    /// The user info endpoint (`OpenID` Connect Core 1.0 section 5.3).
    #[serde(skip_serializing_if = "is_default")]
    pub userinfo_endpoint: Option<String>,
    /// The redirect URI (RFC 6749 section 3.1.2). Logins through a browser need it.
    #[serde(skip_serializing_if = "is_default")]
    pub redirect_uri: Option<String>,
    /// Whether the redirect after a login must contain `iss`. See
    /// [`OAuth2::require_issuer`](super::OAuth2::require_issuer).
    #[serde(skip_serializing_if = "is_default")]
    pub require_issuer: bool,
    /// What the server does to a refresh token that was used: `"strict"`, `"static"`,
    /// `{"idempotent": 30}`, `{"fork": 30}` or `{"newest_only": 30}`, in seconds.
    #[serde(skip_serializing_if = "is_default")]
    pub rotation: Option<Rotation>,
    /// Which tokens a revocation makes invalid: `"unknown"` or `"one_grant"`.
    #[serde(skip_serializing_if = "is_default")]
    pub revocation_reach: RevocationReach,
    /// Whether a refresh makes the earlier access tokens of the session invalid.
    #[serde(skip_serializing_if = "is_default")]
    pub refresh_ends_access_tokens: bool,
    /// Whether each session obtains new tokens automatically with client credentials. See
    /// [`OAuth2::client_credentials`](super::OAuth2::client_credentials).
    #[serde(skip_serializing_if = "is_default")]
    pub client_credentials: bool,
    /// The JWT with which each session obtains new tokens automatically. See
    /// [`OAuth2::jwt_bearer`](super::OAuth2::jwt_bearer).
    #[serde(skip_serializing_if = "is_default")]
    pub jwt_bearer: Option<JwtAssertion>,
    /// The private key that signs this JWT, in PEM, not encrypted: PKCS#8, SEC1 or PKCS#1. Defaults to
    /// [`client_key`](Self::client_key).
    #[serde(skip_serializing, with = "optional_secret")]
    pub jwt_bearer_key: Option<Secret>,
    /// How long a refresh token is valid, in seconds, if the server does not say it.
    #[serde(skip_serializing_if = "is_default", with = "serde_seconds::optional")]
    pub refresh_lifetime: Option<Duration>,
    /// The request that exchanges a grant.
    #[serde(skip_serializing_if = "is_default")]
    pub token_request: TokenRequest,
    /// The request that refreshes tokens.
    #[serde(skip_serializing_if = "is_default")]
    pub refresh_request: RefreshRequest,
    /// The request that takes a browser to the authorization endpoint.
    #[serde(skip_serializing_if = "is_default")]
    pub authorization_request: AuthorizationRequest,
    /// The redirect with which the browser comes back.
    #[serde(skip_serializing_if = "is_default")]
    pub authorization_response: AuthorizationResponse,
    /// The members of a token response.
    #[serde(skip_serializing_if = "is_default")]
    pub token_response: TokenResponse,
    /// The server's own words for failures. They apply before the codes of the standard.
    #[serde(skip_serializing_if = "is_default")]
    pub error_rules: Vec<ErrorRule>,
    /// The responses of the vendor's API that mean that the access token is no longer valid, in
    /// addition to those of RFC 6750.
    #[serde(skip_serializing_if = "is_default")]
    pub token_dead_on: Vec<DeadTokenRule>,
    /// Where the host of a session comes from, if a redirect or a response names it.
    #[serde(skip_serializing_if = "is_default")]
    pub session_host: Option<SessionHost>,
    /// The origins of the APIs that take the permission tokens: `https://api.example.com`. See
    /// [`OAuth2::api_origins`](super::OAuth2::api_origins).
    #[serde(skip_serializing_if = "is_default")]
    pub api_origins: Vec<String>,
    /// When an access token is due for a refresh.
    /// [`registration`](Self::registration) applies it.
    #[serde(skip_serializing_if = "is_default")]
    pub due: Option<RefreshDue>,
}

impl<'de> Deserialize<'de> for OAuth2Settings {
    /// With the path of the field in errors, in every format.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(from, &mut track);
        Self::deserialize(tracked).map_err(|fault| {
            let words = without_quoted_lines(&fault.to_string());
            D::Error::custom(format!("`{}`: {words}", track.path()))
        })
    }
}

/// The text of an error without the lines that it quotes of the settings, because the secret may be
/// in them. TOML's errors have them behind a line number and a bar.
fn without_quoted_lines(text: &str) -> String {
    let is_quoted = |line: &str| {
        line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit()).starts_with('|')
    };
    let lines = text.lines().filter(|line| !line.is_empty() && !is_quoted(line));
    lines.collect::<Vec<_>>().join(": ")
}

impl Serialize for OAuth2Settings {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, to)
    }
}
