//! The members of a token response: of a JSON object, or of a form.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::de::value::{self, StrDeserializer};
use serde::de::{
    Deserialize, DeserializeOwned, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use zeroize::Zeroizing;

use crate::provider::Exchanged;
use crate::provider::http_message::lenient::{Scalar, Words};
use crate::provider::http_message::{self, HttpResponse, JsonPointer, form, member_at, rfc3339};
use crate::provider::oauth2::settings::{LifetimeUnit, TokenResponse};
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
    pub(super) fn read(response: &HttpResponse, places: &TokenResponse) -> Exchanged<Self> {
        let read = if places.has_pointer() {
            Self::at_places(response, places)
        } else {
            Self::at_usual_places(response)
        };
        read.map(|members| members.in_seconds(places.lifetime_unit))
    }

    fn at_usual_places(response: &HttpResponse) -> Exchanged<Self> {
        let Some(fields) = form::fields_of(response) else {
            return http_message::json_object(response);
        };
        let mut members = Self::default();
        for (name, value) in fields {
            members.take_field(&name, value);
        }
        Ok(members)
    }

    fn at_places(response: &HttpResponse, places: &TokenResponse) -> Exchanged<Self> {
        let at = Places { response, under: places.under.as_ref() };
        let mut members = Self {
            access_token: at.secret(&places.access_token, "access_token")?,
            refresh_token: at.secret(&places.refresh_token, "refresh_token")?,
            id_token: at.secret(&places.id_token, "id_token")?,
            scope: at.member(&places.scope, "scope")?.and_then(|Words(scope)| scope),
            ..Self::default()
        };
        members.take(Name::TokenType, at.scalar(&places.token_type, "token_type")?);
        members.take(Name::ExpiresIn, at.scalar(&places.expires_in, "expires_in")?);
        members.take(Name::ExpiresAt, at.scalar(&places.expires_at, "expires_at")?);
        let lifetime = &places.refresh_expires_in;
        let stated = at.scalar(lifetime, "refresh_token_expires_in")?;
        members.take(Name::RefreshTokenExpiresIn, stated);
        if lifetime.is_none() {
            members.take(Name::RefreshExpiresIn, at.scalar(lifetime, "refresh_expires_in")?);
        }
        Ok(members)
    }

    fn in_seconds(mut self, unit: LifetimeUnit) -> Self {
        let lifetimes = [
            &mut self.expires_in,
            &mut self.refresh_token_expires_in,
            &mut self.refresh_expires_in,
        ];
        for lifetime in lifetimes.into_iter().flatten() {
            match unit {
                LifetimeUnit::Seconds => {}
                LifetimeUnit::Milliseconds => *lifetime /= 1000.0,
                LifetimeUnit::Minutes => *lifetime *= 60.0,
            }
        }
        self
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

/// Where a response has its members.
#[derive(Clone, Copy)]
struct Places<'r> {
    response: &'r HttpResponse,
    under: Option<&'r JsonPointer>,
}

impl Places<'_> {
    /// The member at the pointer that is set, or else with its usual name.
    fn member<T: DeserializeOwned>(
        self,
        set: &Option<JsonPointer>,
        usual: &str,
    ) -> Exchanged<Option<T>> {
        match set {
            Some(pointer) => member_at(self.response, self.under, pointer),
            None => member_at(self.response, self.under, &JsonPointer::of_member(usual)),
        }
    }

    fn secret(self, set: &Option<JsonPointer>, usual: &str) -> Exchanged<Found> {
        self.member(set, usual).map(Option::unwrap_or_default)
    }

    fn scalar(self, set: &Option<JsonPointer>, usual: &str) -> Exchanged<Scalar> {
        self.member(set, usual).map(|found| found.unwrap_or(Scalar::Null))
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
                Name::Scope => read.scope = members.next_value::<Words>()?.0,
                Name::TokenType
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
