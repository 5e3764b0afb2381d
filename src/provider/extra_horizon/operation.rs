//! Operations at the authentication service: lists of tokens, their deletion, and single-use
//! tokens.

use bytes::Bytes;
use http::{Method, Request, header};
use serde::Deserialize;
use url::Url;

use super::host::Host;
use super::service_error::{self, RequestKind, ServiceError};
use super::token_record::{self, OwnToken, TokenDigest, TokenPage, TokenRecord};
use super::{
    ExtraHorizonAttributes, ExtraHorizonOAuth1, ExtraHorizonOAuth2, SsoToken, oauth1, oauth2,
    unusable,
};
use crate::error::Result;
use crate::provider::http_message::lenient::{secret, text};
use crate::provider::http_message::{self, HttpRequest, HttpResponse, rfc3339};
use crate::provider::operation::{Called, Prepared};
use crate::provider::{Effect, HttpSender, Operation};
use crate::secret::Secret;
use crate::token::Tokens;

/// Lists tokens: oAuth1 tokens with [`ExtraHorizonOAuth1`], access tokens with
/// [`ExtraHorizonOAuth2`]. A user may list the user's own tokens without a permission (in oAuth2
/// since version 2.3.0 of the service), and needs `VIEW_AUTHORIZATIONS` for the tokens of other
/// users. See the [example of the module](super).
#[derive(Debug, Default)]
#[doc(alias = "getTokens")]
pub struct ListTokens {
    filter: Option<String>,
}

/// Lists the user's refresh tokens. The server does not show which of them is the session's own.
/// See the [example of the module](super#oauth2).
#[derive(Debug, Default)]
pub struct ListRefreshTokens {
    filter: Option<String>,
}

/// Deletes a token by the id of its record: an oAuth1 token with [`ExtraHorizonOAuth1`], an access
/// token with [`ExtraHorizonOAuth2`]. The output is the number of deleted records: 0 if the server
/// does not know the id. See the [example of the module](super).
///
/// If an oAuth1 session deletes its own token, the session is lost. If an oAuth2 session deletes
/// the token of a record that was listed as its own ([`is_own`](TokenRecord::is_own)), the crate
/// does not give the access token to callers again. If the record was not listed as its own, the
/// session refreshes after an API has rejected the token.
#[derive(Debug)]
#[doc(alias = "removeToken")]
pub struct DeleteToken {
    id: String,
    token_digest: Option<TokenDigest>,
}

/// Deletes a refresh token by the id of its record. The output is the number of deleted records: 0
/// if the server does not know the id. See the [example of the module](super#oauth2).
///
/// Make the operation with [`of`](Self::of) to delete the session's own refresh token: the session
/// then ends when its access token expires. If you use [`new`](Self::new), the crate does not know
/// that the token is the session's own, until the server rejects the next refresh.
#[derive(Debug)]
pub struct DeleteRefreshToken {
    id: String,
    token_digest: Option<TokenDigest>,
}

/// Creates a single-use token, with which another application establishes a session of the same
/// user. See the [example of the module](super).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing to choose")]
pub struct GenerateSsoToken;

impl ListTokens {
    /// Lists the first 20 records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lists the records that this RQL expression selects:
    /// `gt(creationTimestamp,2025-01-01)&limit(50,20)`, for example.
    #[must_use]
    pub fn filter(mut self, rql: impl Into<String>) -> Self {
        self.filter = Some(rql.into());
        self
    }
}

impl ListRefreshTokens {
    /// Lists the first 20 records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lists the records that this RQL expression selects, as in [`ListTokens::filter`].
    #[must_use]
    pub fn filter(mut self, rql: impl Into<String>) -> Self {
        self.filter = Some(rql.into());
        self
    }
}

impl DeleteToken {
    /// Deletes the token whose record has this id.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), token_digest: None }
    }

    /// Deletes the token of this record.
    #[must_use]
    pub fn of(record: &TokenRecord) -> Self {
        Self { token_digest: record.token_digest, ..Self::new(record.id.clone()) }
    }
}

