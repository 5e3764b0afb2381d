//! Calls at the authentication service beside the session's own.

use bytes::Bytes;
use http::{Method, Request, Response, header};
use serde::Deserialize;
use url::Url;

use super::fault::{self, Fault, Sent};
use super::record::{self, Mark, Own, TokenPage, TokenRecord};
use super::site::Site;
use super::{Attributes, OAuth1, OAuth2, SsoToken, oauth1, oauth2, unusable};
use crate::error::Result;
use crate::provider::wire::lenient::{secret, text};
use crate::provider::wire::{self, rfc3339};
use crate::provider::{Effect, ExchangeError, Operation, Wire};
use crate::secret::Secret;
use crate::token::Tokens;

/// Lists the user's tokens: the oAuth1 tokens at [`OAuth1`], the access tokens at [`OAuth2`].
/// One's own need no permission (oAuth2: since version 2.3.0 of the service), those of others
/// `VIEW_AUTHORIZATIONS`.
#[derive(Debug, Default)]
#[doc(alias = "getTokens")]
pub struct ListTokens {
    filter: Option<String>,
}

/// Lists the user's refresh tokens. None of them is known as the session's own.
#[derive(Debug, Default)]
pub struct ListRefreshTokens {
    filter: Option<String>,
}

/// Deletes a token by the id of its record: an oAuth1 token at [`OAuth1`], an access token at
/// [`OAuth2`]. The output is how many records were deleted; an unknown one is none.
///
/// An oAuth1 session whose own token it is ends. An oAuth2 session hands its access token out no
/// longer, if the record was known as [`is_own`](TokenRecord::is_own); if not, the next call that
/// is rejected shows it, and the session refreshes.
#[derive(Debug)]
#[doc(alias = "removeToken")]
pub struct DeleteToken {
    id: String,
    mark: Option<Mark>,
}

/// Deletes a refresh token by the id of its record. The output is how many records were deleted;
/// an unknown one is none.
///
/// A session that knows it for its own, because it was made [of](Self::of) the record of its own
/// access token, ends with its access token. If not, the next refresh is rejected.
#[derive(Debug)]
pub struct DeleteRefreshToken {
    id: String,
    mark: Option<Mark>,
}

/// Makes a single-use token with which another application continues as the same user: its
/// session is established with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to choose")]
pub struct GenerateSsoToken;

impl ListTokens {
    /// The first 20.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Those that this RQL expression picks: `gt(creationTimestamp,2025-01-01)&limit(50,20)`.
    #[must_use]
    pub fn filter(mut self, rql: impl Into<String>) -> Self {
        self.filter = Some(rql.into());
        self
    }
}

impl ListRefreshTokens {
    /// The first 20.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`ListTokens::filter`].
    #[must_use]
    pub fn filter(mut self, rql: impl Into<String>) -> Self {
        self.filter = Some(rql.into());
        self
    }
}

impl DeleteToken {
    /// The token whose record has this id.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), mark: None }
    }

    /// The token of this record.
    #[must_use]
    pub fn of(record: &TokenRecord) -> Self {
        Self { mark: record.mark, ..Self::new(record.id.clone()) }
    }
}

impl DeleteRefreshToken {
    /// The refresh token whose record has this id.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), mark: None }
    }

    /// The refresh token that came with the access token of this record; None if it had none.
    #[must_use]
    pub fn of(access_token: &TokenRecord) -> Option<Self> {
        let id = access_token.refresh_token_id.clone()?;
        Some(Self { mark: access_token.mark, ..Self::new(id) })
    }
}

impl Operation<OAuth1> for ListTokens {
    type Output = TokenPage;
    /// By what the record of the session's own token is known.
    type Context = Own;

    fn request(
        &self,
        provider: &OAuth1,
        held: &Tokens<Attributes>,
    ) -> Result<(Request<Bytes>, Own)> {
        let own = Own { id: held.attributes().token_id.clone(), token: None };
        Ok((list(provider.site(), oauth1::TOKENS, self.filter.as_deref())?, own))
    }

    fn response(
        &self,
        wire: &Wire<'_>,
        own: Own,
        answer: &Response<Bytes>,
    ) -> Result<(TokenPage, Effect), ExchangeError> {
        listed(wire, answer, &own)
    }
}

impl Operation<OAuth2> for ListTokens {
    type Output = TokenPage;
    /// By what the record of the session's own token is known.
    type Context = Own;

    fn request(
        &self,
        provider: &OAuth2,
        held: &Tokens<Attributes>,
    ) -> Result<(Request<Bytes>, Own)> {
        let own = Own { id: None, token: held.access_token().map(Mark::of) };
        Ok((list(provider.site(), oauth2::TOKENS, self.filter.as_deref())?, own))
    }

    fn response(
        &self,
        wire: &Wire<'_>,
        own: Own,
        answer: &Response<Bytes>,
    ) -> Result<(TokenPage, Effect), ExchangeError> {
        listed(wire, answer, &own)
    }
}

impl Operation<OAuth2> for ListRefreshTokens {
    type Output = TokenPage;
    type Context = ();

    fn request(&self, provider: &OAuth2, _: &Tokens<Attributes>) -> Result<(Request<Bytes>, ())> {
        Ok((list(provider.site(), REFRESH_TOKENS, self.filter.as_deref())?, ()))
    }

    fn response(
        &self,
        wire: &Wire<'_>,
        (): (),
        answer: &Response<Bytes>,
    ) -> Result<(TokenPage, Effect), ExchangeError> {
        listed(wire, answer, &Own::default())
    }
}

