//! The claims of a JSON Web Token (RFC 7519). The signature is not verified: the token comes from
//! the server that issued it, and the claims are used only as that server's statement.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// The claims of a token, if it is a JWT with such claims. `T` must have no secret members.
pub(in crate::provider) fn claims<T: DeserializeOwned>(token: &Secret) -> Option<T> {
    let mut parts = token.expose_secret().split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || payload.len() > LONGEST {
        return None;
    }
    let claims = Zeroizing::new(LENIENT.decode(payload).ok()?);
    if claims.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(&claims).ok()
}

/// The standard has no padding (RFC 7515 section 2), but some servers add it.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// More than any header carries.
const LONGEST: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(token: &str) -> Option<Value> {
        claims(&Secret::from(token))
    }

    #[test]
    fn the_claims_are_read_and_nothing_else() {
        assert_eq!(read("e30.eyJleHAiOjV9.sig"), Some(json!({"exp": 5})));
        assert_eq!(read("e30.eyJleHAiOjV9.c2ln"), read("e30.eyJleHAiOjV9."));
        for other in
            ["", ".", "..", "opaque", "e30.eyJleHAiOjV9", "a.eyJleHAiOjV9.b.c", "a.WzFd.b", "a.é.b"]
        {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
