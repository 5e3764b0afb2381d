//! Requests of clients, and the credentials in them.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method};
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::error_code::ErrorCode;

/// A request that has arrived whole.
pub(super) struct IncomingRequest {
    pub(super) method: Method,
    /// As it was sent, escapes and all.
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl IncomingRequest {
    pub(super) fn new(head: http::request::Parts, body: Bytes) -> Self {
        let http::request::Parts { method, uri, headers, .. } = head;
        let (path, query) = (uri.path().to_owned(), uri.query().map(str::to_owned));
        Self { method, path, query, headers, body }
    }

    /// The form in the body, or that in the query of a `GET`.
    pub(super) fn form(&self) -> Result<Form, ErrorCode> {
        match self.method {
            Method::GET => self.query_form(),
            _ => Form::parse(&self.headers, &self.body),
        }
    }

    /// The form in the query.
    pub(super) fn query_form(&self) -> Result<Form, ErrorCode> {
        Form::of(self.query.as_deref().unwrap_or_default().as_bytes())
    }

    /// The members of a JSON object in the body, all of which must be texts.
    pub(super) fn json_fields(&self) -> Result<Form, ErrorCode> {
        let members = self.json().ok_or(ErrorCode::InvalidRequest)?;
        let text = |(name, value): (String, Value)| Some((name, value.as_str()?.to_owned()));
        let values = members.into_iter().map(text).collect::<Option<_>>();
        Ok(Form { values: values.ok_or(ErrorCode::InvalidRequest)? })
    }

    /// The members of a JSON object in the body, if the `Content-Type` says JSON.
    pub(super) fn json(&self) -> Option<Map<String, Value>> {
        let is_json = essence(&self.headers).eq_ignore_ascii_case("application/json");
        serde_json::from_slice(&self.body).ok().filter(|_| is_json)
    }

    /// A header's value.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The access token at the protected resource.
    pub(super) fn bearer(&self) -> Option<&str> {
        self.authorization("bearer")
    }

    /// The client's id and secret, from the header or from the fields with these names (RFC 6749
    /// section 2.3.1), but not from both.
    pub(super) fn client(
        &self,
        form: &Form,
        [id, secret]: [&str; 2],
    ) -> Result<ClientAuth, ErrorCode> {
        let (id, secret) = (form.value(id), form.value(secret));
        let Some(basic) = self.authorization("basic") else {
            let id = id.unwrap_or_default().to_owned();
            return Ok(ClientAuth { id, secret: secret.map(str::to_owned) });
        };
        let credentials = ClientAuth::from_basic(basic).ok_or(ErrorCode::InvalidClient)?;
        if secret.is_some() || id.is_some_and(|id| id != credentials.id) {
            return Err(ErrorCode::InvalidRequest);
        }
        Ok(credentials)
    }

    /// The credentials of the `Authorization` header, if it is of this scheme.
    pub(super) fn authorization(&self, scheme: &str) -> Option<&str> {
        let header = self.headers.get(AUTHORIZATION)?.to_str().ok()?;
        let (given, rest) = header.split_once(' ')?;
        given.eq_ignore_ascii_case(scheme).then_some(rest.trim_start())
    }
}

/// The parameters of a body or a query.
pub(super) struct Form {
    values: HashMap<String, String>,
}

impl Form {
    /// A parameter; one without a value counts as missing (RFC 6749 section 3.2).
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, ErrorCode> {
        self.value(name).ok_or(ErrorCode::InvalidRequest)
    }

    fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, ErrorCode> {
        let is_form = essence(headers).eq_ignore_ascii_case("application/x-www-form-urlencoded");
        if is_form { Self::of(body) } else { Err(ErrorCode::InvalidRequest) }
    }

    /// Refuses a parameter that comes twice (RFC 6749 sections 3.1 and 3.2).
    pub(super) fn of(text: &[u8]) -> Result<Self, ErrorCode> {
        let mut values = HashMap::new();
        for (name, value) in form_urlencoded::parse(text) {
            if values.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(ErrorCode::InvalidRequest);
            }
        }
        Ok(Self { values })
    }
}

/// The id and secret that a client presents.
pub(super) struct ClientAuth {
    /// Empty if the client presents none.
    pub(super) id: String,
    pub(super) secret: Option<String>,
}

impl ClientAuth {
    /// The credentials in one place; None if neither of the two is there.
    pub(super) fn of(id: Option<&str>, secret: Option<&str>) -> Option<Self> {
        let id_or_secret = id.or(secret);
        id_or_secret.map(|_| Self {
            id: id.unwrap_or_default().to_owned(),
            secret: secret.map(str::to_owned),
        })
    }

    /// Both parts are form-urlencoded inside the Base64 (RFC 6749 section 2.3.1).
    pub(super) fn from_basic(basic: &str) -> Option<Self> {
        Self::from_basic_of(basic, decode)
    }

    /// Both parts are as they are inside the Base64 (RFC 7617 section 2).
    pub(super) fn from_unescaped_basic(basic: &str) -> Option<Self> {
        Self::from_basic_of(basic, str::to_owned)
    }

    fn from_basic_of(basic: &str, read: fn(&str) -> String) -> Option<Self> {
        let text = String::from_utf8(STANDARD.decode(basic).ok()?).ok()?;
        let (id, secret) = text.split_once(':')?;
        let secret = Some(read(secret)).filter(|secret| !secret.is_empty());
        Some(Self { id: read(id), secret })
    }
}

/// The media type of the body, without its parameters.
fn essence(headers: &HeaderMap) -> &str {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim()
}

/// The value of `x=text`. An `&` or `=` in the text is not encoded, but also not harmful.
fn decode(text: &str) -> String {
    let pair = format!("x={}", text.replace('&', "%26"));
    form_urlencoded::parse(pair.as_bytes()).map(|(_, value)| value.into_owned()).collect()
}
