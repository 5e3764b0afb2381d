//! iOFFICE: everything in headers, `expires_in` in milliseconds, the code in a fragment.

use std::collections::HashMap;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use super::Route;
use crate::clock::{BootTime, Now};
use crate::testing::fake_auth_server::authority::{Code, Holder, Issued, Redemption};
use crate::testing::fake_auth_server::browser::FakeLogin;
use crate::testing::fake_auth_server::counts::Endpoint;
use crate::testing::fake_auth_server::reply::{ExpiresIn, Refusal, Reply, members};
use crate::testing::fake_auth_server::request::{Call, Credentials, Form};
use crate::testing::fake_auth_server::shared::State;

/// What is kept beside grants and tokens.
#[derive(Default)]
pub(in super::super) struct Site {
    codes: HashMap<String, Minted>,
}

/// How a code was asked for.
struct Minted {
    at: BootTime,
    /// None without a browser, where neither is asked for.
    redirect_uri_and_scope: Option<(String, String)>,
}

pub(super) fn route(call: &Call) -> Result<Route, StatusCode> {
    let (method, route) = match call.path.as_str() {
        "/login.html" => {
            let login: super::Handle = |state, call, now| state.ioffice_login(call, now).into();
            (Method::GET, Route::to(Endpoint::Authorize, login))
        }
        "/external/api/oauth2/auth" => (
            Method::POST,
            Route::to(Endpoint::SecurityFactor, |s, call, now| told(s.ioffice_auth(call, now))),
        ),
        "/external/api/oauth2/token" => (Method::POST, token_route(call)),
        "/external/api/oauth2/tokeninfo" => (
            Method::GET,
            Route::to(Endpoint::Introspect, |s, call, now| told(s.ioffice_info(call, now))),
        ),
        "/external/api/oauth2/revoke" => (
            Method::GET,
            Route::to(Endpoint::Revoke, |s, call, now| told(s.ioffice_revoke(call, now))),
        ),
        "/external/api/rest/v2/users/me" => (
            Method::GET,
            Route::to(Endpoint::Resource, |s, call, now| s.ioffice_resource(call, now)),
        ),
        _ => return Err(StatusCode::NOT_FOUND),
    };
    if call.method == method { Ok(route) } else { Err(StatusCode::METHOD_NOT_ALLOWED) }
}

pub(super) fn error(code: &str) -> Value {
    json!({ "error": code, "errorDescription": format!("the request failed: {code}") })
}

fn token_route(call: &Call) -> Route {
    let endpoint = match call.header("x-grant-type") {
        Some("authorization_code") => Endpoint::AuthorizationCode,
        Some("refresh_token") => Endpoint::RefreshToken,
        _ => Endpoint::Token,
    };
    let presented = call.header("x-refresh-token").filter(|_| endpoint == Endpoint::RefreshToken);
    Route::to(endpoint, |state, call, now| told(state.ioffice_token(call, now)))
        .refreshing(presented.map(str::to_owned))
}

impl State {
    /// All five parameters are needed. The state comes back, although the document does not say
    /// so.
    fn ioffice_login(&mut self, call: &Call, now: Now) -> Result<Reply, Refusal> {
        let form = call.form()?;
        let client = form.required("client_id")?;
        if !self.registry.knows(client) {
            return Err(Refusal::InvalidClient);
        }
        let state = form.required("state")?;
        let (redirect_uri, scope) = (form.required("redirect_uri")?, form.required("scope")?);
        if form.required("response_type")? != "code" {
            return Err(Refusal::InvalidRequest);
        }
        let back = |fields: &[(&str, &str)]| {
            let fragment = Serializer::new(String::new()).extend_pairs(fields).finish();
            format!("{redirect_uri}#{fragment}")
        };
        let user = match &self.login {
            FakeLogin::Approve(user) => user.clone(),
            FakeLogin::Deny(code) => {
                return Ok(Reply::sent_back(
                    back(&[("error", code), ("state", state)]),
                    Some(code.clone()),
                ));
            }
        };
        let asked = Some((redirect_uri.to_owned(), scope.to_owned()));
        let code = self.ioffice_code(user, client.to_owned(), asked, now);
        let fields = [("code", &*code), ("appCode", APP_CODE), ("state", state)];
        Ok(Reply::sent_back(back(&fields), None))
    }

    fn ioffice_auth(&mut self, call: &Call, now: Now) -> Result<Reply, Refused> {
        check_form(call)?;
        let client = self.ioffice_client(call)?;
        let (user, password) = (text(call, "x-auth-username")?, text(call, "x-auth-password")?);
        if !self.registry.is_password(&user, &password) {
            return Err(Refused(StatusCode::UNAUTHORIZED, "invalid_credentials"));
        }
        let code = self.ioffice_code(user, client, None, now);
        Ok(Reply::ok(members([("code", code.into())])).access_token_at(&["code"]))
    }

    fn ioffice_code(
        &mut self,
        user: String,
        client: String,
        asked: Option<(String, String)>,
        now: Now,
    ) -> String {
        let (redirect_uri, scope) = asked.clone().unzip();
        let code = self.authority.mint_code(Code {
            user,
            client: Some(client),
            redirect_uri: redirect_uri.unwrap_or_default(),
            challenge: None,
            scope,
            redeemed: None,
        });
        let minted = Minted { at: now.boot, redirect_uri_and_scope: asked };
        self.sites.ioffice.codes.insert(code.clone(), minted);
        code
    }

