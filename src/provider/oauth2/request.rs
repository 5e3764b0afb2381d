//! Requests of a client.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use serde::ser::{Serialize, SerializeMap, Serializer};
use url::Url;

use super::OAuth2;
use super::authentication::Authentication;
use super::client_assertion::AssertionSigner;
use super::discovery::Issuer;
use super::settings::{Parameters, RequestBody};
use crate::error::{Error, ErrorKind, Result, quoted};
use crate::provider::completion::Completion;
use crate::provider::http_message;
use crate::provider::http_message::HttpRequest;

/// The fields of a request: name, value.
pub(super) type Fields<'f> = Vec<(&'f str, &'f str)>;

impl OAuth2 {
    /// A request of this client that revokes or introspects (RFC 6749 sections 2.3 and 3.2.1).
    pub(super) fn request<'f>(
        &'f self,
        endpoint: &Url,
        mut fields: Fields<'f>,
    ) -> Result<HttpRequest> {
        fields.extend(self.client_fields());
        self.built(endpoint, fields, &BTreeMap::new())
    }

    /// As [`request`](Self::request), with fields that have the client's id: some ways to authenticate
    /// add it too, and then it is left out of these.
    pub(super) fn request_of_known_client<'f>(
        &'f self,
        endpoint: &Url,
        mut fields: Fields<'f>,
    ) -> Result<HttpRequest> {
        let [id, _] = &self.client_parameters;
        if self.client_fields().iter().any(|(name, _)| name == id) {
            fields.retain(|(name, _)| name != id);
        }
        self.request(endpoint, fields)
    }

    /// A request that exchanges a grant.
    pub(super) fn grant_request<'f>(
        &'f self,
        endpoint: &Url,
        mut fields: Fields<'f>,
        names_client: bool,
    ) -> Result<HttpRequest> {
        fields.extend(each(&self.token_request.parameters));
        // A service account need not be registered as a client (RFC 7521 section 4.1).
        let is_public = matches!(self.authentication, Authentication::Public);
        let says_id = !(names_client && is_public && self.identity.is_none());
        if says_id {
            fields.extend(self.client_fields());
        }
        self.built(endpoint, fields, &self.token_request.headers)
    }

    /// A request that refreshes tokens.
    pub(super) fn refreshing_request<'f>(
        &'f self,
        endpoint: &Url,
        mut fields: Fields<'f>,
    ) -> Result<HttpRequest> {
        fields.extend(each(&self.refresh_request.parameters));
        fields.extend(self.client_fields());
        self.built(endpoint, fields, &self.refresh_request.headers)
    }

    /// The fields that authenticate the client.
    fn client_fields(&self) -> Fields<'_> {
        let names = self.client_parameters.each_ref().map(String::as_str);
        self.authentication.body_fields(names, &self.client_id)
    }

    /// A request with these fields, which have those of the client.
    fn built<'f>(
        &'f self,
        endpoint: &Url,
        fields: Fields<'f>,
        more: &BTreeMap<String, String>,
    ) -> Result<HttpRequest> {
        let names = self.client_parameters.each_ref().map(String::as_str);
        let mut query = self.authentication.query_fields(names, &self.client_id);
        let (kind, body) = match self.request_body {
            RequestBody::Form => (Some(http_message::form::FORM), http_message::form_body(fields)),
            RequestBody::Json => (Some("application/json"), json(&fields)?),
            RequestBody::Query => {
                query.extend(fields);
                (None, Bytes::new())
            }
        };
        let mut headers = HeaderMap::new();
        headers.extend(kind.map(|kind| (header::CONTENT_TYPE, HeaderValue::from_static(kind))));
        headers.extend(self.authentication.headers(&self.client_id).map_err(unusable)?);
        for (name, value) in more {
            let name = HeaderName::try_from(name.as_str()).map_err(unusable)?;
            headers.insert(name, HeaderValue::from_str(value).map_err(unusable)?);
        }
        let mut request =
            Request::post(with_query(endpoint, query)?).body(body).map_err(unusable)?;
        *request.headers_mut() = headers;
        if let Some(identity) = &self.identity {
            request.extensions_mut().insert(identity.clone());
        }
        if let Authentication::PrivateKeyJwt(signer) = &self.authentication {
            request.extensions_mut().insert(self.assertion(signer));
        }
        Ok(request)
    }

    /// The audience of JWTs for this server, if the settings name no other.
    pub(super) fn audience(&self) -> &str {
        let issuer = self.issuer.as_ref().map(Issuer::name);
        issuer.unwrap_or(self.authority.as_str())
    }

    /// Adds the client's assertion to a request when it is sent (RFC 7523 section 2.2).
    fn assertion(&self, signer: &Arc<AssertionSigner>) -> Completion {
        let audience = self.audience().to_owned();
        let (signer, client_id) = (Arc::clone(signer), self.client_id.clone());
        let request_body = self.request_body;
        Completion::new(move |request, now| {
            let assertion = signer.sign(&client_id, &audience, now)?;
            let fields =
                [("client_assertion_type", ASSERTION_TYPE), ("client_assertion", &assertion)];
            with_fields(request, request_body, &fields)
        })
    }
}

