//! Responses: codes, tokens, and the failures that they mean.

use http::StatusCode;
use serde::Deserialize;

use super::IOfficeAttributes;
use crate::error::Refusal;
use crate::provider::http_message::HttpResponse;
use crate::provider::http_message::lenient::{number, secret, text};
use crate::provider::http_sender::HttpSender;
use crate::provider::{ExchangeError, FailureClass};
use crate::provider::{Exchanged, http_message};
use crate::secret::Secret;
use crate::token::Tokens;

/// The unit of `expires_in`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Milliseconds,
    Seconds,
}

/// The code in a response to a user name and a password.
pub(super) fn code(sender: &HttpSender<'_>, response: &HttpResponse) -> Exchanged<Secret> {
    let wrong = FailureClass::Refused(Refusal::WrongCredentials);
    let code = read::<CodeMembers, _>(sender, response, wrong, "has no code", |members| {
        members.code.filter(fits_header)
    });
    code.map_err(|failed| match (failed.class, response.status()) {
        // A 401 without a body means that the credentials are not recognised.
        (FailureClass::Unclassified, StatusCode::UNAUTHORIZED) if failed.code.is_none() => {
            ExchangeError { class: wrong, ..failed }
        }
        _ => failed,
    })
}

/// The tokens in a response. `refusal_class` is the class of the server's refusal of this request.
pub(super) fn tokens(
    sender: &HttpSender<'_>,
    response: &HttpResponse,
    unit: Unit,
    attributes: IOfficeAttributes,
    refusal_class: FailureClass,
) -> Exchanged<Tokens<IOfficeAttributes>> {
    let words = "has no access token, or one that no header can carry";
    let issued = read::<TokenMembers, _>(sender, response, refusal_class, words, |members| {
        let access_token = members.access_token.filter(fits_header)?;
        let refresh_token = members.refresh_token;
        let usable = refresh_token.as_ref().is_none_or(fits_header);
        usable.then_some((access_token, refresh_token, members.expires_in))
    });
    let (access_token, refresh_token, expires_in) = issued?;
    let expires_at = expires_in.map(|life| sender.expires_in(unit.seconds(life)));
    let tokens = Tokens::new(attributes).with_access_token(access_token, expires_at);
    Ok(match refresh_token {
        Some(refresh_token) => tokens.with_refresh_token(refresh_token, None),
        None => tokens,
    })
}

/// Whether the response says that a token is valid; an error if it says neither.
pub(super) fn is_valid(sender: &HttpSender<'_>, response: &HttpResponse) -> Exchanged<bool> {
    if response.status().is_success() {
        return Ok(true);
    }
    let failed = failure(sender, response, FailureClass::Rejected);
    // A response like that of an API to an invalid token.
    let bare = response.body().is_empty()
        && [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&response.status());
    if bare || failed.class == FailureClass::Rejected { Ok(false) } else { Err(failed) }
}

/// The result of a revocation. A token that the server does not know counts as revoked.
pub(super) fn revoked(sender: &HttpSender<'_>, response: &HttpResponse) -> Exchanged<()> {
    is_valid(sender, response).map(drop)
}

impl Unit {
    fn seconds(self, life: f64) -> f64 {
        match self {
            Self::Milliseconds => life / 1000.0,
            Self::Seconds => life,
        }
    }
}

/// It and the next have no `Debug`, because they hold secrets.
#[derive(Deserialize)]
struct CodeMembers {
    #[serde(default, deserialize_with = "secret")]
    code: Option<Secret>,
}

/// `token_type` is not read, because no header of a request repeats it.
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

/// Reads the value that `pick` finds, or a failure. A 2xx in which `pick` finds nothing counts as a
/// lost response.
fn read<'b, T: Deserialize<'b>, Out>(
    sender: &HttpSender<'_>,
    response: &'b HttpResponse,
    refusal_class: FailureClass,
    missing: &'static str,
    pick: impl FnOnce(T) -> Option<Out>,
) -> Exchanged<Out> {
    let unusable = if response.status().is_success() {
        match http_message::json_object::<T>(response).map(pick) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => Some(http_message::unusable(response, missing)),
            Err(malformed) => Some(malformed),
        }
    } else {
        None
    };
    // A 200 may have an error in its body.
    let failed = failure(sender, response, refusal_class);
    let silent = failed.class == FailureClass::Ambiguous;
    Err(unusable.filter(|_| silent).unwrap_or(failed).expecting("a token response"))
}

/// The failure that a response means: by the standard's code if it has one; else by the vendor's
/// form of an error, which with a 4xx is the server's refusal of the request; else by its status.
/// As in the client, an error without a body keeps the tokens.
fn failure(
    sender: &HttpSender<'_>,
    response: &HttpResponse,
    refusal_class: FailureClass,
) -> ExchangeError {
    let failed = sender.oauth_error(response, refusal_class);
    let Ok(body) = http_message::json_object::<ErrorMembers>(response) else { return failed };
    if body
        .error
        .as_deref()
        .and_then(|code| http_message::class_of_code(code, refusal_class))
        .is_some()
    {
        return failed;
    }
    let refuses = body.refuses(response.status());
    if refuses { ExchangeError { class: refusal_class, ..failed } } else { failed }
}

impl ErrorMembers {
    /// Whether a response of this status with these members refuses the request.
    fn refuses(&self, status: StatusCode) -> bool {
        let described = self.description.is_some() || self.standard_description.is_some();
        match status {
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                self.error.is_some() || described
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                false
            }
            // Many frameworks send `{"error":"Not Found"}` for a path that they do not have.
            status => status.is_client_error() && self.error.is_some() && described,
        }
    }
}

/// Whether a header can carry the token, because everything is sent in headers here.
fn fits_header(token: &Secret) -> bool {
    token.expose_secret().bytes().all(|byte| byte.is_ascii_graphic())
}
