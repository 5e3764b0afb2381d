//! Calls that end a token.

use http::Method;

use super::{Circle, CircleAttributes, response};
use crate::provider::http_message::{self, HttpResponse, Members};
use crate::provider::operation::{Called, Prepared, access_token, refresh_token};
use crate::provider::{Credential, Effect, HttpSender, Operation};
use crate::token::Tokens;

/// Revokes the session's access token alone (`POST /api/v1/headless/access_token/revoke`, the API).
/// The next caller gets another token. If the token is no longer valid, the call succeeds. See the
/// [example of the module](super).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(alias = "revokeMemberAPIToken")]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to choose")]
pub struct CircleRevokeAccessToken;

/// Revokes the session's refresh token (`POST /api/v1/headless/refresh_token/revoke`, the API). The
/// session ends when its access token expires, at most an hour later, and does not obtain new
/// tokens automatically. If the refresh token is no longer valid, the call succeeds. See the
/// [example of the module](super).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(alias = "revokeRefreshToken")]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to choose")]
pub struct CircleRevokeRefreshToken;

impl Operation<Circle> for CircleRevokeAccessToken {
    type Output = ();
    type RequestInfo = ();

    fn credential(&self) -> Credential {
        Credential::InRequest
    }

    fn request(&self, provider: &Circle, held: &Tokens<CircleAttributes>) -> Prepared<()> {
        let token = access_token(held)?;
        let body = http_message::json_body(&Members(&[("access_token", token.expose_secret())]))?;
        Ok((provider.request(Method::POST, "access_token/revoke", body)?, ()))
    }

    fn response(&self, sender: &HttpSender<'_>, (): (), response: &HttpResponse) -> Called<()> {
        response::access_revoked(sender, response)?;
        Ok(((), Effect::AccessTokenDead))
    }
}

impl Operation<Circle> for CircleRevokeRefreshToken {
    type Output = ();
    type RequestInfo = ();

    fn credential(&self) -> Credential {
        Credential::InRequest
    }

    fn request(&self, provider: &Circle, held: &Tokens<CircleAttributes>) -> Prepared<()> {
        Ok((provider.revocation(refresh_token(held)?)?, ()))
    }

    fn response(&self, sender: &HttpSender<'_>, (): (), response: &HttpResponse) -> Called<()> {
        response::refresh_revoked(sender, response)?;
        Ok(((), Effect::RefreshTokenDead))
    }
}
