//! OAuth 2.0 as the standard has it.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Route;
use crate::clock::Now;
use crate::testing::fake_auth_server::authority::{Holder, Redemption};
use crate::testing::fake_auth_server::counts::Endpoint;
use crate::testing::fake_auth_server::reply::{Refusal, Reply, members};
use crate::testing::fake_auth_server::request::{Call, Form};
use crate::testing::fake_auth_server::shared::State;

pub(super) fn route(call: &Call) -> Result<Route, StatusCode> {
    let (method, route) = match call.path.as_str() {
        "/token" => (Method::POST, token_route(call)),
        "/revoke" => {
            (Method::POST, Route::to(Endpoint::Revoke, |state, call, _| state.revoke(call).into()))
        }
        "/introspect" => (
            Method::POST,
            Route::to(Endpoint::Introspect, |state, call, now| state.introspect(call, now).into()),
        ),
        "/resource" => (
            Method::GET,
            Route::to(Endpoint::Resource, |state, call, now| state.resource(call, now).into()),
        ),
        "/authorize" => (
            Method::GET,
            Route::to(Endpoint::Authorize, |state, call, _| state.authorize(call).into()),
        ),
        "/userinfo" => (
            Method::GET,
            Route::to(Endpoint::UserInfo, |state, call, now| state.userinfo(call, now).into()),
        ),
        "/.well-known/oauth-authorization-server" => {
            let metadata: super::Handle = |state, _, _| metadata(&state.url, &state.issuer);
            (Method::GET, Route::to(Endpoint::Discovery, metadata))
        }
        _ => return Err(StatusCode::NOT_FOUND),
    };
    if call.method == method { Ok(route) } else { Err(StatusCode::METHOD_NOT_ALLOWED) }
}

pub(super) fn error(code: &str) -> Value {
    json!({ "error": code })
}

/// A token request goes to the endpoint of its grant type, if that is known.
fn token_route(call: &Call) -> Route {
    let form = call.form().ok();
    let value = |name| form.as_ref().and_then(|form| form.value(name));
    let endpoint = match value("grant_type") {
        Some("password") => Endpoint::Password,
        Some("client_credentials") => Endpoint::ClientCredentials,
        Some("authorization_code") => Endpoint::AuthorizationCode,
        Some("refresh_token") => Endpoint::RefreshToken,
        _ => Endpoint::Token,
    };
    let presented = value("refresh_token").filter(|_| endpoint == Endpoint::RefreshToken);
    Route::to(endpoint, |state, call, now| state.token(call, now).into())
        .refreshing(presented.map(str::to_owned))
}

impl State {
    fn token(&mut self, call: &Call, now: Now) -> Result<Reply, Refusal> {
        let form = call.form()?;
        let grant_type = form.required("grant_type")?;
        let client = self.registry.authenticate(call.credentials()?)?;
        let scope = form.value("scope");
        let now = now.boot;
        let issued = match grant_type {
            "password" => {
                let user = Some(self.user(&form)?);
                let scope = scope.map(str::to_owned);
                self.authority.grant(Holder { user, client, scope }, now)
            }
            "client_credentials" => {
                let scope = scope.map(str::to_owned);
                self.authority.grant(Holder { user: None, client, scope }, now)
            }
            "authorization_code" => {
                let redemption = Redemption {
                    code: form.required("code")?,
                    client: &client,
                    redirect_uri: form.value("redirect_uri"),
                    verifier: form.value("code_verifier"),
                    scope,
                };
                self.authority.redeem(&redemption, now)?
            }
            "refresh_token" => {
                self.authority.refresh(form.required("refresh_token")?, &client, scope, now)?
            }
            _ => return Err(Refusal::UnsupportedGrantType),
        };
        Ok(Reply::tokens(issued, &self.expires_in))
    }

    fn user(&self, form: &Form) -> Result<String, Refusal> {
        let (name, password) = (form.required("username")?, form.required("password")?);
        if !self.registry.is_password(name, password) {
            return Err(Refusal::InvalidGrant);
        }
        Ok(name.to_owned())
    }

    fn revoke(&mut self, call: &Call) -> Result<Reply, Refusal> {
        let form = call.form()?;
        let token = form.required("token")?;
        let client = self.registry.authenticate(call.credentials()?)?;
        self.authority.revoke(token, &client)?;
        Ok(Reply::ok(members([])))
    }

    fn introspect(&self, call: &Call, now: Now) -> Result<Reply, Refusal> {
        let form = call.form()?;
        let token = form.required("token")?;
        self.registry.authenticate(call.credentials()?)?;
        let Some(description) = self.authority.describe(token, now.boot) else {
            return Ok(Reply::ok(members([("active", false.into())])));
        };
        let holder = description.holder;
        let mut json =
            members([("active", true.into()), ("client_id", holder.client.as_str().into())]);
        if let Some(user) = &holder.user {
            json.insert("username".to_owned(), user.as_str().into());
        }
        if let Some(scope) = &holder.scope {
            json.insert("scope".to_owned(), scope.as_str().into());
        }
        if let Some(expires) = description.expires {
            let wall = now.wall_at(expires).duration_since(std::time::UNIX_EPOCH);
            json.insert("exp".to_owned(), wall.unwrap_or_default().as_secs().into());
        }
        if description.is_access {
            json.insert("token_type".to_owned(), "Bearer".into());
        }
        Ok(Reply::ok(json))
    }

    fn resource(&self, call: &Call, now: Now) -> Result<Reply, Refusal> {
        let user = self.bearer(call, now)?.user.as_deref();
        Ok(Reply::ok(members([("user", user.map_or(Value::Null, Into::into))])))
    }

    /// Whose live access token it is.
    pub(in super::super) fn bearer(&self, call: &Call, now: Now) -> Result<&Holder, Refusal> {
        let token = call.bearer().ok_or(Refusal::InvalidToken)?;
        let description = self.authority.describe(token, now.boot);
        let description =
            description.filter(|found| found.is_access).ok_or(Refusal::InvalidToken)?;
        Ok(description.holder)
    }
}

/// RFC 8414 section 2.
fn metadata(url: &str, issuer: &str) -> Reply {
    Reply::ok(members([
        ("issuer", issuer.into()),
        ("token_endpoint", format!("{url}/token").into()),
        ("revocation_endpoint", format!("{url}/revoke").into()),
        ("introspection_endpoint", format!("{url}/introspect").into()),
        ("authorization_endpoint", format!("{url}/authorize").into()),
        ("authorization_response_iss_parameter_supported", true.into()),
        ("userinfo_endpoint", format!("{url}/userinfo").into()),
        ("response_types_supported", json!(["code"])),
        (
            "grant_types_supported",
            json!(["password", "client_credentials", "authorization_code", "refresh_token"]),
        ),
        (
            "token_endpoint_auth_methods_supported",
            json!(["client_secret_basic", "client_secret_post", "none"]),
        ),
        ("code_challenge_methods_supported", json!(["S256"])),
    ]))
}
