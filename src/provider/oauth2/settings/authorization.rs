//! The authorization request and its response.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::serde_forms::is_default;

/// The request that takes a browser to the authorization endpoint (RFC 6749 section 4.1.1).
///
/// ```
/// use session_warden::provider::oauth2::{
///     AuthorizationRequest, AuthorizationResponse, OAuth2, Pkce, SessionHost,
/// };
///
/// let client = OAuth2::new("https://accounts.example.com/oauth/token", "backend")?
///     .authorization_endpoint("https://accounts.example.com/oauth/authorize")?
///     .redirect_uri("https://app.example.com/callback")?
///     .authorization_request(AuthorizationRequest {
///         parameters: [("access_type".to_owned(), "offline".to_owned())].into(),
///         pkce: Pkce::Off,
///     })?
///     // The callback says which company the user chose, and which data center has its account.
///     .authorization_response(AuthorizationResponse {
///         attributes: [("company".to_owned(), "realmId".to_owned())].into(),
///         ..AuthorizationResponse::default()
///     })?
///     .session_host(SessionHost {
///         callback_parameter: Some("accounts-server".to_owned()),
///         allowed: vec!["accounts.example.com".to_owned(), "accounts.example.eu".to_owned()],
///         ..SessionHost::default()
///     })?;
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "made by users with struct update syntax")]
pub struct AuthorizationRequest {
    /// Further parameters. A parameter of the same name in the
    /// [`LoginOptions`](crate::provider::oauth2::LoginOptions) takes precedence. You cannot set a
    /// parameter that the crate sets, such as `state`. You can set `nonce`, `prompt` and
    /// `login_hint`: your value replaces the crate's.
    #[serde(skip_serializing_if = "is_default")]
    pub parameters: BTreeMap<String, String>,
    /// Whether the request has a code challenge (RFC 7636).
    #[serde(skip_serializing_if = "is_default")]
    pub pkce: Pkce,
}

/// The method of the code challenge (RFC 7636 section 4.2). See the example of
/// [`AuthorizationRequest`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Pkce {
    /// A hash of the code verifier.
    #[default]
    S256,
    /// The code verifier itself, for servers that know no other method.
    Plain,
    /// No code challenge, for servers that refuse one. Public clients must send one, and all other
    /// clients should (RFC 9700 section 2.1.1).
    Off,
}

/// The redirect with which the browser comes back (RFC 6749 section 4.1.2). See the example of
/// [`AuthorizationRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "made by users with struct update syntax")]
pub struct AuthorizationResponse {
    /// The name of `code`, if the server has another.
    #[serde(skip_serializing_if = "is_default")]
    pub code_parameter: Option<String>,
    /// Parameters to keep as attributes of the session: the attribute's name, and the parameter's.
    #[serde(skip_serializing_if = "is_default")]
    pub attributes: BTreeMap<String, String>,
}
