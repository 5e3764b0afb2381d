//! The standard: OAuth 2.0 (RFC 6749) with bearer tokens (RFC 6750), PKCE (RFC 7636), revocation
//! (RFC 7009), introspection (RFC 7662), discovery (RFC 8414) and `OpenID` Connect's user info.

mod attributes;
mod authentication;
mod builder;
mod client_assertion;
mod device_code;
mod discovery;
mod ecdsa_signature;
mod from_settings;
mod grant;
mod jwt_bearer;
mod metadata;
mod operation;
mod presets;
mod pushed_request;
mod reclassify;
mod redirect_login;
mod request;
mod response;
mod response_rules;
mod session_host;
mod settings;
#[cfg(test)]
mod tests;
mod token_exchange;
mod vendor_builder;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

pub use self::attributes::Attributes;
use self::authentication::Authentication;
pub use self::device_code::DeviceOptions;
use self::discovery::{Endpoints, Issuer, OptionalEndpoints};
pub use self::grant::{AuthorizationCode, ClientCredentials, DeviceCode, Grant, Password};
pub use self::jwt_bearer::JwtBearer;
use self::metadata::Metadata;
pub use self::operation::{Introspect, Introspection, RevokeAccessToken, UserInfo};
pub use self::presets::Preset;
pub use self::redirect_login::LoginOptions;
use self::response::{Expires, IssuedTokens};
use self::response_rules::revoked;
pub use self::settings::{
    AuthorizationRequest, AuthorizationResponse, ClientAuthentication, CredentialHeaders,
    DeadTokenRule, ErrorClass, ErrorRule, GrantTypes, JsonScalar, JwtAssertion, LifetimeUnit,
    OAuth2Settings, ParameterValue, Parameters, Pkce, PrivateKeyJwt, RefreshDue, RefreshRequest,
    RequestBody, SessionHost, SigningAlgorithm, TokenRequest, TokenResponse,
};
pub use self::token_exchange::{TokenExchange, TokenType};
use super::{
    ExchangeError, Exchanged, FailureClass, HttpSender, IdentityChanged, Issued, Provider,
    Rejection, RevocationReach, Revoked, Rotation, bearer, http_message,
};
use crate::error::{Error, ErrorKind, Refusal, Result};
use crate::provider::http_message::HttpResponse;
use crate::secret::Secret;
use crate::token::{Placement, Tokens};
use crate::transport::ClientIdentity;

/// A client of a server that implements OAuth 2.0 as the standard describes it.
///
/// Without other settings it is a public client (RFC 6749 section 2.1), and assumes that the server
/// rotates refresh tokens strictly ([`Rotation::Strict`]), which is safe with every server.
///
/// It reads token responses leniently: as JSON or as a form. It uses a token of any type as a
/// bearer token, except the types DPoP, mac and N_A. It refuses a token that no header can carry.
///
/// ```
/// use std::time::Duration;
/// use session_warden::provider::Rotation;
/// use session_warden::provider::oauth2::OAuth2;
///
/// let known = OAuth2::new("https://login.example.com/oauth/token", "backend")?
///     .client_secret_basic("canary")
///     .revocation_endpoint("https://login.example.com/oauth/revoke")?
///     .scope("read write")
///     .rotation(Rotation::Idempotent(Duration::from_secs(30)));
/// assert!(!format!("{known:?}").contains("canary"));
///
/// // The client fetches the endpoints before the first exchange (RFC 8414).
/// let discovered = OAuth2::discover("https://login.example.com/realms/main", "backend")?;
///
/// // Swapped arguments are refused: a client id is not a URL.
/// assert!(OAuth2::new("backend", "https://login.example.com/oauth/token").is_err());
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone)]
pub struct OAuth2 {
    server: Server,
    /// The token endpoint, or the issuer with discovery.
    authority: Url,
    client_id: String,
    authentication: Authentication,
    /// The client's certificate, if it has one.
    identity: Option<ClientIdentity>,
    /// The server's issuer identifier, if it is known.
    issuer: Option<Issuer>,
    /// Whether the response to a login has to name the issuer, even if the metadata does not
    /// promise that.
    issuer_is_required: bool,
    /// The configured endpoints. They take precedence over those in the metadata.
    optional: OptionalEndpoints,
    /// The names of the client's id and secret in requests.
    client_parameters: [String; 2],
    request_body: RequestBody,
    redirect_uri: Option<String>,
    scope: Option<String>,
    scope_separator: String,
    token_request: TokenRequest,
    refresh_request: RefreshRequest,
    authorization_request: AuthorizationRequest,
    /// Whether the parameters of each login are pushed to the server first.
    pushes_logins: bool,
    authorization_response: AuthorizationResponse,
    token_response: TokenResponse,
    error_rules: Vec<ErrorRule>,
    token_dead_on: Vec<DeadTokenRule>,
    session_host: Option<SessionHost>,
    rotation: Rotation,
    revocation_reach: RevocationReach,
    ends_access_tokens: bool,
    auto_renew: bool,
    /// The grant with which sessions obtain their tokens by themselves, in place of client
    /// credentials.
    service_account: Option<JwtBearer>,
    refresh_lifetime: Option<Duration>,
    api_origins: Vec<String>,
}

