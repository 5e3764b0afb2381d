//! The answer of a token endpoint (RFC 6749 section 5.1).

use std::fmt;

use bytes::Bytes;
use http::Response;
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

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

/// A string, or null for none; an empty one is none. Anything else is an error.
fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    from.deserialize_any(SecretVisitor)
}

struct SecretVisitor;

impl Visitor<'_> for SecretVisitor {
    type Value = Option<Secret>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    /// The text is borrowed from the body, which is wiped. Where it has an escape (`\/`), it is
    /// borrowed from the parser's buffer, which is not.
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok((!text.is_empty()).then(|| Secret::from(text)))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// A text; what is none, or is empty, is None.
fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(match from.deserialize_any(ScalarVisitor)? {
        Scalar::Text(text) if !text.is_empty() => Some(text),
        Scalar::Text(_) | Scalar::Number(_) | Scalar::Other => None,
    })
}

/// A number, or a string that holds one; what is none is None.
fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    let seconds = match from.deserialize_any(ScalarVisitor)? {
        Scalar::Number(seconds) => Some(seconds),
        Scalar::Text(text) => text.trim().parse::<f64>().ok(),
        Scalar::Other => None,
    };
    Ok(seconds.filter(|seconds| seconds.is_finite()))
}

/// Any JSON value, as far as a lenient member needs it.
enum Scalar {
    Text(String),
    Number(f64),
    Other,
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number))
    }

    #[expect(clippy::cast_precision_loss, reason = "a lifetime needs no 53 bits")]
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "a lifetime needs no 53 bits")]
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number as f64))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Scalar, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Scalar, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}
