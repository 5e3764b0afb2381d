//! Operations at the server: introspection, user info, and the revocation of the access token
//! alone.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use serde_json::{Map, Value};
use url::Url;

use super::discovery::OptionalEndpoints;
use super::request::unusable;
use super::response_rules::revoked;
use super::{Attributes, ErrorRule, OAuth2};
use crate::error::{Error, ErrorKind, Refusal, Result};
use crate::provider::http_message::HttpResponse;
use crate::provider::operation::{Called, Prepared, access_token, refresh_token};
use crate::provider::{
    Credential, Effect, ExchangeError, Exchanged, FailureClass, HttpSender, Operation, Revoked,
    bearer, http_message,
};
use crate::token::Tokens;

/// Introspects one of the session's tokens (RFC 7662). The server must allow the client to do that,
/// and most servers require that the client has a secret.
///
/// ```
/// use session_warden::provider::Revoked;
/// use session_warden::provider::oauth2::{
///     Attributes, Introspect, Introspection, OAuth2, Password, RevokeAccessToken, UserInfo,
/// };
/// use session_warden::testing::FakeAuthServer;
/// use session_warden::transport::TransportConfig;
/// use session_warden::{SessionKey, Supervisor};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = FakeAuthServer::builder().client("app", "secret").start().await?;
/// // The metadata names the endpoints of the operations.
/// let client = OAuth2::discover(server.url(), "app")?;
/// let client = client.client_secret_basic("secret").scope("openid");
/// let supervisor = Supervisor::builder()
///     .transport(TransportConfig::default().allow_loopback_http())
///     .provider("acme", client)
///     .start()
///     .await?;
/// let session = supervisor.sessions::<OAuth2>("acme")?.session(SessionKey::new("eu", "ada")?);
/// let _ = session.establish(Password::new("ada", "ok")).await?;
///
/// let Introspection { active, username, .. } = session.call(Introspect::access_token()).await?;
/// assert!(active);
/// assert_eq!(username.as_deref(), Some("ada"));
/// assert_eq!(session.call(UserInfo).await?["sub"], "ada");
/// let Attributes { scope, .. } = session.attributes().await?;
/// assert_eq!(scope.as_deref(), Some("openid"));
///
/// // The session goes on with another access token.
/// let old = session.permission_token().await?;
/// assert_eq!(session.call(RevokeAccessToken).await?, Revoked::AtServer);
/// assert!(!server.is_active(old.expose_secret()));
/// assert!(server.is_active(session.permission_token().await?.expose_secret()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introspect {
    token: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Access,
    Refresh,
}

/// The result of an introspection (RFC 7662 section 2.2). For a token that is not active, servers
/// send only `active`. See the example of [`Introspect`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Introspection {
    /// Whether the token is valid. Servers also say `false` to a client that is not allowed to
    /// introspect the token.
    pub active: bool,
    /// The token's scope, names with spaces between them.
    pub scope: Option<String>,
    /// The client to which the token was issued.
    pub client_id: Option<String>,
    /// The user's name, to show to people.
    pub username: Option<String>,
    /// The user's identifier at the server.
    pub sub: Option<String>,
    /// The type of the token: `Bearer`, for example (RFC 6749 section 7.1).
    pub token_type: Option<String>,
    /// When the token expires.
    pub expires_at: Option<SystemTime>,
    /// When the token was issued.
    pub issued_at: Option<SystemTime>,
    /// The time before which the token is not valid.
    pub not_before: Option<SystemTime>,
    /// The issuer identifier of the server that issued the token.
    pub iss: Option<String>,
    /// The APIs for which the token is meant.
    pub aud: Vec<String>,
    /// All other members, and the members above whose type differs from the standard's.
    pub more: Map<String, Value>,
}

/// Fetches the claims about the user (`OpenID` Connect Core 1.0 section 5.3) with the session's
/// access token. Most servers require the scope `openid` for this. See the example of
/// [`Introspect`].
///
/// The output is the claims as the server sends them: `sub`, for example. If the response is a
/// signed JWT, the call fails as `Misconfigured`: the client is registered for signed responses,
/// which the crate does not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to choose")]
pub struct UserInfo;