impl Operation<OAuth1> for DeleteToken {
    type Output = u64;
    /// Whether the token is the session's, as it was when the request was made.
    type Context = bool;

    fn request(
        &self,
        provider: &OAuth1,
        held: &Tokens<Attributes>,
    ) -> Result<(Request<Bytes>, bool)> {
        let own = held.attributes().token_id.as_deref() == Some(self.id.as_str());
        Ok((delete(provider.site(), oauth1::TOKENS, &self.id)?, own))
    }

    fn response(
        &self,
        wire: &Wire<'_>,
        own: bool,
        answer: &Response<Bytes>,
    ) -> Result<(u64, Effect), ExchangeError> {
        deleted(wire, answer, own.then_some(Effect::SessionDead))
    }
}

impl Operation<OAuth2> for DeleteToken {
    type Output = u64;
    /// Whether the token is the session's, as it was when the request was made.
    type Context = bool;

    fn request(
        &self,
        provider: &OAuth2,
        held: &Tokens<Attributes>,
    ) -> Result<(Request<Bytes>, bool)> {
        let own = is_own(self.mark, held);
        Ok((delete(provider.site(), oauth2::TOKENS, &self.id)?, own))
    }

    fn response(
        &self,
        wire: &Wire<'_>,
        own: bool,
        answer: &Response<Bytes>,
    ) -> Result<(u64, Effect), ExchangeError> {
        deleted(wire, answer, own.then_some(Effect::AccessTokenDead))
    }
}

impl Operation<OAuth2> for DeleteRefreshToken {
    type Output = u64;
    /// Whether the token is the session's, as it was when the request was made.
    type Context = bool;

    fn request(
        &self,
        provider: &OAuth2,
        held: &Tokens<Attributes>,
    ) -> Result<(Request<Bytes>, bool)> {
        let own = is_own(self.mark, held);
        Ok((delete(provider.site(), REFRESH_TOKENS, &self.id)?, own))
    }

    fn response(
        &self,
        wire: &Wire<'_>,
        own: bool,
        answer: &Response<Bytes>,
    ) -> Result<(u64, Effect), ExchangeError> {
        deleted(wire, answer, own.then_some(Effect::RefreshTokenDead))
    }
}

impl Operation<OAuth1> for GenerateSsoToken {
    type Output = SsoToken;
    type Context = ();

    fn request(&self, provider: &OAuth1, _: &Tokens<Attributes>) -> Result<(Request<Bytes>, ())> {
        let request = Request::post(provider.site().url("/auth/v2/oauth1/ssoTokens/generate"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Bytes::from_static(b"{}"));
        Ok((request.map_err(unusable)?, ()))
    }

    fn response(
        &self,
        wire: &Wire<'_>,
        (): (),
        answer: &Response<Bytes>,
    ) -> Result<(SsoToken, Effect), ExchangeError> {
        if !answer.status().is_success() {
            return Err(fault::failure(wire, answer, Sent::Call));
        }
        let told: Generated = wire::object(answer)?;
        let Some(token) = told.sso_token else {
            return Err(wire::unusable(answer, "the answer has no SSO token"));
        };
        let expires_at = told.expiry_timestamp.as_deref().and_then(rfc3339);
        let sso = SsoToken { token, id: told.id, user_id: told.user_id, expires_at };
        Ok((sso, Effect::None))
    }
}

const REFRESH_TOKENS: &str = "/auth/v2/oauth2/refreshTokens";

/// `SsoToken` of the API description.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Generated {
    #[serde(default, deserialize_with = "secret")]
    sso_token: Option<Secret>,
    #[serde(default, deserialize_with = "text")]
    id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    user_id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    expiry_timestamp: Option<String>,
}

fn list(site: &Site, path: &str, filter: Option<&str>) -> Result<Request<Bytes>> {
    let mut url = Url::parse(&site.url(path)).map_err(unusable)?;
    let filter = filter.map(|rql| rql.strip_prefix('?').unwrap_or(rql));
    url.set_query(filter.filter(|rql| !rql.is_empty()));
    Request::get(url.as_str()).body(Bytes::new()).map_err(unusable)
}

fn listed(
    wire: &Wire<'_>,
    answer: &Response<Bytes>,
    own: &Own,
) -> Result<(TokenPage, Effect), ExchangeError> {
    if !answer.status().is_success() {
        return Err(fault::failure(wire, answer, Sent::Call));
    }
    Ok((TokenPage::read(answer, own)?, Effect::None))
}

/// Whether the record that was listed is that of the token that the session still has.
fn is_own(mark: Option<Mark>, held: &Tokens<Attributes>) -> bool {
    mark.is_some() && mark == held.access_token().map(Mark::of)
}

fn delete(site: &Site, path: &str, id: &str) -> Result<Request<Bytes>> {
    let request = Request::builder().method(Method::DELETE).uri(site.url_below(path, id)?);
    request.body(Bytes::new()).map_err(unusable)
}

/// `own` is what it does to the session if something was deleted.
fn deleted(
    wire: &Wire<'_>,
    answer: &Response<Bytes>,
    own: Option<Effect>,
) -> Result<(u64, Effect), ExchangeError> {
    if answer.status().is_success() {
        let count = record::affected(answer)?;
        return Ok((count, own.filter(|_| count > 0).unwrap_or(Effect::None)));
    }
    let unknown = |fault: Fault| fault.is(fault::RESOURCE_UNKNOWN);
    if answer.status().is_client_error() && Fault::read(answer).is_some_and(unknown) {
        return Ok((0, Effect::None));
    }
    Err(fault::failure(wire, answer, Sent::Call))
}
