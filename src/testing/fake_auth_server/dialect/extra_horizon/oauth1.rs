//! oAuth1: tokens that live until they are deleted.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::login::Denied;
use super::signature::Signed;
use super::{SSO_LIFE, Site, Sso, Token, id_of, new_secret, records, refused, timestamp};
use crate::clock::Now;
use crate::testing::fake_auth_server::counts::Endpoint;
use crate::testing::fake_auth_server::dialect::Route;
use crate::testing::fake_auth_server::reply::{Reply, members};
use crate::testing::fake_auth_server::request::Call;
use crate::testing::fake_auth_server::shared::State;

pub(super) fn password() -> Route {
    Route::to(Endpoint::Password, |state, call, now| state.exh_password(call, now).into_reply())
}

pub(super) fn second_factor() -> Route {
    Route::to(Endpoint::SecondFactor, |state, call, now| state.exh_mfa(call, now).into_reply())
}

pub(super) fn generate_sso() -> Route {
    Route::to(Endpoint::GenerateSso, |state, call, now| state.exh_generate(call, now).into_reply())
}

pub(super) fn consume_sso() -> Route {
    Route::to(Endpoint::ConsumeSso, |state, call, now| state.exh_consume(call, now).into_reply())
}

pub(super) fn list() -> Route {
    Route::to(Endpoint::ListTokens, |state, call, now| state.exh_list(call, now).into_reply())
}

pub(super) fn delete() -> Route {
    Route::to(Endpoint::DeleteToken, |state, call, now| state.exh_delete(call, now).into_reply())
}

/// Either way it is a reply.
trait IntoReply {
    fn into_reply(self) -> Reply;
}

impl IntoReply for Result<Reply, Box<Reply>> {
    fn into_reply(self) -> Reply {
        self.unwrap_or_else(|refused| *refused)
    }
}

impl State {
    fn exh_password(&mut self, call: &Call, now: Now) -> Result<Reply, Box<Reply>> {
        let Signed { consumer, .. } = self.exh_signed(call, now.wall)?;
        let body = call.json().unwrap_or_default();
        let login = (text(&body, "email"), text(&body, "password"));
        let user = self.exh_login(login, &consumer, now.boot).map_err(denied)?;
        Ok(self.sites.extra_horizon.issue(user, consumer, now))
    }

    fn exh_mfa(&mut self, call: &Call, now: Now) -> Result<Reply, Box<Reply>> {
        let Signed { consumer, .. } = self.exh_signed(call, now.wall)?;
        let body = call.json().unwrap_or_default();
        let factor = (text(&body, "token"), text(&body, "methodId"), text(&body, "code"));
        let user = self.exh_second_factor(factor, &consumer, now.boot).map_err(denied)?;
        Ok(self.sites.extra_horizon.issue(user, consumer, now))
    }

    fn exh_generate(&mut self, call: &Call, now: Now) -> Result<Reply, Box<Reply>> {
        let (user, consumer) = self.exh_user(call, now)?;
        let (token, expires) = (new_secret(), now.boot.after(SSO_LIFE));
        let site = &mut self.sites.extra_horizon;
        site.sso.insert(token.clone(), Sso { user: user.clone(), expires });
        Ok(Reply::ok(members([
            ("id", site.new_id().into()),
            ("ssoToken", token.into()),
            ("userId", id_of(&user).into()),
            ("createdByApplicationId", id_of(&consumer).into()),
            ("expiryTimestamp", timestamp(now.wall_at(expires)).into()),
            ("creationTimestamp", timestamp(now.wall).into()),
            ("updateTimestamp", timestamp(now.wall).into()),
        ])))
    }

