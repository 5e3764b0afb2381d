//! The JWT that is a grant.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::client_authentication::SigningAlgorithm;
use super::serde_forms::is_default;

/// The JWT that is the grant of a service account (RFC 7523 section 2.1). Each grant has a new JWT
/// that is valid for 1 min. See the example of [`JwtBearer`](crate::provider::oauth2::JwtBearer).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::exhaustive_structs, reason = "made by users with struct update syntax")]
pub struct JwtAssertion {
    /// The algorithm of the signature. It must fit the key.
    pub algorithm: SigningAlgorithm,
    /// The key's id (RFC 7515 section 4.1.4), by which a server finds the public key.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kid: Option<String>,
    /// The issuer: the service account, for example. Defaults to the client's id.
    #[serde(default, skip_serializing_if = "is_default")]
    pub issuer: Option<String>,
    /// The user or the account for which the token is. Defaults to the issuer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub subject: Option<String>,
    /// The audience. Defaults to the issuer identifier of the server if it is known, else to the
    /// token endpoint.
    #[serde(default, skip_serializing_if = "is_default")]
    pub audience: Option<String>,
    /// Further claims, for example the scope, which some servers read in the JWT. They replace those
    /// above. A claim that is null is left out. Put no secret into it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub claims: Map<String, Value>,
}

impl JwtAssertion {
    /// JWTs with signatures of this algorithm, and all defaults.
    #[must_use]
    pub fn new(algorithm: SigningAlgorithm) -> Self {
        Self {
            algorithm,
            kid: None,
            issuer: None,
            subject: None,
            audience: None,
            claims: Map::new(),
        }
    }
}
