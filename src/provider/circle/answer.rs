//! Circle's answers. There are no error codes: status and message say what happened.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;

use super::{Attributes, Circle, Texts};
use crate::error::Refusal;
use crate::provider::wire::lenient::{number as seconds, secret, text};
use crate::provider::wire::{self, Wire, jwt, rfc3339};
use crate::provider::{ExchangeError, FailureClass, Rejection};
use crate::secret::Secret;
use crate::token::Tokens;

/// What was asked.
#[derive(Clone, Copy)]
pub(super) enum Call {
    Create,
    Refresh,
}

/// Six fields of a new session, two of them of a refresh. It has no `Debug`: it is full of secrets.
#[derive(Deserialize)]
struct Answer {
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
    /// The tokens in an answer, or why there are none. `known` is what holds where the answer says
    /// nothing.
    pub(super) fn tokens(
        &self,
        wire: &Wire<'_>,
        answer: &Response<Bytes>,
        known: Attributes,
        call: Call,
    ) -> Result<Tokens<Attributes>, ExchangeError> {
        if !answer.status().is_success() {
            return Err(self.texts.failure(wire, answer, answer.status(), call));
        }
        let issued = wire::object::<Answer>(answer)?;
        let Some(access_token) = issued.access_token else {
            return Err(self.texts.without_token(wire, answer, call));
        };
        let claims = jwt::claims::<Claims>(&access_token).unwrap_or_default();
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
        let ends = stated.or_else(|| claims.exp.and_then(unix));
        let ends = ends.map(|end| wire.expires_at(answer, end));
        let tokens = Tokens::new(attributes).access(access_token, ends);
        Ok(match issued.refresh_token {
            Some(refresh) => {
                let ends = issued.refresh_token_expires_at.as_deref().and_then(rfc3339);
                tokens.refresh(refresh, ends.map(|end| wire.expires_at(answer, end)))
            }
            None => tokens,
        })
    }
}

/// Whether a refresh token is gone, or why that is not known.
pub(super) fn refresh_revoked(
    wire: &Wire<'_>,
    answer: &Response<Bytes>,
) -> Result<(), ExchangeError> {
    let says = Message::of(answer);
    let gone = match answer.status() {
        status if status.is_success() => !says.unauthorized,
        StatusCode::UNAUTHORIZED => says.has("refresh token") && says.has("expired"),
        StatusCode::NOT_FOUND => says.has("refresh token"),
        _ => false,
    };
    if gone { Ok(()) } else { Err(unrevoked(wire, answer)) }
}

/// Whether an access token is gone, or why that is not known.
pub(super) fn access_revoked(
    wire: &Wire<'_>,
    answer: &Response<Bytes>,
) -> Result<(), ExchangeError> {
    let says = Message::of(answer);
    let gone = match answer.status() {
        status if status.is_success() => !says.unauthorized,
        // The token, or its member or community, is not there any more.
        StatusCode::UNPROCESSABLE_ENTITY => {
            ["is expired", "not found", "is invalid"].iter().any(|text| says.has(text))
        }
        _ => false,
    };
    if gone { Ok(()) } else { Err(unrevoked(wire, answer)) }
}

fn unrevoked(wire: &Wire<'_>, answer: &Response<Bytes>) -> ExchangeError {
    match answer.status() {
        status if status.is_success() => blaming_app_token(answer),
        StatusCode::UNAUTHORIZED => blaming_app_token(answer),
        _ => patient(wire.unsuccessful(answer)),
    }
}

/// What an API of Circle says of the member's access token.
pub(super) fn rejection(response: &http::response::Parts, body_prefix: &[u8]) -> Rejection {
    // The body may be cut.
    let text = String::from_utf8_lossy(body_prefix).to_lowercase();
    let says = Message { text, unauthorized: false };
    match response.status {
        // The community's plan.
        StatusCode::UNAUTHORIZED if says.has("eligible") => Rejection::NotOurs,
        // A community or a member that has gone.
        StatusCode::UNAUTHORIZED if says.has("community") && says.has("not found") => {
            Rejection::SessionDead
        }
        StatusCode::UNAUTHORIZED => Rejection::TokenDead,
        StatusCode::FORBIDDEN => Rejection::NotOurs,
        _ => Rejection::None,
    }
}

impl Texts {
    /// What an answer means that is no success; `status` is what it should have been.
    fn failure(
        &self,
        wire: &Wire<'_>,
        answer: &Response<Bytes>,
        status: StatusCode,
        call: Call,
    ) -> ExchangeError {
        let failed = patient(wire.unsuccessful(answer)).expecting("a token answer");
        let says = Message::of(answer);
        let class = match (call, status) {
            (Call::Refresh, StatusCode::UNAUTHORIZED) if says.has(&self.refresh_token_expired) => {
                FailureClass::Rejected
            }
            (Call::Refresh, StatusCode::NOT_FOUND) if says.has(&self.refresh_token_unknown) => {
                FailureClass::Rejected
            }
            (Call::Create, StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY)
                if says.has(&self.member_unknown) =>
            {
                FailureClass::Refused(Refusal::UnknownSubject)
            }
            (Call::Create | Call::Refresh, StatusCode::UNAUTHORIZED) => FailureClass::InvalidClient,
            (Call::Create | Call::Refresh, _) => failed.class,
        };
        ExchangeError { class, ..failed }
    }

    /// A success without a token. Circle's older API says 200 to wrong credentials, and
    /// `"status":"unauthorized"` in the body.
    fn without_token(
        &self,
        wire: &Wire<'_>,
        answer: &Response<Bytes>,
        call: Call,
    ) -> ExchangeError {
        if Message::of(answer).unauthorized {
            return self.failure(wire, answer, StatusCode::UNAUTHORIZED, call);
        }
        wire::unusable(answer, "the answer has no access token")
    }
}

/// What an answer says.
struct Message {
    /// In lower case.
    text: String,
    /// Whether there is a member `status` that says so.
    unauthorized: bool,
}

impl Message {
    fn of(answer: &Response<Bytes>) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Members {
            #[serde(deserialize_with = "text")]
            message: Option<String>,
            #[serde(deserialize_with = "text")]
            status: Option<String>,
        }
        let Members { message, status } = wire::object(answer).unwrap_or_default();
        let unauthorized = status.is_some_and(|status| status.eq_ignore_ascii_case("unauthorized"));
        Self { text: message.unwrap_or_default().to_lowercase(), unauthorized }
    }

    fn has(&self, text: &str) -> bool {
        self.text.contains(text)
    }
}

/// As for a 401, whatever the status.
fn blaming_app_token(answer: &Response<Bytes>) -> ExchangeError {
    ExchangeError::of_answer(FailureClass::InvalidClient, answer)
}

/// A server that throttles names no time; the vendor's "usage and limits" says one minute.
fn patient(failed: ExchangeError) -> ExchangeError {
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

fn unix(seconds: f64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}
