//! Reading JSON responses, without any of their text in errors.

use std::borrow::Cow;

use http::{HeaderMap, header};
use serde::Deserialize;

use super::whole_message::HttpResponse;
use crate::provider::exchange_error::UnusableBody;
use crate::provider::{ExchangeError, Exchanged, FailureClass};

/// Reads the JSON object in a response's body. See the [example of the module](super).
///
/// If `T` holds secrets, give `T` no `Debug`. Borrow each secret from the body (`Cow<'b, str>` with
/// `#[serde(borrow)]`), and make a [`Secret`](crate::secret::Secret) of it at once.
///
/// # Errors
///
/// If the body is not such an object: [`FailureClass::Unclassified`] for a 3xx or 4xx, because the
/// server did not process the request; else [`FailureClass::Ambiguous`], because the server may
/// have processed it. The cause names the position of the fault, and never quotes the body.
pub fn json_object<'b, T: Deserialize<'b>>(response: &'b HttpResponse) -> Exchanged<T> {
    members(response.body()).map_err(|unusable| unusable_body(response, unusable))
}

/// The failure of a response that is not the JSON that it should be.
pub(super) fn unusable_json(response: &HttpResponse, fault: &serde_json::Error) -> ExchangeError {
    unusable_body(response, UnusableBody::from(fault))
}

/// The failure of a response whose content cannot be used. The request may have succeeded, unless
/// the status says otherwise. `words` follow "a response that".
pub(in crate::provider) fn unusable(
    response: &HttpResponse,
    words: impl Into<Cow<'static, str>>,
) -> ExchangeError {
    unusable_body(response, UnusableBody::new(words))
}

fn unusable_body(response: &HttpResponse, unusable: UnusableBody) -> ExchangeError {
    let status = response.status();
    let denied = status.is_redirection() || status.is_client_error();
    let class = if denied { FailureClass::Unclassified } else { FailureClass::Ambiguous };
    ExchangeError::of_response(class, response).with_source(unusable.of_type(response.headers()))
}

/// Whether this is the content type, without its parameters (RFC 9110 section 8.3.1).
pub(in crate::provider) fn is_of_type(headers: &HeaderMap, name: &str) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let stated = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    stated.trim().eq_ignore_ascii_case(name)
}

/// The body without the byte order mark that some servers send at its beginning.
pub(in crate::provider) fn without_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

pub(super) fn members<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, UnusableBody> {
    let body = without_byte_order_mark(body);
    // Derived code would accept an array as an object without names.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(UnusableBody::new("is no JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| UnusableBody::from(&error))
}
