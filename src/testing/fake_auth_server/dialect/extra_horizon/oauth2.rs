//! oAuth2: the token endpoint, which speaks JSON.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::login::Denied;
use super::oauth1::text;
use super::{id_of, refused, words};
use crate::clock::Now;
use crate::testing::fake_auth_server::FakeRotation;
use crate::testing::fake_auth_server::authority::{Holder, Issued, Redemption};
use crate::testing::fake_auth_server::counts::Endpoint;
use crate::testing::fake_auth_server::dialect::Route;
use crate::testing::fake_auth_server::reply::{Reply, members};
use crate::testing::fake_auth_server::request::Call;
use crate::testing::fake_auth_server::shared::State;

pub(super) fn token(call: &Call) -> Route {
    let body = call.json().unwrap_or_default();
    let endpoint = match text(&body, "grant_type") {
        "password" => Endpoint::Password,
        "authorization_code" => Endpoint::AuthorizationCode,
        "refresh_token" => Endpoint::RefreshToken,
        "mfa" => Endpoint::SecondFactor,
        _ => Endpoint::Token,
    };
    let presented = text(&body, "refresh_token");
    let presented = (endpoint == Endpoint::RefreshToken).then(|| presented.to_owned());
    Route::to(endpoint, |state, call, now| state.exh_token(call, now)).refreshing(presented)
}

pub(super) fn oidc() -> Route {
    Route::to(Endpoint::AuthorizationCode, |state, call, now| state.exh_oidc(call, now))
}

impl State {
    fn exh_token(&mut self, call: &Call, now: Now) -> Reply {
        let Some(body) = call.json() else { return oauth("invalid_request", None) };
        let client = match self.exh_client(call, &body) {
            Ok(client) => client,
            Err(refused) => return *refused,
        };
        let issued = match text(&body, "grant_type") {
            "password" => {
                let login = (text(&body, "username"), text(&body, "password"));
                self.exh_login(login, &client, now.boot)
                    .map(|user| self.exh_new(user, &client, now))
            }
            "mfa" => {
                let factor = (text(&body, "token"), text(&body, "method_id"), text(&body, "code"));
                let user = self.exh_second_factor(factor, &client, now.boot);
                user.map(|user| self.exh_new(user, &client, now))
            }
            "authorization_code" => self.exh_code(&body, text(&body, "code"), &client, now),
            "refresh_token" => self.exh_refresh(&body, &client, now),
            _ => return oauth("unsupported_grant_type", Some(Denied::of(121))),
        };
        self.exh_answer(issued, &client, now)
    }

    fn exh_oidc(&mut self, call: &Call, now: Now) -> Reply {
        let Some(body) = call.json() else { return oauth("invalid_request", None) };
        let client = match self.exh_client(call, &body) {
            Ok(client) => client,
            Err(refused) => return *refused,
        };
        match self.exh_code(&body, text(&body, "authorizationCode"), &client, now) {
            Ok(issued) => self.exh_answer(Ok(issued), &client, now),
            Err(_) => refused(StatusCode::BAD_REQUEST, 139),
        }
    }

    /// A confidential client is refused that does not say its secret in header and body.
    fn exh_client(&self, call: &Call, body: &Map<String, Value>) -> Result<String, Box<Reply>> {
        let invalid = || Box::new(oauth("invalid_client", Some(Denied::of(124))));
        let (id, secret) = (text(body, "client_id"), text(body, "client_secret"));
        let known = self.registry.secret_of(id);
        let expected = match known {
            _ if id.is_empty() => return Err(invalid()),
            _ if !self.registry.names_clients() => Some(secret).filter(|secret| !secret.is_empty()),
            Some(expected) => expected,
            None => return Err(invalid()),
        };
        let basic = call.authorization("basic").map(str::to_owned);
        let wanted = expected.map(|expected| STANDARD.encode(format!("{id}:{expected}")));
        if basic != wanted || expected.unwrap_or_default() != secret {
            return Err(invalid());
        }
        Ok(id.to_owned())
    }

