//! The response of a token endpoint (RFC 6749 section 5.1).

mod kept;
mod members;

use std::borrow::Cow;
use std::mem::take;
use std::time::SystemTime;

use serde::Deserialize;

use self::members::{Found, Members};
use super::OAuth2;
use crate::error::Refusal;
use crate::provider::http_message::{self, HttpResponse, jwt_claims};
use crate::provider::http_sender::HttpSender;
use crate::provider::{ExchangeError, Exchanged, FailureClass};
use crate::secret::Secret;

/// The object in the response to a request that has no grant, so that none can be invalid. `expected`
/// says what the response should be.
pub(super) fn object_without_grant<'b, T: Deserialize<'b>>(
    sender: &HttpSender<'_>,
    response: &'b HttpResponse,
    expected: &'static str,
) -> Exchanged<T> {
    let read = if response.status().is_success() {
        http_message::json_object(response)
    } else {
        Err(sender.oauth_error(response, FailureClass::Refused(Refusal::Other)))
    };
    read.map_err(|failed| failed.expecting(expected))
}

/// The tokens that were issued.
pub(super) struct IssuedTokens {
    pub(super) access_token: Secret,
    pub(super) expires: Option<Expires>,
    pub(super) refresh_token: Option<Secret>,
    /// In seconds. Zero means "no end" (Keycloak's offline tokens) and is None.
    pub(super) refresh_expires_in: Option<f64>,
    pub(super) scope: Option<String>,
    /// The `sub` of an ID token that came along.
    pub(super) subject: Option<String>,
}

/// When an access token ends, as the server says it.
#[derive(Clone, Copy)]
pub(super) enum Expires {
    /// In so many seconds.
    In(f64),
    At(SystemTime),
}

impl IssuedTokens {
    /// Reads a token or a failure. `invalid_grant` is the class of that code for the grant in the
    /// request.
    pub(super) fn read(
        client: &OAuth2,
        sender: &HttpSender<'_>,
        response: &HttpResponse,
        invalid_grant: FailureClass,
    ) -> Exchanged<Self> {
        let places = &client.token_response;
        let unusable = if response.status().is_success() {
            match Members::read(response, places) {
                Ok(mut members) => {
                    // If the response has a token, the grant may be used up, so an error code must
                    // not overrule it.
                    let issued = members.has_token();
                    match members.token() {
                        Ok(token) => return Ok(token),
                        Err(words) if issued => {
                            let words = places.located(words);
                            return Err(members.refused(sender, response, words, invalid_grant));
                        }
                        Err(words) => Some(http_message::unusable(response, places.located(words))),
                    }
                }
                Err(malformed) => Some(malformed),
            }
        } else {
            None
        };
        if let Some(ruled) = client.ruled(sender, response, invalid_grant) {
            return Err(ruled);
        }
        // Some servers always send 200, and report failures in a member `error`.
        let refused = sender.oauth_error(response, invalid_grant);
        let silent = refused.class() == FailureClass::Ambiguous;
        Err(unusable.filter(|_| silent).unwrap_or(refused))
    }
}

impl Members {
    /// Whether it has a refresh token, or an access token that a header can carry: then the grant
    /// is used up.
    fn has_token(&self) -> bool {
        let carried = |token: &Secret| is_plain(token);
        matches!(&self.access_token, Found::Text(token) if carried(token))
            || matches!(self.refresh_token, Found::Text(_))
    }

    /// The token, or which member is missing or wrong.
    /// If it cannot be used, the refresh token stays.
    fn token(&mut self) -> Result<IssuedTokens, &'static str> {
        let access_token = access_token(take(&mut self.access_token))?;
        if matches!(self.refresh_token, Found::Wrong) {
            return Err("has a refresh_token that is no text");
        }
        if let Some(refused) = self.token_type.as_deref().and_then(refused_type) {
            return Err(refused);
        }
        Ok(IssuedTokens {
            access_token,
            expires: self.expires_in.map(Expires::In).or(self.expires_at.map(Expires::At)),
            refresh_token: match take(&mut self.refresh_token) {
                Found::Text(token) => Some(token),
                Found::Wrong | Found::Nothing => None,
            },
            refresh_expires_in: self.refresh_expires_in(),
            scope: take(&mut self.scope),
            subject: match &self.id_token {
                Found::Text(token) => subject(token),
                Found::Nothing | Found::Wrong => None,
            },
        })
    }

    fn refresh_expires_in(&self) -> Option<f64> {
        let seconds = self.refresh_token_expires_in.or(self.refresh_expires_in);
        seconds.filter(|seconds| *seconds > 0.0)
    }

    /// The failure of a response that has a token, but no access token that can be used. `words`
    /// say why. After a refresh nothing is in doubt: the session keeps the new refresh token, or if
    /// there is none, the old one, which stays valid (RFC 6749 section 6).
    fn refused(
        self,
        sender: &HttpSender<'_>,
        response: &HttpResponse,
        words: Cow<'static, str>,
        invalid_grant: FailureClass,
    ) -> ExchangeError {
        let unusable = http_message::unusable(response, words);
        // Only a refresh has this class for `invalid_grant`.
        let is_refresh = invalid_grant == FailureClass::Rejected;
        if !is_refresh || matches!(self.refresh_token, Found::Wrong) {
            return unusable;
        }
        let refused = ExchangeError { class: FailureClass::Misconfigured, ..unusable };
        let ends = self.refresh_expires_in().map(|seconds| sender.expires_in(seconds));
        match self.refresh_token {
            Found::Text(token) => refused.with_refresh_token(token, ends),
            Found::Nothing | Found::Wrong => refused,
        }
    }
}

/// The access token, or why it cannot be used.
fn access_token(found: Found) -> Result<Secret, &'static str> {
    match found {
        Found::Text(token) if is_plain(&token) => Ok(token),
        Found::Text(_) => Err("has an access_token with characters that no header can carry"),
        Found::Wrong => Err("has an access_token that is no text"),
        Found::Nothing => Err("has no access_token"),
    }
}

/// The subject of an ID token; None if it is not a text, is empty, or is longer than the standard
/// allows (`OpenID` Connect Core 1.0 section 2).
fn subject(id_token: &Secret) -> Option<String> {
    const LONGEST: usize = 255;

    #[derive(serde::Deserialize)]
    struct Claims {
        sub: String,
    }
    let Claims { sub } = jwt_claims::claims(id_token)?;
    (1..=LONGEST).contains(&sub.len()).then_some(sub)
}

/// Why a token of this type is not served as a bearer token; None if it is. The standard requires
/// this member (RFC 6749 section 7.1), but servers send any text in it.
fn refused_type(kind: &str) -> Option<&'static str> {
    const REFUSED: [(&str, &str); 3] = [
        ("dpop", "has the token_type DPoP, which needs a key that this client does not have"),
        ("mac", "has the token_type mac, which this client does not speak"),
        ("n_a", "has the token_type N_A, which is no access token"),
    ];
    let kind = kind.trim();
    let refused = REFUSED.iter().find(|(refused, _)| kind.eq_ignore_ascii_case(refused));
    refused.map(|(_, words)| *words)
}

/// Whether a header can carry the token unchanged.
fn is_plain(token: &Secret) -> bool {
    token.expose_secret().bytes().all(|byte| byte.is_ascii_graphic())
}
