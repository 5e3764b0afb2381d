//! OAuth 2.0 as the standard has it, or of another shape.

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use self::device_logins::DeviceLogins;
use self::pushed_parameters::PushedParameters;
use self::shaped_request::{GrantType, ShapedRequest};
use super::{Dialect, RequestContext, Route};
use crate::clock::Now;
use crate::testing::fake_auth_server::authority::{Description, Holder, Redemption};
use crate::testing::fake_auth_server::counts::Endpoint;
use crate::testing::fake_auth_server::error_code::ErrorCode;
use crate::testing::fake_auth_server::fake_login::FakeLogin;
use crate::testing::fake_auth_server::fake_response::{FakeResponse, members};
use crate::testing::fake_auth_server::fake_server_shape::FakeServerShape;
use crate::testing::fake_auth_server::incoming_request::IncomingRequest;
use crate::testing::fake_auth_server::server_state::ServerState;

mod authorize;
mod device_logins;
mod exchanged_tokens;
mod pushed_parameters;
mod shaped_request;
mod token_response;

/// A server that keeps little but its shape and what all dialects share.
pub(in super::super) struct OAuth2Server {
    pub(in super::super) shape: FakeServerShape,
    pushed: PushedParameters,
    devices: DeviceLogins,
}

impl OAuth2Server {
    pub(in super::super) fn new(shape: FakeServerShape) -> Self {
        Self { shape, pushed: PushedParameters::default(), devices: DeviceLogins::default() }
    }

    pub(in super::super) fn answer_device_login(&mut self, user_code: &str, answer: FakeLogin) {
        self.devices.answer(user_code, answer);
    }
}

impl Dialect for OAuth2Server {
    fn route(&self, request: &IncomingRequest) -> Result<Route, StatusCode> {
        let (method, route) = match request.path.as_str() {
            "/token" => (Method::POST, self.token_route(request)),
            path if Some(path) == self.shape.refresh_path.as_deref() => {
                (Method::POST, self.token_route(request))
            }
            "/revoke" => (Method::POST, Route::to(Endpoint::Revoke, Self::revoke)),
            "/introspect" => (Method::POST, Route::to(Endpoint::Introspect, Self::introspect)),
            "/resource" => (Method::GET, Route::to(Endpoint::Resource, Self::resource)),
            "/par" => (Method::POST, Route::to(Endpoint::PushedAuthorization, Self::push)),
            "/device_authorization" => {
                (Method::POST, Route::to(Endpoint::DeviceAuthorization, Self::begin_device_login))
            }
            "/authorize" => (Method::GET, Route::to(Endpoint::Authorize, Self::authorize)),
            "/login" if self.shape.authorization_page => {
                (Method::GET, Route::to(Endpoint::Authorize, Self::authorization_page))
            }
            "/userinfo" => (Method::GET, Route::to(Endpoint::UserInfo, Self::userinfo)),
            "/.well-known/oauth-authorization-server" => {
                (Method::GET, Route::to(Endpoint::Discovery, Self::metadata))
            }
            _ => return Err(StatusCode::NOT_FOUND),
        };
        if request.method == method { Ok(route) } else { Err(StatusCode::METHOD_NOT_ALLOWED) }
    }

    fn error(&self, _: &IncomingRequest, code: &str) -> Value {
        json!({ "error": code })
    }

    fn wrong_types(&self, _: FakeResponse) -> String {
        WRONG_TYPES.to_owned()
    }
}

type Outcome = Result<FakeResponse, ErrorCode>;

impl OAuth2Server {
    /// The route of a token request: the endpoint of its grant type, if that is known.
    fn token_route(&self, request: &IncomingRequest) -> Route {
        let request = ShapedRequest::read(&self.shape, request).ok();
        let grant_type = request.as_ref().and_then(|request| request.grant_type().ok());
        let endpoint = match grant_type {
            Some(GrantType::Password) => Endpoint::Password,
            Some(GrantType::ClientCredentials) => Endpoint::ClientCredentials,
            Some(GrantType::AuthorizationCode) => Endpoint::AuthorizationCode,
            Some(GrantType::DeviceCode) => Endpoint::DeviceCode,
            Some(GrantType::JwtBearer) => Endpoint::JwtBearer,
            Some(GrantType::TokenExchange) => Endpoint::TokenExchange,
            Some(GrantType::RefreshToken) => Endpoint::RefreshToken,
            None => Endpoint::Token,
        };
        let refreshing = request.filter(|_| endpoint == Endpoint::RefreshToken);
        let presented = refreshing.and_then(|form| form.value("refresh_token").map(str::to_owned));
        Route::to(endpoint, Self::token).refreshing(presented)
    }