/// Revokes the session's access token and not the session (RFC 7009). The next caller gets another
/// token. See the example of [`Introspect`].
///
/// Some servers, oidc-provider for example, then end the whole session (RFC 7009 section 2.1); the
/// next refresh shows that. The output is [`Revoked::NotSupported`] if the server cannot revoke
/// access tokens; then nothing has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to choose")]
pub struct RevokeAccessToken;

impl Introspect {
    /// Introspects the access token. If it is not active, the crate does not give it to callers
    /// again.
    #[must_use]
    pub fn access_token() -> Self {
        Self { token: Kind::Access }
    }

    /// Introspects the refresh token. The session does not change, whether or not it is active.
    #[must_use]
    pub fn refresh_token() -> Self {
        Self { token: Kind::Refresh }
    }
}

impl Operation<OAuth2> for Introspect {
    type Output = Introspection;
    type RequestInfo = ();

    fn credential(&self) -> Credential {
        Credential::InRequest
    }

    fn request(&self, provider: &OAuth2, held: &Tokens<Attributes>) -> Prepared<()> {
        let words = "the call needs an introspection endpoint; set `introspection_endpoint`, \
                     because the metadata names none";
        let endpoint = provider.needed(|known| known.introspection.as_ref(), held, words)?;
        let fields = self.token.fields(held)?;
        let mut request = provider.request(&endpoint, fields)?;
        wants_json(request.headers_mut());
        Ok((request, ()))
    }

    fn response(
        &self,
        sender: &HttpSender<'_>,
        (): (),
        response: &HttpResponse,
    ) -> Called<Introspection> {
        let introspection = Introspection::read(members(sender, response)?, response)?;
        let effect = match self.token {
            // The server's statement counts as much as an API's 401. If it only means that this
            // client is not allowed to introspect the token (RFC 7662 section 2.2), it costs one
            // refresh.
            Kind::Access if !introspection.active => Effect::AccessTokenDead,
            // `RefreshTokenDead` would end the session finally. But many servers say "not active"
            // of every refresh token because they introspect none, and the session may have been
            // refreshed meanwhile, so that the token is no longer its own. The next refresh shows
            // it for certain.
            Kind::Access | Kind::Refresh => Effect::None,
        };
        Ok((introspection, effect))
    }
}

impl Operation<OAuth2> for UserInfo {
    type Output = Map<String, Value>;
    type RequestInfo = ();

    fn request(&self, provider: &OAuth2, held: &Tokens<Attributes>) -> Prepared<()> {
        let words = "the call needs a user info endpoint; set `userinfo_endpoint`, because the \
                     metadata names none";
        let endpoint = provider.needed(|known| known.userinfo.as_ref(), held, words)?;
        let request = Request::get(endpoint.as_str()).body(Bytes::new());
        let mut request = request.map_err(unusable)?;
        wants_json(request.headers_mut());
        Ok((request, ()))
    }

    fn response(
        &self,
        sender: &HttpSender<'_>,
        (): (),
        response: &HttpResponse,
    ) -> Called<Self::Output> {
        if response.status().is_success() && is_jwt(response.headers()) {
            let words = "is a signed JWT, which is not read here";
            let class = FailureClass::Unclassified;
            return Err(ExchangeError { class, ..http_message::unusable(response, words) });
        }
        Ok((members(sender, response)?, Effect::None))
    }
}

impl Operation<OAuth2> for RevokeAccessToken {
    type Output = Revoked;
    /// The rules of the client for failed responses.
    type RequestInfo = Vec<ErrorRule>;

    fn credential(&self) -> Credential {
        Credential::InRequest
    }

    fn request(&self, provider: &OAuth2, held: &Tokens<Attributes>) -> Prepared<Vec<ErrorRule>> {
        let words = "the call needs a revocation endpoint; set `revocation_endpoint`, because the \
                     metadata names none";
        let endpoint = provider.needed(|known| known.revocation.as_ref(), held, words)?;
        let request = provider.request(&endpoint, Kind::Access.fields(held)?)?;
        Ok((request, provider.error_rules.clone()))
    }