    fn exh_new(&mut self, user: String, client: &str, now: Now) -> Issued {
        let holder = Holder { user: Some(user), client: client.to_owned(), scope: None };
        self.authority.grant(holder, now.boot)
    }

    fn exh_code(
        &mut self,
        body: &Map<String, Value>,
        code: &str,
        client: &str,
        now: Now,
    ) -> Result<Issued, Denied> {
        let redirect_uri = self.authority.redirect_uri_of(code);
        let told = Some(text(body, "redirect_uri")).filter(|uri| !uri.is_empty());
        let verifier = Some(text(body, "code_verifier")).filter(|verifier| !verifier.is_empty());
        let redirect_uri = told.or(redirect_uri.as_deref());
        let redemption = Redemption { code, client, redirect_uri, verifier, scope: None };
        self.authority.redeem(&redemption, now.boot).map_err(|_| Denied::of(115))
    }

    /// A public client's refresh token is consumed as the server's rotation says, a confidential
    /// one's can be used again.
    fn exh_refresh(
        &mut self,
        body: &Map<String, Value>,
        client: &str,
        now: Now,
    ) -> Result<Issued, Denied> {
        let token = text(body, "refresh_token");
        if self.authority.is_expired_refresh(token, now.boot) {
            return Err(Denied::of(120));
        }
        let confidential = !text(body, "client_secret").is_empty();
        let issued = if confidential {
            self.authority.rotating(FakeRotation::Fork(Duration::MAX), |authority| {
                authority.refresh(token, client, None, now.boot)
            })
        } else {
            self.authority.refresh(token, client, None, now.boot)
        };
        issued.map_err(|_| Denied::of(119))
    }

    fn exh_answer(&mut self, issued: Result<Issued, Denied>, client: &str, now: Now) -> Reply {
        let issued = match issued {
            Ok(issued) => issued,
            Err(denied) if denied.number == 129 => return oauth("mfa_required", Some(denied)),
            Err(denied) => return oauth("invalid_grant", Some(denied)),
        };
        let holder = self.authority.describe(&issued.pair.access, now.boot);
        let user = holder.and_then(|found| found.holder.user.clone()).unwrap_or_default();
        self.sites.extra_horizon.note(&issued, (&user, client), now);
        let mut json = members([
            ("access_token", (&*issued.pair.access).into()),
            ("token_type", "bearer".into()),
            ("user_id", id_of(&user).into()),
            ("application_id", id_of(client).into()),
        ]);
        // The vendor's own log has 299.999 where 300 is meant.
        let seconds = issued.lifetime.saturating_sub(Duration::from_millis(1)).as_secs_f64();
        let told = self.expires_in.instead_of(json!(seconds));
        json.extend(told.map(|told| ("expires_in".to_owned(), told)));
        let refresh = issued.pair.refresh;
        json.extend(refresh.map(|token| ("refresh_token".to_owned(), Value::from(&*token))));
        Reply::ok(json)
    }

    /// Whose access token came with a request.
    pub(super) fn exh_bearer(&self, call: &Call, now: Now) -> Result<String, Box<Reply>> {
        let token = call.bearer().unwrap_or_default();
        match self.authority.describe(token, now.boot).filter(|found| found.is_access) {
            Some(found) => Ok(found.holder.user.clone().unwrap_or_default()),
            None if self.authority.knows_access(token) => {
                Err(Box::new(refused(StatusCode::UNAUTHORIZED, 118)))
            }
            None => Err(Box::new(refused(StatusCode::UNAUTHORIZED, 117))),
        }
    }
}

/// An error of the token endpoint, with the service's own inside.
fn oauth(error: &str, denied: Option<Denied>) -> Reply {
    let status =
        if error == "invalid_client" { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
    let mut json = members([("error", error.into())]);
    let number = denied.as_ref().map(|denied| denied.number);
    let (name, text) = words(number.unwrap_or_default());
    json.insert("description".to_owned(), text.into());
    if let (Some(denied), Some(number)) = (denied, number) {
        let inner = json!({ "code": number, "name": name, "description": text });
        json.insert("exh_error".to_owned(), inner);
        denied.add_to(&mut json);
    }
    Reply::refusal(status, error, json)
}