    fn token(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let RequestContext { server, request, now } = context;
        let request = ShapedRequest::read(&self.shape, request)?;
        request.required("grant_type")?;
        let grant_type = request.grant_type()?;
        let is_jwt = grant_type == GrantType::JwtBearer;
        let issuer = if is_jwt { Some(issuer(server, &request, *now)?) } else { None };
        let client = match issuer.filter(|_| request.names_no_client()) {
            Some(issuer) => issuer,
            None => client(server, &request, *now)?,
        };
        request.check(grant_type)?;
        let scope = request.scope()?;
        let now = now.boot;
        let issued = match grant_type {
            GrantType::Password => {
                let user = Some(user(&request, server)?);
                server.authority.grant(Holder { user, client, scope }, now)
            }
            GrantType::ClientCredentials | GrantType::JwtBearer => {
                server.authority.grant(Holder { user: None, client, scope }, now)
            }
            GrantType::TokenExchange => {
                let issued = exchanged_tokens::issue(&mut server.authority, &request, client, now)?;
                let response = token_response::of(&self.shape, issued, &server.expires_in);
                return Ok(
                    response.with_member("issued_token_type", exchanged_tokens::ACCESS_TOKEN)
                );
            }
            GrantType::AuthorizationCode => {
                let redemption = redemption(&request, &client, scope.as_deref())?;
                server.authority.redeem(&redemption, now)?
            }
            GrantType::DeviceCode => {
                let code = request.required("device_code")?;
                match self.devices.poll(&mut server.authority, (code, &client), now) {
                    Ok(issued) => issued,
                    Err(refusal) => return Ok(*refusal),
                }
            }
            GrantType::RefreshToken => {
                let presented = request.required("refresh_token")?;
                server.authority.refresh(presented, &client, scope.as_deref(), now)?
            }
        };
        Ok(token_response::of(&self.shape, issued, &server.expires_in))
    }

    fn revoke(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let RequestContext { server, request, now } = context;
        let request = ShapedRequest::read(&self.shape, request)?;
        let token = request.required("token")?;
        let client = client(server, &request, *now)?;
        server.authority.revoke(token, &client)?;
        Ok(FakeResponse::ok(members([])))
    }

    fn introspect(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let RequestContext { server, request, now } = context;
        let request = ShapedRequest::read(&self.shape, request)?;
        let token = request.required("token")?;
        client(server, &request, *now)?;
        let Some(description) = server.authority.describe(token, now.boot) else {
            return Ok(FakeResponse::ok(members([("active", false.into())])));
        };
        Ok(FakeResponse::ok(introspection(&description, *now)))
    }

    fn resource(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let user = bearer(context)?.user.as_deref();
        Ok(FakeResponse::ok(members([("user", user.map_or(Value::Null, Into::into))])))
    }

    /// `OpenID` Connect Core 1.0 section 5.3, with any scope.
    fn userinfo(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let holder = bearer(context)?;
        let sub = holder.user.as_deref().unwrap_or(&holder.client);
        Ok(FakeResponse::ok(members([("sub", sub.into())])))
    }

