//! Answers, as they should be.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::authority::Issued;

/// What `expires_in` says in the answers of the token endpoint, or what a dialect has in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpiresIn {
    /// The seconds that are left, rounded down.
    #[default]
    Honest,
    /// There is no such member.
    Missing,
    /// This JSON text, as it is: `0`, `-1`, `299.999`, `"3600"`, `1e400`.
    Json(String),
}

impl ExpiresIn {
    /// What stands in the place of `honest`, in dialects that say the time of the end. A text that
    /// is no JSON is a string there.
    pub(super) fn instead_of(&self, honest: Value) -> Option<Value> {
        match self {
            Self::Honest => Some(honest),
            Self::Missing => None,
            Self::Json(text) => {
                Some(serde_json::from_str(text).unwrap_or_else(|_| text.as_str().into()))
            }
        }
    }

    /// This JSON text, as it is.
    pub fn json(text: impl Into<String>) -> Self {
        Self::Json(text.into())
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    InvalidScope,
    UnauthorizedClient,
    UnsupportedGrantType,
    /// No access token, or a dead one, at the protected resource.
    InvalidToken,
}

impl Refusal {
    /// The value of `error`.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidScope => "invalid_scope",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidToken => "invalid_token",
        }
    }

    fn reply(self) -> Reply {
        let (status, challenge) = match self {
            // RFC 6749 section 5.2 wants the header after an attempt by header, RFC 9110 with
            // every 401.
            Self::InvalidClient => (StatusCode::UNAUTHORIZED, Some(r#"Basic realm="fake""#)),
            Self::InvalidToken => {
                (StatusCode::UNAUTHORIZED, Some(r#"Bearer error="invalid_token""#))
            }
            Self::InvalidRequest
            | Self::InvalidGrant
            | Self::InvalidScope
            | Self::UnauthorizedClient
            | Self::UnsupportedGrantType => (StatusCode::BAD_REQUEST, None),
        };
        let json = members([("error", self.code().into())]);
        let refused = Some(self.code().to_owned());
        Reply { status, challenge, refused, ..Reply::ok(json) }
    }
}

/// An answer that has not been written yet, so that faults can still spoil it.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    challenge: Option<&'static str>,
    json: Map<String, Value>,
    /// JSON text, because not all that we want to send is a [`Value`].
    expires_in: Option<String>,
    location: Option<String>,
    /// Why it is a refusal, if it is one, as it is counted.
    refused: Option<String>,
    /// Where the access token is.
    access_token: &'static [&'static str],
}

impl Reply {
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
        }
    }

    /// An answer without a body.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, ..Self::ok(Map::new()) }
    }

    /// A refusal, counted under `code`.
    pub(super) fn refusal(status: StatusCode, code: &str, json: Map<String, Value>) -> Self {
        Self { status, refused: Some(code.to_owned()), ..Self::ok(json) }
    }

    /// With an access token that is not the member `access_token`: the names on the way to it.
    pub(super) fn access_token_at(mut self, path: &'static [&'static str]) -> Self {
        self.access_token = path;
        self
    }

    /// A browser that goes back to its client, with an error or without.
    pub(super) fn sent_back(location: String, refused: Option<String>) -> Self {
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
        let mut headers = json_headers();
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
        let mut text = Value::Object(self.json.clone()).to_string();
        if let Some(expires_in) = &self.expires_in {
            let last_brace = text.pop();
            let comma = if self.json.is_empty() { "" } else { "," };
            text.push_str(&format!("{comma}\"expires_in\":{expires_in}"));
            text.extend(last_brace);
        }
        text
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        refusal.reply()
    }
}

impl From<Result<Self, Refusal>> for Reply {
    fn from(result: Result<Self, Refusal>) -> Self {
        result.unwrap_or_else(Self::from)
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        (self.status, self.headers(), Body::from(self.body())).into_response()
    }
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
