//! The service's responses: envelopes that repeat the request's id ("examples").

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};
use uuid::Uuid;

use super::{SecurityToken, SpatiumAttributes};
use crate::provider::http_message::lenient::{number as seconds, secret, text, texts};
use crate::provider::http_message::{self, HttpResponse, jwt_claims};
use crate::provider::http_sender::HttpSender;
use crate::provider::{ExchangeError, Exchanged, FailureClass};
use crate::secret::Secret;
use crate::token::Tokens;

/// The envelope of every response.
pub(super) struct Envelope;

impl Envelope {
    /// Refuses the response to another request, which a cache or proxy may send: its content may be
    /// another user's. The result of this request is then not known, so its response counts as
    /// lost. A response that names no request is accepted.
    pub(super) fn check(response: &HttpResponse, id: Uuid) -> Exchanged<()> {
        #[derive(Deserialize)]
        struct Members {
            #[serde(default, rename = "requestId")]
            request_id: Option<Id>,
        }
        match http_message::json_object::<Members>(response) {
            Ok(Members { request_id: Some(Id(other)) }) if other != Some(id) => {
                let words = "belongs to another request";
                // The status belongs to the other request, so it does not count.
                let class = FailureClass::Ambiguous;
                Err(ExchangeError { class, ..http_message::unusable(response, words) })
            }
            Err(malformed) if response.status().is_success() => Err(malformed),
            // A body that is not an envelope is judged by its status.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// The id in a response; None if it is not a UUID.
struct Id(Option<Uuid>);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let id = text(from)?;
        Ok(Self(id.and_then(|id| Uuid::try_parse(&id).ok())))
    }
}

/// The token pair in a successful response. `former` has the attributes to use where the token has
/// none.
pub(super) fn tokens(
    sender: &HttpSender<'_>,
    response: &HttpResponse,
    former: &SpatiumAttributes,
) -> Exchanged<Tokens<SpatiumAttributes>> {
    #[derive(Deserialize)]
    struct Pair {
        #[serde(default, rename = "permissionToken")]
        permission: Option<Token>,
        #[serde(default, rename = "permissionRefreshToken")]
        refresh: Option<Token>,
    }
    let data = http_message::json_object::<Data<Pair>>(response)?.data;
    let missing = || http_message::unusable(response, "has no permission token");
    let Object(Pair { permission, refresh }) = data.ok_or_else(missing)?;
    let permission = permission.and_then(Token::present).ok_or_else(missing)?;
    let claims = jwt_claims::claims::<Claims>(&permission.secret).unwrap_or_default();
    let attributes = SpatiumAttributes {
        permissions: claims.permissions.unwrap_or_else(|| former.permissions.clone()),
        account_id: claims.account_id.or_else(|| former.account_id.clone()),
        merchant_id: claims.merchant_id.or_else(|| former.merchant_id.clone()),
    };
    let ends = |said: Option<f64>, exp: Option<f64>| {
        let end = said.and_then(unix).or_else(|| exp.and_then(unix));
        end.map(|end| sender.expires_at(response, end))
    };
    let tokens = Tokens::new(attributes)
        .with_access_token(permission.secret, ends(permission.expires_at, claims.exp));
    Ok(match refresh.and_then(Token::present) {
        Some(Issued { secret, expires_at }) => {
            let exp = jwt_claims::claims::<Claims>(&secret).and_then(|claims| claims.exp);
            tokens.with_refresh_token(secret, ends(expires_at, exp))
        }
        None => tokens,
    })
}

/// The security token in a successful response.
pub(super) fn security_token(response: &HttpResponse) -> Exchanged<SecurityToken> {
    #[derive(Deserialize)]
    struct Factor {
        #[serde(default, rename = "securityToken")]
        token: Option<Token>,
    }
    let data = http_message::json_object::<Data<Factor>>(response)?.data;
    let token = data.and_then(|Object(factor)| factor.token).and_then(Token::present);
    match token {
        Some(token) => Ok(SecurityToken::new(token.secret)),
        None => Err(http_message::unusable(response, "has no security token")),
    }
}

/// It has no `Debug`, like all types here, because it holds secrets.
#[derive(Deserialize)]
struct Data<T> {
    #[serde(default = "none")]
    data: Option<Object<T>>,
}

fn none<T>() -> Option<T> {
    None
}

/// Derived code would accept an array as an object without names.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members))
    }
}

/// The claims of a permission token ("examples").
#[derive(Default, Deserialize)]
#[serde(default)]
struct Claims {
    #[serde(deserialize_with = "seconds")]
    exp: Option<f64>,
    #[serde(deserialize_with = "texts")]
    permissions: Option<Vec<String>>,
    #[serde(rename = "accountId", deserialize_with = "text")]
    account_id: Option<String>,
    #[serde(rename = "merchantId", deserialize_with = "text")]
    merchant_id: Option<String>,
}

struct Issued {
    secret: Secret,
    /// In seconds since 1970.
    expires_at: Option<f64>,
}

/// A token: a text, or an object that has the token under its own name, and its expiry.
#[derive(Default)]
struct Token {
    secret: Option<Secret>,
    expires_at: Option<f64>,
}

impl Token {
    fn present(self) -> Option<Issued> {
        self.secret.map(|secret| Issued { secret, expires_at: self.expires_at })
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TokenVisitor)
    }
}

struct TokenVisitor;

impl<'de> Visitor<'de> for TokenVisitor {
    type Value = Token;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Token, E> {
        let secret = (!text.is_empty()).then(|| Secret::from(text));
        Ok(Token { secret, expires_at: None })
    }

    fn visit_unit<E: de::Error>(self) -> Result<Token, E> {
        Ok(Token::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Token, A::Error> {
        let mut token = Token::default();
        while let Some(name) = members.next_key::<Member>()? {
            match name {
                Member::Token if token.secret.is_none() => {
                    token.secret = members.next_value::<Text>()?.0;
                }
                Member::Token => return Err(de::Error::custom("two tokens")),
                Member::ExpiresAt => token.expires_at = members.next_value::<Seconds>()?.0,
                Member::Other => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(token)
    }
}

#[derive(Deserialize)]
enum Member {
    #[serde(
        rename = "permissionToken",
        alias = "permissionRefreshToken",
        alias = "securityToken",
        alias = "token"
    )]
    Token,
    #[serde(rename = "expiresAt")]
    ExpiresAt,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Text(#[serde(deserialize_with = "secret")] Option<Secret>);

#[derive(Deserialize)]
struct Seconds(#[serde(deserialize_with = "seconds")] Option<f64>);

/// The time from seconds since 1970; None if it is before 1970 or too large.
fn unix(seconds: f64) -> Option<SystemTime> {
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(since)
}