    fn response(
        &self,
        sender: &HttpSender<'_>,
        rules: Vec<ErrorRule>,
        response: &HttpResponse,
    ) -> Called<Revoked> {
        let done = revoked(sender, response, &rules)?;
        let effect = match done {
            Revoked::AtServer => Effect::AccessTokenDead,
            Revoked::NotSupported => Effect::None,
        };
        Ok((done, effect))
    }
}

impl OAuth2 {
    /// The endpoint, at the host of the session.
    fn needed(
        &self,
        pick: fn(&OptionalEndpoints) -> Option<&Url>,
        held: &Tokens<Attributes>,
        missing: &'static str,
    ) -> Result<Url> {
        let missing = || Error::new(ErrorKind::Misconfigured).about(missing);
        let endpoint = self.optional(pick).ok_or_else(missing)?;
        self.at_host(&endpoint, held.attributes().host.as_deref()).map(Cow::into_owned)
    }
}

impl Kind {
    /// RFC 7662 section 2.1, and RFC 7009 section 2.1.
    fn fields(self, held: &Tokens<Attributes>) -> Result<Vec<(&'static str, &str)>> {
        let (token, hint) = match self {
            Self::Access => (access_token(held)?, "access_token"),
            Self::Refresh => (refresh_token(held)?, "refresh_token"),
        };
        Ok(vec![("token", token.expose_secret()), ("token_type_hint", hint)])
    }
}

impl Introspection {
    fn read(mut members: Map<String, Value>, response: &HttpResponse) -> Exchanged<Self> {
        let Some(Value::Bool(active)) = members.remove("active") else {
            return Err(http_message::unusable(response, "does not say whether it is active"));
        };
        Ok(Self {
            active,
            scope: text(&mut members, "scope"),
            client_id: text(&mut members, "client_id"),
            username: text(&mut members, "username"),
            sub: text(&mut members, "sub"),
            token_type: text(&mut members, "token_type"),
            expires_at: time(&mut members, "exp"),
            issued_at: time(&mut members, "iat"),
            not_before: time(&mut members, "nbf"),
            iss: text(&mut members, "iss"),
            aud: texts(&mut members, "aud"),
            more: members,
        })
    }
}

/// The members of a successful response, or the failure that it means.
fn members(sender: &HttpSender<'_>, response: &HttpResponse) -> Exchanged<Map<String, Value>> {
    if response.status().is_success() {
        return http_message::json_object(response);
    }
    // The request had no grant that could be invalid.
    let failed = sender.oauth_error(response, FailureClass::Refused(Refusal::Other));
    match bearer::error(response.headers()) {
        // RFC 6750 section 3.1: with a bearer token the code is not in the body.
        Some(code) if failed.code.is_none() => Err(failed.with_code(&code)),
        Some(_) | None => Err(failed),
    }
}

fn wants_json(headers: &mut HeaderMap) {
    headers.insert(header::ACCEPT, http::HeaderValue::from_static("application/json"));
}

/// `OpenID` Connect Core 1.0 section 5.3.2.
fn is_jwt(headers: &HeaderMap) -> bool {
    http_message::is_of_type(headers, "application/jwt")
}

fn text(members: &mut Map<String, Value>, name: &str) -> Option<String> {
    let text = members.get(name)?.as_str()?.to_owned();
    members.remove(name);
    Some(text)
}

/// One text or a list of them (RFC 7519 section 4.1.3).
fn texts(members: &mut Map<String, Value>, name: &str) -> Vec<String> {
    let texts = match members.get(name) {
        Some(Value::String(text)) => Some(vec![text.clone()]),
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => None,
    };
    if texts.is_some() {
        members.remove(name);
    }
    texts.unwrap_or_default()
}

/// Seconds since 1970 (RFC 7519 section 2).
fn time(members: &mut Map<String, Value>, name: &str) -> Option<SystemTime> {
    let seconds = Duration::try_from_secs_f64(members.get(name)?.as_f64()?).ok()?;
    let time = SystemTime::UNIX_EPOCH.checked_add(seconds)?;
    members.remove(name);
    Some(time)
}
