//! Answers that bring tokens.

use bytes::Bytes;
use http::Response;
use serde::Deserialize;

use super::Attributes;
use super::fault::{self, Fault, Sent};
use super::mfa::MfaChallenge;
use super::site::Site;
use crate::provider::wire::lenient::{number, secret, text};
use crate::provider::wire::{self, Wire};
use crate::provider::{ExchangeError, Issued, Provider};
use crate::secret::Secret;
use crate::token::Tokens;

/// What an answer to a grant brings, whichever the dialect is.
pub(super) fn issued<P, T>(
    wire: &Wire<'_>,
    answer: &Response<Bytes>,
    sent: Sent,
    from: (&Site, &str),
) -> Result<Issued<P>, ExchangeError>
where
    P: Provider<Challenge = MfaChallenge, Attributes = Attributes>,
    T: Brought,
{
    let fault = Fault::read(answer);
    if !answer.status().is_success() && fault.is_some_and(|fault| fault.asks_for_mfa()) {
        let (site, client) = from;
        return MfaChallenge::read(wire, answer, site, client).map(Issued::Challenge);
    }
    tokens::<T>(wire, answer, sent).map(Issued::Tokens)
}

/// The tokens in an answer, or what it means that there are none.
pub(super) fn tokens<T: Brought>(
    wire: &Wire<'_>,
    answer: &Response<Bytes>,
    sent: Sent,
) -> Result<Tokens<Attributes>, ExchangeError> {
    if !answer.status().is_success() {
        return Err(fault::failure(wire, answer, sent).expecting("a token answer"));
    }
    let brought = wire::object::<T>(answer).map(|members| members.tokens(wire));
    match brought {
        Ok(Ok(tokens)) => Ok(tokens),
        // A 200 without a token is a lost answer, unless it says what is wrong.
        Ok(Err(_)) | Err(_) if Fault::read(answer).is_some() => {
            Err(fault::failure(wire, answer, sent))
        }
        Ok(Err(words)) => Err(wire::unusable(answer, words)),
        Err(malformed) => Err(malformed),
    }
}

/// A body with tokens.
pub(super) trait Brought: for<'b> Deserialize<'b> {
    /// The tokens, or what is missing.
    fn tokens(self, wire: &Wire<'_>) -> Result<Tokens<Attributes>, &'static str>;
}

/// `OAuth1Token` of the API description. It has no expiry: oAuth1 tokens live until they are
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

impl Brought for OAuth1Token {
    fn tokens(self, _: &Wire<'_>) -> Result<Tokens<Attributes>, &'static str> {
        let token = self.token.ok_or("the answer has no token")?;
        let secret = self.token_secret.ok_or("the answer has no token secret")?;
        let attributes = Attributes {
            user_id: self.user_id,
            application_id: self.application_id,
            token_id: self.id,
        };
        Ok(Tokens::new(attributes).access(token, None).token_secret(secret))
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

impl Brought for OAuth2Token {
    fn tokens(self, wire: &Wire<'_>) -> Result<Tokens<Attributes>, &'static str> {
        let access = self.access_token.ok_or("the answer has no access token")?;
        if !self.token_type.is_none_or(|kind| kind.eq_ignore_ascii_case("bearer")) {
            return Err("the token is not of type bearer");
        }
        let attributes = Attributes {
            user_id: self.user_id,
            application_id: self.application_id,
            token_id: None,
        };
        let ends = self.expires_in.map(|seconds| wire.expires_in(seconds));
        let tokens = Tokens::new(attributes).access(access, ends);
        Ok(match self.refresh_token {
            Some(refresh) => tokens.refresh(refresh, None),
            None => tokens,
        })
    }
}
