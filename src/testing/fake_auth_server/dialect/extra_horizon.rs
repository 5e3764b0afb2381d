//! Extra Horizon's authentication service, as its API description 2.0.4 and its SDK 8.14.1 have it:
//! oAuth1 and oAuth2 side by side.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use self::service_error::error_json;
use self::values::{id_of, timestamp};
use super::{Dialect, RequestContext, Route};
use crate::clock::BootTime;
use crate::testing::fake_auth_server::authority::Authority;
use crate::testing::fake_auth_server::counts::Endpoint;
use crate::testing::fake_auth_server::fake_response::{FakeResponse, members};
use crate::testing::fake_auth_server::incoming_request::IncomingRequest;

mod caller;
mod control;
mod oauth1;
mod oauth2;
mod paging;
mod password_login;
mod server_data;
mod service_error;
mod signature;
mod token_records;
mod values;

pub(in super::super) use self::server_data::ExtraHorizonServer;

impl Dialect for ExtraHorizonServer {
    fn route(&self, request: &IncomingRequest) -> Result<Route, StatusCode> {
        let rest = request.path.strip_prefix("/auth/v2").unwrap_or_default();
        let parts: Vec<_> = rest.split('/').skip(1).collect();
        match (&request.method, parts.as_slice()) {
            (&Method::GET, _) if request.path == "/users/v1/me" => {
                Ok(Route::to(Endpoint::Resource, Self::me))
            }
            (&Method::POST, ["oauth1", "tokens"]) => {
                Ok(Route::to(Endpoint::Password, Self::oauth1_password))
            }
            (&Method::POST, ["oauth1", "tokens", "mfa"]) => {
                Ok(Route::to(Endpoint::SecondFactor, Self::oauth1_second_factor))
            }
            (&Method::POST, ["oauth1", "ssoTokens", "generate"]) => {
                Ok(Route::to(Endpoint::GenerateSso, Self::generate_sso))
            }
            (&Method::POST, ["oauth1", "ssoTokens", "consume"]) => {
                Ok(Route::to(Endpoint::ConsumeSso, Self::consume_sso))
            }
            (&Method::GET, ["oauth1", "tokens"]) => {
                Ok(Route::to(Endpoint::ListTokens, Self::list_oauth1_tokens))
            }
            (&Method::DELETE, ["oauth1", "tokens", _]) => {
                Ok(Route::to(Endpoint::DeleteToken, Self::delete_oauth1_token))
            }
            (&Method::POST, ["oauth2", "tokens"]) => Ok(oauth2::token_route(request)),
            (&Method::POST, ["oidc", "providers", _, "oAuth2Login"]) => {
                Ok(Route::to(Endpoint::AuthorizationCode, Self::oidc_login))
            }
            (&Method::GET, ["oauth2", "tokens" | "refreshTokens"]) => {
                Ok(Route::to(Endpoint::ListTokens, Self::list_records))
            }
            (&Method::DELETE, ["oauth2", "tokens" | "refreshTokens", _]) => {
                Ok(Route::to(Endpoint::DeleteToken, Self::delete_record))
            }
            (_, ["oauth1" | "oauth2", "tokens", ..]) => Err(StatusCode::METHOD_NOT_ALLOWED),
            _ => Err(StatusCode::NOT_FOUND),
        }
    }

    /// A number is an error of the service, and every other code is one of RFC 6749.
    fn error(&self, _: &IncomingRequest, code: &str) -> Value {
        match code.parse::<u16>() {
            Ok(number) => Value::Object(error_json(number)),
            Err(_) => json!({ "error": code, "description": "canary" }),
        }
    }

    fn is_active(&self, token: &str, authority: &Authority, now: BootTime) -> bool {
        authority.describe(token, now).is_some()
            || self.tokens.iter().any(|held| held.token == token)
    }

    fn end_users(&mut self, ends: &dyn Fn(&str) -> bool) {
        self.tokens.retain(|token| !ends(&token.user));
        self.sso.retain(|_, sso| !ends(&sso.user));
        self.challenges.retain(|_, challenge| !ends(&challenge.user));
    }
}

impl ExtraHorizonServer {
    /// The user service: an API that takes both dialects.
    fn me(&mut self, context: &mut RequestContext<'_>) -> Result<FakeResponse, Box<FakeResponse>> {
        let user = match context.request.bearer() {
            Some(_) => caller::user_of_bearer(context)?,
            None => self.user_of_signature(context)?.0,
        };
        let now = timestamp(context.now.wall);
        Ok(FakeResponse::ok(members([
            ("id", id_of(&user).into()),
            ("email", user.as_str().into()),
            ("creationTimestamp", now.as_str().into()),
            ("updateTimestamp", now.as_str().into()),
        ])))
    }
}
