//! The members of a token response.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::serde_forms::is_default;
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::provider::http_message::JsonPointer;
use crate::provider::serde_seconds;

/// Where a token response has its members, if they are not where RFC 6749 section 5.1 has them.
///
/// In a response that is a form, a pointer of one name means the field of that name, and `under`
/// has no meaning.
///
/// ```
/// use std::time::Duration;
///
/// use session_warden::provider::http_message::JsonPointer;
/// use session_warden::provider::oauth2::{LifetimeUnit, OAuth2, TokenResponse};
///
/// // {"authed_user": {"access_token": "..", "lifetime": 3600000}, "team": {"id": "T-1"}}
/// let response = TokenResponse {
///     under: Some(JsonPointer::new("/authed_user")?),
///     expires_in: Some(JsonPointer::new("/lifetime")?),
///     lifetime_unit: LifetimeUnit::Milliseconds,
///     default_lifetime: Some(Duration::from_secs(3600)),
///     attributes: [("team".to_owned(), JsonPointer::new("/team/id")?)].into(),
///     ..TokenResponse::default()
/// };
/// let client =
///     OAuth2::new("https://login.example.com/token", "backend")?.token_response(response)?;
/// # Ok::<(), session_warden::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "made by users with struct update syntax")]
pub struct TokenResponse {
    /// The object that has `access_token` and the other members. Defaults to the whole body. The
    /// other pointers begin there, except those of `attributes`.
    #[serde(skip_serializing_if = "is_default")]
    pub under: Option<JsonPointer>,
    /// The access token. Defaults to `/access_token`.
    #[serde(skip_serializing_if = "is_default")]
    pub access_token: Option<JsonPointer>,
    /// The refresh token. Defaults to `/refresh_token`.
    #[serde(skip_serializing_if = "is_default")]
    pub refresh_token: Option<JsonPointer>,
    /// The ID token. Defaults to `/id_token`.
    #[serde(skip_serializing_if = "is_default")]
    pub id_token: Option<JsonPointer>,
    /// The type of the access token. Defaults to `/token_type`.
    #[serde(skip_serializing_if = "is_default")]
    pub token_type: Option<JsonPointer>,
    /// The granted scope. Defaults to `/scope`.
    #[serde(skip_serializing_if = "is_default")]
    pub scope: Option<JsonPointer>,
    /// The lifetime of the access token. Defaults to `/expires_in`.
    #[serde(skip_serializing_if = "is_default")]
    pub expires_in: Option<JsonPointer>,
    /// The time when the access token expires: seconds or milliseconds since 1970, or RFC 3339.
    /// Defaults to `/expires_at`. It counts only without a lifetime.
    #[serde(skip_serializing_if = "is_default")]
    pub expires_at: Option<JsonPointer>,
    /// The lifetime of the refresh token. Defaults to `/refresh_token_expires_in`, and if that is
    /// missing to `/refresh_expires_in`.
    #[serde(skip_serializing_if = "is_default")]
    pub refresh_expires_in: Option<JsonPointer>,
    /// The unit of both lifetimes.
    #[serde(skip_serializing_if = "is_default")]
    pub lifetime_unit: LifetimeUnit,
    /// The lifetime to assume if the response has neither `expires_in` nor `expires_at`. In
    /// seconds.
    #[serde(skip_serializing_if = "is_default", with = "serde_seconds::optional")]
    pub default_lifetime: Option<Duration>,
    /// Members to keep as attributes of the session, if they are texts, numbers or booleans: the
    /// attribute's name, and where the body has the member. Name no secret here, because attributes
    /// are shown.
    #[serde(skip_serializing_if = "is_default")]
    pub attributes: BTreeMap<String, JsonPointer>,
}

impl TokenResponse {
    /// Whether a member of the standard is at another place than usual.
    pub(in crate::provider::oauth2) fn has_pointer(&self) -> bool {
        let pointers = [
            &self.under,
            &self.access_token,
            &self.refresh_token,
            &self.id_token,
            &self.token_type,
            &self.scope,
            &self.expires_in,
            &self.expires_at,
            &self.refresh_expires_in,
        ];
        pointers.into_iter().any(Option::is_some)
    }

    /// The words about a response, and where the settings have the token that the words name.
    pub(in crate::provider::oauth2) fn located(&self, words: &'static str) -> Cow<'static, str> {
        let own = [("access_token", &self.access_token), ("refresh_token", &self.refresh_token)];
        let Some((name, set)) = own.into_iter().find(|(name, _)| words.contains(name)) else {
            return words.into();
        };
        if self.under.is_none() && set.is_none() {
            return words.into();
        }
        let under = self.under.as_ref().map_or_else(String::new, JsonPointer::to_string);
        let place = set.as_ref().map_or_else(|| format!("/{name}"), JsonPointer::to_string);
        format!("{words} (the settings name {under}{place})").into()
    }

    /// Fails if an attribute, or `host`, would be a token.
    pub(in crate::provider::oauth2) fn check(&self, host: Option<&JsonPointer>) -> Result<()> {
        let is_secret = |pointer: &&JsonPointer| self.is_token(pointer);
        let Some(pointer) = self.attributes.values().chain(host).find(is_secret) else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidInput).about(format!(
            "the member {} of the token response is a token, and the session would show it; name \
             another member",
            quoted(&pointer.to_string())
        )))
    }

    /// Whether the member is a token. By its name it is one in each object, because servers send
    /// tokens for several purposes. In a form the place has no `under`.
    fn is_token(&self, pointer: &JsonPointer) -> bool {
        let name = pointer.names().last();
        let is_usual = name
            .is_some_and(|name| matches!(&**name, "access_token" | "refresh_token" | "id_token"));
        let under = self.under.as_ref().map_or(&[][..], JsonPointer::names);
        let names = pointer.names();
        let below = names.strip_prefix(under).unwrap_or(names);
        let set = [&self.access_token, &self.refresh_token, &self.id_token];
        is_usual || set.into_iter().flatten().any(|set| [names, below].contains(&set.names()))
    }
}

/// The unit of lifetimes in a token response. See the example of [`TokenResponse`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LifetimeUnit {
    /// RFC 6749 section 5.1.
    #[default]
    Seconds,
    /// Thousandths of a second.
    Milliseconds,
    /// 60 seconds.
    Minutes,
}