#[derive(Clone)]
enum Server {
    Known(Arc<Endpoints>),
    Discovered(Box<Metadata>),
}

impl OAuth2 {
    /// A client of the server with this token endpoint (RFC 6749 section 3.2): an `https` URL. An
    /// `http` URL works if the transport allows it
    /// ([`allow_loopback_http`](crate::transport::TransportConfig::allow_loopback_http),
    /// [`allow_http_hosts`](crate::transport::TransportConfig::allow_http_hosts)).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if `token_endpoint` is not such a URL, or the client id is
    /// empty.
    pub fn new(token_endpoint: &str, client_id: &str) -> Result<Self> {
        let token = http_message::endpoint(token_endpoint)?;
        let authority = token.clone();
        let optional = OptionalEndpoints::default();
        let endpoints = Endpoints { token, optional, names_issuer: false, requires_pushed: false };
        Self::at(Server::Known(Arc::new(endpoints)), authority, client_id)
    }

    /// A client of the server with this issuer identifier (RFC 8414 section 2). Write it exactly as
    /// the server does. The client fetches the server's metadata before the first exchange, and
    /// again when the metadata is older than an hour: at `/.well-known/oauth-authorization-server`
    /// (RFC 8414), and if something is missing there, also at `/.well-known/openid-configuration`
    /// (`OpenID` Connect Discovery 1.0). It takes each member from the first document that has it,
    /// and uses one document alone if the other is not there or cannot be used. If one of them
    /// cannot be read for now (a status of 5xx, for example), the client reads both again after a
    /// minute. The client never uses a document of another issuer, and fails with `Misconfigured`
    /// if there is no other one. Credentials are bound to the issuer, and not to the endpoints in
    /// its metadata.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if `issuer` is not an `https` or `http` URL or has a query, or if
    /// the client id is empty. The start of the supervisor refuses an `http` URL that the transport
    /// does not allow.
    pub fn discover(issuer: &str, client_id: &str) -> Result<Self> {
        let issuer = Issuer::new(issuer)?;
        let authority = issuer.url().clone();
        let known = Some(issuer.clone());
        let server = Server::Discovered(Box::new(Metadata::new(issuer)));
        Ok(Self { issuer: known, ..Self::at(server, authority, client_id)? })
    }