impl DeleteRefreshToken {
    /// Deletes the refresh token whose record has this id.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), token_digest: None }
    }

    /// Deletes the refresh token that the server issued with the access token of this record; None
    /// if it issued none.
    #[must_use]
    pub fn of(access_token: &TokenRecord) -> Option<Self> {
        let id = access_token.refresh_token_id.clone()?;
        Some(Self { token_digest: access_token.token_digest, ..Self::new(id) })
    }
}

impl Operation<ExtraHorizonOAuth1> for ListTokens {
    type Output = TokenPage;
    /// What the record of the session's own token is recognized by.
    type RequestInfo = OwnToken;

    fn request(
        &self,
        provider: &ExtraHorizonOAuth1,
        held: &Tokens<ExtraHorizonAttributes>,
    ) -> Prepared<OwnToken> {
        let own = OwnToken { id: held.attributes().token_id.clone(), token: None };
        Ok((list(provider.host(), oauth1::TOKENS, self.filter.as_deref())?, own))
    }

    fn response(
        &self,
        sender: &HttpSender<'_>,
        own: OwnToken,
        response: &HttpResponse,
    ) -> Called<TokenPage> {
        listed(sender, response, &own)
    }
}

impl Operation<ExtraHorizonOAuth2> for ListTokens {
    type Output = TokenPage;
    /// What the record of the session's own token is recognized by.
    type RequestInfo = OwnToken;

    fn request(
        &self,
        provider: &ExtraHorizonOAuth2,
        held: &Tokens<ExtraHorizonAttributes>,
    ) -> Prepared<OwnToken> {
        let own = OwnToken { id: None, token: held.access_token().map(TokenDigest::of) };
        Ok((list(provider.host(), oauth2::TOKENS, self.filter.as_deref())?, own))
    }

    fn response(
        &self,
        sender: &HttpSender<'_>,
        own: OwnToken,
        response: &HttpResponse,
    ) -> Called<TokenPage> {
        listed(sender, response, &own)
    }
}

impl Operation<ExtraHorizonOAuth2> for ListRefreshTokens {
    type Output = TokenPage;
    type RequestInfo = ();

    fn request(
        &self,
        provider: &ExtraHorizonOAuth2,
        _: &Tokens<ExtraHorizonAttributes>,
    ) -> Prepared<()> {
        Ok((list(provider.host(), REFRESH_TOKENS, self.filter.as_deref())?, ()))
    }

    fn response(
        &self,
        sender: &HttpSender<'_>,
        (): (),
        response: &HttpResponse,
    ) -> Called<TokenPage> {
        listed(sender, response, &OwnToken::default())
    }
}

impl Operation<ExtraHorizonOAuth1> for DeleteToken {
    type Output = u64;
    /// Whether the token is the session's, as it was when the request was made.
    type RequestInfo = bool;

    fn request(
        &self,
        provider: &ExtraHorizonOAuth1,
        held: &Tokens<ExtraHorizonAttributes>,
    ) -> Prepared<bool> {
        let own = held.attributes().token_id.as_deref() == Some(self.id.as_str());
        Ok((delete(provider.host(), oauth1::TOKENS, &self.id)?, own))
    }

    fn response(&self, sender: &HttpSender<'_>, own: bool, response: &HttpResponse) -> Called<u64> {
        deleted(sender, response, own.then_some(Effect::SessionDead))
    }
}

impl Operation<ExtraHorizonOAuth2> for DeleteToken {
    type Output = u64;
    /// Whether the token is the session's, as it was when the request was made.
    type RequestInfo = bool;

    fn request(
        &self,
        provider: &ExtraHorizonOAuth2,
        held: &Tokens<ExtraHorizonAttributes>,
    ) -> Prepared<bool> {
        let own = is_own(self.token_digest, held);
        Ok((delete(provider.host(), oauth2::TOKENS, &self.id)?, own))
    }

