//! How a client authenticates (RFC 6749 section 2.3).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::InvalidHeaderValue;
use http::{HeaderName, HeaderValue, header};
use zeroize::Zeroizing;

use super::client_assertion::AssertionSigner;
use super::settings::{ClientAuthentication, CredentialHeaders};
use crate::error::{Error, ErrorKind, Result, quoted};
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
    /// The secret, for the query.
    Query(Secret),
    /// The headers of id and secret, and the secret.
    Header([HeaderName; 2], Secret),
    /// The signer of a JWT, which the body has.
    PrivateKeyJwt(Arc<AssertionSigner>),
}

impl Authentication {
    pub(super) fn new(
        method: ClientAuthentication,
        client_id: &str,
        secret: Secret,
    ) -> Result<Self> {
        Ok(match method {
            ClientAuthentication::None => {
                return Err(Error::new(ErrorKind::InvalidInput)
                    .about("a client with a secret cannot have the method `none`; remove one"));
            }
            ClientAuthentication::Basic => Self::basic(client_id, &secret),
            ClientAuthentication::BasicUnescaped => Self::basic_of(client_id, &secret, copy),
            ClientAuthentication::Post => Self::Post(secret),
            ClientAuthentication::Query => Self::Query(secret),
            ClientAuthentication::Header(CredentialHeaders { client_id: id, client_secret }) => {
                Self::Header([header_name(&id)?, header_name(&client_secret)?], secret)
            }
            ClientAuthentication::PrivateKeyJwt(jwt) => {
                Self::PrivateKeyJwt(Arc::new(AssertionSigner::new(jwt, &secret)?))
            }
        })
    }

    /// The header of RFC 6749 section 2.3.1, which escapes id and secret before RFC 7617 joins
    /// them: one of them may have a colon.
    pub(super) fn basic(client_id: &str, secret: &Secret) -> Self {
        Self::basic_of(client_id, secret, http_message::escape)
    }

    fn basic_of(client_id: &str, secret: &Secret, write: fn(&str, &mut String)) -> Self {
        const SCHEME: &str = "Basic ";
        let secret = secret.expose_secret();
        let room = http_message::escaped_room(client_id) + 1 + http_message::escaped_room(secret);
        let mut pair = Zeroizing::new(String::with_capacity(room));
        write(client_id, &mut pair);
        pair.push(':');
        write(secret, &mut pair);
        let mut value = Zeroizing::new(String::with_capacity(SCHEME.len() + room.div_ceil(3) * 4));
        value.push_str(SCHEME);
        STANDARD.encode_string(pair.as_bytes(), &mut value);
        Self::Basic(Secret::from(value.as_str()))
    }

    /// The fields for the body, with these names of id and secret. A public client also sends its
    /// id (RFC 6749 section 3.2.1), and so does one that is known by its certificate alone (RFC
    /// 8705 section 2).
    pub(super) fn body_fields<'f>(
        &'f self,
        [id, secret]: [&'f str; 2],
        client_id: &'f str,
    ) -> Vec<(&'f str, &'f str)> {
        match self {
            Self::Public | Self::PrivateKeyJwt(_) => vec![(id, client_id)],
            Self::Post(held) => vec![(id, client_id), (secret, held.expose_secret())],
            Self::Basic(_) | Self::Query(_) | Self::Header(..) => Vec::new(),
        }
    }

    /// The fields for the query.
    pub(super) fn query_fields<'f>(
        &'f self,
        [id, secret]: [&'f str; 2],
        client_id: &'f str,
    ) -> Vec<(&'f str, &'f str)> {
        match self {
            Self::Query(held) => vec![(id, client_id), (secret, held.expose_secret())],
            Self::Public
            | Self::Basic(_)
            | Self::Post(_)
            | Self::Header(..)
            | Self::PrivateKeyJwt(_) => Vec::new(),
        }
    }

    /// Its headers, the secret marked sensitive.
    pub(super) fn headers(
        &self,
        client_id: &str,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidHeaderValue> {
        Ok(match self {
            Self::Basic(value) => {
                vec![(header::AUTHORIZATION, http_message::secret_header(value)?)]
            }
            Self::Header([id, secret], held) => vec![
                (id.clone(), HeaderValue::from_str(client_id)?),
                (secret.clone(), http_message::secret_header(held)?),
            ],
            Self::Public | Self::Post(_) | Self::Query(_) | Self::PrivateKeyJwt(_) => Vec::new(),
        })
    }
}

/// Writes a text as it is.
fn copy(text: &str, to: &mut String) {
    to.push_str(text);
}

fn header_name(name: &str) -> Result<HeaderName> {
    HeaderName::try_from(name).map_err(|_| {
        Error::new(ErrorKind::InvalidInput)
            .about(format!("{} cannot be the name of a header; correct it", quoted(name)))
    })
}