    fn at(server: Server, authority: Url, client_id: &str) -> Result<Self> {
        if client_id.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput)
                .about("the client id is empty; give the id that the server issued"));
        }
        Ok(Self {
            server,
            authority,
            client_id: client_id.to_owned(),
            authentication: Authentication::Public,
            identity: None,
            issuer: None,
            issuer_is_required: false,
            optional: OptionalEndpoints::default(),
            client_parameters: ["client_id", "client_secret"].map(str::to_owned),
            request_body: RequestBody::default(),
            redirect_uri: None,
            scope: None,
            scope_separator: " ".to_owned(),
            token_request: TokenRequest::default(),
            refresh_request: RefreshRequest::default(),
            authorization_request: AuthorizationRequest::default(),
            pushes_logins: false,
            authorization_response: AuthorizationResponse::default(),
            token_response: TokenResponse::default(),
            error_rules: Vec::new(),
            token_dead_on: Vec::new(),
            session_host: None,
            rotation: Rotation::Strict,
            revocation_reach: RevocationReach::Unknown,
            ends_access_tokens: false,
            auto_renew: false,
            service_account: None,
            refresh_lifetime: None,
            api_origins: Vec::new(),
        })
    }

    async fn endpoints(&self, sender: &HttpSender<'_>) -> Exchanged<Arc<Endpoints>> {
        match &self.server {
            Server::Known(endpoints) => Ok(Arc::clone(endpoints)),
            Server::Discovered(metadata) => metadata.endpoints(sender).await,
        }
    }

    fn known(&self) -> Option<Arc<Endpoints>> {
        match &self.server {
            Server::Known(endpoints) => Some(Arc::clone(endpoints)),
            Server::Discovered(metadata) => metadata.known(),
        }
    }

    /// The configured endpoint, or else the one in the metadata, if that is known.
    fn optional(&self, pick: fn(&OptionalEndpoints) -> Option<&Url>) -> Option<Url> {
        let set = pick(&self.optional).cloned();
        set.or_else(|| self.known().and_then(|known| pick(&known.optional).cloned()))
    }

    /// The scope as a request has it.
    fn wire_scope(&self, scope: &str) -> String {
        let names: Vec<_> = scope.split_ascii_whitespace().collect();
        names.join(&self.scope_separator)
    }

    /// The scope as a session has it, with spaces between the names.
    fn session_scope(&self, scope: String) -> String {
        if matches!(&*self.scope_separator, "" | " ") {
            return scope;
        }
        let names = scope.split(&self.scope_separator).flat_map(str::split_ascii_whitespace);
        names.collect::<Vec<_>>().join(" ")
    }

    /// The tokens in a response, or the failure that it means. `known` are attributes that the
    /// session has already; their scope applies if the server names none (RFC 6749 section 5.1).
    fn tokens(
        &self,
        sender: &HttpSender<'_>,
        response: &HttpResponse,
        known: Attributes,
        invalid_grant: FailureClass,
    ) -> Exchanged<Tokens<Attributes>> {
        let lifetime = self.refresh_lifetime.map(|lifetime| lifetime.as_secs_f64());
        let issued =
            IssuedTokens::read(self, sender, response, invalid_grant).map_err(|failed| {
                failed.log_unusable_body(sender);
                self.reclassified(response, failed, invalid_grant)
                    .expecting("a token response")
                    .with_default_expiry(lifetime.map(|seconds| sender.expires_in(seconds)))
            })?;
        let scope = issued.scope.map(|scope| self.session_scope(scope)).or(known.scope);
        let usual = self.token_response.default_lifetime;
        let usual = usual.map(|lifetime| Expires::In(lifetime.as_secs_f64()));
        let expires_at = issued.expires.or(usual).map(|expires| match expires {
            Expires::In(seconds) => sender.expires_in(seconds),
            Expires::At(time) => sender.expires_at(response, time),
        });
        let is_refresh = invalid_grant == FailureClass::Rejected;
        let host = self.named_host(sender, response, is_refresh)?.or(known.host);
        let mut more = known.more;
        more.extend(self.kept_members(response));
        let attributes = Attributes { scope, subject: issued.subject, host, more, ..known };
        let tokens = Tokens::new(attributes).with_access_token(issued.access_token, expires_at);
        let Some(refresh) = issued.refresh_token else { return Ok(tokens) };
        let ends = issued.refresh_expires_in.or(lifetime).map(|seconds| sender.expires_in(seconds));
        Ok(tokens.with_refresh_token(refresh, ends))
    }
}

impl fmt::Debug for OAuth2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth2")
            .field("authority", &self.authority.as_str())
            .field("client_id", &self.client_id)
            .field("scope", &self.scope)
            .field("rotation", &self.rotation)
            .finish_non_exhaustive()
    }
}