    /// RFC 8414 section 2.
    fn metadata(&mut self, context: &mut RequestContext<'_>) -> FakeResponse {
        let url = &context.server.url;
        FakeResponse::ok(members([
            ("issuer", context.server.issuer.as_str().into()),
            ("token_endpoint", format!("{url}/token").into()),
            ("revocation_endpoint", format!("{url}/revoke").into()),
            ("introspection_endpoint", format!("{url}/introspect").into()),
            ("authorization_endpoint", format!("{url}/authorize").into()),
            ("authorization_response_iss_parameter_supported", true.into()),
            ("device_authorization_endpoint", format!("{url}/device_authorization").into()),
            ("pushed_authorization_request_endpoint", format!("{url}/par").into()),
            ("require_pushed_authorization_requests", self.shape.requires_pushed.into()),
            ("userinfo_endpoint", format!("{url}/userinfo").into()),
            ("response_types_supported", json!(["code"])),
            (
                "grant_types_supported",
                json!([
                    "password",
                    "client_credentials",
                    "authorization_code",
                    "refresh_token",
                    "urn:ietf:params:oauth:grant-type:device_code",
                    "urn:ietf:params:oauth:grant-type:jwt-bearer",
                    "urn:ietf:params:oauth:grant-type:token-exchange"
                ]),
            ),
            (
                "token_endpoint_auth_methods_supported",
                json!(["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]),
            ),
            ("token_endpoint_auth_signing_alg_values_supported", json!(["ES256"])),
            ("code_challenge_methods_supported", json!(["S256"])),
        ]))
    }
}

/// The client that the request authenticates: by an assertion (RFC 7523 section 2.2), or in another
/// way.
fn client(
    server: &mut ServerState,
    request: &ShapedRequest<'_>,
    now: Now,
) -> Result<String, ErrorCode> {
    let Some(assertion) = request.value("client_assertion") else {
        return server.accounts.authenticate(request.client()?);
    };
    let kind = request.required("client_assertion_type")?;
    if kind != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
        return Err(ErrorCode::InvalidClient);
    }
    let audiences = audiences(server);
    let audiences = audiences.each_ref().map(String::as_str);
    let id = request.client_id();
    server.accounts.authenticate_by_assertion(assertion, id, &audiences, now.wall)
}

/// The issuer of the JWT that is the grant (RFC 7523 section 2.1).
fn issuer(
    server: &mut ServerState,
    request: &ShapedRequest<'_>,
    now: Now,
) -> Result<String, ErrorCode> {
    let assertion = request.required("assertion")?;
    let audiences = audiences(server);
    let audiences = audiences.each_ref().map(String::as_str);
    let accepted = server.accounts.accept_assertion(assertion, &audiences, now.wall);
    accepted.ok_or(ErrorCode::InvalidGrant)
}

/// The audiences of JWTs for this server: the issuer, or the token endpoint as RFC 7523 section 3 has
/// it.
fn audiences(server: &ServerState) -> [String; 2] {
    [server.issuer.clone(), format!("{}/token", server.url)]
}

fn redemption<'a>(
    request: &'a ShapedRequest<'_>,
    client: &'a str,
    scope: Option<&'a str>,
) -> Result<Redemption<'a>, ErrorCode> {
    Ok(Redemption {
        code: request.code()?,
        client,
        redirect_uri: request.value("redirect_uri"),
        verifier: request.value("code_verifier"),
        scope,
    })
}

/// The user of the password in a token request.
fn user(request: &ShapedRequest<'_>, server: &ServerState) -> Result<String, ErrorCode> {
    let (name, password) = (request.required("username")?, request.required("password")?);
    let is_right = server.accounts.is_password(name, password);
    if is_right { Ok(name.to_owned()) } else { Err(ErrorCode::InvalidGrant) }
}

/// RFC 7662 section 2.2.
fn introspection(token: &Description<'_>, now: Now) -> Map<String, Value> {
    let Holder { user, client, scope } = token.holder;
    let mut json = members([("active", true.into()), ("client_id", client.as_str().into())]);
    if let Some(user) = user {
        json.insert("username".to_owned(), user.as_str().into());
    }
    if let Some(scope) = scope {
        json.insert("scope".to_owned(), scope.as_str().into());
    }
    if let Some(expires) = token.expires {
        let wall = now.wall_at(expires).duration_since(std::time::UNIX_EPOCH);
        json.insert("exp".to_owned(), wall.unwrap_or_default().as_secs().into());
    }
    if token.is_access {
        json.insert("token_type".to_owned(), "Bearer".into());
    }
    json
}

/// The holder of the live access token that the request presents.
fn bearer<'a>(context: &'a RequestContext<'_>) -> Result<&'a Holder, ErrorCode> {
    let token = context.request.bearer().ok_or(ErrorCode::InvalidToken)?;
    let description = context.server.authority.describe(token, context.now.boot);
    let description = description.filter(|found| found.is_access);
    Ok(description.ok_or(ErrorCode::InvalidToken)?.holder)
}

const WRONG_TYPES: &str = r#"{"access_token": 12345, "token_type": ["Bearer"], "expires_in": {}, "refresh_token": false}"#;
