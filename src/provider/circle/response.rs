//! Circle's responses. There are no error codes: status and message say what happened.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde::Deserialize;

use super::{Circle, CircleAttributes, Texts};
use crate::error::Refusal;
use crate::provider::http_message::lenient::{number as seconds, secret, text};
use crate::provider::http_message::{self, HttpResponse, jwt_claims, rfc3339};
use crate::provider::http_sender::HttpSender;
use crate::provider::{ExchangeError, Exchanged, FailureClass, Rejection};
use crate::secret::Secret;
use crate::token::Tokens;

/// The kind of request.
#[derive(Clone, Copy)]
pub(super) enum RequestKind {
    Create,
    Refresh,
}

/// A new session has these six fields, a refresh two of them. It has no `Debug`, because it holds
/// secrets.
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

/// The claims of an access token.
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
    /// The tokens in a response, or the failure that it means. `known` has the attributes to use
    /// where the response has none.
    pub(super) fn tokens(
        &self,
        sender: &HttpSender<'_>,
        response: &HttpResponse,
        known: CircleAttributes,
        request_kind: RequestKind,
    ) -> Exchanged<Tokens<CircleAttributes>> {
        if !response.status().is_success() {
            return Err(self.texts.failure(sender, response, response.status(), request_kind));
        }
        let issued = http_message::json_object::<TokenResponse>(response)?;
        let Some(access_token) = issued.access_token else {
            return Err(self.texts.without_token(sender, response, request_kind));
        };
        let claims = jwt_claims::claims::<Claims>(&access_token).unwrap_or_default();
        let attributes = CircleAttributes {
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
        let tokens = Tokens::new(attributes).with_access_token(access_token, ends);
        Ok(match issued.refresh_token {
            Some(refresh) => {
                let ends = issued.refresh_token_expires_at.as_deref().and_then(rfc3339);
                tokens.with_refresh_token(refresh, ends.map(|end| sender.expires_at(response, end)))
            }
            None => tokens,
        })
    }
}

/// Succeeds if the refresh token is gone; else why that is not known.
pub(super) fn refresh_revoked(sender: &HttpSender<'_>, response: &HttpResponse) -> Exchanged<()> {
    let message = Message::of(response);
    let gone = match response.status() {
        status if status.is_success() => !message.unauthorized,
        StatusCode::UNAUTHORIZED => message.has("refresh token") && message.has("expired"),
        StatusCode::NOT_FOUND => message.has("refresh token"),
        _ => false,
    };
    if gone { Ok(()) } else { Err(revocation_failure(sender, response)) }
}

/// Succeeds if the access token is gone; else why that is not known.
pub(super) fn access_revoked(sender: &HttpSender<'_>, response: &HttpResponse) -> Exchanged<()> {
    let message = Message::of(response);
    let gone = match response.status() {
        status if status.is_success() => !message.unauthorized,
        // The token, its member or its community no longer exists.
        StatusCode::UNPROCESSABLE_ENTITY => {
            ["is expired", "not found", "is invalid"].iter().any(|text| message.has(text))
        }
        _ => false,
    };
    if gone { Ok(()) } else { Err(revocation_failure(sender, response)) }
}

fn revocation_failure(sender: &HttpSender<'_>, response: &HttpResponse) -> ExchangeError {
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
        // The community's plan does not include the API.
        StatusCode::UNAUTHORIZED if message.has("eligible") => Rejection::OtherReason,
        // The community or the member no longer exists.
        StatusCode::UNAUTHORIZED if message.has("community") && message.has("not found") => {
            Rejection::SessionDead
        }
        StatusCode::UNAUTHORIZED => Rejection::TokenDead,
        StatusCode::FORBIDDEN => Rejection::OtherReason,
        _ => Rejection::None,
    }
}

impl Texts {
    /// The failure that a response means. `status` is the one that the server should have sent.
    fn failure(
        &self,
        sender: &HttpSender<'_>,
        response: &HttpResponse,
        status: StatusCode,
        request_kind: RequestKind,
    ) -> ExchangeError {
        let failed =
            with_default_retry_after(sender.status_error(response)).expecting("a token response");
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

    /// The failure that a 2xx without a token means. Circle's older API sends 200 for wrong
    /// credentials, with `"status":"unauthorized"` in the body.
    fn without_token(
        &self,
        sender: &HttpSender<'_>,
        response: &HttpResponse,
        request_kind: RequestKind,
    ) -> ExchangeError {
        if Message::of(response).unauthorized {
            return self.failure(sender, response, StatusCode::UNAUTHORIZED, request_kind);
        }
        http_message::unusable(response, "has no access token")
    }
}

/// What a response says.
struct Message {
    /// In lower case.
    text: String,
    /// Whether a member `status` says "unauthorized".
    unauthorized: bool,
}

impl Message {
    fn of(response: &HttpResponse) -> Self {
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

/// The failure that a 401 means, for a response with any status.
fn app_token_rejected(response: &HttpResponse) -> ExchangeError {
    ExchangeError::of_response(FailureClass::InvalidClient, response)
}

/// A 429 of this server has no `Retry-After`; the vendor's "usage and limits" says one minute.
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
