//! Responses with tokens.

use serde::Deserialize;

use super::ExtraHorizonAttributes;
use super::host::Host;
use super::mfa::MfaChallenge;
use super::service_error::{self, RequestKind, ServiceError};
use crate::provider::http_message::HttpResponse;
use crate::provider::http_message::lenient::{number, secret, text};
use crate::provider::http_sender::HttpSender;
use crate::provider::{Exchanged, http_message};
use crate::provider::{Issued, Provider};
use crate::secret::Secret;
use crate::token::Tokens;

/// The tokens or the challenge in a response to a grant, of oAuth1 or oAuth2.
pub(super) fn issued<P, T>(
    sender: &HttpSender<'_>,
    response: &HttpResponse,
    request_kind: RequestKind,
    from: (&Host, &str),
) -> Exchanged<Issued<P>>
where
    P: Provider<Challenge = MfaChallenge, Attributes = ExtraHorizonAttributes>,
    T: TokenBody,
{
    let fault = ServiceError::read(response);
    if !response.status().is_success() && fault.is_some_and(|fault| fault.requires_mfa()) {
        let (host, client) = from;
        return MfaChallenge::read(sender, response, host, client).map(Issued::Challenge);
    }
    tokens::<T>(sender, response, request_kind).map(Issued::Tokens)
}

/// The tokens in a response, or the failure that it means.
pub(super) fn tokens<T: TokenBody>(
    sender: &HttpSender<'_>,
    response: &HttpResponse,
    request_kind: RequestKind,
) -> Exchanged<Tokens<ExtraHorizonAttributes>> {
    if !response.status().is_success() {
        return Err(
            service_error::failure(sender, response, request_kind).expecting("a token response")
        );
    }
    let brought = http_message::json_object::<T>(response).map(|members| members.tokens(sender));
    match brought {
        Ok(Ok(tokens)) => Ok(tokens),
        // A 200 without a token counts as a lost response, unless it has an error.
        Ok(Err(_)) | Err(_) if ServiceError::read(response).is_some() => {
            Err(service_error::failure(sender, response, request_kind))
        }
        Ok(Err(words)) => Err(http_message::unusable(response, words)),
        Err(malformed) => Err(malformed),
    }
}

/// A body with tokens.
pub(super) trait TokenBody: for<'b> Deserialize<'b> {
    /// The tokens, or what is missing.
    fn tokens(
        self,
        sender: &HttpSender<'_>,
    ) -> Result<Tokens<ExtraHorizonAttributes>, &'static str>;
}

/// `OAuth1Token` of the API description. It has no expiry: oAuth1 tokens are valid until they are
/// deleted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OAuth1Token {
    #[serde(default, deserialize_with = "text")]
    id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    user_id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    application_id: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    token: Option<Secret>,
    #[serde(default, deserialize_with = "secret")]
    token_secret: Option<Secret>,
}

impl TokenBody for OAuth1Token {
    fn tokens(self, _: &HttpSender<'_>) -> Result<Tokens<ExtraHorizonAttributes>, &'static str> {
        let token = self.token.ok_or("has no token")?;
        let secret = self.token_secret.ok_or("has no token secret")?;
        let attributes = ExtraHorizonAttributes {
            user_id: self.user_id,
            application_id: self.application_id,
            token_id: self.id,
        };
        Ok(Tokens::new(attributes).with_access_token(token, None).with_token_secret(secret))
    }
}

/// `OAuth2TokenCreationResponse` of the API description.
#[derive(Deserialize)]
pub(super) struct OAuth2Token {
    #[serde(default, deserialize_with = "secret")]
    access_token: Option<Secret>,
    #[serde(default, deserialize_with = "text")]
    token_type: Option<String>,
    /// In seconds, as a fraction: 299.999.
    #[serde(default, deserialize_with = "number")]
    expires_in: Option<f64>,
    #[serde(default, deserialize_with = "secret")]
    refresh_token: Option<Secret>,
    #[serde(default, deserialize_with = "text")]
    user_id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    application_id: Option<String>,
}

impl TokenBody for OAuth2Token {
    fn tokens(
        self,
        sender: &HttpSender<'_>,
    ) -> Result<Tokens<ExtraHorizonAttributes>, &'static str> {
        let access = self.access_token.ok_or("has no access token")?;
        if !self.token_type.is_none_or(|kind| kind.eq_ignore_ascii_case("bearer")) {
            return Err("the token is not of type bearer");
        }
        let attributes = ExtraHorizonAttributes {
            user_id: self.user_id,
            application_id: self.application_id,
            token_id: None,
        };
        let ends = self.expires_in.map(|seconds| sender.expires_in(seconds));
        let tokens = Tokens::new(attributes).with_access_token(access, ends);
        Ok(match self.refresh_token {
            Some(refresh) => tokens.with_refresh_token(refresh, None),
            None => tokens,
        })
    }
}
