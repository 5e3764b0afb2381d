//! Tokens that look like JWTs, as vendors issue them. The signature is the token that the server
//! knows; what stands before it is not checked.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::clock::BootTime;
use crate::testing::fake_auth_server::authority::Authority;

/// A token with these claims around `token`.
pub(super) fn wrap(token: &str, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{token}", part(&json!({ "alg": "RS256", "typ": "JWT" })), part(claims))
}

/// The token that the server knows.
pub(super) fn unwrap(token: &str) -> &str {
    let mut parts = token.splitn(3, '.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(_), Some(token)) if header.starts_with("eyJ") => token,
        _ => token,
    }
}

/// Whether a token serves, with or without claims around it.
pub(super) fn is_active(token: &str, authority: &Authority, now: BootTime) -> bool {
    let known = |token| authority.describe(token, now).is_some();
    known(token) || known(unwrap(token))
}
