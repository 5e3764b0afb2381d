//! oAuth2: the token endpoint, which speaks JSON.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::password_login::LoginError;
use super::server_data::ExtraHorizonServer;
use super::service_error::{name_and_message, service_error};
use super::values::{id_of, text};
use crate::testing::fake_auth_server::authority::{Holder, Issued, Redemption};
use crate::testing::fake_auth_server::counts::Endpoint;
use crate::testing::fake_auth_server::dialect::{RequestContext, Route};
use crate::testing::fake_auth_server::fake_response::{FakeResponse, members};
use crate::testing::fake_auth_server::fake_rotation::FakeRotation;
use crate::testing::fake_auth_server::incoming_request::IncomingRequest;

type Outcome = Result<FakeResponse, Box<FakeResponse>>;

pub(super) fn token_route(request: &IncomingRequest) -> Route {
    let body = request.json().unwrap_or_default();
    let endpoint = match text(&body, "grant_type") {
        "password" => Endpoint::Password,
        "authorization_code" => Endpoint::AuthorizationCode,
        "refresh_token" => Endpoint::RefreshToken,
        "mfa" => Endpoint::SecondFactor,
        _ => Endpoint::Token,
    };
    let presented = text(&body, "refresh_token");
    let presented = (endpoint == Endpoint::RefreshToken).then(|| presented.to_owned());
    Route::to(endpoint, ExtraHorizonServer::oauth2_token).refreshing(presented)
}

impl ExtraHorizonServer {
    fn oauth2_token(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let body = body(context)?;
        let client = authenticate(context, &body)?;
        let issued = match text(&body, "grant_type") {
            "password" => {
                let login = (text(&body, "username"), text(&body, "password"));
                let user = self.login(login, &client, context);
                user.map(|user| new_grant(user, &client, context))
            }
            "mfa" => {
                let factor = (text(&body, "token"), text(&body, "method_id"), text(&body, "code"));
                let user = self.second_factor(factor, &client, context.now.boot);
                user.map(|user| new_grant(user, &client, context))
            }
            "authorization_code" => redeem(&body, text(&body, "code"), &client, context),
            "refresh_token" => refresh(&body, &client, context),
            _ => return Err(token_error("unsupported_grant_type", Some(LoginError::of(121)))),
        };
        let issued = issued.map_err(|error| match error.number {
            129 => token_error("mfa_required", Some(error)),
            _ => token_error("invalid_grant", Some(error)),
        })?;
        Ok(self.tokens(issued, &client, context))
    }

    pub(super) fn oidc_login(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let body = body(context)?;
        let client = authenticate(context, &body)?;
        let issued = redeem(&body, text(&body, "authorizationCode"), &client, context);
        let issued = issued.map_err(|_| Box::new(service_error(StatusCode::BAD_REQUEST, 139)))?;
        Ok(self.tokens(issued, &client, context))
    }

    /// The response with these tokens, of which the server keeps records.
    fn tokens(
        &mut self,
        issued: Issued,
        client: &str,
        context: &RequestContext<'_>,
    ) -> FakeResponse {
        let RequestContext { server, now, .. } = context;
        let holder = server.authority.describe(&issued.pair.access, now.boot);
        let user = holder.and_then(|found| found.holder.user.clone()).unwrap_or_default();
        self.add_records(&issued, (&user, client), *now);
        let mut json = members([
            ("access_token", (&*issued.pair.access).into()),
            ("token_type", "bearer".into()),
            ("user_id", id_of(&user).into()),
            ("application_id", id_of(client).into()),
        ]);
        // The vendor's own log has 299.999 where 300 is meant.
        let seconds = issued.lifetime.saturating_sub(Duration::from_millis(1)).as_secs_f64();
        let shown = server.expires_in.replacement_for(json!(seconds));
        json.extend(shown.map(|seconds| ("expires_in".to_owned(), seconds)));
        let refresh = issued.pair.refresh;
        json.extend(refresh.map(|token| ("refresh_token".to_owned(), Value::from(&*token))));
        FakeResponse::ok(json)
    }
}

fn body(context: &RequestContext<'_>) -> Result<Map<String, Value>, Box<FakeResponse>> {
    context.request.json().ok_or_else(|| token_error("invalid_request", None))
}

/// The id of the client. A confidential client must send its secret in the header and in the body.
fn authenticate(
    context: &RequestContext<'_>,
    body: &Map<String, Value>,
) -> Result<String, Box<FakeResponse>> {
    let accounts = &context.server.accounts;
    let invalid = || token_error("invalid_client", Some(LoginError::of(124)));
    let (id, secret) = (text(body, "client_id"), text(body, "client_secret"));
    let known = accounts.secret_of(id);
    let expected = match known {
        _ if id.is_empty() => return Err(invalid()),
        _ if !accounts.names_clients() => Some(secret).filter(|secret| !secret.is_empty()),
        Some(expected) => expected,
        None => return Err(invalid()),
    };
    let basic = context.request.authorization("basic").map(str::to_owned);
    let wanted = expected.map(|expected| STANDARD.encode(format!("{id}:{expected}")));
    if basic != wanted || expected.unwrap_or_default() != secret {
        return Err(invalid());
    }
    Ok(id.to_owned())
}

fn new_grant(user: String, client: &str, context: &mut RequestContext<'_>) -> Issued {
    let holder = Holder { user: Some(user), client: client.to_owned(), scope: None };
    context.server.authority.grant(holder, context.now.boot)
}

fn redeem(
    body: &Map<String, Value>,
    code: &str,
    client: &str,
    context: &mut RequestContext<'_>,
) -> Result<Issued, LoginError> {
    let authority = &mut context.server.authority;
    let usual = authority.redirect_uri_of(code);
    let presented = Some(text(body, "redirect_uri")).filter(|uri| !uri.is_empty());
    let redirect_uri = presented.or(usual.as_deref());
    let verifier = Some(text(body, "code_verifier")).filter(|verifier| !verifier.is_empty());
    let redemption = Redemption { code, client, redirect_uri, verifier, scope: None };
    authority.redeem(&redemption, context.now.boot).map_err(|_| LoginError::of(115))
}

/// The server's rotation consumes the refresh token of a public client. That of a confidential
/// client can be used again.
fn refresh(
    body: &Map<String, Value>,
    client: &str,
    context: &mut RequestContext<'_>,
) -> Result<Issued, LoginError> {
    let (authority, now) = (&mut context.server.authority, context.now.boot);
    let token = text(body, "refresh_token");
    if authority.is_expired_refresh(token, now) {
        return Err(LoginError::of(120));
    }
    let is_confidential = !text(body, "client_secret").is_empty();
    let issued = if is_confidential {
        authority.rotating(FakeRotation::Fork(Duration::MAX), |authority| {
            authority.refresh(token, client, None, now)
        })
    } else {
        authority.refresh(token, client, None, now)
    };
    issued.map_err(|_| LoginError::of(119))
}

/// An error of the token endpoint, with the service's own inside.
fn token_error(error: &str, inner: Option<LoginError>) -> Box<FakeResponse> {
    let status =
        if error == "invalid_client" { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
    let mut json = members([("error", error.into())]);
    let number = inner.as_ref().map(|inner| inner.number);
    let (name, message) = name_and_message(number.unwrap_or_default());
    json.insert("description".to_owned(), message.into());
    if let (Some(inner), Some(number)) = (inner, number) {
        let own = json!({ "code": number, "name": name, "description": message });
        json.insert("exh_error".to_owned(), own);
        inner.add_to(&mut json);
    }
    Box::new(FakeResponse::refusal(status, error, json))
}
