//! iOFFICE: everything in headers, `expires_in` in milliseconds, the code in a fragment.

use std::collections::HashMap;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use serde_json::{Map, Value};
use url::form_urlencoded::Serializer;

use super::{Dialect, RequestContext, Route};
use crate::clock::BootTime;
use crate::testing::fake_auth_server::authority::{Code, Holder, Issued, Redemption};
use crate::testing::fake_auth_server::counts::Endpoint;
use crate::testing::fake_auth_server::error_code::ErrorCode;
use crate::testing::fake_auth_server::expires_in::ExpiresIn;
use crate::testing::fake_auth_server::fake_login::FakeLogin;
use crate::testing::fake_auth_server::fake_response::{FakeResponse, members};
use crate::testing::fake_auth_server::incoming_request::{ClientAuth, Form, IncomingRequest};

/// What is kept beside grants and tokens.
#[derive(Default)]
pub(in super::super) struct IOfficeServer {
    codes: HashMap<String, CodeRequest>,
}

/// How a code was asked for.
struct CodeRequest {
    at: BootTime,
    /// `None` without a browser: the request for the code names neither then.
    redirect_uri_and_scope: Option<(String, String)>,
}

impl Dialect for IOfficeServer {
    fn route(&self, request: &IncomingRequest) -> Result<Route, StatusCode> {
        let (method, route) = match request.path.as_str() {
            "/login.html" => (Method::GET, Route::to(Endpoint::Authorize, Self::login)),
            "/external/api/oauth2/auth" => {
                (Method::POST, Route::to(Endpoint::SecurityFactor, Self::auth))
            }
            "/external/api/oauth2/token" => (Method::POST, token_route(request)),
            "/external/api/oauth2/tokeninfo" => {
                (Method::GET, Route::to(Endpoint::Introspect, Self::token_info))
            }
            "/external/api/oauth2/revoke" => {
                (Method::GET, Route::to(Endpoint::Revoke, Self::revoke))
            }
            "/external/api/rest/v2/users/me" => {
                (Method::GET, Route::to(Endpoint::Resource, Self::resource))
            }
            _ => return Err(StatusCode::NOT_FOUND),
        };
        if request.method == method { Ok(route) } else { Err(StatusCode::METHOD_NOT_ALLOWED) }
    }

    fn error(&self, _: &IncomingRequest, code: &str) -> Value {
        error_json(code).into()
    }
}

type Outcome<T = FakeResponse> = Result<T, IOfficeError>;

