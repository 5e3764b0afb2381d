//! Responses, as they should be.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::authority::Issued;
use super::error_code::ErrorCode;
use super::expires_in::ExpiresIn;

/// A response that is not written yet, so that faults can still spoil it.
pub(super) struct FakeResponse {
    pub(super) status: StatusCode,
    challenge: Option<&'static str>,
    json: Map<String, Value>,
    /// JSON text, because not all that we want to send is a [`Value`].
    expires_in: Option<String>,
    location: Option<String>,
    /// The error under which the server counts the response, if it refuses the request.
    refused: Option<String>,
    /// The names of the members on the way to the access token.
    access_token: &'static [&'static str],
    layout: Layout,
}

/// Where the members are in the body. By default they are at the root of a JSON body.
#[derive(Default)]
pub(super) struct Layout {
    /// The member whose object has them.
    pub(super) under: Option<String>,
    /// Further members, from the root.
    pub(super) more: Map<String, Value>,
    /// Whether the body is a form, which has only the scalars at the root.
    pub(super) is_form: bool,
}

impl FakeResponse {
    pub(super) fn ok(json: Map<String, Value>) -> Self {
        let status = StatusCode::OK;
        Self {
            status,
            challenge: None,
            json,
            expires_in: None,
            location: None,
            refused: None,
            access_token: &["access_token"],
            layout: Layout::default(),
        }
    }

    pub(super) fn laid_out(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// With one more member.
    pub(super) fn with_member(mut self, name: &str, value: &str) -> Self {
        self.json.insert(name.to_owned(), value.into());
        self
    }

    /// A response without a body.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, ..Self::ok(Map::new()) }
    }

    /// A refusal, counted under `code`.
    pub(super) fn refusal(status: StatusCode, code: &str, json: Map<String, Value>) -> Self {
        Self { status, refused: Some(code.to_owned()), ..Self::ok(json) }
    }

    /// The access token is not the member `access_token`, but at the end of this path.
    pub(super) fn access_token_at(mut self, path: &'static [&'static str]) -> Self {
        self.access_token = path;
        self
    }

    /// A redirect of the browser back to the client, with an error or without.
    pub(super) fn redirect(location: String, refused: Option<String>) -> Self {
        let (status, location) = (StatusCode::FOUND, Some(location));
        Self { status, location, refused, ..Self::ok(Map::new()) }
    }

    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    pub(super) fn tokens(issued: Issued, expires_in: &ExpiresIn) -> Self {
        let mut json = members([
            ("access_token", (&*issued.pair.access).into()),
            ("token_type", "Bearer".into()),
        ]);
        if let Some(refresh) = issued.pair.refresh {
            json.insert("refresh_token".to_owned(), (&*refresh).into());
        }
        if let Some(scope) = issued.scope {
            json.insert("scope".to_owned(), scope.into());
        }
        let expires_in = match expires_in {
            ExpiresIn::Honest => Some(issued.lifetime.as_secs().to_string()),
            ExpiresIn::Missing => None,
            ExpiresIn::Json(text) => Some(text.clone()),
        };
        Self { expires_in, ..Self::ok(json) }
    }

    pub(super) fn without_access_token(mut self) -> Self {
        if let [parents @ .., name] = self.access_token {
            let mut members = Some(&mut self.json);
            for parent in parents {
                let inner = members.and_then(|members| members.get_mut(*parent));
                members = inner.and_then(Value::as_object_mut);
            }
            members.and_then(|members| members.remove(*name));
        }
        self
    }

    /// The members, with something else in the place of every text.
    pub(super) fn with_wrong_types(mut self) -> Self {
        self.json.values_mut().for_each(spoil);
        self
    }

    pub(super) fn headers(&self) -> HeaderMap {
        let kind = if self.layout.is_form { FORM } else { "application/json" };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        let location = self.location.as_deref().map(HeaderValue::from_str);
        if let Some(Ok(location)) = location {
            headers.insert(LOCATION, location);
        }
        headers
    }

    pub(super) fn body(&self) -> String {
        if self.status == StatusCode::NO_CONTENT {
            return String::new();
        }
        let Layout { under, more, is_form } = &self.layout;
        let (mut root, mut own) = (more.clone(), self.json.clone());
        let Some(under) = under else {
            own.extend(root);
            return if *is_form { self.form(&own) } else { self.with_lifetime(own) };
        };
        if let Some(Value::Object(beside)) = root.remove(under) {
            own.extend(beside);
        }
        with_member(root, under, &self.with_lifetime(own))
    }

    fn with_lifetime(&self, members: Map<String, Value>) -> String {
        match &self.expires_in {
            Some(expires_in) => with_member(members, "expires_in", expires_in),
            None => Value::Object(members).to_string(),
        }
    }

    fn form(&self, members: &Map<String, Value>) -> String {
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
        let fields = members.iter().filter_map(|(name, value)| Some((name.as_str(), text(value)?)));
        let lifetime = self.expires_in.clone().map(|text| ("expires_in", text));
        url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields.chain(lifetime))
            .finish()
    }
}

impl From<ErrorCode> for FakeResponse {
    fn from(error: ErrorCode) -> Self {
        let (status, challenge) = match error {
            // RFC 6749 section 5.2 wants the header after an attempt by header, RFC 9110 with
            // every 401.
            ErrorCode::InvalidClient => (StatusCode::UNAUTHORIZED, Some(r#"Basic realm="fake""#)),
            ErrorCode::InvalidToken => {
                (StatusCode::UNAUTHORIZED, Some(r#"Bearer error="invalid_token""#))
            }
            ErrorCode::InvalidRequest
            | ErrorCode::InvalidGrant
            | ErrorCode::InvalidScope
            | ErrorCode::UnauthorizedClient
            | ErrorCode::UnsupportedGrantType => (StatusCode::BAD_REQUEST, None),
        };
        let json = members([("error", error.text().into())]);
        let refused = Some(error.text().to_owned());
        Self { status, challenge, refused, ..Self::ok(json) }
    }
}

impl From<Box<Self>> for FakeResponse {
    fn from(boxed: Box<Self>) -> Self {
        *boxed
    }
}

impl<E: Into<Self>> From<Result<Self, E>> for FakeResponse {
    fn from(result: Result<Self, E>) -> Self {
        result.unwrap_or_else(Into::into)
    }
}

impl IntoResponse for FakeResponse {
    fn into_response(self) -> Response {
        (self.status, self.headers(), Body::from(self.body())).into_response()
    }
}

/// The text of a JSON object with one more member, whose value is JSON text already.
fn with_member(members: Map<String, Value>, name: &str, value: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    let mut text = Value::Object(members).to_string();
    let last_brace = text.pop();
    text.push_str(&format!("{comma}{}:{value}", Value::from(name)));
    text.extend(last_brace);
    text
}

/// A number in the place of a text, and the other way round.
fn spoil(value: &mut Value) {
    match value {
        Value::Object(members) => members.values_mut().for_each(spoil),
        Value::Array(items) => items.iter_mut().for_each(spoil),
        Value::String(_) => *value = 12345.into(),
        Value::Number(_) => *value = Map::new().into(),
        Value::Null | Value::Bool(_) => {}
    }
}

pub(super) fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

pub(super) fn members<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

const FORM: &str = "application/x-www-form-urlencoded";
