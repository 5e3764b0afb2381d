//! How a client authenticates.

use serde::{Deserialize, Serialize};

use super::serde_forms::is_default;

/// How a client authenticates (RFC 6749 section 2.3). See the example of
/// [`OAuth2::client_authentication`](crate::provider::oauth2::OAuth2::client_authentication).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClientAuthentication {
    /// The client sends only its id, because it is a public client, or because its certificate is
    /// enough (RFC 8705 section 2.1).
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
    /// By a JWT that the client signs with its private key (RFC 7523 section 2.2, `OpenID` Connect
    /// Core 1.0 section 9).
    PrivateKeyJwt(PrivateKeyJwt),
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

/// How a client signs the JWT by which it authenticates (RFC 7523 section 3). Each request has a
/// new JWT that is valid for 1 min.
///
/// ```
/// use session_warden::provider::oauth2::{
///     ClientAuthentication, OAuth2Settings, PrivateKeyJwt, SigningAlgorithm,
/// };
///
/// let row = r#"{
///     "issuer": "https://login.example.com",
///     "client_id": "backend",
///     "client_authentication": { "private_key_jwt": { "algorithm": "ES256", "kid": "2026-01" } },
///     "client_key": "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----"
/// }"#;
/// let settings: OAuth2Settings = serde_json::from_str(row)?;
/// let jwt = PrivateKeyJwt {
///     kid: Some("2026-01".to_owned()),
///     ..PrivateKeyJwt::new(SigningAlgorithm::Es256)
/// };
/// assert_eq!(settings.client_authentication, Some(ClientAuthentication::PrivateKeyJwt(jwt)));
/// assert!(!serde_json::to_string(&settings)?.contains("canary"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "made by users with struct update syntax")]
pub struct PrivateKeyJwt {
    /// The algorithm of the signature. It must fit the key.
    pub algorithm: SigningAlgorithm,
    /// The key's id (RFC 7515 section 4.1.4), by which a server finds the public key among those
    /// that are registered for the client.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kid: Option<String>,
    /// The audience. Defaults to the issuer if it is known, because an issuer identifies one server
    /// alone (draft-ietf-oauth-rfc7523bis section 4), else to the token endpoint. Some servers
    /// accept only the token endpoint. With
    /// [`session_host`](super::OAuth2Settings::session_host), the default does not follow the host
    /// of the session.
    #[serde(default, skip_serializing_if = "is_default")]
    pub audience: Option<String>,
}

impl PrivateKeyJwt {
    /// JWTs with signatures of this algorithm.
    #[must_use]
    pub fn new(algorithm: SigningAlgorithm) -> Self {
        Self { algorithm, kid: None, audience: None }
    }
}

/// The algorithm of a signature (RFC 7518 section 3.1). See the example of [`PrivateKeyJwt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SigningAlgorithm {
    /// ECDSA with SHA-256, for a key of the curve P-256.
    #[serde(rename = "ES256")]
    Es256,
    /// RSA with PKCS#1 v1.5 padding and SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSA with PSS padding and SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// Ed25519 (RFC 8037 section 3.1).
    #[serde(rename = "EdDSA")]
    EdDsa,
}
