//! How a client authenticates (RFC 6749 section 2.3).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::InvalidHeaderValue;
use zeroize::Zeroizing;

use crate::provider::http_message;
use crate::secret::Secret;

#[derive(Clone)]
pub(super) enum Authentication {
    /// By its id alone.
    Public,
    /// The whole value of the `Authorization` header.
    Basic(Secret),
    /// The secret, for the body.
    Post(Secret),
}

impl Authentication {
    /// The header of RFC 6749 section 2.3.1, which escapes id and secret before RFC 7617 joins
    /// them: one of them may have a colon.
    pub(super) fn basic(client_id: &str, secret: &Secret) -> Self {
        const SCHEME: &str = "Basic ";
        let secret = secret.expose_secret();
        let room = http_message::escaped_room(client_id) + 1 + http_message::escaped_room(secret);
        let mut pair = Zeroizing::new(String::with_capacity(room));
        http_message::escape(client_id, &mut pair);
        pair.push(':');
        http_message::escape(secret, &mut pair);
        let mut value = Zeroizing::new(String::with_capacity(SCHEME.len() + room.div_ceil(3) * 4));
        value.push_str(SCHEME);
        STANDARD.encode_string(pair.as_bytes(), &mut value);
        Self::Basic(Secret::from(value.as_str()))
    }

    /// The fields for the body. A public client also sends its id (RFC 6749 section 3.2.1).
    pub(super) fn fields<'f>(&'f self, client_id: &'f str) -> Vec<(&'static str, &'f str)> {
        match self {
            Self::Public => vec![("client_id", client_id)],
            Self::Basic(_) => Vec::new(),
            Self::Post(secret) => {
                vec![("client_id", client_id), ("client_secret", secret.expose_secret())]
            }
        }
    }

    /// Its `Authorization` header, if it has one, marked sensitive.
    pub(super) fn header(&self) -> Result<Option<HeaderValue>, InvalidHeaderValue> {
        let Self::Basic(value) = self else { return Ok(None) };
        http_message::secret_header(value).map(Some)
    }
}