impl Provider for OAuth2 {
    type Grant = Grant;
    type Challenge = Infallible;
    type Attributes = Attributes;

    /// The token endpoint, or the issuer with [`discover`](Self::discover).
    fn authority_url(&self) -> &Url {
        &self.authority
    }

    /// The configured endpoints of refresh, revocation, introspection and user info, unless they are
    /// in the token endpoint's folder or below it; with [`discover`](Self::discover), unless they are
    /// below the issuer's path. The endpoints in the metadata are not included, because the issuer
    /// itself names them.
    fn endpoints_elsewhere(&self) -> Vec<Url> {
        let folder = match &self.server {
            Server::Known(_) => self.authority.path().rsplit_once('/').map_or("", |(it, _)| it),
            Server::Discovered(_) => self.authority.path().trim_end_matches('/'),
        };
        let is_elsewhere = |url: &&Url| {
            let rest = url.path().strip_prefix(folder);
            let below = rest.is_some_and(|rest| rest.starts_with('/'));
            url.origin() != self.authority.origin() || !below
        };
        self.optional.receiving_tokens().filter(is_elsewhere).cloned().collect()
    }

    fn api_origins(&self) -> Vec<String> {
        self.api_origins.clone()
    }

    /// The token endpoint or the issuer, and the endpoints of the settings.
    fn configured_urls(&self) -> Vec<Url> {
        let optional = &self.optional;
        let logins = optional.authorization.iter().chain(&optional.pushed).chain(&optional.device);
        let tokens = optional.receiving_tokens().chain([&self.authority]);
        tokens.chain(logins).cloned().collect()
    }

    fn client_id(&self) -> &str {
        &self.client_id
    }

    fn refresh_token_rotation(&self) -> Rotation {
        self.rotation
    }

    fn access_tokens_end_at_refresh(&self) -> bool {
        self.ends_access_tokens
    }

    fn reach_of_revocation(&self) -> RevocationReach {
        self.revocation_reach
    }

    fn placement(&self) -> Option<Placement> {
        Some(Placement::bearer())
    }

    async fn prepare(&self, sender: &HttpSender<'_>) -> Exchanged<()> {
        match &self.server {
            Server::Known(_) => Ok(()),
            Server::Discovered(metadata) => metadata.refresh(sender).await,
        }
    }

    async fn establish(&self, sender: &HttpSender<'_>, grant: Grant) -> Exchanged<Issued<Self>> {
        let endpoints = self.endpoints(sender).await?;
        if endpoints.names_issuer && grant.lacks_issuer() {
            let refused = FailureClass::Refused(Refusal::LoginStateMismatch);
            return Err(ExchangeError::new(refused));
        }
        let endpoint = self.at_host(&endpoints.token, grant.host())?;
        let sent = self.token_request.scope.unwrap_or_else(|| grant.names_scope());
        let requested = grant.requested_scope(self.scope.as_deref());
        let scope = requested.filter(|_| sent).map(|scope| self.wire_scope(scope));
        let assertion = grant.assertion(&self.client_id, self.audience(), sender.now())?;
        let mut fields = grant.fields(&self.token_request);
        fields.extend(assertion.as_ref().map(|jwt| ("assertion", jwt.as_str())));
        fields.extend(scope.as_deref().map(|scope| ("scope", scope)));
        let request = self.grant_request(&endpoint, fields, grant.names_client())?;
        let response = sender.send(request).await?;
        let known = grant.attributes(requested);
        let issued = self.tokens(sender, &response, known, grant.invalid_grant_class());
        let mut tokens = issued.map_err(|failed| match grant {
            Grant::DeviceCode(_) => device_code::of_poll(failed),
            Grant::TokenExchange(_) => token_exchange::of_exchange(failed),
            Grant::Password(_)
            | Grant::ClientCredentials(_)
            | Grant::AuthorizationCode(_)
            | Grant::JwtBearer(_) => failed,
        })?;
        if matches!(grant, Grant::TokenExchange(_)) {
            tokens.attributes.issued_token_type = Self::issued_token_type(&response);
        }
        Ok(Issued::Tokens(tokens))
    }

