//! The names of tenants, providers and sessions.
//!
//! A caller names a session of one provider by its [`SessionKey`]: tenant and token id. A
//! [`SessionId`] adds the provider's name. Records, events and log fields name sessions by it.

mod pause_scope;

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};
use serde::Serialize;

pub use self::pause_scope::PauseScope;

/// The most bytes that one part of a key may have. Defaults to 256 because every store has an index
/// on each part and every log line has a field for it, and because a UUID needs only 36 bytes.
pub const MAX_KEY_BYTES: usize = 256;

/// A customer of the backend that embeds this crate. No tenant can reach the sessions of another
/// tenant. See the example of [`SessionId`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// Checks the name of a tenant.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] if the name is empty, longer than [`MAX_KEY_BYTES`], or has a character that
    /// [`KeyFault`] refuses.
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self, InvalidKey> {
        check(KeyPart::Tenant, name.into()).map(Self)
    }

    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name under which a provider was registered with the supervisor. See the example of
/// [`SessionId`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ProviderName(Arc<str>);

impl ProviderName {
    /// Checks the name of a provider.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] if the name is empty, longer than [`MAX_KEY_BYTES`], or has a character that
    /// [`KeyFault`] refuses.
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self, InvalidKey> {
        check(KeyPart::Provider, name.into()).map(Self)
    }

    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a session within one provider: tenant and token id.
///
/// The token id is the name that your backend gives the session: the id of a device or of a user,
/// for example. It is not a token and no secret, and it stays the same while tokens are replaced.
///
/// ```
/// use session_warden::SessionKey;
///
/// let key = SessionKey::new("acme", "device-17")?;
/// assert_eq!((key.tenant().as_str(), key.token_id()), ("acme", "device-17"));
/// assert!(SessionKey::new("acme", "").is_err());
///
/// // A program without tenants.
/// let key = SessionKey::single("device-17")?;
/// assert_eq!(key.tenant().as_str(), "single");
/// # Ok::<(), session_warden::key::InvalidKey>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct SessionKey {
    tenant: Tenant,
    token_id: Arc<str>,
}

impl SessionKey {
    /// Names a session by its tenant and its token id.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] if a part is empty, longer than [`MAX_KEY_BYTES`], or has a character that
    /// [`KeyFault`] refuses.
    pub fn new(
        tenant: impl Into<Arc<str>>,
        token_id: impl Into<Arc<str>>,
    ) -> Result<Self, InvalidKey> {
        Ok(Self {
            tenant: Tenant::new(tenant)?,
            token_id: check(KeyPart::TokenId, token_id.into())?,
        })
    }

    /// Names a session of a program that has no tenants: all its sessions belong to the tenant
    /// `single`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn single(token_id: impl Into<Arc<str>>) -> Result<Self, InvalidKey> {
        Self::new("single", token_id)
    }

    /// The tenant that the session belongs to.
    #[must_use]
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The id that the backend chose.
    #[must_use]
    pub fn token_id(&self) -> &str {
        &self.token_id
    }
}

/// The identity of a session: provider name, tenant, token id.
///
/// ```
/// use session_warden::key::{ProviderName, SessionId, SessionKey, Tenant};
///
/// let key = SessionKey::new("north", "device-17")?;
/// let id = SessionId::new(ProviderName::new("acme")?, key);
/// assert_eq!(id.to_string(), "acme/north/device-17");
/// assert_eq!(id.key().tenant(), &Tenant::new("north")?);
///
/// // The parts of an id stay apart in its text.
/// let key = SessionKey::new("north/device", "17")?;
/// let other = SessionId::new(ProviderName::new("acme")?, key);
/// assert_eq!(other.to_string(), "acme/north%2Fdevice/17");
/// # Ok::<(), session_warden::key::InvalidKey>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SessionId {
    provider: ProviderName,
    key: SessionKey,
}

impl Hash for SessionId {
    /// Hashes the key alone: there are few providers, and the hash is the most expensive part of a
    /// lookup.
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.key.hash(hasher);
    }
}

impl SessionId {
    /// Makes an id from the name of a provider and the key of one of its sessions.
    #[must_use]
    pub fn new(provider: ProviderName, key: SessionKey) -> Self {
        Self { provider, key }
    }

    /// An id that sorts before all ids of a provider, or of one tenant of it. It is the id of no
    /// session, because a session's names are not empty.
    pub(crate) fn floor(provider: &ProviderName, tenant: Option<&Tenant>) -> Self {
        let tenant = tenant.cloned().unwrap_or_else(|| Tenant("".into()));
        Self { provider: provider.clone(), key: SessionKey { tenant, token_id: "".into() } }
    }

