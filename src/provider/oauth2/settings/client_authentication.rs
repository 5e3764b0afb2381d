//! How a client authenticates.

use serde::{Deserialize, Serialize};

/// How a client authenticates (RFC 6749 section 2.3). See the example of
/// [`OAuth2::client_authentication`](crate::provider::oauth2::OAuth2::client_authentication).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClientAuthentication {
    /// By its id alone: a public client.
    None,
    /// Id and secret in the `Authorization` header, each escaped as RFC 6749 section 2.3.1 says.
    Basic,
    /// Id and secret in the `Authorization` header without that escaping, for servers that do not
    /// undo it. It differs only for ids and secrets with characters other than letters, digits,
    /// `*`, `-`, `.` and `_`.
    BasicUnescaped,
    /// Id and secret as fields in the body.
    Post,
    /// Id and secret in the query of the URL. Logs of servers and proxies show the query, so use it
    /// only for a server that accepts nothing else.
    Query,
    /// Id and secret each in a header of its own.
    Header(CredentialHeaders),
}

/// The names of the headers that carry the client's id and secret. See the example of
/// [`OAuth2::client_authentication`](crate::provider::oauth2::OAuth2::client_authentication).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "a client has an id and a secret")]
pub struct CredentialHeaders {
    /// The header that carries the id.
    pub client_id: String,
    /// The header that carries the secret.
    pub client_secret: String,
}
