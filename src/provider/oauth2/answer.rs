//! The answer of a token endpoint (RFC 6749 section 5.1).

use bytes::Bytes;
use http::Response;
use serde::Deserialize;

use crate::provider::wire::lenient::{number as seconds, secret, text};
use crate::provider::wire::{self, Wire};
use crate::provider::{ExchangeError, FailureClass};
use crate::secret::Secret;

/// A token that was issued.
pub(super) struct TokenAnswer {
    pub(super) access_token: Secret,
    /// In seconds, as the server says it.
    pub(super) expires_in: Option<f64>,
    pub(super) refresh_token: Option<Secret>,
    /// In seconds. Zero means "no end" (Keycloak's offline tokens) and is None.
    pub(super) refresh_expires_in: Option<f64>,
    pub(super) scope: Option<String>,
}

impl TokenAnswer {
    /// The one place where an answer becomes a token or a failure. `invalid_grant` is what that
    /// code says of the grant that was sent.
    pub(super) fn read(
        wire: &Wire<'_>,
        answer: &Response<Bytes>,
        invalid_grant: FailureClass,
    ) -> Result<Self, ExchangeError> {
        let unusable = if answer.status().is_success() {
            match wire::object::<Members>(answer).map(Members::token) {
                Ok(Ok(token)) => return Ok(token),
                Ok(Err(words)) => Some(wire::unusable(answer, words)),
                Err(malformed) => Some(malformed),
            }
        } else {
            None
        };
        // Some servers say 200 to everything, and what happened in an `error` member.
        let refused = wire.refusal(answer, invalid_grant);
        Err(unusable.filter(|_| refused.code.is_none()).unwrap_or(refused))
    }
}

/// Strict in what matters, the tokens; lenient where servers differ. It has no `Debug`: it is
/// full of secrets.
#[derive(Deserialize)]
struct Members {
    #[serde(default, deserialize_with = "secret")]
    access_token: Option<Secret>,
    #[serde(default, deserialize_with = "secret")]
    refresh_token: Option<Secret>,
    #[serde(default, deserialize_with = "text")]
    token_type: Option<String>,
    #[serde(default, deserialize_with = "text")]
    scope: Option<String>,
    #[serde(default, deserialize_with = "seconds")]
    expires_in: Option<f64>,
    // No standard has these two, but many servers send one of them.
    #[serde(default, deserialize_with = "seconds")]
    refresh_token_expires_in: Option<f64>,
    #[serde(default, deserialize_with = "seconds")]
    refresh_expires_in: Option<f64>,
}

impl Members {
    fn token(self) -> Result<TokenAnswer, &'static str> {
        let access_token = self.access_token.ok_or("the answer has no access token")?;
        if !self.token_type.is_none_or(|kind| kind.eq_ignore_ascii_case("bearer")) {
            return Err("the token is not of type bearer");
        }
        let refresh_expires_in = self.refresh_token_expires_in.or(self.refresh_expires_in);
        Ok(TokenAnswer {
            access_token,
            expires_in: self.expires_in,
            refresh_token: self.refresh_token,
            refresh_expires_in: refresh_expires_in.filter(|seconds| *seconds > 0.0),
            scope: self.scope,
        })
    }
}