    /// An id that sorts after all ids of a provider, and before all ids of the next provider.
    pub(crate) fn ceiling(provider: &ProviderName) -> Self {
        // No tenant's name has this character. A database refuses the character U+0000.
        Self::floor(provider, Some(&Tenant("\u{10FFFF}".into())))
    }

    /// The provider that the session belongs to.
    #[must_use]
    pub fn provider(&self) -> &ProviderName {
        &self.provider
    }

    /// The session's key within its provider.
    #[must_use]
    pub fn key(&self) -> &SessionKey {
        &self.key
    }
}

impl fmt::Display for SessionId {
    /// Writes `provider/tenant/token-id`. Within a part this writes `/` as `%2F` and `%` as `%25`,
    /// so that two sessions never have the same text. Log the three parts as separate fields if you
    /// can.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { provider, key } = self;
        let [provider, tenant, token_id] =
            [&provider.0, &key.tenant.0, &key.token_id].map(|part| Part(part));
        write!(f, "{provider}/{tenant}/{token_id}")
    }
}

/// A part of an id as it is displayed.
struct Part<'a>(&'a str);

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in self.0.split_inclusive(['/', '%']) {
            match (piece.strip_suffix('/'), piece.strip_suffix('%')) {
                (Some(before), _) => write!(f, "{before}%2F")?,
                (None, Some(before)) => write!(f, "{before}%25")?,
                (None, None) => f.write_str(piece)?,
            }
        }
        Ok(())
    }
}

impl Borrow<str> for Tenant {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for ProviderName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Why a key was refused: the part that cannot be used, and what is wrong with it.
///
/// ```
/// use session_warden::SessionKey;
/// use session_warden::key::{InvalidKey, KeyFault, KeyPart, MAX_KEY_BYTES};
///
/// /// Answers a request whose path names a device.
/// fn bad_request(invalid: &InvalidKey) -> String {
///     match (invalid.part(), invalid.fault()) {
///         (KeyPart::TokenId, KeyFault::Empty) => "name a device".to_owned(),
///         (KeyPart::TokenId, KeyFault::TooLong(bytes)) => {
///             format!("the device's name has {bytes} bytes, but {MAX_KEY_BYTES} are allowed")
///         }
///         _ => "the name has a character that is not allowed".to_owned(),
///     }
/// }
///
/// let invalid = SessionKey::new("acme", "x".repeat(300)).unwrap_err();
/// assert_eq!(bad_request(&invalid), "the device's name has 300 bytes, but 256 are allowed");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {part} {fault}")]
pub struct InvalidKey {
    part: KeyPart,
    fault: KeyFault,
}

impl InvalidKey {
    /// The part of the key that cannot be used.
    #[must_use]
    pub fn part(&self) -> KeyPart {
        self.part
    }

    /// What is wrong with that part.
    #[must_use]
    pub fn fault(&self) -> KeyFault {
        self.fault
    }

    /// The rule that it breaks.
    pub(crate) fn rule(&self) -> String {
        let part = self.part;
        match self.fault {
            KeyFault::Empty | KeyFault::TooLong(_) => {
                format!("a {part} must have at least 1 and at most {MAX_KEY_BYTES} bytes")
            }
            KeyFault::ControlCharacter | KeyFault::InvisibleCharacter => {
                format!("a {part} must have no control character and no invisible character")
            }
        }
    }
}

/// A part of a key. See the example of [`InvalidKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyPart {
    /// [`ProviderName`].
    Provider,
    /// [`Tenant`].
    Tenant,
    /// [`SessionKey::token_id`].
    TokenId,
}

impl fmt::Display for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Provider => "provider name",
            Self::Tenant => "tenant",
            Self::TokenId => "token id",
        })
    }
}

/// Why a part of a key cannot be used. See the example of [`InvalidKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyFault {
    /// The part has no character.
    Empty,
    /// The part has this many bytes, which are more than [`MAX_KEY_BYTES`].
    TooLong(usize),
    /// The part has a control character, with which an attacker could forge a log line.
    ControlCharacter,
    /// The part has a character that is invisible, that breaks a line, or that changes the order in
    /// which text is shown: zero-width and bidirectional characters, or U+2028, for example. Such a
    /// name could look like another name in a log or on a page.
    InvisibleCharacter,
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty; give it at least one character"),
            Self::TooLong(n) => write!(f, "has {n} bytes, more than {MAX_KEY_BYTES}; shorten it"),
            Self::ControlCharacter => f.write_str("has a control character; remove it"),
            Self::InvisibleCharacter => f.write_str(
                "has a character that is invisible or that changes the order of text; remove it",
            ),
        }
    }
}

