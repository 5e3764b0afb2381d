//! What servers do to refresh tokens that were used.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::serde_seconds;

/// What a server does to a refresh token that was used. By this the crate decides how to retry
/// after a response was lost. See [a complete provider](crate::provider#a-complete-provider).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Rotation {
    /// The refresh token stays the same (Google, Entra ID): a retry is always safe.
    Static,
    /// For this long, a retry with the old token gets the same new pair of tokens
    /// (django-oauth-toolkit).
    Idempotent(#[serde(with = "serde_seconds")] Duration),
    /// For this long, a retry with the old token gets another new pair of tokens (Ory Hydra, Auth0,
    /// Okta, Cognito). All pairs are valid.
    Fork(#[serde(with = "serde_seconds")] Duration),
    /// For this long, a retry with the old token gets another new pair of tokens, and only the
    /// newest pair is valid (Airlock).
    NewestOnly(#[serde(with = "serde_seconds")] Duration),
    /// The server invalidates the old token at once, and revokes the whole grant if it is used
    /// again (RFC 9700 section 4.14.2). Use this value if you do not know.
    Strict,
}
