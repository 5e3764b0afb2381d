//! Answers: codes, tokens, and what it means that there are none.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;

use super::Attributes;
use crate::error::Refusal;
use crate::provider::wire::lenient::{number, secret, text};
use crate::provider::wire::{self, Wire};
use crate::provider::{ExchangeError, FailureClass};
use crate::secret::Secret;
use crate::token::Tokens;

/// What `expires_in` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Milliseconds,
    Seconds,
}

/// The code in an answer to a user name and a password.
pub(super) fn code(wire: &Wire<'_>, answer: &Response<Bytes>) -> Result<Secret, ExchangeError> {
    let wrong = FailureClass::Refused(Refusal::WrongCredentials);
    let told = read::<CodeMembers, _>(wire, answer, wrong, "the answer has no code", |members| {
        members.code.filter(is_plain)
    });
    told.map_err(|failed| match (failed.class, answer.status()) {
        // No body is needed to say that the credentials are not recognised.
        (FailureClass::Unclassified, StatusCode::UNAUTHORIZED) if failed.code.is_none() => {
            ExchangeError { class: wrong, ..failed }
        }
        _ => failed,
    })
}

/// The tokens in an answer. `denied` is what the server's refusal says of what was sent.
pub(super) fn tokens(
    wire: &Wire<'_>,
    answer: &Response<Bytes>,
    unit: Unit,
    attributes: Attributes,
    denied: FailureClass,
) -> Result<Tokens<Attributes>, ExchangeError> {
    let words = "the answer has no access token, or one that no header can carry";
    let issued = read::<TokenMembers, _>(wire, answer, denied, words, |members| {
        let access_token = members.access_token.filter(is_plain)?;
        let refresh_token = members.refresh_token;
        let usable = refresh_token.as_ref().is_none_or(is_plain);
        usable.then_some((access_token, refresh_token, members.expires_in))
    });
    let (access_token, refresh_token, expires_in) = issued?;
    let expires_at = expires_in.map(|life| wire.expires_in(unit.seconds(life)));
    let tokens = Tokens::new(attributes).access(access_token, expires_at);
    Ok(match refresh_token {
        Some(refresh_token) => tokens.refresh(refresh_token, None),
        None => tokens,
    })
}

/// What an answer says of a token: whether it serves. Not an answer that has another meaning.
pub(super) fn is_live(wire: &Wire<'_>, answer: &Response<Bytes>) -> Result<bool, ExchangeError> {
    if answer.status().is_success() {
        return Ok(true);
    }
    let failed = failure(wire, answer, FailureClass::Rejected);
    // As an API says it.
    let bare = answer.body().is_empty()
        && [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&answer.status());
    if bare || failed.class == FailureClass::Rejected { Ok(false) } else { Err(failed) }
}

/// What the answer to a revocation means. A token that the server does not know is dead.
pub(super) fn revoked(wire: &Wire<'_>, answer: &Response<Bytes>) -> Result<(), ExchangeError> {
    is_live(wire, answer).map(drop)
}

impl Unit {
    fn seconds(self, life: f64) -> f64 {
        match self {
            Self::Milliseconds => life / 1000.0,
            Self::Seconds => life,
        }
    }
}

/// No `Debug`: it is a secret. So is the next.
#[derive(Deserialize)]
struct CodeMembers {
    #[serde(default, deserialize_with = "secret")]
    code: Option<Secret>,
}

/// `token_type` is not looked at: no header says it again.
#[derive(Deserialize)]
struct TokenMembers {
    #[serde(default, deserialize_with = "secret")]
    access_token: Option<Secret>,
    #[serde(default, deserialize_with = "secret")]
    refresh_token: Option<Secret>,
    #[serde(default, deserialize_with = "number")]
    expires_in: Option<f64>,
}

#[derive(Deserialize)]
struct ErrorMembers {
    #[serde(default, deserialize_with = "text")]
    error: Option<String>,
    #[serde(default, rename = "errorDescription", deserialize_with = "text")]
    description: Option<String>,
    #[serde(default, rename = "error_description", deserialize_with = "text")]
    standard_description: Option<String>,
}

/// The one place where an answer becomes what was asked for or a failure. What `pick` does not
/// find in a success is an answer that was lost.
fn read<'b, T: Deserialize<'b>, Out>(
    wire: &Wire<'_>,
    answer: &'b Response<Bytes>,
    denied: FailureClass,
    missing: &'static str,
    pick: impl FnOnce(T) -> Option<Out>,
) -> Result<Out, ExchangeError> {
    let unusable = if answer.status().is_success() {
        match wire::object::<T>(answer).map(pick) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => Some(wire::unusable(answer, missing)),
            Err(malformed) => Some(malformed),
        }
    } else {
        None
    };
    // A 200 may say in its body what happened.
    let failed = failure(wire, answer, denied);
    let silent = failed.class == FailureClass::Ambiguous;
    Err(unusable.filter(|_| silent).unwrap_or(failed).expecting("a token answer"))
}

/// What an answer means that brings nothing: by the standard's codes where it says one, else by
/// the vendor's form of an error, which at a 4xx is the server's refusal of what was sent, else by
/// its status. So the client has it: an error without a body keeps the tokens.
fn failure(wire: &Wire<'_>, answer: &Response<Bytes>, denied: FailureClass) -> ExchangeError {
    let failed = wire.refusal(answer, denied);
    let Ok(told) = wire::object::<ErrorMembers>(answer) else {
        return failed;
    };
    if told.error.as_deref().and_then(|code| wire::class_of_code(code, denied)).is_some() {
        return failed;
    }
    let described = told.description.is_some() || told.standard_description.is_some();
    let refuses = match answer.status() {
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            told.error.is_some() || described
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            false
        }
        // Many frameworks say `{"error":"Not Found"}` of a path that they do not have.
        status => status.is_client_error() && told.error.is_some() && described,
    };
    if refuses { ExchangeError { class: denied, ..failed } } else { failed }
}

/// Whether a header carries it, as everything goes in headers here.
fn is_plain(token: &Secret) -> bool {
    token.expose_secret().bytes().all(|byte| byte.is_ascii_graphic())
}
