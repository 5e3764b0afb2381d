//! Circle's responses. There are no error codes: status and message say what happened.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;

use super::{Attributes, Circle, Texts};
use crate::error::Refusal;
use crate::provider::http_message::lenient::{number as seconds, secret, text};
use crate::provider::http_message::{self, jwt_claims, rfc3339};
use crate::provider::http_sender::HttpSender;
use crate::provider::{ExchangeError, FailureClass, Rejection};
use crate::secret::Secret;
use crate::token::Tokens;

/// What was asked.
#[derive(Clone, Copy)]
pub(super) enum RequestKind {
    Create,
    Refresh,
}

/// Six fields of a new session, two of them of a refresh. It has no `Debug`: it is full of secrets.
#[derive(Deserialize)]
struct TokenResponse {
    #[serde(default, deserialize_with = "secret")]
    access_token: Option<Secret>,
    #[serde(default, deserialize_with = "text")]
    access_token_expires_at: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    refresh_token: Option<Secret>,
    #[serde(default, deserialize_with = "text")]
    refresh_token_expires_at: Option<String>,
    #[serde(default, deserialize_with = "seconds")]
    community_id: Option<f64>,
    #[serde(default, deserialize_with = "seconds")]
    community_member_id: Option<f64>,
}

/// What an access token says of itself.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Claims {
    #[serde(deserialize_with = "seconds")]
    exp: Option<f64>,
    #[serde(deserialize_with = "seconds")]
    community_id: Option<f64>,
    #[serde(deserialize_with = "seconds")]
    community_member_id: Option<f64>,
}

impl Circle {
    /// The tokens in a response, or why there are none. `known` is what holds where the response says
    /// nothing.
    pub(super) fn tokens(
        &self,
        sender: &HttpSender<'_>,
        response: &Response<Bytes>,
        known: Attributes,
        request_kind: RequestKind,
    ) -> Result<Tokens<Attributes>, ExchangeError> {
        if !response.status().is_success() {
            return Err(self.texts.failure(sender, response, response.status(), request_kind));
        }
        let issued = http_message::json_object::<TokenResponse>(response)?;
        let Some(access_token) = issued.access_token else {
            return Err(self.texts.without_token(sender, response, request_kind));
        };
        let claims = jwt_claims::claims::<Claims>(&access_token).unwrap_or_default();
        let attributes = Attributes {
            community_id: issued
                .community_id
                .or(claims.community_id)
                .and_then(id)
                .unwrap_or(known.community_id),
            community_member_id: issued
                .community_member_id
                .or(claims.community_member_id)
                .and_then(id)
                .unwrap_or(known.community_member_id),
            member: known.member,
        };
        let stated = issued.access_token_expires_at.as_deref().and_then(rfc3339);
        let ends = stated.or_else(|| claims.exp.and_then(unix_time));
        let ends = ends.map(|end| sender.expires_at(response, end));
        let tokens = Tokens::new(attributes).access(access_token, ends);
        Ok(match issued.refresh_token {
            Some(refresh) => {
                let ends = issued.refresh_token_expires_at.as_deref().and_then(rfc3339);
                tokens.refresh(refresh, ends.map(|end| sender.expires_at(response, end)))
            }
            None => tokens,
        })
    }
}

/// Whether a refresh token is gone, or why that is not known.
pub(super) fn refresh_revoked(
    sender: &HttpSender<'_>,
    response: &Response<Bytes>,
) -> Result<(), ExchangeError> {
    let message = Message::of(response);
    let gone = match response.status() {
        status if status.is_success() => !message.unauthorized,
        StatusCode::UNAUTHORIZED => message.has("refresh token") && message.has("expired"),
        StatusCode::NOT_FOUND => message.has("refresh token"),
        _ => false,
    };
    if gone { Ok(()) } else { Err(revocation_failure(sender, response)) }
}

/// Whether an access token is gone, or why that is not known.
pub(super) fn access_revoked(
    sender: &HttpSender<'_>,
    response: &Response<Bytes>,
) -> Result<(), ExchangeError> {
    let message = Message::of(response);
    let gone = match response.status() {
        status if status.is_success() => !message.unauthorized,
        // The token, or its member or community, is not there any more.
        StatusCode::UNPROCESSABLE_ENTITY => {
            ["is expired", "not found", "is invalid"].iter().any(|text| message.has(text))
        }
        _ => false,
    };
    if gone { Ok(()) } else { Err(revocation_failure(sender, response)) }
}

