//! What a server requires of requests, and what it sends, where real servers differ.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::provider::oauth2::{ClientAuthentication, GrantTypes, LifetimeUnit, Pkce, RequestBody};

/// The requests that a [`FakeAuthServer`](super::FakeAuthServer) accepts, and the responses that it
/// sends, in the dialect [`OAuth2`](super::FakeDialect::OAuth2). The other dialects have no shape.
///
/// The server refuses a request that is not of its shape with `invalid_request`, or with
/// `invalid_client` if the credentials of the client are in the wrong place, and counts the refusal.
/// It ignores parameters and headers that no field names. The default shape is the standard's.
///
/// ```
/// use session_warden::provider::oauth2::{ClientAuthentication, OAuth2, Password, RequestBody};
/// use session_warden::testing::{FakeAuthServer, FakeServerShape};
/// use session_warden::transport::TransportConfig;
/// use session_warden::{SessionKey, Supervisor};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let shape = FakeServerShape {
///     request_body: RequestBody::Json,
///     client_authentication: Some(ClientAuthentication::Post),
///     scope_separator: ",".to_owned(),
///     ..FakeServerShape::default()
/// };
/// let server = FakeAuthServer::builder().shape(shape).client("app", "secret").start().await?;
/// let token_endpoint = format!("{}/token", server.url());
/// let usual = OAuth2::new(&token_endpoint, "app")?.scope("read write");
/// let fitting =
///     usual.clone().client_secret_post("secret").request_body(RequestBody::Json).scope_separator(",");
/// let supervisor = Supervisor::builder()
///     .transport(TransportConfig::default().allow_loopback_http())
///     .provider("usual", usual.client_secret_basic("secret"))
///     .provider("fitting", fitting)
///     .start()
///     .await?;
/// let session = |name| -> Result<_, session_warden::Error> {
///     Ok(supervisor.sessions::<OAuth2>(name)?.session(SessionKey::new("eu", "ada")?))
/// };
/// assert!(session("usual")?.establish(Password::new("ada", "ok")).await.is_err());
/// assert_eq!(server.counts().errors["invalid_request"], 1);
/// let _ = session("fitting")?.establish(Password::new("ada", "ok")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "made by users with struct update syntax")]
pub struct FakeServerShape {
    /// How token, revocation and introspection requests carry their fields.
    pub request_body: RequestBody,
    /// How clients authenticate, and in no other way. Defaults to `None`: by Basic, in the body, or
    /// not at all.
    pub client_authentication: Option<ClientAuthentication>,
    /// The name of `client_id` in requests.
    pub client_id_parameter: String,
    /// The name of `client_secret` in requests.
    pub client_secret_parameter: String,
    /// The words in `grant_type` in place of those of RFC 6749.
    pub grant_types: GrantTypes,
    /// The name of `code` in token requests.
    pub code_parameter: String,
    /// The parameters that a token request must have, with their values, unless it refreshes.
    pub token_parameters: BTreeMap<String, String>,
    /// The headers that a token request must have, with their values, unless it refreshes.
    pub token_headers: BTreeMap<String, String>,
    /// Whether a token request must have a scope (`true`) or must not (`false`), unless it
    /// refreshes. Defaults to `None`: either.
    pub scope_in_token_request: Option<bool>,
    /// The path to which refreshes go, and nothing else: `/refresh`, for example. Defaults to
    /// `None`: they go to `/token`.
    pub refresh_path: Option<String>,
    /// The parameters that a refresh must have, with their values.
    pub refresh_parameters: BTreeMap<String, String>,
    /// The headers that a refresh must have, with their values.
    pub refresh_headers: BTreeMap<String, String>,
    /// Whether a refresh must have a scope (`true`) or must not (`false`). Defaults to `None`:
    /// either.
    pub scope_in_refresh: Option<bool>,
    /// The text between two names of a scope in requests and responses. With another text than a
    /// space, the server refuses a scope that has a space.
    pub scope_separator: String,
    /// Whether the authorization endpoint is the page `/login`, which has the parameters of the
    /// request in its fragment. A browser sends no fragment, so that the page's script calls
    /// `/authorize` with the parameters; the test does what the script would do.
    pub authorization_page: bool,
    /// Whether the authorization endpoint refuses requests that were not pushed (RFC 9126). The
    /// metadata says so. Defaults to false: it takes both.
    pub requires_pushed: bool,
    /// The pause between two polls for a login on another device (RFC 8628). Defaults to `None`: the
    /// server names none, and requires 5 s.
    pub device_interval: Option<Duration>,
    /// How long the codes of a login on another device are valid. Defaults to 10 min.
    pub device_lifetime: Duration,
    /// The parameters that an authorization request must have, with their values.
    pub authorization_parameters: BTreeMap<String, String>,
    /// The code challenge that an authorization request must have; with [`Pkce::Off`] it must have
    /// none. Defaults to `None`: none, or one of the method S256.
    pub pkce: Option<Pkce>,
    /// The name of `code` in the redirect with which the browser comes back.
    pub callback_code_parameter: String,
    /// Whether that redirect names the issuer (RFC 9207). Defaults to true.
    pub callback_issuer: bool,
    /// Further parameters of that redirect.
    pub callback_parameters: BTreeMap<String, String>,
    /// Further members of token responses, from the root of the body. A member of an object at
    /// [`response_under`](Self::response_under) goes to the standard's members in that object.
    pub response_members: Map<String, Value>,
    /// The member whose object has the standard's members of a token response. Defaults to `None`:
    /// they are at the root.
    pub response_under: Option<String>,
    /// The unit of `expires_in`.
    pub lifetime_unit: LifetimeUnit,
    /// Whether token responses are forms and not JSON. A form has only the texts, numbers and
    /// booleans at the root.
    pub form_response: bool,
}

impl Default for FakeServerShape {
    fn default() -> Self {
        Self {
            request_body: RequestBody::Form,
            client_authentication: None,
            client_id_parameter: "client_id".to_owned(),
            client_secret_parameter: "client_secret".to_owned(),
            grant_types: GrantTypes::default(),
            code_parameter: "code".to_owned(),
            token_parameters: BTreeMap::new(),
            token_headers: BTreeMap::new(),
            scope_in_token_request: None,
            refresh_path: None,
            refresh_parameters: BTreeMap::new(),
            refresh_headers: BTreeMap::new(),
            scope_in_refresh: None,
            scope_separator: " ".to_owned(),
            authorization_page: false,
            requires_pushed: false,
            device_interval: None,
            device_lifetime: Duration::from_secs(600),
            authorization_parameters: BTreeMap::new(),
            pkce: None,
            callback_code_parameter: "code".to_owned(),
            callback_issuer: true,
            callback_parameters: BTreeMap::new(),
            response_members: Map::new(),
            response_under: None,
            lifetime_unit: LifetimeUnit::Seconds,
            form_response: false,
        }
    }
}