    /// A token of the application that consumes it; it serves once.
    fn exh_consume(&mut self, call: &Call, now: Now) -> Result<Reply, Box<Reply>> {
        let Signed { consumer, .. } = self.exh_signed(call, now.wall)?;
        let body = call.json().unwrap_or_default();
        let site = &mut self.sites.extra_horizon;
        match site.sso.remove(text(&body, "ssoToken")) {
            Some(sso) if now.boot < sso.expires => Ok(site.issue(sso.user, consumer, now)),
            Some(_) | None => Err(Box::new(refused(StatusCode::NOT_FOUND, 16))),
        }
    }

    /// One's own, without their secrets.
    fn exh_list(&mut self, call: &Call, now: Now) -> Result<Reply, Box<Reply>> {
        let (user, _) = self.exh_user(call, now)?;
        let own = self.sites.extra_horizon.tokens.iter().filter(|token| token.user == user);
        let own = own.map(|token| {
            let mut json = token.json();
            json.remove("tokenSecret");
            Value::Object(json)
        });
        Ok(records::page(call, own.collect()))
    }

    fn exh_delete(&mut self, call: &Call, now: Now) -> Result<Reply, Box<Reply>> {
        let (user, _) = self.exh_user(call, now)?;
        let id = call.path.rsplit('/').next().unwrap_or_default();
        let tokens = &mut self.sites.extra_horizon.tokens;
        let before = tokens.len();
        tokens.retain(|token| token.id != id || token.user != user);
        Ok(Reply::ok(members([("affectedRecords", json!(before - tokens.len()))])))
    }

    /// Whose token signed, and for which application.
    fn exh_user(&mut self, call: &Call, now: Now) -> Result<(String, String), Box<Reply>> {
        let signed = self.exh_signed(call, now.wall)?;
        let (user, _) =
            signed.token.ok_or_else(|| Box::new(refused(StatusCode::UNAUTHORIZED, 104)))?;
        Ok((user, signed.consumer))
    }

    /// The user service: an API that takes both dialects.
    pub(super) fn exh_me(&mut self, call: &Call, now: Now) -> Reply {
        let user = match call.bearer() {
            Some(_) => self.exh_bearer(call, now),
            None => self.exh_user(call, now).map(|(user, _)| user),
        };
        match user {
            Ok(user) => Reply::ok(members([
                ("id", id_of(&user).into()),
                ("email", user.as_str().into()),
                ("creationTimestamp", timestamp(now.wall).into()),
                ("updateTimestamp", timestamp(now.wall).into()),
            ])),
            Err(refused) => *refused,
        }
    }
}

impl Site {
    fn issue(&mut self, user: String, consumer: String, now: Now) -> Reply {
        let (created, last_used) = (now.wall, now.wall);
        let (id, token, secret) = (self.new_id(), new_secret(), new_secret());
        let token = Token { id, user, consumer, token, secret, created, last_used };
        let reply = Reply::ok(token.json()).access_token_at(&["token"]);
        self.tokens.push(token);
        reply
    }
}

impl Token {
    fn json(&self) -> Map<String, Value> {
        members([
            ("id", self.id.as_str().into()),
            ("userId", id_of(&self.user).into()),
            ("applicationId", id_of(&self.consumer).into()),
            ("token", self.token.as_str().into()),
            ("tokenSecret", self.secret.as_str().into()),
            ("lastUsedTimestamp", timestamp(self.last_used).into()),
            ("updateTimestamp", timestamp(self.last_used).into()),
            ("creationTimestamp", timestamp(self.created).into()),
        ])
    }
}

/// Statuses of the API description, by number.
fn denied(denied: Denied) -> Box<Reply> {
    let status = match denied.number {
        129 => StatusCode::FORBIDDEN,
        130 | 131 | 134 => StatusCode::BAD_REQUEST,
        16 => StatusCode::NOT_FOUND,
        _ => StatusCode::UNAUTHORIZED,
    };
    let number = denied.number.to_string();
    Box::new(Reply::refusal(status, &number, denied.fault()))
}

pub(super) fn text<'j>(json: &'j Map<String, Value>, name: &str) -> &'j str {
    json.get(name).and_then(Value::as_str).unwrap_or_default()
}