fn revocation_failure(sender: &HttpSender<'_>, response: &Response<Bytes>) -> ExchangeError {
    match response.status() {
        status if status.is_success() => app_token_rejected(response),
        StatusCode::UNAUTHORIZED => app_token_rejected(response),
        _ => with_default_retry_after(sender.status_error(response)),
    }
}

/// What an API of Circle says of the member's access token.
pub(super) fn rejection(response: &http::response::Parts, body_prefix: &[u8]) -> Rejection {
    // The body may be cut.
    let text = String::from_utf8_lossy(body_prefix).to_lowercase();
    let message = Message { text, unauthorized: false };
    match response.status {
        // The community's plan.
        StatusCode::UNAUTHORIZED if message.has("eligible") => Rejection::OtherReason,
        // A community or a member that has gone.
        StatusCode::UNAUTHORIZED if message.has("community") && message.has("not found") => {
            Rejection::SessionDead
        }
        StatusCode::UNAUTHORIZED => Rejection::TokenDead,
        StatusCode::FORBIDDEN => Rejection::OtherReason,
        _ => Rejection::None,
    }
}

impl Texts {
    /// What a response means that is no success; `status` is what it should have been.
    fn failure(
        &self,
        sender: &HttpSender<'_>,
        response: &Response<Bytes>,
        status: StatusCode,
        request_kind: RequestKind,
    ) -> ExchangeError {
        let failed =
            with_default_retry_after(sender.status_error(response)).expecting("a token answer");
        let message = Message::of(response);
        let class = match (request_kind, status) {
            (RequestKind::Refresh, StatusCode::UNAUTHORIZED)
                if message.has(&self.refresh_token_expired) =>
            {
                FailureClass::Rejected
            }
            (RequestKind::Refresh, StatusCode::NOT_FOUND)
                if message.has(&self.refresh_token_unknown) =>
            {
                FailureClass::Rejected
            }
            (RequestKind::Create, StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY)
                if message.has(&self.member_unknown) =>
            {
                FailureClass::Refused(Refusal::UnknownSubject)
            }
            (RequestKind::Create | RequestKind::Refresh, StatusCode::UNAUTHORIZED) => {
                FailureClass::InvalidClient
            }
            (RequestKind::Create | RequestKind::Refresh, _) => failed.class,
        };
        ExchangeError { class, ..failed }
    }

    /// A success without a token. Circle's older API says 200 to wrong credentials, and
    /// `"status":"unauthorized"` in the body.
    fn without_token(
        &self,
        sender: &HttpSender<'_>,
        response: &Response<Bytes>,
        request_kind: RequestKind,
    ) -> ExchangeError {
        if Message::of(response).unauthorized {
            return self.failure(sender, response, StatusCode::UNAUTHORIZED, request_kind);
        }
        http_message::unusable(response, "the answer has no access token")
    }
}

/// What a response says.
struct Message {
    /// In lower case.
    text: String,
    /// Whether there is a member `status` that says so.
    unauthorized: bool,
}

impl Message {
    fn of(response: &Response<Bytes>) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Members {
            #[serde(deserialize_with = "text")]
            message: Option<String>,
            #[serde(deserialize_with = "text")]
            status: Option<String>,
        }
        let Members { message, status } = http_message::json_object(response).unwrap_or_default();
        let unauthorized = status.is_some_and(|status| status.eq_ignore_ascii_case("unauthorized"));
        Self { text: message.unwrap_or_default().to_lowercase(), unauthorized }
    }

    fn has(&self, text: &str) -> bool {
        self.text.contains(text)
    }
}

/// As for a 401, whatever the status.
fn app_token_rejected(response: &Response<Bytes>) -> ExchangeError {
    ExchangeError::of_response(FailureClass::InvalidClient, response)
}

/// A server that throttles names no time; the vendor's "usage and limits" says one minute.
fn with_default_retry_after(failed: ExchangeError) -> ExchangeError {
    let throttled = failed.class == FailureClass::Throttled && failed.retry_after.is_none();
    if throttled { failed.with_retry_after(Some(A_MINUTE)) } else { failed }
}

const A_MINUTE: Duration = Duration::from_secs(60);

/// A whole number, as ids are.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is checked, and a float of 2^53 and less is exact"
)]
fn id(number: f64) -> Option<u64> {
    let whole = number.fract() == 0.0 && (1.0..=9_007_199_254_740_992.0).contains(&number);
    whole.then_some(number as u64)
}

fn unix_time(seconds: f64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}
