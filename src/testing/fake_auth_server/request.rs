//! What the clients ask, and who they say they are.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use url::form_urlencoded;

use super::counts::Endpoint;
use super::reply::Refusal;

/// A request that has arrived whole.
pub(super) struct Call {
    pub(super) endpoint: Endpoint,
    headers: HeaderMap,
    /// Of the body, or else of the query; refused if it is not a form.
    form: Result<Form, Refusal>,
}

impl Call {
    pub(super) fn get(endpoint: Endpoint, headers: HeaderMap, query: Option<&str>) -> Self {
        let form = Form::of(query.unwrap_or_default().as_bytes());
        Self { endpoint, headers, form }
    }

    /// A token request goes to the endpoint of its grant type, if that is known.
    pub(super) fn post(endpoint: Endpoint, headers: HeaderMap, body: &[u8]) -> Self {
        let form = Form::parse(&headers, body);
        let grant_type = form.as_ref().ok().and_then(|form| form.value("grant_type"));
        let endpoint = match (endpoint, grant_type) {
            (Endpoint::Token, Some("password")) => Endpoint::Password,
            (Endpoint::Token, Some("client_credentials")) => Endpoint::ClientCredentials,
            (Endpoint::Token, Some("authorization_code")) => Endpoint::AuthorizationCode,
            (Endpoint::Token, Some("refresh_token")) => Endpoint::RefreshToken,
            _ => endpoint,
        };
        Self { endpoint, headers, form }
    }

    pub(super) fn form(&self) -> Result<&Form, Refusal> {
        self.form.as_ref().map_err(|refusal| *refusal)
    }

    /// The refresh token of a request to refresh.
    pub(super) fn refresh_token(&self) -> Option<&str> {
        let form = self.form.as_ref().ok().filter(|_| self.endpoint == Endpoint::RefreshToken);
        form.and_then(|form| form.value("refresh_token"))
    }

    /// The access token at the protected resource.
    pub(super) fn bearer(&self) -> Option<&str> {
        self.authorization("bearer")
    }

    /// Who asks, by the header or by the body (RFC 6749 section 2.3.1), but not by both.
    pub(super) fn credentials(&self) -> Result<Credentials, Refusal> {
        let form = self.form()?;
        let id = form.value("client_id");
        let secret = form.value("client_secret");
        let Some(basic) = self.authorization("basic") else {
            let id = id.unwrap_or_default().to_owned();
            return Ok(Credentials { id, secret: secret.map(str::to_owned) });
        };
        let credentials = Credentials::from_basic(basic).ok_or(Refusal::InvalidClient)?;
        if secret.is_some() || id.is_some_and(|id| id != credentials.id) {
            return Err(Refusal::InvalidRequest);
        }
        Ok(credentials)
    }

    fn authorization(&self, scheme: &str) -> Option<&str> {
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

    pub(super) fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.value(name).ok_or(Refusal::InvalidRequest)
    }

    fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, Refusal> {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
        if !essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Refusal::InvalidRequest);
        }
        Self::of(body)
    }

    /// Refuses a parameter that comes twice (RFC 6749 sections 3.1 and 3.2).
    fn of(text: &[u8]) -> Result<Self, Refusal> {
        let mut values = HashMap::new();
        for (name, value) in form_urlencoded::parse(text) {
            if values.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(Refusal::InvalidRequest);
            }
        }
        Ok(Self { values })
    }
}

/// Who a client says it is.
pub(super) struct Credentials {
    /// Empty if it does not say.
    pub(super) id: String,
    pub(super) secret: Option<String>,
}

impl Credentials {
    /// Both parts are form-urlencoded inside the Base64.
    fn from_basic(basic: &str) -> Option<Self> {
        let text = String::from_utf8(STANDARD.decode(basic).ok()?).ok()?;
        let (id, secret) = text.split_once(':')?;
        let secret = Some(decode(secret)).filter(|secret| !secret.is_empty());
        Some(Self { id: decode(id), secret })
    }
}

/// The value of `x=text`. An `&` or `=` in the text is not encoded, but also not harmful.
fn decode(text: &str) -> String {
    let pair = format!("x={}", text.replace('&', "%26"));
    form_urlencoded::parse(pair.as_bytes()).map(|(_, value)| value.into_owned()).collect()
}
