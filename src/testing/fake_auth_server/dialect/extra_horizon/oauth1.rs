//! oAuth1: tokens that live until they are deleted.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::paging::page;
use super::password_login::LoginError;
use super::server_data::{ExtraHorizonServer, OAuth1Token, Sso};
use super::service_error::service_error;
use super::values::{id_of, new_secret, text, timestamp};
use crate::clock::Now;
use crate::testing::fake_auth_server::dialect::RequestContext;
use crate::testing::fake_auth_server::fake_response::{FakeResponse, members};

type Outcome = Result<FakeResponse, Box<FakeResponse>>;

impl ExtraHorizonServer {
    pub(super) fn oauth1_password(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let consumer = self.verify_signature(context)?.consumer;
        let body = context.request.json().unwrap_or_default();
        let login = (text(&body, "email"), text(&body, "password"));
        let user = self.login(login, &consumer, context).map_err(login_error)?;
        Ok(self.issue(user, consumer, context.now))
    }

    pub(super) fn oauth1_second_factor(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let consumer = self.verify_signature(context)?.consumer;
        let body = context.request.json().unwrap_or_default();
        let factor = (text(&body, "token"), text(&body, "methodId"), text(&body, "code"));
        let user = self.second_factor(factor, &consumer, context.now.boot).map_err(login_error)?;
        Ok(self.issue(user, consumer, context.now))
    }

    pub(super) fn generate_sso(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let (user, consumer) = self.user_of_signature(context)?;
        let (token, expires) = (new_secret(), context.now.boot.after(SSO_LIFE));
        self.sso.insert(token.clone(), Sso { user: user.clone(), expires });
        Ok(FakeResponse::ok(members([
            ("id", self.new_id().into()),
            ("ssoToken", token.into()),
            ("userId", id_of(&user).into()),
            ("createdByApplicationId", id_of(&consumer).into()),
            ("expiryTimestamp", timestamp(context.now.wall_at(expires)).into()),
            ("creationTimestamp", timestamp(context.now.wall).into()),
            ("updateTimestamp", timestamp(context.now.wall).into()),
        ])))
    }

    /// A token of the application that consumes it; it serves once.
    pub(super) fn consume_sso(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let consumer = self.verify_signature(context)?.consumer;
        let body = context.request.json().unwrap_or_default();
        match self.sso.remove(text(&body, "ssoToken")) {
            Some(sso) if context.now.boot < sso.expires => {
                Ok(self.issue(sso.user, consumer, context.now))
            }
            Some(_) | None => Err(Box::new(service_error(StatusCode::NOT_FOUND, 16))),
        }
    }

    /// The tokens of the user who asks, without their secrets.
    pub(super) fn list_oauth1_tokens(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let (user, _) = self.user_of_signature(context)?;
        let own = self.tokens.iter().filter(|token| token.user == user);
        let own = own.map(|token| {
            let mut json = token.json();
            json.remove("tokenSecret");
            Value::Object(json)
        });
        Ok(page(context.request, own.collect()))
    }

    pub(super) fn delete_oauth1_token(&mut self, context: &mut RequestContext<'_>) -> Outcome {
        let (user, _) = self.user_of_signature(context)?;
        let id = context.request.path.rsplit('/').next().unwrap_or_default();
        let tokens = &mut self.tokens;
        let before = tokens.len();
        tokens.retain(|token| token.id != id || token.user != user);
        Ok(FakeResponse::ok(members([("affectedRecords", json!(before - tokens.len()))])))
    }
}

impl ExtraHorizonServer {
    fn issue(&mut self, user: String, consumer: String, now: Now) -> FakeResponse {
        let (created, last_used) = (now.wall, now.wall);
        let (id, token, secret) = (self.new_id(), new_secret(), new_secret());
        let token = OAuth1Token { id, user, consumer, token, secret, created, last_used };
        let reply = FakeResponse::ok(token.json()).access_token_at(&["token"]);
        self.tokens.push(token);
        reply
    }
}

impl OAuth1Token {
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
fn login_error(error: LoginError) -> Box<FakeResponse> {
    let status = match error.number {
        129 => StatusCode::FORBIDDEN,
        130 | 131 | 134 => StatusCode::BAD_REQUEST,
        16 => StatusCode::NOT_FOUND,
        _ => StatusCode::UNAUTHORIZED,
    };
    let number = error.number.to_string();
    Box::new(FakeResponse::refusal(status, &number, error.json()))
}

/// How long a single-use token serves. The vendor does not publish it.
const SSO_LIFE: Duration = Duration::from_secs(300);
