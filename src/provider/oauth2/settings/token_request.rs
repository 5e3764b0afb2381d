//! The requests to the token endpoint.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::serde_forms::is_default;

/// Parameters by name. A parameter with several values is repeated (RFC 8707 section 2); in a JSON
/// body it is a list.
pub type Parameters = BTreeMap<String, ParameterValue>;

/// The value of a parameter: one text, or a list of texts. See the example of [`TokenRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(clippy::exhaustive_enums, reason = "a parameter is there once or several times")]
pub enum ParameterValue {
    /// One text.
    One(String),
    /// A list of texts.
    Many(Vec<String>),
}

impl ParameterValue {
    /// The texts, in their order.
    pub(in crate::provider::oauth2) fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

impl From<&str> for ParameterValue {
    fn from(text: &str) -> Self {
        Self::One(text.to_owned())
    }
}

/// How requests carry their fields. See the example of [`TokenRequest`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RequestBody {
    /// A form (`application/x-www-form-urlencoded`), as RFC 6749 section 4.1.3 says.
    #[default]
    Form,
    /// A JSON object.
    Json,
    /// The query of the URL, with an empty body. Logs of servers and proxies show the query, so use
    /// it only for a server that accepts nothing else.
    Query,
}

/// The request that exchanges a grant for tokens (RFC 6749 section 4).
///
/// ```
/// use session_warden::provider::oauth2::{
///     GrantTypes, OAuth2, ParameterValue, Parameters, RefreshRequest, RequestBody, TokenRequest,
/// };
///
/// let resources = ["https://a.example.com", "https://b.example.com"].map(str::to_owned);
/// let parameters: Parameters = [
///     ("audience".to_owned(), ParameterValue::from("https://api.example.com")),
///     ("resource".to_owned(), ParameterValue::Many(resources.to_vec())),
/// ]
/// .into();
/// let request = TokenRequest {
///     parameters: parameters.clone(),
///     headers: [("accept".to_owned(), "application/json".to_owned())].into(),
///     grant_types: GrantTypes {
///         client_credentials: Some("account_credentials".to_owned()),
///         ..GrantTypes::default()
///     },
///     ..TokenRequest::default()
/// };
/// let client = OAuth2::new("https://login.example.com/token", "backend")?
///     .request_body(RequestBody::Json)
///     .token_request(request)?
///     .refresh_request(RefreshRequest { parameters, scope: true, ..RefreshRequest::default() })?;
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "made by users with struct update syntax")]
pub struct TokenRequest {
    /// Further parameters: `audience` or `resource` (RFC 8707), for example. They must not have the
    /// name of a parameter that the crate sets.
    #[serde(skip_serializing_if = "is_default")]
    pub parameters: Parameters,
    /// Further headers. `accept` and `content-type` replace those of the crate. Put no secret here,
    /// because these settings are serialized and shown.
    #[serde(skip_serializing_if = "is_default")]
    pub headers: BTreeMap<String, String>,
    /// Whether each token request has the scope. Without this field, a request with a password or
    /// with client credentials has it. A request with a code has none, because the authorization
    /// request had the scope.
    #[serde(skip_serializing_if = "is_default")]
    pub scope: Option<bool>,
    /// The name of `code`, if the server has another.
    #[serde(skip_serializing_if = "is_default")]
    pub code_parameter: Option<String>,
    /// The server's own words for types of grants.
    #[serde(skip_serializing_if = "is_default")]
    pub grant_types: GrantTypes,
}

/// The words in `grant_type` that differ from those of RFC 6749. See the example of
/// [`TokenRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "made by users with struct update syntax")]
pub struct GrantTypes {
    /// In place of `authorization_code`.
    #[serde(skip_serializing_if = "is_default")]
    pub authorization_code: Option<String>,
    /// In place of `client_credentials`.
    #[serde(skip_serializing_if = "is_default")]
    pub client_credentials: Option<String>,
    /// In place of `password`.
    #[serde(skip_serializing_if = "is_default")]
    pub password: Option<String>,
    /// In place of `refresh_token`.
    #[serde(skip_serializing_if = "is_default")]
    pub refresh_token: Option<String>,
}

/// The request that refreshes tokens (RFC 6749 section 6). See the example of [`TokenRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "made by users with struct update syntax")]
pub struct RefreshRequest {
    /// Further parameters, as in [`TokenRequest::parameters`]. Those of the token request are not
    /// repeated.
    #[serde(skip_serializing_if = "is_default")]
    pub parameters: Parameters,
    /// Further headers, as in [`TokenRequest::headers`].
    #[serde(skip_serializing_if = "is_default")]
    pub headers: BTreeMap<String, String>,
    /// Whether the request repeats the session's scope. Defaults to false: the new tokens have the
    /// same scope as before (RFC 6749 section 6).
    #[serde(skip_serializing_if = "is_default")]
    pub scope: bool,
}