    fn ioffice_token(&mut self, call: &Call, now: Now) -> Result<Reply, Refused> {
        check_form(call)?;
        let kind = text(call, "x-grant-type")?;
        let (redirect_uri, scope) = (text(call, "x-redirect-uri")?, text(call, "x-scope")?);
        let client = self.ioffice_client(call)?;
        let issued = match kind.as_str() {
            "authorization_code" => {
                let code = text(call, "x-auth-code")?;
                let redemption = Redemption {
                    code: &code,
                    client: &client,
                    redirect_uri: Some(&redirect_uri),
                    verifier: None,
                    scope: Some(&scope),
                };
                self.ioffice_redeem(redemption, now.boot)?
            }
            "refresh_token" => {
                let token = text(call, "x-refresh-token")?;
                self.authority.refresh(&token, &client, Some(&scope), now.boot)?
            }
            _ => return Err(Refusal::UnsupportedGrantType.into()),
        };
        let milliseconds = match &self.expires_in {
            ExpiresIn::Honest => ExpiresIn::json(issued.lifetime.as_millis().to_string()),
            other @ (ExpiresIn::Missing | ExpiresIn::Json(_)) => other.clone(),
        };
        Ok(Reply::tokens(issued, &milliseconds))
    }

    fn ioffice_redeem(
        &mut self,
        mut redemption: Redemption<'_>,
        now: BootTime,
    ) -> Result<Issued, Refused> {
        if let Some(minted) = self.sites.ioffice.codes.get(redemption.code) {
            if now.since(minted.at) >= CODE_LIFETIME {
                return Err(Refusal::InvalidGrant.into());
            }
            match &minted.redirect_uri_and_scope {
                Some((_, asked)) if redemption.scope != Some(asked) => {
                    return Err(Refusal::InvalidScope.into());
                }
                Some(_) => {}
                None => redemption.redirect_uri = Some(""),
            }
        }
        Ok(self.authority.redeem(&redemption, now)?)
    }

    fn ioffice_info(&self, call: &Call, now: Now) -> Result<Reply, Refused> {
        let holder = self.ioffice_access(&text(call, "x-token")?, now);
        let user = holder.ok_or(Refusal::InvalidToken)?.user.as_deref();
        Ok(Reply::ok(members([("user", user.into())])))
    }

    /// One token, of either kind; with a refresh token goes its whole grant.
    fn ioffice_revoke(&mut self, call: &Call, now: Now) -> Result<Reply, Refused> {
        let token = text(call, "x-token")?;
        let known = self.authority.describe(&token, now.boot);
        let client = known.ok_or(Refusal::InvalidToken)?.holder.client.clone();
        self.authority.revoke(&token, &client)?;
        Ok(Reply::ok(members([])))
    }

    /// 403 to a dead token, and 401 to a request that has none.
    fn ioffice_resource(&self, call: &Call, now: Now) -> Reply {
        let query = Form::of(call.query.as_deref().unwrap_or_default().as_bytes()).ok();
        let in_query = query.as_ref().and_then(|form| form.value("access_token"));
        let token = call.header("x-access-token").or(in_query);
        match token.map(|token| self.ioffice_access(token, now)) {
            Some(Some(holder)) => Reply::ok(members([("user", holder.user.as_deref().into())])),
            Some(None) => Refused(StatusCode::FORBIDDEN, "invalid_token").into(),
            None => Refused(StatusCode::UNAUTHORIZED, "unauthorized").into(),
        }
    }

    fn ioffice_access(&self, token: &str, now: Now) -> Option<&Holder> {
        let found = self.authority.describe(token, now.boot)?;
        found.is_access.then_some(found.holder)
    }

    fn ioffice_client(&self, call: &Call) -> Result<String, Refused> {
        let secret = call.header("x-client-secret").map(str::to_owned);
        let id = text(call, "x-client-id")?;
        Ok(self.registry.authenticate(Credentials { id, secret })?)
    }
}

/// A refusal with the status that is assumed, for no document has one.
struct Refused(StatusCode, &'static str);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::InvalidClient => StatusCode::UNAUTHORIZED,
            Refusal::InvalidRequest
            | Refusal::InvalidGrant
            | Refusal::InvalidScope
            | Refusal::UnauthorizedClient
            | Refusal::UnsupportedGrantType
            | Refusal::InvalidToken => StatusCode::BAD_REQUEST,
        };
        Self(status, refusal.code())
    }
}

impl From<Refused> for Reply {
    fn from(Refused(status, code): Refused) -> Self {
        let Value::Object(json) = error(code) else { return Self::empty(status) };
        Self::refusal(status, code, json)
    }
}

fn told(result: Result<Reply, Refused>) -> Reply {
    result.unwrap_or_else(Reply::from)
}

/// What the document asks of a request for a code or a token: no body, and a name for it.
fn check_form(call: &Call) -> Result<(), Refused> {
    let named = call.header(CONTENT_TYPE.as_str()) == Some("application/json");
    if named && call.body.is_empty() { Ok(()) } else { Err(Refusal::InvalidRequest.into()) }
}

/// A header, read as servers read them: one character for each byte.
fn text(call: &Call, name: &str) -> Result<String, Refusal> {
    let value = call.headers.get(name).ok_or(Refusal::InvalidRequest)?;
    let text: String = value.as_bytes().iter().map(|byte| char::from(*byte)).collect();
    if text.is_empty() { Err(Refusal::InvalidRequest) } else { Ok(text) }
}

const CODE_LIFETIME: Duration = Duration::from_secs(300);

const APP_CODE: &str = "fake-app";
