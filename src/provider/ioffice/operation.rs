//! Operations at the server: whether the access token is valid, and the revocation of that token.

use http::Method;

use super::response::{is_valid, revoked};
use super::{IOffice, IOfficeAttributes};
use crate::provider::http_message::HttpResponse;
use crate::provider::operation::{Called, Prepared, access_token};
use crate::provider::{Credential, Effect, HttpSender, Operation};
use crate::token::Tokens;

/// Asks the server whether the session's access token is valid, as the client does. The output is
/// true if it is. If it is not, the crate does not give the token to callers again. See the
/// [example of the module](super).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(alias = "oauth2/tokeninfo")]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to choose")]
pub struct TokenInfo;

/// Revokes the session's access token and not the session: the next caller gets another token.
///
/// The document does not say whether the refresh token stays valid; the next refresh shows that.
/// [`Session::revoke`](crate::session::Session::revoke) ends both. See the
/// [example of the module](super).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(alias = "oauth2/revoke")]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to choose")]
pub struct IOfficeRevokeAccessToken;

impl Operation<IOffice> for TokenInfo {
    type Output = bool;
    type RequestInfo = ();

    fn credential(&self) -> Credential {
        Credential::InRequest
    }

    fn request(&self, provider: &IOffice, held: &Tokens<IOfficeAttributes>) -> Prepared<()> {
        Ok((provider.request_with_token(Method::GET, "tokeninfo", access_token(held)?)?, ()))
    }

    fn response(&self, sender: &HttpSender<'_>, (): (), response: &HttpResponse) -> Called<bool> {
        let valid = is_valid(sender, response)?;
        Ok((valid, if valid { Effect::None } else { Effect::AccessTokenDead }))
    }
}

impl Operation<IOffice> for IOfficeRevokeAccessToken {
    type Output = ();
    type RequestInfo = ();

    fn credential(&self) -> Credential {
        Credential::InRequest
    }

    fn request(&self, provider: &IOffice, held: &Tokens<IOfficeAttributes>) -> Prepared<()> {
        let method = provider.revoke_method.clone();
        Ok((provider.request_with_token(method, "revoke", access_token(held)?)?, ()))
    }

    fn response(&self, sender: &HttpSender<'_>, (): (), response: &HttpResponse) -> Called<()> {
        revoked(sender, response)?;
        Ok(((), Effect::AccessTokenDead))
    }
}