    fn response(&self, sender: &HttpSender<'_>, own: bool, response: &HttpResponse) -> Called<u64> {
        deleted(sender, response, own.then_some(Effect::AccessTokenDead))
    }
}

impl Operation<ExtraHorizonOAuth2> for DeleteRefreshToken {
    type Output = u64;
    /// Whether the token is the session's, as it was when the request was made.
    type RequestInfo = bool;

    fn request(
        &self,
        provider: &ExtraHorizonOAuth2,
        held: &Tokens<ExtraHorizonAttributes>,
    ) -> Prepared<bool> {
        let own = is_own(self.token_digest, held);
        Ok((delete(provider.host(), REFRESH_TOKENS, &self.id)?, own))
    }

    fn response(&self, sender: &HttpSender<'_>, own: bool, response: &HttpResponse) -> Called<u64> {
        deleted(sender, response, own.then_some(Effect::RefreshTokenDead))
    }
}

impl Operation<ExtraHorizonOAuth1> for GenerateSsoToken {
    type Output = SsoToken;
    type RequestInfo = ();

    fn request(
        &self,
        provider: &ExtraHorizonOAuth1,
        _: &Tokens<ExtraHorizonAttributes>,
    ) -> Prepared<()> {
        let request = Request::post(provider.host().url("/auth/v2/oauth1/ssoTokens/generate"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Bytes::from_static(b"{}"));
        Ok((request.map_err(unusable)?, ()))
    }

    fn response(
        &self,
        sender: &HttpSender<'_>,
        (): (),
        response: &HttpResponse,
    ) -> Called<SsoToken> {
        if !response.status().is_success() {
            return Err(service_error::failure(sender, response, RequestKind::Call));
        }
        let body: Generated = http_message::json_object(response)?;
        let Some(token) = body.sso_token else {
            return Err(http_message::unusable(response, "has no SSO token"));
        };
        let expires_at = body.expiry_timestamp.as_deref().and_then(rfc3339);
        let sso = SsoToken { token, id: body.id, user_id: body.user_id, expires_at };
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

fn list(host: &Host, path: &str, filter: Option<&str>) -> Result<HttpRequest> {
    let mut url = Url::parse(&host.url(path)).map_err(unusable)?;
    let filter = filter.map(|rql| rql.strip_prefix('?').unwrap_or(rql));
    url.set_query(filter.filter(|rql| !rql.is_empty()));
    Request::get(url.as_str()).body(Bytes::new()).map_err(unusable)
}

fn listed(sender: &HttpSender<'_>, response: &HttpResponse, own: &OwnToken) -> Called<TokenPage> {
    if !response.status().is_success() {
        return Err(service_error::failure(sender, response, RequestKind::Call));
    }
    Ok((TokenPage::read(response, own)?, Effect::None))
}

/// Whether the listed record belongs to the token that the session still has.
fn is_own(token_digest: Option<TokenDigest>, held: &Tokens<ExtraHorizonAttributes>) -> bool {
    token_digest.is_some() && token_digest == held.access_token().map(TokenDigest::of)
}

fn delete(host: &Host, path: &str, id: &str) -> Result<HttpRequest> {
    let request = Request::builder().method(Method::DELETE).uri(host.url_below(path, id)?);
    request.body(Bytes::new()).map_err(unusable)
}

/// `own` is the effect on the session if a record was deleted; None if the token is not the
/// session's.
fn deleted(sender: &HttpSender<'_>, response: &HttpResponse, own: Option<Effect>) -> Called<u64> {
    if response.status().is_success() {
        let count = token_record::deleted_count(response)?;
        return Ok((count, own.filter(|_| count > 0).unwrap_or(Effect::None)));
    }
    let unknown = |fault: ServiceError| fault.is(service_error::RESOURCE_UNKNOWN);
    if response.status().is_client_error() && ServiceError::read(response).is_some_and(unknown) {
        return Ok((0, Effect::None));
    }
    Err(service_error::failure(sender, response, RequestKind::Call))
}