    async fn refresh(
        &self,
        sender: &HttpSender<'_>,
        refresh_token: &Secret,
        held: &Tokens<Attributes>,
    ) -> Exchanged<Tokens<Attributes>> {
        let endpoints = self.endpoints(sender).await?;
        let Attributes { scope, host, .. } = held.attributes();
        let endpoint = self.optional.refresh.as_ref().unwrap_or(&endpoints.token);
        let endpoint = self.at_host(endpoint, host.as_deref())?;
        let grant_type = self.token_request.grant_types.refresh_token.as_deref();
        let mut fields = vec![
            ("grant_type", grant_type.unwrap_or("refresh_token")),
            ("refresh_token", refresh_token.expose_secret()),
        ];
        let repeated = scope.as_deref().filter(|_| self.refresh_request.scope);
        let repeated = repeated.map(|scope| self.wire_scope(scope));
        fields.extend(repeated.as_deref().map(|scope| ("scope", scope)));
        let response = sender.send(self.refreshing_request(&endpoint, fields)?).await?;
        let known = Attributes { scope: scope.clone(), ..Attributes::default() };
        self.tokens(sender, &response, known, FailureClass::Rejected)
    }

    /// Revokes the refresh token, with which a server ends the whole session (RFC 7009 section
    /// 2.1). If there is none, it revokes the access token.
    async fn revoke(
        &self,
        sender: &HttpSender<'_>,
        held: &Tokens<Attributes>,
    ) -> Exchanged<Revoked> {
        self.endpoints(sender).await?;
        let endpoint = self.optional(|known| known.revocation.as_ref());
        let (token, hint) = match (held.refresh_token(), held.access_token()) {
            (Some(refresh), _) => (refresh, "refresh_token"),
            (None, Some(access)) => (access, "access_token"),
            (None, None) => return Ok(Revoked::NotSupported),
        };
        let Some(endpoint) = endpoint else { return Ok(Revoked::NotSupported) };
        let endpoint = self.at_host(&endpoint, held.attributes().host.as_deref())?;
        let fields = vec![("token", token.expose_secret()), ("token_type_hint", hint)];
        let response = sender.send(self.request(&endpoint, fields)?).await?;
        revoked(sender, &response, &self.error_rules)
            .map_err(|failed| self.reclassified(&response, failed, FailureClass::Rejected))
    }

    /// `OpenID` Connect Core 1.0 section 12.2: a refresh brings the same `sub`.
    fn merge_attributes(
        &self,
        known: &Attributes,
        issued: Attributes,
    ) -> Result<Attributes, IdentityChanged> {
        let subject = IdentityChanged::unless_same("subject", &known.subject, issued.subject)?;
        let host = issued.host.or_else(|| known.host.clone());
        let mut more = known.more.clone();
        more.extend(issued.more);
        let issued_token_type =
            issued.issued_token_type.or_else(|| known.issued_token_type.clone());
        Ok(Attributes { scope: issued.scope, subject, host, issued_token_type, more })
    }

    /// The endpoints at the host that the session's redirect or response named.
    fn endpoints_of_session(&self, attributes: &Attributes) -> Vec<Url> {
        let Some(host) = &attributes.host else { return Vec::new() };
        let url = |url: &Url| session_host::moved(url, host);
        url(&self.authority).into_iter().collect()
    }

    fn renewal_grant(&self, _: Option<&Tokens<Attributes>>) -> Option<Grant> {
        let own = self.service_account.clone().map(Grant::from);
        own.or_else(|| self.auto_renew.then(|| ClientCredentials::new().into()))
    }

    fn rejection(&self, response: &http::response::Parts, body_prefix: &[u8]) -> Rejection {
        let ruled = self.ruled_rejection(response.status, body_prefix);
        ruled.unwrap_or_else(|| bearer::rejection(response))
    }

    fn rejection_reads_body(&self, response: &http::response::Parts) -> bool {
        self.has_dead_word(response.status)
    }
}
