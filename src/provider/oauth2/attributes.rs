//! What a session keeps beside its tokens.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The attributes of a session. See the example of [`Introspect`](super::Introspect).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Attributes {
    /// The scope that the server granted: names with spaces between them (RFC 6749 section 3.3).
    /// None if the request had no scope and the server named none.
    pub scope: Option<String>,
    /// The user: the `sub` of the ID token that came with the tokens (`OpenID` Connect Core 1.0
    /// section 2); None if no ID token came. The crate does not verify the ID token's signature. It
    /// uses `subject` only to notice that a later response is for another user. Do not authenticate
    /// a user by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The host to which the session's requests go, with its port if that is not the usual one;
    /// None if it is the host of the settings. See [`SessionHost`](super::SessionHost).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The type of the access token, if it was issued in exchange for another token (RFC 8693 section
    /// 2.2.1): a URI. At most [`MAX_ATTRIBUTE_BYTES`](crate::policy::MAX_ATTRIBUTE_BYTES) bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_token_type: Option<String>,
    /// The parameters of the redirect and the members of token responses that the settings name
    /// ([`AuthorizationResponse::attributes`](super::AuthorizationResponse::attributes),
    /// [`TokenResponse::attributes`](super::TokenResponse::attributes)). Each has at most
    /// [`MAX_ATTRIBUTE_BYTES`](crate::policy::MAX_ATTRIBUTE_BYTES) bytes; a longer one is left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub more: BTreeMap<String, String>,
}