fn check(part: KeyPart, text: Arc<str>) -> Result<Arc<str>, InvalidKey> {
    let fault = if text.is_empty() {
        KeyFault::Empty
    } else if text.len() > MAX_KEY_BYTES {
        KeyFault::TooLong(text.len())
    } else if text.chars().any(char::is_control) {
        KeyFault::ControlCharacter
    } else if !text.is_ascii() && text.chars().any(misleads) {
        KeyFault::InvisibleCharacter
    } else {
        return Ok(text);
    };
    Err(InvalidKey { part, fault })
}

/// Whether text with this character can look like text without it, or be shown on two lines.
pub(crate) fn misleads(c: char) -> bool {
    use GeneralCategory::{Format, LineSeparator, ParagraphSeparator, PrivateUse, Unassigned};
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    matches!(category, Format | LineSeparator | ParagraphSeparator | PrivateUse | Unassigned)
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_part_of_the_longest_length_is_taken_and_one_byte_more_is_not() {
        SessionKey::new("t", "x".repeat(MAX_KEY_BYTES)).unwrap();
        let refused = SessionKey::new("t", "x".repeat(MAX_KEY_BYTES + 1)).unwrap_err();
        assert_eq!(refused.part(), KeyPart::TokenId);
        assert_eq!(refused.fault(), KeyFault::TooLong(MAX_KEY_BYTES + 1));
    }

    #[test]
    fn empty_parts_and_control_characters_are_refused_by_part() {
        let refused = SessionKey::new("", "d").unwrap_err();
        assert_eq!((refused.part(), refused.fault()), (KeyPart::Tenant, KeyFault::Empty));
        let refused = SessionKey::new("t", "d\n").unwrap_err();
        assert_eq!(refused.fault(), KeyFault::ControlCharacter);
        assert_eq!(refused.to_string(), "the token id has a control character; remove it");
        ProviderName::new("\u{85}").unwrap_err();
        SessionKey::new("Zürich", "gerät 17").unwrap();
    }

    #[test]
    fn characters_that_nobody_sees_or_that_turn_text_around_are_refused() {
        let bidi =
            ['\u{61c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}'];
        let zero_width = ['\u{200b}', '\u{200c}', '\u{200d}', '\u{2060}', '\u{feff}', '\u{ad}'];
        let blank = ['\u{115f}', '\u{3164}', '\u{fe0f}', '\u{e0041}', '\u{180e}', '\u{34f}'];
        let other = ['\u{2028}', '\u{2029}', '\u{fffe}', '\u{e000}', '\u{fff9}'];
        for c in bidi.into_iter().chain(zero_width).chain(blank).chain(other) {
            let refused = SessionKey::new("acme", format!("de{c}vice")).unwrap_err();
            let expected = (KeyPart::TokenId, KeyFault::InvisibleCharacter);
            assert_eq!((refused.part(), refused.fault()), expected, "{c:?}");
            Tenant::new(format!("{c}acme")).unwrap_err();
            ProviderName::new(format!("p{c}")).unwrap_err();
        }
        for seen in ["Zürich", "東京-17", "שלום", "مرحبا", "नमस्ते", "e\u{301}", "a b", "💡"]
        {
            SessionKey::new(seen, seen).unwrap();
        }
    }

    #[test]
    fn two_sessions_are_never_displayed_alike() {
        let id = |provider: &str, tenant: &str, token_id: &str| {
            let key = SessionKey::new(tenant, token_id).unwrap();
            SessionId::new(ProviderName::new(provider).unwrap(), key).to_string()
        };
        assert_eq!(id("p", "a", "b"), "p/a/b");
        assert_eq!(id("p", "a/b", "100%/"), "p/a%2Fb/100%25%2F");
        let parts = ["a", "a/b", "a%2Fb", "b", "b/a", "/", "%"];
        let mut seen = std::collections::HashSet::new();
        for provider in parts {
            for (tenant, token_id) in parts.iter().flat_map(|t| parts.map(|d| (*t, d))) {
                assert!(
                    seen.insert(id(provider, tenant, token_id)),
                    "{provider} {tenant} {token_id}"
                );
            }
        }
    }

    #[test]
    fn equal_keys_of_two_providers_are_two_sessions() {
        let key = SessionKey::new("t", "d").unwrap();
        let a = SessionId::new(ProviderName::new("a").unwrap(), key.clone());
        let b = SessionId::new(ProviderName::new("b").unwrap(), key);
        assert_ne!(a, b);
    }
}
