//! Helpers for providers and operations: they build requests, and read responses and redirects.
//!
//! ```
//! use std::time::{Duration, UNIX_EPOCH};
//!
//! use bytes::Bytes;
//! use http::Response;
//! use serde::{Deserialize, Serialize};
//! use session_warden::provider::http_message::{
//!     form_body, json_body, json_object, rfc3339, url_below,
//! };
//!
//! // Requests: the crate wipes both bodies after use, and escapes the id in the path.
//! let form = form_body([("grant_type", "password"), ("password", "a&b")]);
//! assert_eq!(&form[..], b"grant_type=password&password=a%26b");
//!
//! #[derive(Serialize)]
//! struct Login<'a> {
//!     name: &'a str,
//! }
//! assert_eq!(&json_body(&Login { name: "ada" })?[..], br#"{"name":"ada"}"#);
//! assert_eq!(url_below("https://api.example/tokens", "a/b")?, "https://api.example/tokens/a%2Fb");
//!
//! // A response.
//! #[derive(Deserialize)]
//! struct Record {
//!     ends: String,
//! }
//! let response = Response::new(Bytes::from_static(br#"{"ends":"1970-01-01T00:01:00Z"}"#));
//! let record: Record = json_object(&response)?;
//! assert_eq!(rfc3339(&record.ends), Some(UNIX_EPOCH + Duration::from_secs(60)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error_response;
pub(super) mod form;
mod json_pointer;
pub(super) mod jwt_claims;
pub(super) mod lenient;
mod path;
pub(super) mod percent;
mod pointed;
mod read_json;
mod redirect;
mod time;
mod whole_message;
mod write_json;

use http::HeaderValue;
use http::header::InvalidHeaderValue;
use url::Url;

pub(super) use self::error_response::{ErrorResponse, by_code_or_status, class_of_code};
pub use self::form::form_body;
pub(crate) use self::form::{escape, escaped_room};
pub use self::json_pointer::JsonPointer;
pub use self::path::url_below;
pub(super) use self::pointed::{member_at, value_at};
pub use self::read_json::json_object;
pub(super) use self::read_json::{is_of_type, unusable};
pub use self::redirect::{RedirectFields, redirect_fields};
pub(super) use self::redirect::{check_redirect_uri, reached_redirect_uri};
pub use self::time::rfc3339;
pub(super) use self::whole_message::{HttpRequest, HttpResponse};
pub(super) use self::write_json::Members;
pub use self::write_json::json_body;
use crate::error::{Error, ErrorKind, quoted_url};
use crate::secret::Secret;
use crate::transport;

/// A URL to which credentials may be sent: `https`, or `http` where the transport allows it; no user
/// name in it and no fragment.
pub(crate) fn endpoint(text: &str) -> Result<Url, Error> {
    let url = browser_endpoint(text)?;
    if url.fragment().is_some() {
        let words = format!("{} has a fragment; remove what follows #", quoted_url(text));
        return Err(Error::new(ErrorKind::InvalidInput).about(words));
    }
    Ok(url)
}

/// As [`endpoint`], for a URL to which browsers are sent: it may have a fragment.
pub(super) fn browser_endpoint(text: &str) -> Result<Url, Error> {
    let invalid = |words| Error::new(ErrorKind::InvalidInput).about(words);
    // The text is not shown: what is no URL may be a secret that was passed in its place.
    let url = Url::parse(text).map_err(|cause| {
        let words = "the URL cannot be read; write it whole, for example \
                     https://login.example.com/token";
        invalid(words.to_owned()).with_source(cause)
    })?;
    transport::check_endpoint(&url)
        .map_err(|refused| invalid(refused.advice(text)).with_source(refused))?;
    Ok(url)
}

/// As [`endpoint`], for a URL that the metadata of `issuer` names. Metadata cannot have tokens sent
/// over plain http, except to the issuer's own host if the issuer has plain http itself.
pub(super) fn endpoint_of(issuer: &Url, text: &str) -> Result<Url, Error> {
    let url = endpoint(text)?;
    let as_issuer = issuer.scheme() == "http" && issuer.host() == url.host();
    if !as_issuer && !transport::is_confidential(&url) {
        let shown = quoted_url(text);
        return Err(Error::new(ErrorKind::InvalidInput).about(format!(
            "it names the plain http endpoint {shown}; correct the server's configuration"
        )));
    }
    Ok(url)
}

/// A URL below which endpoints are: as [`endpoint`], without a query; an error with `words` if it
/// has one.
pub(super) fn base_url(text: &str, words: &'static str) -> Result<Url, Error> {
    let url = endpoint(text)?;
    let has_query = || Error::new(ErrorKind::InvalidInput).about(words);
    if url.query().is_none() { Ok(url) } else { Err(has_query()) }
}

/// A secret as the value of a header: marked sensitive, and without a copy of the secret.
pub(super) fn secret_header(secret: &Secret) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(secret.shared_bytes())?;
    value.set_sensitive(true);
    Ok(value)
}
