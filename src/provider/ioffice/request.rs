//! Requests: everything in headers, nothing in the body.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header, request};
use zeroize::Zeroizing;

use super::{IOffice, IOfficePassword};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::http_message;
use crate::provider::http_message::HttpRequest;
use crate::secret::Secret;
use crate::token::PermissionToken;

/// The header that carries the access token to an API.
pub(super) const ACCESS_TOKEN: HeaderName = HeaderName::from_static("x-access-token");

/// The length of an empty body. RFC 9110 section 8.6 requires it for methods that may have a body,
/// and some servers send 411 without it.
const NOTHING: HeaderValue = HeaderValue::from_static("0");

/// How user names and passwords are encoded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Encoding {
    Latin1,
    Utf8,
}

impl IOffice {
    pub(super) fn code_request(&self, grant: &IOfficePassword) -> Result<HttpRequest> {
        let words = "the user name cannot go in a header as it is";
        let username = self.encoding.value(&grant.username, words)?;
        let words = "the password cannot go in a header as it is";
        let password = self.encoding.value(&grant.password, words)?;
        let mut request = self.post("auth")?;
        let headers = request.headers_mut();
        headers.insert("x-auth-username", username);
        headers.insert("x-auth-password", password);
        headers.insert("x-client-id", fixed(&self.client_id, "the client id")?);
        Ok(request)
    }

    /// A token request. The pair is the grant type, and the header that carries `credential`.
    pub(super) fn token_request(
        &self,
        (kind, carrier): (&'static str, &'static str),
        credential: &Secret,
        scope: &str,
    ) -> Result<HttpRequest> {
        let words = "the code or token has characters that no header can carry";
        fixed(credential.expose_secret(), words)?;
        let credential = secret(credential, words)?;
        let mut request = self.post("token")?;
        let headers = request.headers_mut();
        headers.insert("x-grant-type", HeaderValue::from_static(kind));
        headers.insert("x-redirect-uri", fixed(&self.redirect_uri, "the redirect URI")?);
        headers.insert("x-client-id", fixed(&self.client_id, "the client id")?);
        headers.insert("x-scope", fixed(scope, "the scope cannot go in a header")?);
        headers.insert(carrier, credential);
        Ok(request)
    }

    /// A request with a token in its header, and no other.
    pub(super) fn request_with_token(
        &self,
        method: Method,
        path: &str,
        token: &Secret,
    ) -> Result<HttpRequest> {
        let token = secret(
            token,
            "the access token has characters that no HTTP header can carry; use another token",
        )?;
        let has_content = [Method::POST, Method::PUT, Method::PATCH].contains(&method);
        let request = Request::builder().method(method).uri(self.endpoint(path));
        let mut request = request.header("x-token", token).body(Bytes::new()).map_err(unusable)?;
        if has_content {
            request.headers_mut().insert(header::CONTENT_LENGTH, NOTHING);
        }
        Ok(request)
    }

    fn post(&self, path: &str) -> Result<HttpRequest> {
        // The document requires the content type, although there is no content.
        let mut request = Request::post(self.endpoint(path))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, NOTHING)
            .body(Bytes::new())
            .map_err(unusable)?;
        if let Some((name, value)) = &self.client_secret {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        Ok(request)
    }

    fn endpoint(&self, name: &str) -> String {
        self.at(&format!("/external/api/oauth2/{name}")).into()
    }

    /// A path of the site, which may itself be below a path.
    pub(super) fn at(&self, path: &str) -> url::Url {
        let mut url = self.site.clone();
        url.set_path(&format!("{}{path}", self.site.path().trim_end_matches('/')));
        url
    }
}

impl Encoding {
    /// A user's text as a header. `InvalidInput` with `words` if no header can carry it unchanged:
    /// it has control characters, spaces at its ends, which are removed on the way (RFC 9110
    /// section 5.5), or characters that the encoding does not have.
    fn value(self, text: &Secret, words: &'static str) -> Result<HeaderValue> {
        let refused = || Error::new(ErrorKind::InvalidInput).about(words);
        let plain = text.expose_secret();
        if plain.is_empty() || plain.starts_with(' ') || plain.ends_with(' ') {
            return Err(refused());
        }
        if plain.chars().any(char::is_control) {
            return Err(refused());
        }
        if plain.is_ascii() {
            return secret(text, words);
        }
        match self {
            Self::Utf8 => secret(text, words),
            Self::Latin1 => latin1(plain).ok_or_else(refused),
        }
    }
}

/// The text in Latin-1 as a header, marked sensitive; None if Latin-1 does not have a character.
fn latin1(text: &str) -> Option<HeaderValue> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    for character in text.chars() {
        bytes.push(u8::try_from(character).ok()?);
    }
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A setting as a header: not empty, and visible ASCII, with spaces only inside.
pub(super) fn fixed(text: &str, words: &'static str) -> Result<HeaderValue> {
    let refused = || Error::new(ErrorKind::InvalidInput).about(words);
    let plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if text.is_empty() || text.trim() != text || !plain {
        return Err(refused());
    }
    HeaderValue::from_str(text).map_err(|_| refused())
}

/// A secret as a header, marked sensitive, without a copy of it.
pub(super) fn secret(text: &Secret, words: &'static str) -> Result<HeaderValue> {
    http_message::secret_header(text).map_err(|_| Error::new(ErrorKind::InvalidInput).about(words))
}

/// Puts the token into the query. It replaces a token that is there.
pub(super) fn put_in_query(token: &PermissionToken, request: &mut request::Parts) -> Result<()> {
    let refused = || {
        Error::new(ErrorKind::InvalidInput)
            .about("the request's URI has no path; give the whole URI")
    };
    let mut parts = request.uri.clone().into_parts();
    let before = parts.path_and_query.take().ok_or_else(refused)?;
    let token = token.expose_secret();
    let others = before.query().unwrap_or_default().split('&').filter(|pair| !is_token(pair));
    // There is room for all of it, so that the text never moves to other memory, which would leave
    // a copy behind.
    let room = before.as_str().len() + NAME.len() + http_message::escaped_room(token) + 3;
    let mut text = Zeroizing::new(String::with_capacity(room));
    text.push_str(before.path());
    text.push('?');
    for pair in others.filter(|pair| !pair.is_empty()) {
        text.push_str(pair);
        text.push('&');
    }
    text.push_str(NAME);
    text.push('=');
    http_message::escape(token, &mut text);
    let text = PathAndQuery::from_maybe_shared(Bytes::from_owner(text)).map_err(|_| refused())?;
    parts.path_and_query = Some(text);
    request.uri = Uri::from_parts(parts).map_err(|_| refused())?;
    Ok(())
}

const NAME: &str = "access_token";

/// Whether a pair of a query is the access token, also with an escaped name.
fn is_token(pair: &str) -> bool {
    url::form_urlencoded::parse(pair.as_bytes()).any(|(name, _)| name == NAME)
}

/// The settings do not make a valid request.
fn unusable(cause: http::Error) -> Error {
    Error::new(ErrorKind::Misconfigured).with_source(cause)
}
