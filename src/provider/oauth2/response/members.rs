//! The members of a token response: of a JSON object, or of a form.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::de::value::{self, StrDeserializer};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use crate::provider::Exchanged;
use crate::provider::http_message::lenient::Scalar;
use crate::provider::http_message::{self, HttpResponse, form, rfc3339, without_byte_order_mark};
use crate::secret::Secret;

/// Read leniently, because servers differ: if a member is there twice, the last one counts. It has
/// no `Debug`, because it holds secrets.
#[derive(Default)]
pub(super) struct Members {
    pub(super) access_token: Found,
    pub(super) refresh_token: Found,
    /// `OpenID` Connect Core 1.0 section 3.1.3.3.
    pub(super) id_token: Found,
    pub(super) token_type: Option<String>,
    pub(super) scope: Option<String>,
    /// In seconds.
    pub(super) expires_in: Option<f64>,
    // No standard has these three, but many servers send one of them.
    pub(super) expires_at: Option<SystemTime>,
    pub(super) refresh_token_expires_in: Option<f64>,
    pub(super) refresh_expires_in: Option<f64>,
}

/// A member that should be a secret.
#[derive(Default)]
pub(super) enum Found {
    /// The member is missing, null or empty.
    #[default]
    Nothing,
    Text(Secret),
    /// The member is not a text.
    Wrong,
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Name {
    AccessToken,
    RefreshToken,
    IdToken,
    TokenType,
    Scope,
    ExpiresIn,
    ExpiresAt,
    RefreshTokenExpiresIn,
    RefreshExpiresIn,
    #[serde(other)]
    Other,
}

impl Members {
    pub(super) fn read(response: &HttpResponse) -> Exchanged<Self> {
        let body = without_byte_order_mark(response.body());
        let is_object = body.trim_ascii_start().first() == Some(&b'{');
        if is_object || !form::is_form(response.headers()) {
            return http_message::json_object(response);
        }
        let mut members = Self::default();
        for (name, value) in form::fields(body) {
            members.take_field(&name, value);
        }
        Ok(members)
    }

    fn take_field(&mut self, name: &str, value: Zeroizing<String>) {
        let name = Name::of_field(name);
        match name {
            Name::AccessToken => self.access_token = Found::of(&value),
            Name::RefreshToken => self.refresh_token = Found::of(&value),
            Name::IdToken => self.id_token = Found::of(&value),
            Name::Other => {}
            Name::TokenType
            | Name::Scope
            | Name::ExpiresIn
            | Name::ExpiresAt
            | Name::RefreshTokenExpiresIn
            | Name::RefreshExpiresIn => self.take(name, Scalar::Text(value.to_string())),
        }
    }

    /// A member that is no secret.
    fn take(&mut self, name: Name, value: Scalar) {
        match name {
            Name::TokenType => self.token_type = value.text(),
            Name::Scope => self.scope = value.text(),
            Name::ExpiresIn => self.expires_in = value.number(),
            Name::ExpiresAt => self.expires_at = time(&value),
            Name::RefreshTokenExpiresIn => self.refresh_token_expires_in = value.number(),
            Name::RefreshExpiresIn => self.refresh_expires_in = value.number(),
            Name::AccessToken | Name::RefreshToken | Name::IdToken | Name::Other => {}
        }
    }
}

impl Name {
    fn of_field(name: &str) -> Self {
        Self::deserialize(StrDeserializer::<value::Error>::new(name)).unwrap_or(Self::Other)
    }
}

/// A time of day: seconds or milliseconds since 1970, or in the format of RFC 3339. Zero is not a
/// time.
fn time(value: &Scalar) -> Option<SystemTime> {
    /// As seconds it is the year 5138, as milliseconds 1973.
    const FIRST_MILLISECOND: f64 = 1e11;

    let Some(number) = value.number() else {
        let Scalar::Text(text) = value else { return None };
        return rfc3339(text.trim());
    };
    let seconds = if number < FIRST_MILLISECOND { number } else { number / 1000.0 };
    let since = Duration::try_from_secs_f64(seconds).ok().filter(|since| !since.is_zero())?;
    SystemTime::UNIX_EPOCH.checked_add(since)
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Members, A::Error> {
        let mut read = Members::default();
        while let Some(name) = members.next_key::<Name>()? {
            match name {
                Name::AccessToken => read.access_token = members.next_value()?,
                Name::RefreshToken => read.refresh_token = members.next_value()?,
                Name::IdToken => read.id_token = members.next_value()?,
                Name::Other => drop(members.next_value::<IgnoredAny>()?),
                Name::TokenType
                | Name::Scope
                | Name::ExpiresIn
                | Name::ExpiresAt
                | Name::RefreshTokenExpiresIn
                | Name::RefreshExpiresIn => read.take(name, members.next_value()?),
            }
        }
        Ok(read)
    }
}

impl Found {
    fn of(text: &str) -> Self {
        if text.is_empty() { Self::Nothing } else { Self::Text(Secret::from(text)) }
    }
}

impl<'de> Deserialize<'de> for Found {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(FoundVisitor)
    }
}

struct FoundVisitor;

impl<'de> Visitor<'de> for FoundVisitor {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    /// The text is borrowed from the body, which is wiped. If it has an escape (`\/`), it is
    /// borrowed from the parser's buffer, which is not wiped.
    fn visit_str<E: Error>(self, text: &str) -> Result<Found, E> {
        Ok(Found::of(text))
    }

    fn visit_unit<E: Error>(self) -> Result<Found, E> {
        Ok(Found::Nothing)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Found, E> {
        Ok(Found::Wrong)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Found, E> {
        Ok(Found::Wrong)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Found, E> {
        Ok(Found::Wrong)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Found, E> {
        Ok(Found::Wrong)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Found, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Found::Wrong)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Found, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Found::Wrong)
    }
}