/// RFC 7523 section 2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The request with these fields after its own, of which there is at least one.
fn with_fields(
    mut request: HttpRequest,
    request_body: RequestBody,
    fields: &[(&str, &str)],
) -> Result<HttpRequest> {
    let body: &[u8] = request.body();
    let more = match request_body {
        RequestBody::Form => {
            let more = http_message::form::form_text(fields.iter().copied());
            joined(&[body, b"&", more.as_bytes()])
        }
        RequestBody::Json => {
            let more = json(fields)?;
            let (own, more) = (body.strip_suffix(b"}"), more.strip_prefix(b"{"));
            joined(&[own.unwrap_or_default(), b",", more.unwrap_or_default()])
        }
        RequestBody::Query => {
            let uri = request.uri();
            let [scheme, authority] = [uri.scheme_str(), uri.authority().map(|it| it.as_str())];
            let path = uri.path_and_query().map_or("/", |it| it.as_str());
            let more = http_message::form::form_text(fields.iter().copied());
            let parts = [
                scheme.unwrap_or_default(),
                "://",
                authority.unwrap_or_default(),
                path,
                "&",
                &more,
            ];
            let text = joined(&parts.map(str::as_bytes));
            *request.uri_mut() = http::Uri::from_maybe_shared(text).map_err(unusable)?;
            return Ok(request);
        }
    };
    *request.body_mut() = more;
    Ok(request)
}

/// The parts one after the other, in memory that is wiped when its last holder drops it.
fn joined(parts: &[&[u8]]) -> Bytes {
    let room = parts.iter().map(|part| part.len()).sum();
    let mut whole = zeroize::Zeroizing::new(Vec::with_capacity(room));
    for part in parts {
        whole.extend_from_slice(part);
    }
    Bytes::from_owner(whole)
}

/// Fails if a parameter of the settings has no name, or a name that the crate sets itself.
pub(super) fn check_names<'n>(
    mut names: impl Iterator<Item = &'n String>,
    is_set: impl Fn(&str) -> bool,
) -> Result<()> {
    let Some(name) = names.find(|name| name.is_empty() || is_set(name)) else { return Ok(()) };
    Err(Error::new(ErrorKind::InvalidInput).about(format!(
        "the parameter {} has no name, or a name that the crate sets itself; remove it",
        quoted(name)
    )))
}

/// Each parameter as often as it has values.
fn each(parameters: &Parameters) -> impl Iterator<Item = (&str, &str)> {
    parameters.iter().flat_map(|(name, value)| {
        value.texts().iter().map(move |text| (name.as_str(), text.as_str()))
    })
}

/// The endpoint with these fields after its own query. The text of the URI is wiped when the
/// request is dropped.
fn with_query(endpoint: &Url, fields: Fields<'_>) -> Result<http::Uri> {
    if fields.is_empty() {
        return endpoint.as_str().parse().map_err(unusable);
    }
    let fields = http_message::form::form_text(fields);
    let joint = if endpoint.query().is_some() { "&" } else { "?" };
    let text = joined(&[endpoint.as_str(), joint, &fields].map(str::as_bytes));
    http::Uri::from_maybe_shared(text).map_err(unusable)
}

fn json(fields: &[(&str, &str)]) -> Result<Bytes> {
    http_message::json_body(&JsonFields(fields))
}

/// A JSON object of these fields. A field that is there several times is a list.
struct JsonFields<'f>(&'f [(&'f str, &'f str)]);

impl Serialize for JsonFields<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let fields = self.0;
        let mut map = to.serialize_map(None)?;
        for (at, (name, value)) in fields.iter().enumerate() {
            if fields.iter().take(at).any(|(earlier, _)| earlier == name) {
                continue;
            }
            let same = fields.iter().filter(|(other, _)| other == name).map(|(_, value)| *value);
            match *same.collect::<Vec<_>>() {
                [_] => map.serialize_entry(name, value)?,
                ref values => map.serialize_entry(name, values)?,
            }
        }
        map.end()
    }
}

/// The settings do not make a valid request.
pub(super) fn unusable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Misconfigured).with_source(cause)
}