/// An error with its status, which is assumed, because no document names one.
struct IOfficeError(StatusCode, &'static str);

impl IOfficeServer {
    /// All five parameters are needed. The state comes back, although the document does not say
    /// so.
    fn login(&mut self, context: &mut RequestContext<'_>) -> Result<FakeResponse, ErrorCode> {
        let form = context.request.form()?;
        let client = form.required("client_id")?;
        if !context.server.accounts.knows(client) {
            return Err(ErrorCode::InvalidClient);
        }
        let state = form.required("state")?;
        let (redirect_uri, scope) = (form.required("redirect_uri")?, form.required("scope")?);
        if form.required("response_type")? != "code" {
            return Err(ErrorCode::InvalidRequest);
        }
        let back = |fields: &[(&str, &str)]| {
            let fragment = Serializer::new(String::new()).extend_pairs(fields).finish();
            format!("{redirect_uri}#{fragment}")
        };
        let user = match &context.server.login {
            FakeLogin::Approve(user) => user.clone(),
            FakeLogin::Deny(code) => {
                let fields = [("error", code.as_str()), ("state", state)];
                return Ok(FakeResponse::redirect(back(&fields), Some(code.clone())));
            }
        };
        let asked = Some((redirect_uri.to_owned(), scope.to_owned()));
        let code = self.mint_code((user, client.to_owned()), asked, context);
        let fields = [("code", &*code), ("appCode", APP_CODE), ("state", state)];
        Ok(FakeResponse::redirect(back(&fields), None))
    }

    fn auth(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let request = context.request;
        check_form(request)?;
        let client = authenticate(context)?;
        let (user, password) =
            (text(request, "x-auth-username")?, text(request, "x-auth-password")?);
        if !context.server.accounts.is_password(&user, &password) {
            return Err(IOfficeError(StatusCode::UNAUTHORIZED, "invalid_credentials"));
        }
        let code = self.mint_code((user, client), None, context);
        Ok(FakeResponse::ok(members([("code", code.into())])).access_token_at(&["code"]))
    }

    fn mint_code(
        &mut self,
        (user, client): (String, String),
        asked: Option<(String, String)>,
        context: &mut RequestContext<'_>,
    ) -> String {
        let (redirect_uri, scope) = asked.clone().unzip();
        let code = context.server.authority.mint_code(Code {
            user,
            client: Some(client),
            redirect_uri: redirect_uri.unwrap_or_default(),
            challenge: None,
            scope,
            redeemed: None,
        });
        let asked = CodeRequest { at: context.now.boot, redirect_uri_and_scope: asked };
        self.codes.insert(code.clone(), asked);
        code
    }

    fn token(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let request = context.request;
        check_form(request)?;
        let grant_type = text(request, "x-grant-type")?;
        let (redirect_uri, scope) = (text(request, "x-redirect-uri")?, text(request, "x-scope")?);
        let client = authenticate(context)?;
        let issued = match grant_type.as_str() {
            "authorization_code" => {
                let code = text(request, "x-auth-code")?;
                let redemption = Redemption {
                    code: &code,
                    client: &client,
                    redirect_uri: Some(&redirect_uri),
                    verifier: None,
                    scope: Some(&scope),
                };
                self.redeem(redemption, context)?
            }
            "refresh_token" => {
                let token = text(request, "x-refresh-token")?;
                let now = context.now.boot;
                context.server.authority.refresh(&token, &client, Some(&scope), now)?
            }
            _ => return Err(ErrorCode::UnsupportedGrantType.into()),
        };
        let milliseconds = in_milliseconds(&context.server.expires_in, issued.lifetime);
        Ok(FakeResponse::tokens(issued, &milliseconds))
    }

    fn redeem(
        &self,
        mut redemption: Redemption<'_>,
        context: &mut RequestContext<'_>,
    ) -> Outcome<Issued> {
        let now = context.now.boot;
        if let Some(asked) = self.codes.get(redemption.code) {
            if now.since(asked.at) >= CODE_LIFETIME {
                return Err(ErrorCode::InvalidGrant.into());
            }
            match &asked.redirect_uri_and_scope {
                Some((_, scope)) if redemption.scope != Some(scope) => {
                    return Err(ErrorCode::InvalidScope.into());
                }
                Some(_) => {}
                None => redemption.redirect_uri = Some(""),
            }
        }
        Ok(context.server.authority.redeem(&redemption, now)?)
    }

    fn token_info(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let token = text(context.request, "x-token")?;
        let holder = holder(context, &token).ok_or(ErrorCode::InvalidToken)?;
        Ok(FakeResponse::ok(members([("user", holder.user.as_deref().into())])))
    }

    /// Ends one access token alone, and with a refresh token its whole grant.
    fn revoke(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let RequestContext { server, request, now } = context;
        let token = text(request, "x-token")?;
        let known = server.authority.describe(&token, now.boot);
        let client = known.ok_or(ErrorCode::InvalidToken)?.holder.client.clone();
        server.authority.revoke(&token, &client)?;
        Ok(FakeResponse::ok(members([])))
    }

    /// 403 to a dead token, and 401 to a request that has none.
    fn resource(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let request = context.request;
        let query = Form::of(request.query.as_deref().unwrap_or_default().as_bytes()).ok();
        let in_query = query.as_ref().and_then(|form| form.value("access_token"));
        let token = request.header("x-access-token").or(in_query);
        let token = token.ok_or(IOfficeError(StatusCode::UNAUTHORIZED, "unauthorized"))?;
        let holder = holder(context, token);
        let holder = holder.ok_or(IOfficeError(StatusCode::FORBIDDEN, "invalid_token"))?;
        Ok(FakeResponse::ok(members([("user", holder.user.as_deref().into())])))
    }
}

fn token_route(request: &IncomingRequest) -> Route {
    let endpoint = match request.header("x-grant-type") {
        Some("authorization_code") => Endpoint::AuthorizationCode,
        Some("refresh_token") => Endpoint::RefreshToken,
        _ => Endpoint::Token,
    };
    let presented = request.header("x-refresh-token");
    let presented = presented.filter(|_| endpoint == Endpoint::RefreshToken);
    Route::to(endpoint, IOfficeServer::token).refreshing(presented.map(str::to_owned))
}

/// The holder of a live access token.
fn holder<'a>(context: &'a RequestContext<'_>, token: &str) -> Option<&'a Holder> {
    let found = context.server.authority.describe(token, context.now.boot)?;
    found.is_access.then_some(found.holder)
}

/// What the response says of the lifetime; this server states it in milliseconds.
fn in_milliseconds(stated: &ExpiresIn, lifetime: Duration) -> ExpiresIn {
    match stated {
        ExpiresIn::Honest => ExpiresIn::json(lifetime.as_millis().to_string()),
        other @ (ExpiresIn::Missing | ExpiresIn::Json(_)) => other.clone(),
    }
}

fn authenticate(context: &RequestContext<'_>) -> Outcome<String> {
    let secret = context.request.header("x-client-secret").map(str::to_owned);
    let id = text(context.request, "x-client-id")?;
    Ok(context.server.accounts.authenticate(ClientAuth { id, secret })?)
}

impl From<ErrorCode> for IOfficeError {
    fn from(error: ErrorCode) -> Self {
        let status = match error {
            ErrorCode::InvalidClient => StatusCode::UNAUTHORIZED,
            ErrorCode::InvalidRequest
            | ErrorCode::InvalidGrant
            | ErrorCode::InvalidScope
            | ErrorCode::UnauthorizedClient
            | ErrorCode::UnsupportedGrantType
            | ErrorCode::InvalidToken => StatusCode::BAD_REQUEST,
        };
        Self(status, error.text())
    }
}

impl From<IOfficeError> for FakeResponse {
    fn from(IOfficeError(status, code): IOfficeError) -> Self {
        Self::refusal(status, code, error_json(code))
    }
}

fn error_json(code: &str) -> Map<String, Value> {
    let description = format!("the request failed: {code}");
    members([("error", code.into()), ("errorDescription", description.into())])
}

/// What the document demands of a request for a code or a token: no body, and yet a content type.
fn check_form(request: &IncomingRequest) -> Outcome<()> {
    let is_json = request.header(CONTENT_TYPE.as_str()) == Some("application/json");
    if is_json && request.body.is_empty() { Ok(()) } else { Err(ErrorCode::InvalidRequest.into()) }
}

/// A header, read as servers read them: one character for each byte.
fn text(request: &IncomingRequest, name: &str) -> Result<String, ErrorCode> {
    let value = request.headers.get(name).ok_or(ErrorCode::InvalidRequest)?;
    let text: String = value.as_bytes().iter().map(|byte| char::from(*byte)).collect();
    if text.is_empty() { Err(ErrorCode::InvalidRequest) } else { Ok(text) }
}

const CODE_LIFETIME: Duration = Duration::from_secs(300);

const APP_CODE: &str = "fake-app";
